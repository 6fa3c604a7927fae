// The second half of Delivery: whether messages are as large as what they bring.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "dojo/place/internal/delivery.h"

namespace dojo::place::internal {

using machine::PatternKind;
using program::Move;

namespace {

// Takes what is there from what is needed.
void take(std::vector<char>& needed, const std::vector<char>& there) {
  for (std::size_t i = 0; i < needed.size(); ++i) {
    needed[i] = static_cast<char>(needed[i] & ~there[i]);
  }
}

}  // namespace

// What the node needs of the value and did not make itself.
void Delivery::note_use(ValueId value, Node node, std::size_t index, Elements needed) {
  take(needed, own_[value.index][node]);
  if (!registers_[value.index].empty()) {
    take(needed, registers_[value.index][node]);
  }
  read_.push_back({value, node, index, std::move(needed)});
}

// What it did not make came by a transfer that this phase waits for and that brought it, or, of an
// alias, by one that brought its operand. Of several that brought the same it is one that no phase
// before this one waits for, else the last. Where ops of one phase have a transfer each, the last
// of those is taken, or the first, or the first of all (an op that is done again waits for whatever
// came just before): it is enough that one of these ways holds.
void Delivery::use(ValueId value, Node node, std::size_t index, Elements needed) {
  take(needed, own_[value.index][node]);
  const program::Phase& phase = program_.phases[index];
  const auto from = [&](PhaseId transfer) {
    const std::pair<std::size_t, std::uint32_t> key{transfer.index, value.index};
    const auto landed = landed_.find(key);
    if (landed == landed_.end() || transfer.index == index) {
      return;
    }
    std::vector<Elements>& used = used_[key];
    used.resize(nodes_, Elements(needed.size(), 0));
    for (std::size_t i = 0; i < needed.size(); ++i) {
      used[node][i] = static_cast<char>(used[node][i] | (needed[i] & landed->second[node][i]));
    }
    take(needed, landed->second[node]);
  };
  std::vector<PhaseId> transfers = phase.after;
  if (const auto* compute = std::get_if<program::Compute>(&phase.body)) {
    transfers.insert(transfers.end(), compute->pipelined.begin(), compute->pipelined.end());
  }
  std::reverse(transfers.begin(), transfers.end());
  const auto others = std::stable_partition(
      transfers.begin(), transfers.end(),
      [&](PhaseId transfer) { return first_to_wait_.at(transfer.index) == index; });
  if (taken_ != Taken::Last) {
    std::reverse(transfers.begin(), others);
  }
  if (taken_ == Taken::FirstOfAll) {
    std::reverse(others, transfers.end());
  }
  std::for_each(transfers.begin(), transfers.end(), from);
  const std::optional<OpId> definition = uses_.definition[value.index];
  if (definition.has_value() && plan_.layouts.ops[definition->index].is_alias &&
      std::find(needed.begin(), needed.end(), 1) != needed.end()) {
    const ValueId source = *graph_.ops[definition->index].inputs.front();
    const std::vector<std::int64_t>& map = alias_map(*definition);
    Elements of_source = none(graph_.value(source).shape);
    for (std::size_t i = 0; i < needed.size(); ++i) {
      of_source[size_of(map[i])] = static_cast<char>(of_source[size_of(map[i])] | needed[i]);
    }
    use(source, node, index, std::move(of_source));
  }
}

void Delivery::check_bytes(std::size_t phase, const Move& move, std::string_view what,
                           std::int64_t elements, Bytes element, Bytes said) {
  ++sizes_checked_;
  const Bytes content = elements * element;
  if (content > said) {
    too_small_[move.tensor].push_back(
        fmt::format("phase {}: {} of %{} {} brings {} elements, {} bytes, in a message of {}",
                    phase, machine::name(move.pattern.kind), move.tensor, what, elements,
                    content.count(), said.count()));
  }
}

// What comes from one side alone has that side's message; what comes over a corner has one of two.
void Delivery::check_halo(const Sent& sent, Node node, const std::vector<Arrival>& used) {
  const machine::HaloBytes& halo = sent.move->pattern.halo;
  const Bytes element{bytes_of(graph_.value(sent.value).format)};
  const Place at = place_of(node);
  std::int64_t north = 0;
  std::int64_t south = 0;
  std::int64_t east = 0;
  std::int64_t west = 0;
  for (const Arrival& arrival : used) {
    const Place from = place_of(arrival.from);
    north += from.column == at.column && from.row < at.row ? 1 : 0;
    south += from.column == at.column && from.row > at.row ? 1 : 0;
    west += from.row == at.row && from.column < at.column ? 1 : 0;
    east += from.row == at.row && from.column > at.column ? 1 : 0;
  }
  check_bytes(sent.phase, *sent.move, "from the north", north, element, halo.north);
  check_bytes(sent.phase, *sent.move, "from the south", south, element, halo.south);
  check_bytes(sent.phase, *sent.move, "from the west", west, element, halo.west);
  check_bytes(sent.phase, *sent.move, "from the east", east, element, halo.east);
  check_bytes(sent.phase, *sent.move, "from all sides", std::ssize(used), element,
              halo.north + halo.south + halo.west + halo.east);
}

void Delivery::check_size(const Sent& sent) {
  std::vector<Elements>& used = used_[{sent.phase, sent.value.index}];
  used.resize(nodes_, none(graph_.value(sent.value).shape));
  std::vector<std::vector<Arrival>> needed(nodes_);
  for (Node node = 0; node < nodes_; ++node) {
    for (const Arrival& arrival : sent.arrivals[node]) {
      if (used[node][arrival.element] != 0) {
        needed[node].push_back(arrival);
        used[node][arrival.element] = 0;
      }
    }
  }
  for (Node node = 0; node < nodes_; ++node) {
    for (const Arrival& arrival : needed[node]) {
      used[arrival.from][arrival.element] = 1;  // which it had before this move
    }
  }
  const Bytes element{bytes_of(graph_.value(sent.value).format)};
  const machine::Pattern& pattern = sent.move->pattern;
  for (const std::vector<Node>& group : sent.groups) {
    Elements together = none(graph_.value(sent.value).shape);
    std::int64_t most_of_node = 0;
    std::int64_t most_of_pair = 0;
    for (const Node node : group) {
      std::map<std::uint32_t, std::int64_t> by_sender;
      for (const Arrival& arrival : needed[node]) {
        together[arrival.element] = 1;
        most_of_pair = std::max(most_of_pair, ++by_sender[arrival.from]);
      }
      most_of_node = std::max(most_of_node, std::ssize(needed[node]));
    }
    const std::int64_t all = std::accumulate(together.begin(), together.end(), std::int64_t{0});
    switch (pattern.kind) {
      case PatternKind::Halo:
        check_halo(sent, group.front(), needed[group.front()]);
        break;
      case PatternKind::AllToAll:
        check_bytes(sent.phase, *sent.move, "for a pair", most_of_pair, element, pattern.bytes);
        break;
      case PatternKind::Shift:
      case PatternKind::RegionMove:
        check_bytes(sent.phase, *sent.move, "for a node", most_of_node, element, pattern.bytes);
        break;
      default:
        check_bytes(sent.phase, *sent.move, "for a line", all, element, pattern.bytes);
        break;
    }
  }
}

// Sums: what the nodes of a line want of them in the end, they must join; so moves before it join
// what the whole line wants. Before a gather each node of the line has an equal share of that.
void Delivery::check_sum(const Joined& joined) {
  const bool is_gather = joined.move->pattern.kind == PatternKind::AllGather;
  for (std::size_t g = 0; g < joined.groups.size(); ++g) {
    const std::vector<Node>& group = joined.groups[g];
    std::int64_t bytes = 0;
    for (const Joined::Sum& sum : joined.sums) {
      std::vector<Elements>& wanted = wanted_.at(sum.number);
      Elements together = wanted[group.front()];
      for (const Node node : group) {
        add(together, wanted[node]);
      }
      const std::int64_t all = std::accumulate(together.begin(), together.end(), std::int64_t{0});
      const auto value = named_.find(sum.name);
      const bool is_look_up =
          value != named_.end() &&
          !plan_.layouts.ops[uses_.definition[value->second.index]->index].masked.empty();
      const std::int64_t element =
          bytes_of(is_look_up ? graph_.value(value->second).format : Format::F32);
      bytes +=
          element * (is_gather ? all
                               : std::count_if(sum.elements[g].begin(), sum.elements[g].end(),
                                               [&](std::uint32_t i) { return together[i] != 0; }));
      const std::int64_t share = (all + std::ssize(group) - 1) / std::ssize(group);
      for (std::size_t k = 0; k < group.size(); ++k) {
        Elements& mine = wanted[group[k]];
        mine = together;
        std::int64_t number = 0;
        for (std::size_t i = 0; is_gather && i < mine.size(); ++i) {
          if (together[i] != 0) {
            mine[i] = static_cast<char>(number / share == static_cast<std::int64_t>(k));
            ++number;
          }
        }
      }
    }
    check_bytes(joined.phase, *joined.move, "of sums for a line", bytes, Bytes(1),
                joined.move->pattern.bytes);
  }
}

void Delivery::check_messages() {
  used_.clear();
  too_small_.clear();
  for (const Use& one : read_) {
    use(one.value, one.node, one.phase, one.needed);
  }
  for (auto sent = sent_.rbegin(); sent != sent_.rend(); ++sent) {
    check_size(*sent);
    // Before the first move of its transfer: what came by earlier ones.
    const auto before = std::next(sent);
    const bool is_first =
        before == sent_.rend() || before->phase != sent->phase || before->value != sent->value;
    if (is_first) {
      const std::vector<Elements> used = used_.at({sent->phase, sent->value.index});
      for (Node node = 0; node < nodes_; ++node) {
        use(sent->value, node, sent->phase, used[node]);
      }
    }
  }
}

void Delivery::check_sizes() {
  for (std::size_t i = 0; i < program_.phases.size(); ++i) {
    for (const PhaseId before : program_.phases[i].after) {
      first_to_wait_.try_emplace(before.index, i);
    }
    const auto* compute = std::get_if<program::Compute>(&program_.phases[i].body);
    for (std::size_t k = 0; compute != nullptr && k < compute->pipelined.size(); ++k) {
      first_to_wait_.try_emplace(compute->pipelined[k].index, i);
    }
  }
  check_messages();
  for (const Taken other : {Taken::First, Taken::FirstOfAll}) {
    if (!too_small_.empty()) {
      const auto before = std::move(too_small_);
      taken_ = other;
      check_messages();
      std::erase_if(too_small_, [&](const auto& one) { return !before.contains(one.first); });
    }
  }
  std::for_each(joined_.rbegin(), joined_.rend(),
                [this](const Joined& joined) { check_sum(joined); });
  for (const auto& [tensor, breaches] : too_small_) {
    std::for_each(breaches.begin(), breaches.end(), [this](const auto& one) { report(one); });
  }
}

}  // namespace dojo::place::internal
