#include "dojo/place/internal/reads.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace dojo::place::internal {

using graph::Interval;
using program::Axis;
using program::AxisState;
using program::Layout;
using program::Sharing;

namespace {

std::size_t index_of(Axis axis) { return static_cast<std::size_t>(axis); }

Axis other(Axis axis) { return axis == Axis::NodeY ? Axis::NodeX : Axis::NodeY; }

bool has_map(const graph::Access& access) { return std::holds_alternative<graph::Affine>(access); }

std::set<int> loops_of(const std::vector<graph::Access>& access) {
  std::set<int> loops;
  for (const graph::Access& each : access) {
    if (const auto* map = std::get_if<graph::Affine>(&each)) {
      for (const graph::Term& term : map->terms) {
        loops.insert(term.loop);
      }
      if (map->ratio.has_value()) {
        loops.insert(map->ratio->loop);
      }
    }
  }
  return loops;
}

// Dimensions are maps of loops, or picked by an operand that has no loops but these.
bool picks_one_of_each_row(const Reading& reading) {
  const std::set<int> rows = loops_of(reading.operand->access);
  return std::all_of(
      reading.operand->access.begin(), reading.operand->access.end(),
      [&](const graph::Access& each) {
        const auto* pick = std::get_if<graph::Indexed>(&each);
        if (pick == nullptr) {
          return has_map(each);
        }
        const auto& index = reading.stage->operands[static_cast<std::size_t>(pick->by)].access;
        const std::set<int> of_index = loops_of(index);
        return std::includes(rows.begin(), rows.end(), of_index.begin(), of_index.end());
      });
}

// What part `i` of an axis needs of the indices `within`, against its own block.
void add_shortage(const Interval& need, const Interval& within, std::int64_t block, std::int64_t i,
                  Shortage& worst) {
  const Interval own{std::min(within.end, within.begin + i * block),
                     std::min(within.end, within.begin + (i + 1) * block)};
  const std::int64_t low = std::max<std::int64_t>(0, std::min(need.end, own.begin) - need.begin);
  const std::int64_t high = std::max<std::int64_t>(0, need.end - std::max(need.begin, own.end));
  worst.low_high[0] = std::max(worst.low_high[0], low);
  worst.low_high[1] = std::max(worst.low_high[1], high);
  const std::int64_t first_owner = (need.begin - within.begin) / block;
  const std::int64_t last_owner = (need.end - 1 - within.begin) / block;
  worst.reach = std::max({worst.reach, i - first_owner, last_owner - i});
}

}  // namespace

bool holds(const Layout& layout, Axis axis, int dimension) {
  return layout[axis].sharing == Sharing::Sliced && layout[axis].dimension == dimension;
}

Reads::Reads(const SplitNest& split, int input, const graph::Value& value, const Mesh& mesh)
    : split_(split), mesh_(mesh), value_(value) {
  for (const graph::Stage& stage : split.nest().stages) {
    for (const graph::Operand& operand : stage.operands) {
      if (operand.use == graph::OperandUse::Read &&
          operand.tensor.kind == graph::TensorKind::Input && operand.tensor.index == input) {
        all_.push_back({&stage, &operand});
      }
    }
  }
  if (!is_empty()) {
    places_ = telling_places();
  }
}

Need Reads::need(Axis axis) const {
  Need all = split_.need(*all_.front().operand, axis);
  for (const Reading& reading : all_) {
    const Need one = split_.need(*reading.operand, axis);
    if (!one.is_sliced || one.dimension != all.dimension) {
      all.is_sliced = false;
    }
  }
  return all;
}

