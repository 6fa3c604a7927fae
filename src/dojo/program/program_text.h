// The text form of a Program: one line per phase, memory entry and remedy (docs/placement.md).
// Printing is canonical; parsing what was printed gives the same Program. parse_program checks the
// form only; whether it holds for a machine is verify_program's, and load_program's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/program/program.h"

namespace dojo::program {

// What the parser accepts at most; more is an error that says so.
struct ProgramLimits {
  static constexpr std::size_t kBytes = std::size_t{64} << 20;
  static constexpr std::size_t kPhases = std::size_t{1} << 20;
  static constexpr std::size_t kListLength = std::size_t{1} << 16;
};

std::string print_program(const Program& program);

// `file` is what errors name. Errors: what was found, what was expected, file:line:column.
Result<Program> parse_program(std::string_view text, const std::string& file = "program");

// The Program in a file, verified for the machine. Errors: those of parse_program; a Program that
// was made for another machine; an invariant that does not hold, with the line of its phase.
Result<Program> load_program(const std::string& path, const machine::MachineModel& machine);

}  // namespace dojo::program
