// The plane as the step uses it: how long each node of the first replica computes, and what each of
// its links carries. All replicas do the same.
#pragma once

#include <vector>

#include "dojo/system/timeline.h"

namespace dojo::system {

// Cells are logical nodes, in rows and columns of the replica; of a replica of more than
// kMostCells nodes only the first row and the first column of every die is kept, one cell a die.
inline constexpr std::int64_t kMostCells = 20'000;

struct Plane {
  int rows = 0;
  int columns = 0;
  bool cells_are_dies = false;
  std::vector<double> busy_seconds{};    // by cell, row by row: while phases that it works in run
  std::vector<double> row_link_bytes{};  // rows x (columns - 1): to the cell in the next column
  std::vector<double> column_link_bytes{};  // (rows - 1) x columns: to the cell in the next row
};

Plane plane_of(const program::Program& program, const Timeline& timeline,
               const machine::MachineModel& machine);

}  // namespace dojo::system
