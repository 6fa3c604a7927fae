#include "dojo/place/internal/remedies.h"

#include <algorithm>
#include <map>
#include <set>

#include "dojo/cost/phase_cost.h"

namespace dojo::place::internal {

using program::Compute;
using program::Remedy;
using program::Transfer;

namespace {

PhaseId id_of(DraftId draft) { return {static_cast<std::uint32_t>(draft)}; }

void replace(std::vector<BufferId>& list, BufferId from, BufferId to) {
  for (BufferId& entry : list) {
    entry = entry == from ? to : entry;
  }
}

bool contains(const std::vector<BufferId>& list, BufferId buffer) {
  return std::find(list.begin(), list.end(), buffer) != list.end();
}

// Positions in the order that touch a buffer, and those that write it; and the phases there, with
// those that have been added since.
struct Touches {
  std::vector<std::size_t> all;
  std::vector<std::size_t> writes;
  std::vector<DraftId> phases;
};

// What a remedy would do: computes phases again so that buffers need not live in between.
struct Candidate {
  std::string what;
  std::string name;
  std::int64_t freed = 0;   // bytes at the peak
  std::int64_t cycles = 0;  // that it costs
  std::vector<BufferId> dropped{};
  std::vector<BufferId> kept{};  // what has to stay through the peak for it
  std::vector<DraftId> again{};  // phases to do again, in order
  std::size_t before = 0;        // position that needs the first dropped buffer again
  std::size_t since = 0;         // slices: the last position before the gap

  // Fewer cycles per byte; then more bytes; candidates come in a fixed order, the first wins.
  bool is_better_than(const Candidate& other) const {
    __extension__ using Wide = __int128;
    const Wide mine = static_cast<Wide>(cycles) * other.freed;
    const Wide its = static_cast<Wide>(other.cycles) * freed;
    return mine != its ? mine < its : freed > other.freed;
  }
};

class Fitter {
 public:
  Fitter(Draft& draft, const Mesh& mesh, const machine::MachineModel& machine)
      : draft_(draft), mesh_(mesh), machine_(machine) {}

  Fit run(Bytes capacity) {
    Fit fit;
    Bytes target = capacity;
    for (int round = 0; round < kMostRounds; ++round) {
      look();
      fit.life = life_;
      if (peak_.bytes <= target) {
        fit.plan = plan_memory(draft_, life_);
        if (fit.plan.peak <= capacity) {
          fit.fits = true;
          break;
        }
        // First fit leaves gaps: aim lower by what it missed.
        target = target - (fit.plan.peak - capacity);
      }
      if (!apply_best(std::max(peak_.bytes - target, Bytes(1)))) {
        break;
      }
    }
    if (!fit.fits) {
      look();
      fit.life = life_;
      fit.plan = plan_memory(draft_, life_);
      fit.fits = fit.plan.peak <= capacity;
    }
    fit.remedies = std::move(remedies_);
    return fit;
  }

 private:
  static constexpr int kMostRounds = 200;

  void look() {
    life_ = lives(draft_);
    backward_ = backward_of(draft_);
    peak_ = live_peak(draft_, life_);
    // PERF: cleared, not made anew: a thousand rounds over a thousand small lists.
    touches_.resize(draft_.buffers.size());
    for (Touches& touches : touches_) {
      touches.all.clear();
      touches.writes.clear();
      touches.phases.clear();
    }
    is_done_again_.resize(draft_.phases.size(), false);
    position_.assign(draft_.phases.size(), 0);
    for (std::size_t at = 0; at < draft_.order.size(); ++at) {
      const DraftPhase& phase = draft_.phases[draft_.order[at]];
      position_[draft_.order[at]] = at;
      for (const auto* list : {&phase.reads, &phase.writes}) {
        for (const BufferId buffer : *list) {
          std::vector<std::size_t>& all = touches_[buffer].all;
          if (all.empty() || all.back() != at) {
            all.push_back(at);
            touches_[buffer].phases.push_back(draft_.order[at]);
          }
        }
      }
      for (const BufferId buffer : phase.writes) {
        touches_[buffer].writes.push_back(at);
      }
    }
  }

  bool lives_at_peak(BufferId buffer) const {
    return life_[buffer].has_value() && life_[buffer]->first <= peak_.position &&
           peak_.position <= life_[buffer]->last;
  }

  Bytes bytes(BufferId buffer) const {
    return life_[buffer].has_value() ? bytes_of(draft_.buffers[buffer], *life_[buffer])
                                     : draft_.buffers[buffer].bytes;
  }