// --- places ---
// One in the middle, and at the ends of both node axes, where blocks may be cut by a border; where
// one of those reads nothing (of several tensors that are put together), all along each axis.
std::vector<Reads::Place> Reads::telling_places() const {
  std::vector<Place> places{split_.busiest_place()};
  std::vector<Axis> axes{Axis::NodeY, Axis::NodeX};
  if (mesh_.has_free_groups()) {
    axes.push_back(Axis::Group);
  }
  for (const Axis axis : axes) {
    const std::size_t count = places.size();
    for (const Place& along : places_along(axis)) {
      for (std::size_t i = 0; i < count; ++i) {
        places.push_back(places[i]);
        places.back()[index_of(axis)] = along[index_of(axis)];
      }
    }
  }
  const bool is_everywhere = std::all_of(places.begin(), places.end(), [&](const Place& place) {
    return bytes_of_slice(split_.slice(place)) > Bytes(0);
  });
  const std::size_t count = is_everywhere ? 0 : places.size();
  for (const Axis axis : axes) {
    const std::int64_t parts = split_.on(axis).has_value() ? split_.on(axis)->cut.parts : 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (std::int64_t part = 0; part < parts; ++part) {
        places.push_back(places[i]);
        places.back()[index_of(axis)] = part;
      }
    }
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

// The busiest place, moved to both ends of the axis and to its middle; none if it is not split.
std::vector<Reads::Place> Reads::places_along(Axis axis) const {
  std::vector<Place> places;
  if (!split_.on(axis).has_value()) {
    return places;
  }
  const std::int64_t parts = split_.on(axis)->cut.parts;
  for (const std::int64_t at : {std::int64_t{0}, parts / 2, parts - 1}) {
    places.push_back(split_.busiest_place());
    places.back()[index_of(axis)] = at;
  }
  return places;
}

// Places of the axes outside of this one that differ in what they lack: where the op is cut there
// and the dimension does not lie so, the ends as well as the middle; all of them where they read
// different indices of it, which each begin elsewhere in a block.
std::vector<Reads::Place> Reads::outer_places(Axis axis, const Layout& layout) const {
  std::vector<Place> places{split_.busiest_place()};
  for (const Axis outer : {Axis::Replica, Axis::Group, Axis::Micro}) {
    if (outer >= axis || !split_.on(outer).has_value() ||
        holds(layout, outer, layout[axis].dimension)) {
      continue;
    }
    std::vector<std::int64_t> at{0, split_.on(outer)->cut.parts - 1};
    if (std::any_of(all_.begin(), all_.end(), [&](const Reading& reading) {
          const Need need = split_.need(*reading.operand, outer);
          return need.is_sliced && need.dimension == layout[axis].dimension;
        })) {
      at.resize(static_cast<std::size_t>(split_.on(outer)->cut.parts));
      std::iota(at.begin(), at.end(), std::int64_t{0});
    }
    const std::size_t count = places.size();
    for (std::size_t i = 0; i < count; ++i) {
      for (const std::int64_t part : at) {
        places.push_back(places[i]);
        places.back()[index_of(outer)] = part;
      }
    }
  }
  return places;
}

// --- how much ---
// By all readings of a slice, what several of them read once.
Bytes Reads::bytes_of_slice(const graph::Slice& slice) const {
  Bytes sum{};
  std::vector<std::vector<Interval>> boxes;
  for (const Reading& reading : all_) {
    std::vector<Interval> box = graph::footprint(*reading.operand, slice);
    if (std::find(boxes.begin(), boxes.end(), box) == boxes.end()) {
      boxes.push_back(std::move(box));
      sum += graph::bytes(*reading.stage, *reading.operand, slice, value_.format);
    }
  }
  return std::min(sum, graph::stored_bytes(value_));
}

Bytes Reads::footprint() const {
  Bytes most{};
  for (const Place& place : places_) {
    most = std::max(most, bytes_of_slice(split_.slice(place)));
  }
  return most;
}

Bytes Reads::kept() const {
  std::int64_t sum = 0;
  std::vector<std::vector<Interval>> boxes;
  for (const Reading& reading : all_) {
    std::vector<Interval> box = graph::footprint(*reading.operand, split_.busiest());
    if (std::find(boxes.begin(), boxes.end(), box) == boxes.end()) {
      boxes.push_back(std::move(box));
      sum += elements(reading);
    }
  }
  return Bytes(sum * bytes_of(value_.format));
}

std::int64_t Reads::elements(const Reading& reading) const {
  const auto& access = reading.operand->access;
  // Where micro-batches keep rows together, what each of them picks is counted, too: one for every
  // point of the other dimensions.
  const bool has_picks = mesh_.micro_batches > 1 && picks_one_of_each_row(reading);
  if (!has_picks && !std::all_of(access.begin(), access.end(), has_map)) {
    return graph::element_count(value_.shape);
  }
  double points = split_.flat_share();
  for (const int loop : loops_of(access)) {
    points *= static_cast<double>(split_.local_extent(loop));
  }
  const auto most = static_cast<double>(graph::element_count(value_.shape));
  return static_cast<std::int64_t>(std::ceil(std::min(points, most) - 1e-6));
}

// The axis' loop lies over groups, too.
bool Reads::goes_through_groups(Axis axis) const {
  return axis != Axis::Group && split_.on(axis).has_value() && split_.on(Axis::Group).has_value() &&
         split_.on(axis)->loop == split_.on(Axis::Group)->loop;
}

Bytes Reads::by_line(const Line& line) const {
  Bytes most = footprint();
  for (const Place& place : places_) {
    graph::Slice slice = split_.slice(place);
    const auto widen = [&](Axis axis) {
      if (line.over_groups && goes_through_groups(axis)) {
        const auto loop = static_cast<std::size_t>(split_.on(axis)->loop);
        slice[loop] = split_.slice(place, Axis::Replica)[loop];
        return;
      }
      for (const Place& along : places_along(axis)) {
        const auto loop = static_cast<std::size_t>(split_.on(axis)->loop);
        const Interval range = split_.slice(along)[loop];
        if (!range.is_empty()) {
          slice[loop] = {std::min(slice[loop].begin, range.begin),
                         std::max(slice[loop].end, range.end)};
        }
      }
    };
    if (line.along_y) {
      widen(Axis::NodeY);
    }
    if (line.over_groups) {
      widen(Axis::Group);
    }
    if (line.along_x) {
      widen(Axis::NodeX);
    }
    most = std::max(most, bytes_of_slice(slice));
  }
  return most;
}

std::int64_t Reads::longest_in(const graph::Slice& slice, int dimension) const {
  const auto dim = static_cast<std::size_t>(dimension);
  std::int64_t longest = 1;
  for (const Reading& reading : all_) {
    const Interval range = graph::footprint(reading.operand->access[dim], slice, value_.shape[dim]);
    longest = std::max(longest, range.length());
  }
  return longest;
}

std::int64_t Reads::longest(int dimension) const {
  std::int64_t longest = 1;
  for (const Place& place : places_) {
    longest = std::max(longest, longest_in(split_.slice(place), dimension));
  }
  return longest;
}

std::int64_t Reads::bytes_per_index(Axis axis, int dimension) const {
  std::int64_t most = 0;
  const auto look_at = [&](const Place& place) {
    const graph::Slice slice = split_.slice(place);
    const std::int64_t longest = longest_in(slice, dimension);
    most = std::max(most, (bytes_of_slice(slice).count() + longest - 1) / longest);
  };
  std::for_each(places_.begin(), places_.end(), look_at);
  for (const Place& along : places_along(axis)) {
    look_at(along);
    for (const Place& across : places_along(other(axis))) {
      Place place = along;
      place[index_of(other(axis))] = across[index_of(other(axis))];
      look_at(place);
    }
  }
  return most;
}

// --- what is lacking ---
Shortage Reads::shortage(Axis axis, const Layout& layout) const {
  Shortage worst;
  const AxisState& state = layout[axis];
  const auto dim = static_cast<std::size_t>(state.dimension);
  const bool is_outer = axis == Axis::Replica || axis == Axis::Group;
  for (Place place : outer_places(axis, layout)) {
    Interval within{0, value_.shape[dim]};
    for (const Axis outer : {Axis::Replica, Axis::Group, Axis::Micro}) {
      if (outer < axis && holds(layout, outer, state.dimension)) {
        const std::int64_t block = layout[outer].block;
        const std::int64_t first = within.begin + place[index_of(outer)] * block;
        within = {std::min(within.end, first), std::min(within.end, first + block)};
      }
    }
    for (std::int64_t i = 0; i < split_.on(axis)->cut.parts; ++i) {
      place[index_of(axis)] = i;
      const graph::Slice slice = split_.slice(place, is_outer ? axis : Axis::NodeX);
      for (const Reading& reading : all_) {
        Interval need = graph::footprint(reading.operand->access[dim], slice, value_.shape[dim]);
        need = {std::max(need.begin, within.begin), std::min(need.end, within.end)};
        if (!need.is_empty()) {
          add_shortage(need, within, state.block, i, worst);
        }
      }
    }
  }
  return worst;
}

}  // namespace dojo::place::internal
