#include "dojo/place/internal/leaf_layouts.h"

#include <algorithm>
#include <array>

namespace dojo::place::internal {

using graph::Shape;
using program::Axis;
using program::AxisCut;
using program::AxisState;
using program::cut;
using program::Layout;
using program::Sharing;

AxisCut even(const AxisCut& made, std::int64_t extent) {
  std::int64_t block = made.block;
  while (block < extent && extent % block != 0) {
    ++block;
  }
  const std::int64_t parts = (extent + block - 1) / block;
  return parts * 2 > made.parts ? AxisCut{made.axis, parts, block} : made;
}

namespace {

constexpr std::int64_t kVectorBytes = 64;  // shares of vectors start at whole ones

// Blocks of the dimension on the axis, if they keep enough of it busy.
std::optional<AxisState> busy_enough(Axis axis, const Shape& shape, std::size_t dimension,
                                     const Mesh& mesh) {
  if (dimension >= shape.size()) {
    return std::nullopt;
  }
  const AxisCut blocks = cut(axis, shape[dimension], mesh.places(axis), kMatrixQuantum);
  if (blocks.parts < 2 || blocks.parts * 100 < mesh.places(axis) * mesh.least_busy) {
    return std::nullopt;
  }
  return program::sliced(static_cast<int>(dimension), blocks);
}

// Dimension 0 over the first axis and dimension 1 over the second, where that keeps enough busy.
Layout in_dimensions(std::array<Axis, 2> order, const Shape& shape, const Mesh& mesh) {
  Layout layout;
  if (shape.size() >= 2) {
    for (std::size_t dim = 0; dim < order.size(); ++dim) {
      if (const auto state = busy_enough(order[dim], shape, dim, mesh)) {
        layout[order[dim]] = *state;
      }
    }
  }
  return layout;
}

// What the sliced axes leave, in even shares over the others.
void share_evenly(Layout& layout, const Shape& shape, Format format, const Mesh& mesh) {
  std::int64_t elements = graph::element_count(program::slice_shape(layout, shape));
  const std::int64_t quantum = std::max<std::int64_t>(1, kVectorBytes / bytes_of(format));
  for (const Axis axis : {Axis::NodeX, Axis::Group, Axis::NodeY}) {
    if (layout[axis].sharing == Sharing::Replicated && mesh.places(axis) > 1) {
      const AxisCut share = cut(axis, elements, mesh.places(axis), quantum);
      if (share.parts > 1) {
        layout[axis] = program::flat(share.parts, share.block);
        elements = share.block;
      }
    }
  }
}

std::int64_t sliced_axes(const Layout& layout) {
  return std::count_if(layout.axes.begin(), layout.axes.end(),
                       [](const AxisState& state) { return state.sharing == Sharing::Sliced; });
}

}  // namespace

Layout weight_layout(const Shape& shape, Format format, const Mesh& mesh, bool is_looked_up) {
  Layout layout = is_looked_up ? in_dimensions({Axis::NodeY, Axis::NodeX}, shape, mesh)
                               : in_dimensions({Axis::NodeX, Axis::NodeY}, shape, mesh);
  if (!is_looked_up && sliced_axes(layout) < 2) {  // the other way, where it fills both axes
    const Layout turned = in_dimensions({Axis::NodeY, Axis::NodeX}, shape, mesh);
    layout = sliced_axes(turned) == 2 ? turned : layout;
  }
  if (is_looked_up && mesh.groups > 1) {  // rows over groups, too
    layout[Axis::NodeY] = {};
    const AxisCut rows = cut(Axis::Group, shape[0], mesh.groups, kMatrixQuantum);
    layout[Axis::Group] = program::sliced(0, rows);
    const AxisCut inner =
        cut(Axis::NodeY, std::min(shape[0], rows.block), mesh.places(Axis::NodeY), kMatrixQuantum);
    if (inner.parts > 1) {
      layout[Axis::NodeY] = program::sliced(0, inner);
    }
  }
  share_evenly(layout, shape, format, mesh);
  return layout;
}

std::optional<Layout> weight_layout_as_read(const Layout& read, const Shape& shape, Format format,
                                            const Mesh& mesh) {
  Layout layout;
  for (const Axis axis : {Axis::Group, Axis::NodeY, Axis::NodeX}) {
    if (read[axis].sharing != Sharing::Sliced) {
      continue;
    }
    const bool is_busy = read[axis].parts * 100 >= mesh.places(axis) * mesh.least_busy;
    if (!is_busy && axis == Axis::Group) {
      return std::nullopt;
    }
    layout[axis] = is_busy ? read[axis] : AxisState{};
  }
  const AxisState& x = layout[Axis::NodeX];
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    const bool is_taken = x.sharing == Sharing::Sliced && x.dimension == static_cast<int>(dim);
    if (layout[Axis::NodeY].sharing == Sharing::Replicated && !is_taken) {
      const Shape left = program::slice_shape(layout, shape);
      layout[Axis::NodeY] = busy_enough(Axis::NodeY, left, dim, mesh).value_or(AxisState{});
    }
  }
  share_evenly(layout, shape, format, mesh);
  return layout;
}

Layout input_layout(const Shape& shape, Format format, const Mesh& mesh, bool is_whole) {
  Layout layout;
  if (shape.empty() || shape.front() != mesh.replicas.batch) {
    return layout;
  }
  if (mesh.replicas.count > 1) {
    layout[Axis::Replica] =
        program::sliced(0, {Axis::Replica, mesh.replicas.count, mesh.replicas.block});
  }
  const AxisCut groups{Axis::Group,
                       (mesh.replicas.block + mesh.samples_per_group - 1) / mesh.samples_per_group,
                       mesh.samples_per_group};
  if (mesh.groups > 1 && groups.parts > 1) {
    layout[Axis::Group] = program::sliced(0, groups);
  }
  if (mesh.micro_batches > 1 && !is_whole) {
    const AxisCut turns{Axis::Micro, mesh.micro_batches, mesh.samples_at_once()};
    layout[Axis::Micro] = program::sliced(0, turns);
  }
  const std::int64_t samples = is_whole ? mesh.samples() : mesh.samples_at_once();
  const auto spread = [&](Axis axis, std::size_t dimension) {
    const std::int64_t quantum = shape.size() >= 4 ? 1 : kMatrixQuantum;
    const AxisCut blocks =
        even(cut(axis, shape[dimension], mesh.places(axis), quantum), shape[dimension]);
    if (blocks.parts > 1) {
      layout[axis] = program::sliced(static_cast<int>(dimension), blocks);
    }
  };
  if (shape.size() >= 4) {
    spread(Axis::NodeY, shape.size() - 2);
    spread(Axis::NodeX, shape.size() - 1);
  } else if (shape.size() == 3) {
    spread(Axis::NodeY, 1);
    spread(Axis::NodeX, 2);
  } else if (shape.size() == 2 && !is_float(format)) {
    spread(Axis::NodeY, 1);
  } else if (shape.size() == 2) {
    const AxisCut rows = cut(Axis::NodeY, samples, mesh.places(Axis::NodeY), kMatrixQuantum);
    if (rows.parts > 1) {
      layout[Axis::NodeY] = program::sliced(0, rows);
    }
    spread(Axis::NodeX, 1);
  }
  return layout;
}

}  // namespace dojo::place::internal
