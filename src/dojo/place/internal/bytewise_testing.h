// For tests of pipelines: whether anything that a micro-batch under way needs is overwritten.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "dojo/place/internal/delivery_testing.h"
#include "dojo/place/internal/memory.h"

namespace dojo::place::testing {

// Runs the halves of all stages in an order that chance picks among those that program.h allows,
// every phase reading and writing the bytes that the plan gives its buffers. Each 64 bytes carry
// the buffer and micro-batch that wrote them last.
class Bytewise {
 public:
  Bytewise(const Placed& step, std::mt19937& random)
      : plan_(step.plan),
        program_(step.program),
        logical_(step.machine.logical),
        random_(random),
        stages_(step.program.stages.size()),
        turns_(step.program.micro.count),
        next_(stages_, 0) {
    for (std::size_t s = 0; s < stages_; ++s) {
      lines_.emplace_back(static_cast<std::size_t>(step.machine.node.sram.count() / 64));
      for (internal::BufferId b = 0; b < draft(s).buffers.size(); ++b) {
        if (draft(s).buffers[b].is_pinned) {
          for (std::int64_t copy = 0; copy < life(s, b)->copies; ++copy) {
            write(s, b, copy);
          }
        }
      }
    }
  }

  std::vector<std::string> run() {
    for (std::size_t s = 0; s < stages_; ++s) {
      run_part(s, program::Part::Before, 0);
    }
    while (breaches_.empty()) {
      std::vector<std::size_t> ready;
      for (std::size_t s = 0; s < stages_; ++s) {
        if (next_[s] < 2 * turns_ && is_ready(s)) {
          ready.push_back(s);
        }
      }
      if (ready.empty()) {
        break;
      }
      const std::size_t s = ready[random_() % ready.size()];
      const auto [part, micro_batch] = half(s, next_[s]++);
      run_part(s, part, micro_batch);
    }
    for (std::size_t s = 0; s < stages_; ++s) {
      EXPECT_TRUE(!breaches_.empty() || next_[s] == 2 * turns_) << "stage " << s << " hangs";
    }
    return breaches_;
  }

 private:
  using Half = std::pair<program::Part, std::int64_t>;

  const internal::Draft& draft(std::size_t s) const { return plan_.drafted[s].draft; }
  const std::optional<internal::Life>& life(std::size_t s, internal::BufferId b) const {
    return plan_.drafted[s].fit.life[b];
  }

  // In the words of program.h: its lead forward, then back and forward in turn, then back.
  Half half(std::size_t s, std::int64_t i) const {
    std::int64_t forward = 0;
    std::int64_t backward = 0;
    const std::int64_t lead = program_.lead(s);
    for (std::int64_t at = 0;; ++at) {
      const bool goes_back = forward == turns_ || (forward >= lead && forward - backward >= lead);
      if (at == i) {
        return goes_back ? Half{program::Part::Backward, backward}
                         : Half{program::Part::Forward, forward};
      }
      ++(goes_back ? backward : forward);
    }
  }

  bool has_run(std::size_t s, program::Part part, std::int64_t micro_batch) const {
    for (std::int64_t i = 0; i < next_[s]; ++i) {
      if (half(s, i) == Half{part, micro_batch}) {
        return true;
      }
    }
    return micro_batch < 0;
  }

  bool is_ready(std::size_t s) const {
    const auto [part, m] = half(s, next_[s]);
    const bool is_forward = part == program::Part::Forward;
    const bool has_before = is_forward ? s > 0 : s + 1 < stages_;
    const bool has_behind = is_forward ? s + 1 < stages_ : s > 0;
    const std::size_t before = is_forward ? s - 1 : s + 1;
    const std::size_t behind = is_forward ? s + 1 : s - 1;
    return (!has_before || has_run(before, part, m)) &&
           (!has_behind || has_run(behind, part, m - 2));
  }