  // The touch before and after the peak; nullopt if the peak is a touch or beyond them. Of what
  // both halves of a pipeline's stage touch and is there all the time, those at the end of the
  // forward half.
  std::optional<std::pair<std::size_t, std::size_t>> gap(BufferId buffer) const {
    const auto& all = touches_[buffer].all;
    const bool spans = life_[buffer].has_value() && life_[buffer]->copies > 1;
    const auto after =
        std::lower_bound(all.begin(), all.end(), spans ? *backward_ : peak_.position);
    if (spans && lives_at_peak(buffer) && !draft_.buffers[buffer].is_arrival &&
        !draft_.buffers[buffer].is_pinned && !draft_.buffers[buffer].is_result &&
        after != all.begin() && after != all.end()) {
      return std::pair{*std::prev(after), *after};
    }
    if (spans || draft_.buffers[buffer].is_arrival || draft_.buffers[buffer].is_pinned ||
        draft_.buffers[buffer].is_result || draft_.buffers[buffer].is_carried ||
        after == all.begin() || after == all.end() || *after == peak_.position) {
      return std::nullopt;
    }
    return std::pair{*std::prev(after), *after};
  }

  // PERF: asked for the same phases in each of many rounds; a phase's body does not change.
  std::int64_t cycles_of(DraftId id) const {
    cycles_.resize(draft_.phases.size());
    if (!cycles_[id].has_value()) {
      cycles_[id] = computed_cycles(id);
    }
    return *cycles_[id];
  }

  std::int64_t computed_cycles(DraftId id) const {
    const auto& body = draft_.phases[id].phase.body;
    if (const auto* compute = std::get_if<Compute>(&body)) {
      return cost::compute_time(*compute, machine_).cost.body().count();
    }
    if (const auto* transfer = std::get_if<Transfer>(&body)) {
      return cost::transfer_time(*transfer, mesh_.replicas, machine_)
          .cost.total(machine_.network.pace)
          .count();
    }
    return 0;
  }

  // One round: the best remedies of the first kind that has any, as many as the excess needs. False
  // if none is left. They are done from the last position to the first, so that those to come keep
  // their places.
  bool apply_best(Bytes excess) {
    std::vector<Candidate> candidates = slices();
    if (candidates.empty()) {
      for (BufferId buffer = 0; buffer < draft_.buffers.size(); ++buffer) {
        if (auto one = recompute(buffer); one.has_value() && one->freed > 0) {
          candidates.push_back(std::move(*one));
        }
      }
    }
    if (candidates.empty()) {
      for (Candidate& one : checkpoints()) {
        if (one.freed > 0) {
          candidates.push_back(std::move(one));
        }
      }
    }
    if (candidates.empty()) {
      return false;
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.is_better_than(b); });
    std::int64_t freed = 0;
    std::size_t taken = 0;
    while (taken < candidates.size() && freed < excess.count()) {
      freed += candidates[taken++].freed;
    }
    candidates.resize(taken);
    for (const Candidate& one : candidates) {
      remedies_.push_back({one.what, one.name, Bytes(one.freed)});
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.before > b.before; });
    for (const Candidate& one : candidates) {
      if (one.again.empty()) {
        slice(one);
      } else {
        do_again(one);
      }
    }
    return true;
  }

  // --- 1: copies that all nodes hold alike ---
  // A share costs an all-gather: not for what a few packets per node hold.
  static constexpr std::int64_t kLeastSliced = 1024;

  std::vector<Candidate> slices() const {
    std::vector<Candidate> out;
    for (BufferId buffer = 0; buffer < draft_.buffers.size(); ++buffer) {
      const Buffer& one = draft_.buffers[buffer];
      const std::int64_t copies = one.copies_y * one.copies_x;
      // What has been made again is there for its readers alone.
      const auto around = one.name.ends_with(":again") ? std::nullopt : gap(buffer);
      const std::int64_t all = bytes(buffer).count();
      const std::int64_t freed = all - (all + copies - 1) / std::max<std::int64_t>(1, copies);
      if (copies > 1 && around.has_value() && freed >= kLeastSliced) {
        Candidate slice{.what = "slice", .name = one.name, .freed = freed};
        slice.cycles = cost::pattern_cost(gather_of(one).pattern, mesh_.region, machine_)
                           .total(machine_.network.pace)
                           .count();
        slice.dropped = {buffer};
        slice.before = around->second;
        slice.since = around->first;
        out.push_back(std::move(slice));
      }
    }
    return out;
  }

