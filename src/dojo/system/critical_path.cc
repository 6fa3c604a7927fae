#include "dojo/system/critical_path.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "dojo/system/internal/sharing.h"

namespace dojo::system {

using program::Compute;
using program::Program;
using program::Transfer;

std::vector<PhaseId> critical_path(const Program& program, const Timeline& timeline) {
  std::vector<PhaseId> path;
  if (timeline.phases.empty()) {
    return path;
  }
  const auto later_end = [](const PhaseTiming& a, const PhaseTiming& b) { return a.end < b.end; };
  auto at = static_cast<std::uint32_t>(
      std::max_element(timeline.phases.begin(), timeline.phases.end(), later_end) -
      timeline.phases.begin());
  while (true) {
    path.push_back(PhaseId{at});
    const PhaseTiming& timing = timeline.phases[at];
    std::optional<std::uint32_t> cause;
    const auto consider = [&](std::uint32_t candidate) {
      const Picoseconds end = timeline.phases[candidate].end;
      if (end <= timing.end && (!cause.has_value() || end > timeline.phases[*cause].end)) {
        cause = candidate;
      }
    };
    for (const PhaseId before : program.phases[at].after) {
      consider(before.index);
    }
    const auto* compute = std::get_if<Compute>(&program.phases[at].body);
    if (compute != nullptr) {
      for (const PhaseId feed : compute->pipelined) {
        consider(feed.index);
      }
    }
    for (std::uint32_t i = at; i-- > 0;) {
      const PhaseTiming& before = timeline.phases[i];
      if (before.lane == timing.lane && before.end <= timing.begin) {
        consider(i);
        break;
      }
    }
    if (!cause.has_value() || timeline.phases[*cause].end.count() == 0) {
      break;
    }
    at = *cause;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

std::vector<PathShare> path_shares(const Timeline& timeline, const std::vector<PhaseId>& path,
                                   const std::vector<double>& times) {
  std::map<std::string, double> by_bound;
  Picoseconds reached{};
  for (const PhaseId id : path) {
    const PhaseTiming& timing = timeline.phases[id.index];
    const double stands_for = times.empty() ? 1.0 : times[id.index];
    by_bound[timing.bound_by] += to_seconds(timing.end - reached) * stands_for;
    reached = timing.end;
  }
  std::vector<PathShare> shares;
  for (const auto& [bound_by, seconds] : by_bound) {
    shares.push_back({bound_by, seconds});
  }
  std::stable_sort(shares.begin(), shares.end(),
                   [](const PathShare& a, const PathShare& b) { return a.seconds > b.seconds; });
  return shares;
}

std::vector<Picoseconds> slack_of(const Program& program, const Timeline& timeline) {
  const std::size_t count = timeline.phases.size();
  std::vector<Picoseconds> latest(count);  // ends
  for (std::size_t i = 0; i < count; ++i) {
    latest[i] = timeline.phases[i].lane == Lane::Ingest ? timeline.step : timeline.computed;
  }
  std::array<std::optional<Picoseconds>, 3> next_begin{};  // latest, of the next phase of each lane
  for (std::size_t i = count; i-- > 0;) {
    const PhaseTiming& timing = timeline.phases[i];
    auto& next = next_begin[static_cast<std::size_t>(timing.lane)];
    latest[i] = std::min(latest[i], next.value_or(latest[i]));
    const Picoseconds begin = latest[i] - timing.work;
    next = begin;
    const auto* compute = std::get_if<Compute>(&program.phases[i].body);
    const std::vector<PhaseId> feeds =
        compute != nullptr ? compute->pipelined : std::vector<PhaseId>{};
    for (const PhaseId before : program.phases[i].after) {
      if (std::find(feeds.begin(), feeds.end(), before) == feeds.end()) {
        latest[before.index] = std::min(latest[before.index], begin);
      }
    }
    for (const PhaseId feed : feeds) {
      const PhaseTiming& its = timeline.phases[feed.index];
      const std::int64_t panels = std::get<Transfer>(program.phases[feed.index].body).panels;
      const Picoseconds by_first = begin - its.first + (its.end - its.begin);
      const Picoseconds by_last = latest[i] - internal::panel_work(timing.work, panels);
      latest[feed.index] = std::min({latest[feed.index], by_first, by_last});
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    latest[i] = latest[i] - timeline.phases[i].end;
  }
  return latest;
}

}  // namespace dojo::system
