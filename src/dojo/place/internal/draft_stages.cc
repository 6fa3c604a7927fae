// Of Drafter: what stages of a pipeline send each other.
#include "dojo/place/internal/drafter.h"

namespace dojo::place::internal {

using program::Part;
using program::Transfer;

void Drafter::place_arrivals() {
  for (const Crossing& crossing : crossings()) {
    if (crossing.to != stage_) {
      continue;
    }
    const std::string name = value(crossing.value).name + std::string(program::kArrived);
    const BufferId buffer = add_buffer(name, held_bytes(crossing.value));
    Buffer& arrival = draft_.buffers[buffer];
    arrival.is_arrival = crossing.made != Part::Behind;
    arrival.is_pinned = crossing.made == Part::Before;
    const auto copies = [&](bool is_backward) {
      return program::copies_of_arrival(static_cast<std::size_t>(stages_->count),
                                        mesh_.micro_batches,
                                        static_cast<std::size_t>(crossing.from), crossing.made,
                                        static_cast<std::size_t>(stage_), is_backward);
    };
    arrival.copies = copies(false);
    arrival.copies_backward = copies(true);
    storage_[crossing.value.index] = buffer;
  }
}

// What another stage has made behind the micro-batches comes when this one is there.
void Drafter::receive(OpId reader) {
  if (stages_ == nullptr || turn_ != Turn::After) {
    return;
  }
  for (const auto& input : graph_.ops[reader.index].inputs) {
    for (const Crossing& crossing : input.has_value() ? crossings() : std::vector<Crossing>{}) {
      if (crossing.value == root(*input) && crossing.to == stage_ &&
          crossing.made == Part::Behind && !producer_[crossing.value.index].has_value()) {
        producer_[crossing.value.index] = move(crossing);
      }
    }
  }
}

void Drafter::send_onward() {
  Part part = is_backward_half_ ? Part::Backward : Part::Forward;
  part = turn_ == Turn::Before ? Part::Before : turn_ == Turn::After ? Part::Behind : part;
  for (const Crossing& crossing : crossings()) {
    if (crossing.from != stage_ || crossing.made != part) {
      continue;
    }
    if (part == Part::Behind) {
      draft_.buffers[storage(crossing.value)].is_result = true;  // until it is fetched
    } else {
      move(crossing);
    }
  }
}

// Its way onward, in the phases of the stage at hand.
DraftId Drafter::move(const Crossing& crossing) {
  const ValueId id = crossing.value;
  const machine::Shape from = mesh_.way_to_stage(static_cast<std::size_t>(crossing.from));
  const machine::Shape to = mesh_.way_to_stage(static_cast<std::size_t>(crossing.to));
  DraftPhase draft;
  draft.phase.region = mesh_.region;
  machine::Region source = mesh_.region;  // as the stage at hand sees it
  const machine::Shape here = crossing.from == stage_ ? from : to;
  source.first_die = {.row = from.rows - here.rows, .column = from.columns - here.columns};
  const std::string& name = value(id).name;
  draft.phase.body = Transfer{
      .moves = {{.tensor = name,
                 .scope = program::Scope::Onward,
                 .region = source,
                 .pattern = machine::region_move(
                     (to.rows - from.rows) * machine_.logical.rows,
                     (to.columns - from.columns) * machine_.logical.columns, held_bytes(id))}}};
  if (producer_[id.index].has_value()) {
    draft.phase.after = {{static_cast<std::uint32_t>(*producer_[id.index])}};
  }
  draft.phase.reads = {name};
  if (crossing.from == stage_) {
    draft.reads = {storage(id)};
  } else {
    draft.writes = {storage(id)};
  }
  return add_phase(std::move(draft));
}

}  // namespace dojo::place::internal
