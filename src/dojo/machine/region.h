// Region: a rectangle of logical nodes over a rectangle of dies. It stands for any number of nodes
// as one object; work and transfers are placed on Regions only.
//
// Each die of the rectangle gives the same rows_per_die x columns_per_die nodes, those at the
// north-west of its logical grid; so a Region is itself a grid of rows() x columns() nodes, whose
// row r stands on die row r / rows_per_die of the rectangle. Text, dies and nodes as inclusive
// ranges and sizes:  @die[0..4,0..4].logical[90x95]  (5x5 dies of 18x19 nodes).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/machine/machine_model.h"

namespace dojo::machine {

struct Region {
  Site first_die{};      // north-west die, machine-wide die coordinates
  Shape dies{};          // of the rectangle
  Shape nodes_of_die{};  // logical nodes that each die gives

  constexpr int rows() const { return dies.rows * nodes_of_die.rows; }
  constexpr int columns() const { return dies.columns * nodes_of_die.columns; }
  constexpr std::int64_t nodes() const { return dies.count() * nodes_of_die.count(); }
  constexpr bool contains_die(Site die) const {
    return die.row >= first_die.row && die.row < first_die.row + dies.rows &&
           die.column >= first_die.column && die.column < first_die.column + dies.columns;
  }
  friend constexpr bool operator==(const Region&, const Region&) = default;
};

// All logical nodes of the machine; all of one die.
Region whole_machine(const MachineModel& machine);
Region whole_die(const MachineModel& machine, Site die);

// True if some die gives nodes to both (each gives its north-west corner, so they then overlap).
bool overlap(const Region& a, const Region& b);

// Error (InvalidInput or DoesNotFit) unless the region is not empty and stands on the machine.
Result<void> check_region(const Region& region, const MachineModel& machine);

std::string to_string(const Region& region);
Result<Region> parse_region(std::string_view text);

}  // namespace dojo::machine
