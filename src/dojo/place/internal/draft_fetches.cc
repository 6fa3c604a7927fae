#include "dojo/place/internal/drafter.h"

#include <algorithm>

#include "dojo/graph/op_table.h"

namespace dojo::place::internal {

using graph::Op;
using program::Compute;
using program::Transfer;

std::vector<Drafter::Pending> Drafter::pending_fetches(OpId id) {
  const Op& op = graph_.ops[id.index];
  std::vector<Pending> pending;
  std::set<std::uint32_t> seen;
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    if (!op.inputs[i].has_value() || is_in_registers(*op.inputs[i]) ||
        !seen.insert(op.inputs[i]->index).second) {
      continue;
    }
    Fetch one = fetches_.of(id, static_cast<int>(i));
    if (!one.is_empty()) {
      const auto producer = producer_[op.inputs[i]->index];
      pending.push_back({static_cast<int>(i), *op.inputs[i], std::move(one),
                         producer.has_value() ? *producer + 1 : 0});
    }
  }
  std::stable_sort(pending.begin(), pending.end(),
                   [](const Pending& a, const Pending& b) { return a.ready < b.ready; });
  return pending;
}

std::optional<std::int64_t> Drafter::choose_panels(OpId id, std::vector<Pending>& pending) const {
  std::vector<std::pair<int, Bytes>> gathered;
  Bytes sum{};
  for (const Pending& each : pending) {
    if (can_be_panels(each.fetch)) {
      gathered.emplace_back(each.input, each.fetch.landing);
      sum += each.fetch.landing;
    }
  }
  const Bytes buffers = machine_.node.buffers;
  if (const auto block = work_.panel_block(id, sum, panel_budget_, buffers)) {
    for (Pending& each : pending) {
      each.panels = can_be_panels(each.fetch) ? work_.panel_count(id, *block) : 1;
    }
    return block;
  }
  std::vector<int> in_registers;
  const Op& op = graph_.ops[id.index];
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i].has_value() && is_in_registers(*op.inputs[i])) {
      in_registers.push_back(static_cast<int>(i));
    }
  }
  const auto pieces = work_.pieces(id, gathered, in_registers, panel_budget_, buffers);
  for (Pending& each : pending) {
    const bool is_piece = pieces.has_value() && can_be_panels(each.fetch) &&
                          std::find(pieces->operands.begin(), pieces->operands.end(), each.input) !=
                              pieces->operands.end();
    each.panels = is_piece ? pieces->count : 1;
  }
  return std::nullopt;
}

Drafter::Panels Drafter::fetch_operands(OpId id, std::vector<DraftId>& transfers,
                                        std::vector<BufferId>& landings) {
  std::vector<Pending> pending = pending_fetches(id);
  Panels panels;
  panels.block = choose_panels(id, pending);
  // Panels of all operands come in turn, in one phase.
  std::optional<DraftId> in_panels;
  for (Pending& each : pending) {
    if (each.panels > 1 && in_panels.has_value()) {
      add_to_panels(*in_panels, each.value, std::move(each.fetch), landings);
      continue;
    }
    const bool is_panels = each.panels > 1;
    transfers.push_back(emit_fetch(id, each.value, std::move(each.fetch), each.panels, landings));
    if (is_panels) {
      in_panels = transfers.back();
      panels.transfers.push_back(transfers.back());
    }
  }
  return panels;
}

BufferId Drafter::add_landing(ValueId id, Bytes bytes, std::int64_t panels) {
  const std::int64_t kept =
      panels > 1 ? 2 * ((bytes.count() + panels - 1) / panels) : bytes.count();
  return add_buffer(value(id).name + ":fetched", Bytes(kept));
}

void Drafter::add_to_panels(DraftId phase, ValueId id, Fetch fetch,
                            std::vector<BufferId>& landings) {
  auto& transfer = std::get<Transfer>(draft_.phases[phase].phase.body);
  landings.push_back(add_landing(id, fetch.landing, transfer.panels));
  DraftPhase& draft = draft_.phases[phase];
  transfer.moves.insert(transfer.moves.end(), fetch.moves.begin(), fetch.moves.end());
  transfer.is_fallback = transfer.is_fallback || fetch.is_fallback;
  draft.phase.reads.push_back(value(id).name);
  draft.reads.push_back(storage(id));
  draft.writes.push_back(landings.back());
  if (producer_[id.index].has_value()) {
    draft.phase.after.push_back({static_cast<std::uint32_t>(*producer_[id.index])});
  }
}

bool Drafter::can_be_panels(const Fetch& fetch) {
  return std::all_of(fetch.moves.begin(), fetch.moves.end(), [](const program::Move& move) {
    return move.scope == program::Scope::Inside &&
           move.pattern.kind != machine::PatternKind::AllReduce;
  });
}

DraftId Drafter::emit_fetch(OpId reader, ValueId id, Fetch fetch, std::int64_t panels,
                            std::vector<BufferId>& landings) {
  DraftPhase draft;
  const Op& op = graph_.ops[reader.index];
  draft.is_forward = op.phase == graph::Phase::Forward;
  draft.block = block_of(op.module);
  Transfer transfer{
      .moves = std::move(fetch.moves), .panels = panels, .is_fallback = fetch.is_fallback};
  draft.phase.region = mesh_.region;
  draft.phase.body = std::move(transfer);
  draft.phase.reads = {value(id).name};
  std::set<DraftId> after;
  if (producer_[id.index].has_value()) {
    after.insert(*producer_[id.index]);
  }
  const auto last = last_compute();
  if (panels > 1 && last.has_value()) {
    after.insert(*last);  // its buffers hold two panels: it runs beside its reader alone
  } else {
    draft.beside = last;
  }
  for (const DraftId one : after) {
    draft.phase.after.push_back({static_cast<std::uint32_t>(one)});
  }
  landings.push_back(add_landing(id, fetch.landing, panels));
  draft.reads = {storage(id)};
  draft.writes = {landings.back()};
  return add_phase(std::move(draft));
}

DraftId Drafter::add_phase(DraftPhase draft) {
  if (std::holds_alternative<Compute>(draft.phase.body)) {
    last_compute_ = draft_.phases.size();
  }
  draft.turn = turn_;
  draft.is_backward_half = is_backward_half_;
  draft_.phases.push_back(std::move(draft));
  return draft_.phases.size() - 1;
}

}  // namespace dojo::place::internal