  void run_part(std::size_t s, program::Part part, std::int64_t m) {
    for (const internal::DraftId id : draft(s).order) {
      const internal::DraftPhase& phase = draft(s).phases[id];
      const bool is_of_half =
          phase.turn == internal::Turn::Each
              ? part == (phase.is_backward_half ? program::Part::Backward : program::Part::Forward)
              : part == program::Part::Before && phase.turn == internal::Turn::Before;
      if (!is_of_half) {
        continue;
      }
      for (const internal::BufferId b : phase.reads) {
        const bool is_own =  // what the phase itself leaves there
            std::find(phase.writes.begin(), phase.writes.end(), b) != phase.writes.end() &&
            !draft(s).buffers[b].is_carried;
        if (!is_own) {
          read(s, b, m);
        }
      }
      for (const internal::BufferId b : phase.writes) {
        write(s, b, m);
      }
      if (const auto* transfer = std::get_if<program::Transfer>(&phase.phase.body);
          transfer != nullptr && transfer->moves.front().scope == program::Scope::Onward) {
        arrive(s, transfer->moves.front(), m);
      }
    }
  }

  void arrive(std::size_t from, const program::Move& move, std::int64_t m) {
    for (const internal::Crossing& crossing : plan_.stages->crossings) {
      const auto way = [&](int s) { return plan_.mesh.way_to_stage(static_cast<std::size_t>(s)); };
      const auto to = static_cast<std::size_t>(crossing.to);
      const std::string name = move.tensor + ":arrived";
      if (crossing.from != static_cast<int>(from) ||
          way(crossing.to).columns - way(crossing.from).columns !=
              move.pattern.move_columns / logical_.columns ||
          way(crossing.to).rows - way(crossing.from).rows !=
              move.pattern.move_rows / logical_.rows) {
        continue;
      }
      for (internal::BufferId b = 0; b < draft(to).buffers.size(); ++b) {
        if (draft(to).buffers[b].name == name && life(to, b).has_value()) {
          write(to, b, m);
        }
      }
    }
  }

  template <class Visit>
  void each_line(std::size_t s, internal::BufferId b, std::int64_t m, Visit visit) {
    if (!life(s, b).has_value()) {
      return;
    }
    const std::int64_t lines = (draft(s).buffers[b].bytes.count() + 63) / 64;
    const std::int64_t begin =
        plan_.drafted[s].fit.plan.offset[b]->count() / 64 + m % life(s, b)->copies * lines;
    for (std::int64_t i = 0; i < lines; ++i) {
      visit(lines_[s][static_cast<std::size_t>(begin + i)]);
    }
  }

  void write(std::size_t s, internal::BufferId b, std::int64_t m) {
    each_line(s, b, m, [&](Line& line) { line = {b + 1, m}; });
  }

  void read(std::size_t s, internal::BufferId b, std::int64_t m) {
    const internal::Buffer& buffer = draft(s).buffers[b];
    if (buffer.is_sum && m == 0) {
      return;  // it begins with nothing
    }
    const bool is_of_all =
        buffer.is_carried || buffer.is_alike || (buffer.is_pinned && life(s, b)->copies == 1);
    const std::int64_t wanted = buffer.is_sum && buffer.is_carried ? m - 1 : m;
    each_line(s, b, m, [&](Line& line) {
      const bool is_old = line.micro_batch != wanted && (!is_of_all || buffer.is_sum);
      if ((line.buffer != b + 1 || is_old) && breaches_.empty()) {
        breaches_.push_back(
            fmt::format("stage {} reads {} of micro-batch {} and finds {} of {}", s, buffer.name, m,
                        line.buffer > 0 ? draft(s).buffers[line.buffer - 1].name : "nothing",
                        line.micro_batch));
      }
    });
  }

  struct Line {
    internal::BufferId buffer = 0;  // plus one
    std::int64_t micro_batch = 0;
  };
  const internal::Plan& plan_;
  const program::Program& program_;
  machine::Shape logical_;
  std::mt19937& random_;
  std::size_t stages_;
  std::int64_t turns_;
  std::vector<std::int64_t> next_;  // by stage: halves that have run
  std::vector<std::vector<Line>> lines_;
  std::vector<std::string> breaches_;
};

inline std::vector<std::string> overwritten(const Placed& step) {
  std::mt19937 random(7);
  for (int order = 0; order < 20; ++order) {
    if (auto breaches = Bytewise(step, random).run(); !breaches.empty()) {
      return breaches;
    }
  }
  return {};
}

}  // namespace dojo::place::testing
