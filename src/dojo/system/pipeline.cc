#include "dojo/system/pipeline.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "dojo/base/check.h"

namespace dojo::system {
namespace {

using program::Part;
using program::Stage;

constexpr std::int64_t kAhead = 2;  // micro-batches that may lie between two neighbours

class Scheduler {
 public:
  Scheduler(const std::vector<Stage>& stages, std::int64_t micro_batches,
            const std::vector<PartTimes>& times)
      : stages_(stages), micro_batches_(micro_batches), times_(times), done_(stages.size()) {}

  std::vector<PartRun> run() {
    std::size_t longest = 0;
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      add({.stage = stage, .part = Part::Before});
      longest = runs_[stage].end > runs_[longest].end ? stage : longest;
    }
    longest_before_ = longest;
    bool has_moved = true;
    while (has_moved) {
      has_moved = false;
      for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
        while (advance(stage)) {
          has_moved = true;
        }
      }
    }
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      DOJO_CHECK(done_[stage] == halves() + 1);  // verify_program sees to it
    }
    return std::move(runs_);
  }

 private:
  std::int64_t halves() const { return 2 * micro_batches_; }

  // The half that the stage runs as its i-th.
  PartRun half(std::size_t stage, std::int64_t i) const {
    const std::int64_t lead =
        std::min(micro_batches_, static_cast<std::int64_t>(stages_.size() - stage));
    if (i < lead) {
      return {.stage = stage, .part = Part::Forward, .micro_batch = i};
    }
    const std::int64_t later = i - lead;  // backward and forward in turn, while there are any
    const std::int64_t pairs = micro_batches_ - lead;
    if (later >= 2 * pairs) {
      return {.stage = stage, .part = Part::Backward, .micro_batch = later - pairs};
    }
    return later % 2 == 0
               ? PartRun{.stage = stage, .part = Part::Backward, .micro_batch = later / 2}
               : PartRun{.stage = stage, .part = Part::Forward, .micro_batch = lead + later / 2};
  }

  bool advance(std::size_t stage) {
    const std::int64_t at = done_[stage];
    if (at > halves()) {
      return false;
    }
    PartRun next = at < halves() ? half(stage, at) : PartRun{.stage = stage, .part = Part::Behind};
    std::vector<std::size_t> after{at == 0 ? longest_before_ : last_.at(stage)};
    if (!add_neighbours(next, after)) {
      return false;
    }
    for (const std::size_t before : after) {
      if (!next.released_by.has_value() || runs_[before].end > next.begin) {
        next.begin = runs_[before].end;
        next.released_by = before;
      }
    }
    add(next);
    ++done_[stage];
    return true;
  }

  // The runs of other stages that it waits for; false if one has not run yet.
  bool add_neighbours(const PartRun& run, std::vector<std::size_t>& after) const {
    const auto take = [&](std::size_t stage, Part part, std::int64_t micro_batch) {
      const auto found = index_.find({stage, part, micro_batch});
      if (found != index_.end()) {
        after.push_back(found->second);
      }
      return found != index_.end();
    };
    if (run.part == Part::Behind) {
      const std::vector<std::int64_t>& others = stages_[run.stage].after;
      return std::all_of(others.begin(), others.end(), [&](std::int64_t other) {
        return take(static_cast<std::size_t>(other), Part::Behind, 0);
      });
    }
    const bool is_forward = run.part == Part::Forward;
    const bool has_lower = run.stage > 0;
    const bool has_upper = run.stage + 1 < stages_.size();
    const bool has_source = is_forward ? has_lower : has_upper;
    const bool has_target = is_forward ? has_upper : has_lower;
    const std::size_t source = is_forward ? run.stage - 1 : run.stage + 1;
    const std::size_t target = is_forward ? run.stage + 1 : run.stage - 1;
    return (!has_source || take(source, run.part, run.micro_batch)) &&
           (!has_target || run.micro_batch < kAhead ||
            take(target, run.part, run.micro_batch - kAhead));
  }

  void add(PartRun run) {
    run.end = run.begin + times_[run.stage][static_cast<std::size_t>(run.part)];
    index_[{run.stage, run.part, run.micro_batch}] = runs_.size();
    last_[run.stage] = runs_.size();
    runs_.push_back(run);
  }

  const std::vector<Stage>& stages_;
  std::int64_t micro_batches_;
  const std::vector<PartTimes>& times_;
  std::vector<std::int64_t> done_;  // by stage: halves, and then what is behind them
  std::size_t longest_before_ = 0;
  std::map<std::tuple<std::size_t, Part, std::int64_t>, std::size_t> index_;
  std::map<std::size_t, std::size_t> last_;  // by stage: its last run
  std::vector<PartRun> runs_;
};

}  // namespace

std::vector<PartRun> schedule(const std::vector<Stage>& stages, std::int64_t micro_batches,
                              const std::vector<PartTimes>& times) {
  return Scheduler(stages, micro_batches, times).run();
}

PipelineTimes time_pipeline(const program::Program& program, const machine::MachineModel& machine,
                            Sharing sharing) {
  PipelineTimes out;
  std::vector<PartTimes> times(program.stages.size());
  for (std::size_t stage = 0; stage < program.stages.size(); ++stage) {
    for (std::size_t i = 0; i < program::kPartCount; ++i) {
      const auto part = static_cast<Part>(i);
      const PhaseId begin = program.stages[stage].begin_of(part);
      PartTimeline& one = out.parts.emplace_back(
          PartTimeline{.stage = stage, .part = part, .first_phase = begin.index});
      one.program = program::only(program, begin, program.stages[stage].end_of(part));
      one.timeline = time_program(one.program, machine, sharing);
      times[stage][i] = one.timeline.computed;
    }
  }
  out.runs = schedule(program.stages, program.micro.count, times);
  return out;
}

}  // namespace dojo::system