  program::Move gather_of(const Buffer& buffer) const {
    const machine::Axis axis = buffer.copies_y == 1   ? machine::Axis::Rows
                               : buffer.copies_x == 1 ? machine::Axis::Columns
                                                      : machine::Axis::Both;
    const bool is_of_group = buffer.copies_y > 1 && buffer.copies_y <= mesh_.rows_per_group();
    const std::int64_t rows = is_of_group ? mesh_.rows_per_group() : mesh_.region.rows();
    return {.tensor = tensor_name(buffer.name),
            .region = mesh_.lines(rows, mesh_.region.columns()),
            .pattern = machine::all_gather(axis, buffer.bytes)};
  }

  void slice(const Candidate& what) {
    const BufferId buffer = what.dropped.front();
    const Buffer whole = draft_.buffers[buffer];
    const std::int64_t copies = whole.copies_y * whole.copies_x;
    const BufferId share = draft_.buffers.size();
    draft_.buffers.push_back({.name = whole.name + ":share",
                              .bytes = Bytes((whole.bytes.count() + copies - 1) / copies)});
    const BufferId again = draft_.buffers.size();
    draft_.buffers.push_back({.name = whole.name + ":again", .bytes = whole.bytes});
    DraftPhase gather;
    gather.phase.region = mesh_.region;
    gather.phase.body = Transfer{.moves = {gather_of(whole)}};
    gather.phase.reads = {tensor_name(whole.name)};
    gather.phase.after = {id_of(draft_.order[what.since])};
    gather.reads = {share};
    gather.writes = {again};
    gather.turn = draft_.phases[draft_.order[what.before]].turn;
    gather.is_backward_half = draft_.phases[draft_.order[what.before]].is_backward_half;
    const DraftId added = draft_.phases.size();
    draft_.phases[draft_.order[what.since]].writes.push_back(share);
    draft_.phases.push_back(std::move(gather));
    redirect_from(what.before, buffer, again, added);
    draft_.order.insert(draft_.order.begin() + static_cast<std::ptrdiff_t>(what.before), added);
  }

  static std::string tensor_name(const std::string& buffer) {
    return buffer.substr(0, buffer.find(':'));
  }

  // All from a position on. Of phases that were added in this round all stand behind it, since
  // remedies are done from the last position to the first.
  void redirect_from(std::size_t before, BufferId from, BufferId to, DraftId maker) {
    touches_.resize(draft_.buffers.size());
    std::vector<DraftId>& phases = touches_[from].phases;
    const auto behind = std::stable_partition(phases.begin(), phases.end(), [&](DraftId id) {
      return id < position_.size() && position_[id] < before;
    });
    for (auto id = behind; id != phases.end(); ++id) {
      redirect(*id, from, to, maker);
      touches_[to].phases.push_back(*id);
    }
    phases.erase(behind, phases.end());
  }

  void redirect(DraftId reader, BufferId from, BufferId to, DraftId maker) {
    DraftPhase& phase = draft_.phases[reader];
    if (!contains(phase.reads, from) && !contains(phase.writes, from)) {
      return;
    }
    replace(phase.reads, from, to);
    replace(phase.writes, from, to);
    phase.phase.after.push_back(id_of(maker));
  }

  // --- 2: element-wise results and norms ---
  // The phase that made the buffer and the transfers that fed it, to be done again after the peak.
  std::optional<Candidate> recompute(BufferId buffer) const {
    // A share is what is kept of a slice, by whoever had it last.
    const auto around = gap(buffer);
    if (!around.has_value() || touches_[buffer].writes.size() != 1 ||
        draft_.buffers[buffer].name.ends_with(":share")) {
      return std::nullopt;
    }
    const DraftId maker = draft_.order[touches_[buffer].writes.front()];
    const auto* compute = std::get_if<Compute>(&draft_.phases[maker].phase.body);
    if (compute == nullptr || !compute->work.matrix.empty() || compute->is_recomputed ||
        !compute->pipelined.empty()) {
      return std::nullopt;
    }
    Candidate out{.what = "recompute", .name = draft_.buffers[buffer].name};
    out.dropped = {buffer};
    out.before = around->second;
    for (const BufferId read : draft_.phases[maker].reads) {
      if (const auto feeder = fetched_by(read)) {
        if (!add_again(*feeder, out)) {
          return std::nullopt;
        }
      }
    }
    if (!add_again(maker, out)) {
      return std::nullopt;
    }
    out.freed += bytes(buffer).count();
    return out;
  }

