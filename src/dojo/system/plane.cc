#include "dojo/system/plane.h"

#include <algorithm>

#include "dojo/cost/link_profile.h"

namespace dojo::system {
namespace {

using program::Compute;
using program::Program;
using program::Transfer;

// Node rows and columns that work in a phase. Where no loop is dealt to an axis, all nodes along it
// do the same.
machine::Shape working(const Compute& compute, const machine::Region& region) {
  const std::int64_t groups = compute.split.parts(program::Axis::Group);
  const program::AxisCut* y = compute.split.find(program::Axis::NodeY);
  const program::AxisCut* x = compute.split.find(program::Axis::NodeX);
  const std::int64_t rows = y != nullptr ? groups * y->parts : region.rows();
  const std::int64_t columns = x != nullptr ? x->parts : region.columns();
  if (compute.work.is_whole) {
    return {.rows = 1, .columns = 1};
  }
  return {.rows = static_cast<int>(std::min<std::int64_t>(rows, region.rows())),
          .columns = static_cast<int>(std::min<std::int64_t>(columns, region.columns()))};
}

class Picture {
 public:
  Picture(const Program& program, const machine::MachineModel& machine)
      : program_(program), machine_(machine) {
    const machine::Shape dies = program.replicas.dies;
    const std::int64_t nodes = dies.count() * machine.logical.count();
    plane_.cells_are_dies = nodes > kMostCells;
    step_ = plane_.cells_are_dies ? machine.logical : machine::Shape{.rows = 1, .columns = 1};
    plane_.rows = dies.rows * machine.logical.rows / step_.rows;
    plane_.columns = dies.columns * machine.logical.columns / step_.columns;
    plane_.busy_seconds.resize(cells(plane_.rows, plane_.columns));
    plane_.row_link_bytes.resize(cells(plane_.rows, plane_.columns - 1));
    plane_.column_link_bytes.resize(cells(plane_.rows - 1, plane_.columns));
  }

  void add(const Compute& compute, const machine::Region& region, double seconds) {
    const machine::Shape used = working(compute, region);
    const machine::Shape first = first_cell(region);
    for (int row = 0; first.rows + row < plane_.rows && row * step_.rows < used.rows; ++row) {
      for (int column = 0;
           first.columns + column < plane_.columns && column * step_.columns < used.columns;
           ++column) {
        plane_.busy_seconds[at(first.rows + row, first.columns + column, plane_.columns)] +=
            seconds;
      }
    }
  }

  void add(const program::Move& move, double runs) {
    const cost::LinkProfile profile = cost::link_profile(move, program_.replicas, machine_);
    const machine::Shape first = first_cell(move.region);
    for (int row = 0; first.rows + row < plane_.rows; ++row) {
      for (int column = 0; first.columns + column < plane_.columns; ++column) {
        const int cell_row = first.rows + row;
        const int cell_column = first.columns + column;
        // The link that leaves the cell: behind its last node.
        const int link_column = (column + 1) * step_.columns - 1;
        const int link_row = (row + 1) * step_.rows - 1;
        if (cell_column + 1 < plane_.columns && row * step_.rows < profile.row_count &&
            link_column < static_cast<int>(profile.rows.size())) {
          plane_.row_link_bytes[at(cell_row, cell_column, plane_.columns - 1)] +=
              profile.rows[static_cast<std::size_t>(link_column)] * runs;
        }
        if (cell_row + 1 < plane_.rows && column * step_.columns < profile.column_count &&
            link_row < static_cast<int>(profile.columns.size())) {
          plane_.column_link_bytes[at(cell_row, cell_column, plane_.columns)] +=
              profile.columns[static_cast<std::size_t>(link_row)] * runs;
        }
      }
    }
  }

  Plane take() { return std::move(plane_); }

 private:
  // Where the region's nodes begin: those of a stage of a pipeline beside or below others.
  machine::Shape first_cell(const machine::Region& region) const {
    return {.rows = region.first_die.row * machine_.logical.rows / step_.rows,
            .columns = region.first_die.column * machine_.logical.columns / step_.columns};
  }
  static std::size_t cells(int rows, int columns) {
    return static_cast<std::size_t>(std::max(0, rows)) *
           static_cast<std::size_t>(std::max(0, columns));
  }
  static std::size_t at(int row, int column, int width) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(width) +
           static_cast<std::size_t>(column);
  }

  const Program& program_;
  const machine::MachineModel& machine_;
  Plane plane_;
  machine::Shape step_{};
};

}  // namespace

Plane plane_of(const Program& program, const Timeline& timeline,
               const machine::MachineModel& machine) {
  Picture picture(program, machine);
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    const program::Phase& phase = program.phases[i];
    const auto runs = static_cast<double>(program.runs(i));
    if (const auto* compute = std::get_if<Compute>(&phase.body)) {
      const PhaseTiming& timing = timeline.phases[i];
      picture.add(*compute, phase.region, to_seconds(timing.end - timing.begin) * runs);
    } else if (const auto* transfer = std::get_if<Transfer>(&phase.body)) {
      for (const program::Move& move : transfer->moves) {
        picture.add(move, runs);
      }
    }
  }
  return picture.take();
}

}  // namespace dojo::system
