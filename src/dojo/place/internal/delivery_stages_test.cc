// Of Delivery: stages of a pipeline.
#include <fmt/format.h>

#include <algorithm>

#include "dojo/place/internal/delivery.h"

namespace dojo::place::internal {

using program::Part;

bool Delivery::is_held_here(ValueId root) const {
  return !plan_.stages.has_value() || plan_.stages->holds(root, static_cast<int>(stage_));
}

// What another stage makes or holds and sends here; nullptr: nothing of that value.
const Crossing* Delivery::arrival(ValueId root) const {
  if (!plan_.stages.has_value()) {
    return nullptr;
  }
  const auto& crossings = plan_.stages->crossings;
  const auto found = std::find_if(crossings.begin(), crossings.end(), [&](const Crossing& one) {
    return one.value == root && one.to == static_cast<int>(stage_);
  });
  return found != crossings.end() ? &*found : nullptr;
}

// What is sent is there; what is fetched is here from now on.
void Delivery::run_onward(std::size_t index, const program::Move& move) {
  const ValueId value = named_.at(move.tensor);
  const bool is_fetched = turn_at(index) == Turn::After;
  const Bytes element{bytes_of(graph_.value(value).format)};
  for (Node node = 0; node < nodes_; ++node) {
    const Elements wanted = held(value, node);
    const Elements there = is_fetched ? wanted : available(value, node, index);
    std::int64_t count = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      count += wanted[i];
      if (wanted[i] != 0 && there[i] == 0) {
        report(fmt::format("phase {} sends element {} of %{} from node {}, which does not have it",
                           index, i, move.tensor, node));
        return;
      }
    }
    checked_ += count;
    ++sizes_checked_;
    if (count * element > move.pattern.bytes) {
      report(fmt::format("phase {}: %{} goes onward with {} bytes, in a message of {}", index,
                         move.tensor, (count * element).count(), move.pattern.bytes.count()));
      return;
    }
    if (is_fetched) {
      own_[value.index][node] = wanted;
    }
  }
  if (is_fetched) {
    made_by_[value.index].insert(index);
  } else {
    ++sent_onward_[{value.index, move.pattern.move_rows, move.pattern.move_columns}];
  }
}

// Everything that another stage waits for has gone there, once for every micro-batch.
void Delivery::check_sends() {
  for (const Crossing& crossing :
       plan_.stages.has_value() ? plan_.stages->crossings : std::vector<Crossing>{}) {
    if (crossing.from != static_cast<int>(stage_) || crossing.made == Part::Behind) {
      continue;
    }
    const machine::Shape from = plan_.mesh.way_to_stage(static_cast<std::size_t>(crossing.from));
    const machine::Shape to = plan_.mesh.way_to_stage(static_cast<std::size_t>(crossing.to));
    const std::int64_t rows = (to.rows - from.rows) * logical_.rows;
    const std::int64_t columns = (to.columns - from.columns) * logical_.columns;
    const auto sent = sent_onward_.find({crossing.value.index, rows, columns});
    const std::int64_t times = sent != sent_onward_.end() ? sent->second : 0;
    const std::int64_t wanted = crossing.made == Part::Before ? 1 : micro_batches_.count;
    if (times != wanted) {
      report(fmt::format("%{} goes to stage {} {} times, not {}", graph_.value(crossing.value).name,
                         crossing.to, times, wanted));
    }
  }
}

}  // namespace dojo::place::internal