  // The transfer that brought a copy; nullopt for buffers that hold values.
  std::optional<DraftId> fetched_by(BufferId buffer) const {
    if (touches_[buffer].writes.size() != 1) {
      return std::nullopt;
    }
    const DraftId maker = draft_.order[touches_[buffer].writes.front()];
    const bool is_transfer = std::holds_alternative<Transfer>(draft_.phases[maker].phase.body);
    return is_transfer && draft_.buffers[buffer].name.find(":fetched") != std::string::npos
               ? std::optional(maker)
               : std::nullopt;
  }

  // Adds a phase to do again; what it reads from outside has to stay until then. False if a leaf
  // that it reads is overwritten in between, or it runs before the micro-batches.
  bool add_again(DraftId id, Candidate& out) const {
    if (draft_.phases[id].turn == Turn::Before) {
      return false;  // what it reads may be gone when micro-batches run
    }
    const auto is_sum = [&](BufferId buffer) { return draft_.buffers[buffer].is_sum; };
    const std::vector<BufferId>& written = draft_.phases[id].writes;
    if (std::any_of(written.begin(), written.end(), is_sum)) {
      return false;
    }
    const auto is_made = [&](BufferId buffer) {
      return std::any_of(out.again.begin(), out.again.end(), [&](DraftId earlier) {
        return contains(draft_.phases[earlier].writes, buffer);
      });
    };
    for (const BufferId read : draft_.phases[id].reads) {
      if (is_made(read) || contains(out.dropped, read)) {
        continue;
      }
      const auto& writes = touches_[read].writes;
      const std::size_t done = position_[id];
      const bool is_overwritten = std::any_of(writes.begin(), writes.end(), [&](std::size_t at) {
        return at > done && at < out.before;
      });
      if (is_overwritten && !draft_.buffers[read].is_statistic) {
        return false;
      }
      if (contains(out.kept, read)) {
        continue;
      }
      if (const std::int64_t more = more_copies(read, out.before); more > 0) {
        out.kept.push_back(read);
        out.freed -= draft_.buffers[read].bytes.count() * more;
      } else if (!lives_at_peak(read)) {
        out.kept.push_back(read);
        out.freed -= draft_.buffers[read].bytes.count();
      }
    }
    out.again.push_back(id);
    out.cycles += cycles_of(id);
    return true;
  }

  // Of what only the forward half of a pipeline's stage touches so far, were it read at `before`.
  std::int64_t more_copies(BufferId buffer, std::size_t before) const {
    const auto& life = life_[buffer];
    const Buffer& one = draft_.buffers[buffer];
    const bool is_known = one.is_arrival || one.is_pinned;
    const auto& touched = touches_[buffer].all;
    if (!backward_.has_value() || before < *backward_ || !life.has_value() || one.is_carried ||
        one.is_alike || touched.empty() || touched.back() >= *backward_) {
      return 0;
    }
    return is_known ? one.copies_backward - one.copies : draft_.lead;
  }

  // --- 3: whole blocks of the forward part ---
  std::vector<Candidate> checkpoints() const {
    std::vector<Candidate> out;
    std::size_t at = 0;
    while (at < draft_.order.size()) {
      const DraftPhase& first = draft_.phases[draft_.order[at]];
      std::size_t end = at + 1;
      // What belongs to no block may come in between, and is not done again.
      for (std::size_t next = end; next < draft_.order.size(); ++next) {
        const DraftPhase& phase = draft_.phases[draft_.order[next]];
        const bool is_of_block = phase.is_forward && phase.block == first.block;
        if (phase.turn != first.turn || (!is_of_block && !phase.block.empty())) {
          break;
        }
        end = is_of_block ? next + 1 : end;
      }
      // Once each: what a second time frees are the blocks' own ends, for all before them.
      if (first.is_forward && !first.block.empty() && end > at + 1 &&
          !is_done_again_[draft_.order[at]]) {
        if (auto one = checkpoint(at, end)) {
          out.push_back(std::move(*one));
        }
      }
      at = end;
    }
    return out;
  }

