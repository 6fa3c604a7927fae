#include "dojo/machine/region.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "dojo/base/text.h"
#include "dojo/machine/internal/cursor.h"

namespace dojo::machine {
namespace {

// Bounds every number of the text form, so that sums and products of them cannot overflow.
constexpr std::int64_t kMaxCoordinate = 1'000'000'000;

Error malformed(std::string_view text) {
  return Error{ErrorKind::InvalidInput,
               fmt::format("region {}: expected @die[ROW..ROW,COLUMN..COLUMN].logical[ROWSxCOLUMNS]"
                           ", as in @die[0..4,0..4].logical[90x95]",
                           quoted(text))};
}

// FIRST..LAST CLOSE, both inclusive.
std::optional<std::array<std::int64_t, 2>> take_range(internal::Cursor& cursor) {
  const auto first = cursor.take_integer();
  if (!first.has_value() || !cursor.take("..")) {
    return std::nullopt;
  }
  const auto last = cursor.take_integer();
  if (!last.has_value()) {
    return std::nullopt;
  }
  return std::array{*first, *last};
}

bool is_range(const std::array<std::int64_t, 2>& range) {
  return range[0] >= 0 && range[0] <= range[1] && range[1] < kMaxCoordinate;
}

}  // namespace

Region whole_machine(const MachineModel& machine) {
  return Region{.first_die = {}, .dies = machine.dies(), .nodes_of_die = machine.logical};
}

Region whole_die(const MachineModel& machine, Site die) {
  return Region{.first_die = die, .dies = {}, .nodes_of_die = machine.logical};
}

bool overlap(const Region& a, const Region& b) {
  return a.first_die.row < b.first_die.row + b.dies.rows &&
         b.first_die.row < a.first_die.row + a.dies.rows &&
         a.first_die.column < b.first_die.column + b.dies.columns &&
         b.first_die.column < a.first_die.column + a.dies.columns;
}

Result<void> check_region(const Region& region, const MachineModel& machine) {
  if (region.dies.rows < 1 || region.dies.columns < 1 || region.nodes_of_die.rows < 1 ||
      region.nodes_of_die.columns < 1 || region.first_die.row < 0 || region.first_die.column < 0) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("region {}: it must start on the machine and have at least one node",
                             to_string(region))};
  }
  const Shape dies = machine.dies();
  // Written as differences: a region of any size cannot overflow here.
  if (region.first_die.row > dies.rows - region.dies.rows ||
      region.first_die.column > dies.columns - region.dies.columns) {
    return Error{ErrorKind::DoesNotFit,
                 fmt::format("region {}: machine {} has {}x{} dies, rows 0..{} and columns 0..{}",
                             to_string(region), machine.name, dies.rows, dies.columns,
                             dies.rows - 1, dies.columns - 1)};
  }
  if (region.nodes_of_die.rows > machine.logical.rows ||
      region.nodes_of_die.columns > machine.logical.columns) {
    return Error{
        ErrorKind::DoesNotFit,
        fmt::format("region {}: it asks each die for {}x{} logical nodes, a die of machine "
                    "{} has {}x{}",
                    to_string(region), region.nodes_of_die.rows, region.nodes_of_die.columns,
                    machine.name, machine.logical.rows, machine.logical.columns)};
  }
  return {};
}

std::string to_string(const Region& region) {
  return fmt::format("@die[{}..{},{}..{}].logical[{}x{}]", region.first_die.row,
                     region.first_die.row + region.dies.rows - 1, region.first_die.column,
                     region.first_die.column + region.dies.columns - 1, region.rows(),
                     region.columns());
}

Result<Region> parse_region(std::string_view text) {
  internal::Cursor cursor(text);
  if (!cursor.take("@die[")) {
    return malformed(text);
  }
  const auto rows = take_range(cursor);
  if (!rows.has_value() || !cursor.take(",")) {
    return malformed(text);
  }
  const auto columns = take_range(cursor);
  if (!columns.has_value() || !cursor.take("].logical[")) {
    return malformed(text);
  }
  const auto node_rows = cursor.take_integer();
  if (!node_rows.has_value() || !cursor.take("x")) {
    return malformed(text);
  }
  const auto node_columns = cursor.take_integer();
  if (!node_columns.has_value() || !cursor.take("]") || !cursor.at_end()) {
    return malformed(text);
  }
  if (!is_range(*rows) || !is_range(*columns)) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("region {}: expected die ranges FIRST..LAST with 0 <= FIRST <= LAST < "
                             "{}",
                             quoted(text), kMaxCoordinate)};
  }
  const std::int64_t die_rows = (*rows)[1] - (*rows)[0] + 1;
  const std::int64_t die_columns = (*columns)[1] - (*columns)[0] + 1;
  if (*node_rows < 1 || *node_columns < 1 || *node_rows > kMaxCoordinate ||
      *node_columns > kMaxCoordinate || *node_rows % die_rows != 0 ||
      *node_columns % die_columns != 0) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("region {}: expected logical rows a multiple of {} die rows and "
                             "columns a multiple of {} die columns, for each die gives as many",
                             quoted(text), die_rows, die_columns)};
  }
  return Region{
      .first_die = {.row = static_cast<int>((*rows)[0]), .column = static_cast<int>((*columns)[0])},
      .dies = {.rows = static_cast<int>(die_rows), .columns = static_cast<int>(die_columns)},
      .nodes_of_die = {.rows = static_cast<int>(*node_rows / die_rows),
                       .columns = static_cast<int>(*node_columns / die_columns)}};
}

}  // namespace dojo::machine
