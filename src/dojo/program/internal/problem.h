// What is wrong with a Program, and where: so that whoever has its text can name the line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/machine/machine_model.h"
#include "dojo/program/program.h"

namespace dojo::program::internal {

struct Problem {
  enum class Of : std::uint8_t { Head, Micro, Phase, Memory };
  Of of = Of::Head;
  std::size_t index = 0;  // of the phase or memory entry
  Error error;
};

// The first breach of the invariants that program.h lists.
std::optional<Problem> find_problem(const Program& program, const machine::MachineModel& machine);

// The same of a pipeline's stages alone.
std::optional<Problem> find_stage_problem(const Program& program,
                                          const machine::MachineModel& machine);

// 1-based lines of a Program's text, by phase and by memory entry.
struct ProgramLines {
  int micro = 1;  // where micro-batches are stated
  std::vector<int> phases;
  std::vector<int> memory;
};
Result<Program> parse_program(std::string_view text, const std::string& file, ProgramLines& lines);

}  // namespace dojo::program::internal