  std::optional<Candidate> checkpoint(std::size_t begin, std::size_t end) const {
    Candidate out{.what = "checkpoint", .name = draft_.phases[draft_.order[begin]].block};
    const auto is_of_block = [&](std::size_t at) {
      return draft_.phases[draft_.order[at]].block == out.name;  // the others have none
    };
    std::set<BufferId> made;
    for (std::size_t at = begin; at < end; ++at) {
      const DraftPhase& phase = draft_.phases[draft_.order[at]];
      if (!is_of_block(at)) {
        continue;
      }
      const auto* compute = std::get_if<Compute>(&phase.phase.body);
      if (compute != nullptr && compute->is_recomputed) {
        return std::nullopt;
      }
      made.insert(phase.writes.begin(), phase.writes.end());
    }
    out.before = draft_.order.size();
    std::int64_t dropped = 0;
    for (const BufferId buffer : made) {
      const auto around = gap(buffer);
      if (around.has_value() && !draft_.phases[draft_.order[around->second]].is_forward) {
        out.dropped.push_back(buffer);
        out.before = std::min(out.before, around->second);
        dropped += bytes(buffer).count();
      }
    }
    if (out.dropped.empty()) {
      return std::nullopt;
    }
    // A buffer that is needed both before and after `before` would have to be two.
    for (std::size_t at = begin; at < end; ++at) {
      if (is_of_block(at) && !add_again(draft_.order[at], out)) {
        return std::nullopt;
      }
    }
    out.freed += dropped;
    return out;
  }

  // --- doing it ---
  void do_again(const Candidate& what) {
    is_done_again_[what.again.front()] = what.what == "checkpoint";
    std::map<BufferId, BufferId> renamed;
    std::map<DraftId, DraftId> cloned;
    std::vector<DraftId> clones;
    for (const DraftId id : what.again) {
      DraftPhase clone = draft_.phases[id];
      clone.is_forward = false;
      clone.turn = draft_.phases[draft_.order[what.before]].turn;
      clone.is_backward_half = draft_.phases[draft_.order[what.before]].is_backward_half;
      clone.block.clear();
      clone.beside.reset();
      for (BufferId& read : clone.reads) {
        read = renamed.contains(read) ? renamed.at(read) : read;
      }
      for (BufferId& written : clone.writes) {
        if (!renamed.contains(written)) {
          Buffer copy = draft_.buffers[written];
          copy.name += ":again";
          copy.is_pinned = false;
          copy.is_statistic = false;
          copy.is_carried = false;
          copy.is_arrival = false;
          copy.copies = copy.copies_backward = 1;
          renamed[written] = draft_.buffers.size();
          draft_.buffers.push_back(std::move(copy));
        }
        written = renamed.at(written);
      }
      for (PhaseId& before : clone.phase.after) {
        before = cloned.contains(before.index) ? id_of(cloned.at(before.index)) : before;
      }
      // It starts where it is needed, not as soon as it could.
      clone.phase.after.push_back(id_of(draft_.order[what.before - 1]));
      if (auto* compute = std::get_if<Compute>(&clone.phase.body)) {
        compute->is_recomputed = true;
        for (PhaseId& source : compute->pipelined) {
          source = cloned.contains(source.index) ? id_of(cloned.at(source.index)) : source;
        }
      }
      cloned[id] = draft_.phases.size();
      clones.push_back(draft_.phases.size());
      draft_.phases.push_back(std::move(clone));
    }
    for (const BufferId buffer : what.dropped) {
      redirect_from(what.before, buffer, renamed.at(buffer), clones.back());
    }
    for (const DraftId clone : clones) {
      for (const auto* list : {&draft_.phases[clone].reads, &draft_.phases[clone].writes}) {
        for (const BufferId buffer : *list) {
          touches_.resize(draft_.buffers.size());
          touches_[buffer].phases.push_back(clone);
        }
      }
    }
    draft_.order.insert(draft_.order.begin() + static_cast<std::ptrdiff_t>(what.before),
                        clones.begin(), clones.end());
  }

  Draft& draft_;
  const Mesh& mesh_;
  const machine::MachineModel& machine_;
  std::vector<std::optional<Life>> life_;
  Peak peak_;
  std::optional<std::size_t> backward_;  // position at which that half of a stage begins
  std::vector<Touches> touches_;
  std::vector<std::size_t> position_;  // by draft
  std::vector<bool> is_done_again_;    // by draft: begins a block that is computed twice
  std::vector<Remedy> remedies_;
  mutable std::vector<std::optional<std::int64_t>> cycles_;  // by draft, once asked for
};

}  // namespace

Fit make_fit(Draft& draft, Bytes capacity, const Mesh& mesh, const machine::MachineModel& machine) {
  return Fitter(draft, mesh, machine).run(capacity);
}

}  // namespace dojo::place::internal
