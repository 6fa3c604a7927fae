#include "dojo/numerics/internal/sliding_plan.h"

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::numerics::internal {
namespace {

constexpr std::int64_t kChunkUnits = 256;
// PERF: a stage of 1 MiB leaves half of a 2 MiB L2 to the weights.
constexpr std::int64_t kStageFloats = std::int64_t{1} << 18;
constexpr std::int64_t kStateFloats = std::int64_t{1} << 18;

// The residues modulo `stride` that the taps of a filter reach, ascending.
std::vector<std::int64_t> phases_of(std::int64_t taps, std::int64_t dilation, std::int64_t stride) {
  std::vector<std::int64_t> phases;
  for (std::int64_t k = 0; k < taps; ++k) {
    phases.push_back(k * dilation % stride);
  }
  std::sort(phases.begin(), phases.end());
  phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
  return phases;
}

std::int64_t index_of(const std::vector<std::int64_t>& values, std::int64_t value) {
  return std::find(values.begin(), values.end(), value) - values.begin();
}

// Taps of (channels, kernel) in reduction order, those for which `meets` says so, with their
// segments.
template <class Meets>
SlidePass pass_of(std::int64_t channels, const Axes& kernel, const ReduceCuts& cuts,
                  avx512::TileFold fold, const Meets& meets) {
  SlidePass pass;
  std::vector<Segment> segments;
  const std::array<std::int64_t, 4> extent{channels, kernel[0], kernel[1], kernel[2]};
  for_each_part(extent, cuts, [&](const Part& part) {
    Segment segment = part.segment;
    segment.points = 0;
    for (std::int64_t c = part.begin[0]; c < part.end[0]; ++c) {
      for (std::int64_t kz = part.begin[1]; kz < part.end[1]; ++kz) {
        for (std::int64_t ky = part.begin[2]; ky < part.end[2]; ++ky) {
          for (std::int64_t kx = part.begin[3]; kx < part.end[3]; ++kx) {
            if (meets(Axes{kz, ky, kx})) {
              pass.taps.push_back({.channel = c, .kernel = {kz, ky, kx}});
              ++segment.points;
            }
          }
        }
      }
    }
    segments.push_back(segment);
  });
  const std::int64_t taps = static_cast<std::int64_t>(pass.taps.size());
  const std::int64_t group = group_of(fold);
  const std::int64_t limit = fold == avx512::TileFold::Bf16Pair ? 2 * kChunkUnits : kChunkUnits;
  const bool is_short = taps <= limit + limit / 2;
  pass.chunked = into_chunks(segments, is_short ? std::max(taps, group) : limit, group);
  pass.units = into_units(pass.chunked, fold);
  return pass;
}

int levels_of(std::int64_t channels, const Axes& kernel, const ReduceCuts& cuts) {
  const std::array<std::int64_t, 4> extent{channels, kernel[0], kernel[1], kernel[2]};
  return cut_levels(extent, cuts);
}

// `rows` channels made of `channels` of the source.
SlidePlan begun_plan(const ConvolutionShape& s, const ImageOperand& source,
                     const ImageOperand& weight, const ReduceCuts& cuts, const Products& products,
                     std::int64_t channels, std::int64_t rows) {
  SlidePlan plan;
  plan.products = products;
  plan.source = source;
  plan.batch = s.batch;
  plan.groups = s.groups;
  plan.channels = channels;
  plan.rows = rows;
  plan.levels = levels_of(channels, s.kernel, cuts);
  plan.weight = weight.storage;
  plan.weight_stride.group = s.group_out() * weight.stride[0];
  plan.weight_stride.kernel = {weight.stride[2], weight.stride[3], weight.stride[4]};
  return plan;
}

}  // namespace

SlidePlan forward_plan(const ConvolutionShape& s, const ImageOperand& input,
                       const ImageOperand& weight, const ReduceCuts& cuts,
                       const Products& products) {
  SlidePlan plan = begun_plan(s, input, weight, cuts, products, s.group_in(), s.group_out());
  plan.weight_stride.row = weight.stride[0];
  plan.weight_stride.channel = weight.stride[1];
  for (std::size_t a = 0; a < 3; ++a) {
    SlideAxis& axis = plan.axis[a];
    axis.source = s.size[a];
    axis.first = -s.padding[a];
    axis.step = s.stride[a];
    axis.phases = phases_of(s.kernel[a], s.dilation[a], s.stride[a]);
    axis.positions = s.out_size()[a];
    axis.reach = (s.kernel[a] - 1) * s.dilation[a] / s.stride[a];
    axis.out = axis.positions;
  }
  SlidePass pass =
      pass_of(s.group_in(), s.kernel, cuts, products.fold, [](const Axes&) { return true; });
  for (Tap& tap : pass.taps) {
    for (std::size_t a = 0; a < 3; ++a) {
      const std::int64_t distance = tap.kernel[a] * s.dilation[a];
      tap.slot = tap.slot * plan.axis[a].stored_phases() +
                 index_of(plan.axis[a].phases, distance % s.stride[a]);
      tap.shift[a] = distance / s.stride[a];
    }
  }
  plan.passes.push_back(std::move(pass));
  return plan;
}

// Input index i and filter tap k meet at output index (i + padding - k dilation) / stride. With
// i + padding = stride j + phase that is j - (k dilation - phase) / stride: position j less a shift
// of the tap, for the taps of that phase.
SlidePlan input_gradient_plan(const ConvolutionShape& s, const ImageOperand& output_gradient,
                              const ImageOperand& weight, const ReduceCuts& cuts,
                              const Products& products) {
  SlidePlan plan =
      begun_plan(s, output_gradient, weight, cuts, products, s.group_out(), s.group_in());
  plan.weight_stride.row = weight.stride[1];
  plan.weight_stride.channel = weight.stride[0];
  Axes first{};
  for (std::size_t a = 0; a < 3; ++a) {
    SlideAxis& axis = plan.axis[a];
    first[a] = s.padding[a] / s.stride[a];
    axis.source = s.out_size()[a];
    axis.reach = (s.kernel[a] - 1) * s.dilation[a] / s.stride[a];
    axis.first = first[a] - axis.reach;
    axis.positions = (s.size[a] - 1 + s.padding[a]) / s.stride[a] - first[a] + 1;
    axis.out = s.size[a];
    axis.out_step = s.stride[a];
  }
  for (std::int64_t i = 0; i < volume(s.stride); ++i) {
    const Axes phase{i / (s.stride[1] * s.stride[2]), i / s.stride[2] % s.stride[1],
                     i % s.stride[2]};
    SlidePass pass = pass_of(s.group_out(), s.kernel, cuts, products.fold, [&](const Axes& kernel) {
      bool meets = true;
      for (std::size_t a = 0; a < 3; ++a) {
        meets = meets && kernel[a] * s.dilation[a] % s.stride[a] == phase[a];
      }
      return meets;
    });
    for (std::size_t a = 0; a < 3; ++a) {
      for (Tap& tap : pass.taps) {
        tap.shift[a] =
            plan.axis[a].reach - (tap.kernel[a] * s.dilation[a] - phase[a]) / s.stride[a];
      }
      pass.first_out[a] = first[a] * s.stride[a] + phase[a] - s.padding[a];
    }
    plan.passes.push_back(std::move(pass));
  }
  return plan;
}

std::int64_t stage_pitch(const SlideAxis& x) {
  // Stage indices before any source, and up to the last source, of all phases.
  const std::int64_t leading = -(x.first + x.phases.back() + 1);
  const std::int64_t before = leading < 0 ? 0 : leading / x.step + 1;
  const std::int64_t last = x.source - 1 - x.first - x.phases.front();
  const std::int64_t end = last < 0 ? 0 : last / x.step + 1;
  return std::max({x.positions, end, x.positions + x.reach - before});
}

StageLayout layout_of(const SlidePlan& plan, const Box& box) {
  return {.pitch = stage_pitch(plan.axis[2]),
          .rows = box.count[1] + plan.axis[1].reach,
          .planes = box.count[0] + plan.axis[0].reach};
}

namespace {

// Boxes of at most `count` positions along `axis` of one image; all along the axes below.
void split_axis(const SlidePlan& plan, std::size_t axis, std::int64_t count, Box box,
                std::vector<Box>& out) {
  const std::int64_t positions = plan.axis[axis].positions;
  const std::int64_t blocks = ceil_divide(positions, count);
  for (std::int64_t i = 0; i < blocks; ++i) {
    box.first[axis] = positions * i / blocks;
    box.count[axis] = positions * (i + 1) / blocks - box.first[axis];
    out.push_back(box);
  }
}

Box whole_image(const SlidePlan& plan) {
  return {.count = {plan.axis[0].positions, plan.axis[1].positions, plan.axis[2].positions}};
}

std::int64_t stage_floats(const SlidePlan& plan, const Box& box) {
  return plan.channels * plan.planes() * layout_of(plan, box).slot_size(box);
}

// Positions along z, or along y of one z, that keep the stage of one image small.
std::pair<std::size_t, std::int64_t> fitting(const SlidePlan& plan) {
  Box box = whole_image(plan);
  for (std::size_t axis = 0; axis < 2; ++axis) {
    box.count[axis] = 1;
    const std::int64_t one = stage_floats(plan, box);
    box.count[axis] = 2;
    const std::int64_t each = stage_floats(plan, box) - one;
    const std::int64_t count = std::max<std::int64_t>((kStageFloats - one) / each + 1, 1);
    const std::int64_t least = axis == 0 ? 1 : 4;
    if (count >= least || axis == 1) {
      return {axis, std::min(std::max(count, least), plan.axis[axis].positions)};
    }
    box.count[axis] = 1;
  }
  return {1, 1};
}

}  // namespace

Division divide(const SlidePlan& plan, int threads) {
  Division by;
  const Box image = whole_image(plan);
  const std::int64_t per_image = stage_floats(plan, image);
  const std::int64_t positions = volume(image.count);
  const std::int64_t wanted = threads > 1 ? ceil_divide(2 * threads, plan.groups) : 1;
  if (per_image <= kStageFloats) {
    const std::int64_t images = std::clamp<std::int64_t>(
        std::min(kStageFloats / per_image, kStateFloats / (plan.rows * positions)), 1, plan.batch);
    // PERF: small images share a task, or their few columns would not fill the tiles.
    std::int64_t blocks = ceil_divide(plan.batch, images);
    if (threads > 1) {
      blocks = ceil_divide(blocks, threads) * threads;
      blocks = std::max(blocks, positions >= 512 ? wanted : 0);
    }
    blocks = std::min(blocks, plan.batch);
    for (std::int64_t i = 0; i < blocks; ++i) {
      Box box = image;
      box.image = plan.batch * i / blocks;
      box.images = plan.batch * (i + 1) / blocks - box.image;
      by.boxes.push_back(box);
    }
  } else {
    const auto [axis, count] = fitting(plan);
    for (std::int64_t n = 0; n < plan.batch; ++n) {
      Box box = image;
      box.image = n;
      if (axis == 0) {
        split_axis(plan, 0, count, box, by.boxes);
        continue;
      }
      for (std::int64_t z = 0; z < image.count[0]; ++z) {
        box.first[0] = z;
        box.count[0] = 1;
        split_axis(plan, 1, count, box, by.boxes);
      }
    }
  }
  const std::int64_t tasks = static_cast<std::int64_t>(by.boxes.size());
  if (threads > 1 && tasks * plan.groups < threads) {
    by.row_blocks = std::min(ceil_divide(threads, tasks * plan.groups), plan.rows);
  }
  for (const Box& box : by.boxes) {
    by.largest.images = std::max(by.largest.images, box.images);
    for (std::size_t a = 0; a < 3; ++a) {
      by.largest.count[a] = std::max(by.largest.count[a], box.count[a]);
    }
  }
  return by;
}

namespace {

// Adjacent positions of one row that are outputs.
struct Run {
  std::int64_t from = 0;  // in the stage
  std::int64_t to = 0;
  std::int64_t count = 0;
};

// The range of positions whose output is inside.
std::pair<std::int64_t, std::int64_t> inside(const SlideAxis& axis, std::int64_t first_out,
                                             std::int64_t begin, std::int64_t end) {
  const std::int64_t low = first_out >= 0 ? 0 : ceil_divide(-first_out, axis.out_step);
  const std::int64_t high =
      axis.out > first_out ? ceil_divide(axis.out - first_out, axis.out_step) : 0;
  return {std::max(begin, low), std::min(end, high)};
}

template <class Body>
void for_each_run(const SlidePlan& plan, const SlidePass& pass, const Box& box, const Body& body) {
  const StageLayout layout = layout_of(plan, box);
  const std::array<SlideAxis, 3>& axis = plan.axis;
  std::array<std::pair<std::int64_t, std::int64_t>, 3> range;
  Axes out_stride{axis[1].out * axis[2].out, axis[2].out, 1};
  for (std::size_t a = 0; a < 3; ++a) {
    range[a] = inside(axis[a], pass.first_out[a], box.first[a], box.first[a] + box.count[a]);
  }
  const std::int64_t count = range[2].second - range[2].first;
  for (std::int64_t n = 0; n < box.images && count > 0; ++n) {
    for (std::int64_t z = range[0].first; z < range[0].second; ++z) {
      for (std::int64_t y = range[1].first; y < range[1].second; ++y) {
        const Axes at{z, y, range[2].first};
        std::int64_t to = n * plan.groups * plan.rows * plan.out_volume();
        for (std::size_t a = 0; a < 3; ++a) {
          to += (pass.first_out[a] + at[a] * axis[a].out_step) * out_stride[a];
        }
        body(Run{n * layout.image_size() +
                     ((z - box.first[0]) * layout.rows + y - box.first[1]) * layout.pitch + at[2],
                 to, count});
      }
    }
  }
}

// Appends lanes to the last tile, and tiles as they are needed.
class TileWriter {
 public:
  TileWriter(const Products& products, std::int64_t out_step, ColumnTiles& out)
      : kernels_(*products.kernels),
        has_pairs_(products.has_pairs()),
        out_step_(out_step),
        out_(out) {
    out_.tiles.clear();
    out_.pieces.clear();
  }

  std::int64_t free_lanes() const { return kernels_.tile_columns - lane_; }
  void skip(std::int64_t lanes) { lane_ += lanes; }
  void close() {
    if (!out_.tiles.empty()) {
      ColumnTile& tile = out_.tiles.back();
      tile.vectors = last_ > kernels_.lanes ? 2 : 1;
      tile.pieces = out_.pieces.size() - tile.first_piece;
      const Piece& first = out_.pieces[tile.first_piece];
      tile.from = first.from - first.lane;
      tile.is_in_place = !has_pairs_;
      for (const Piece& piece : out_.pieces_of(tile)) {
        tile.is_in_place = tile.is_in_place && piece.from - piece.lane == tile.from;
      }
    }
    lane_ = kernels_.tile_columns;
  }

  void append(Run run) {
    while (run.count > 0) {
      if (free_lanes() <= 0) {
        close();
        out_.tiles.push_back({.first_piece = out_.pieces.size()});
        lane_ = 0;
      }
      const std::int64_t in_vector = kernels_.lanes - lane_ % kernels_.lanes;
      const std::int64_t count = std::min(run.count, in_vector);
      out_.pieces.push_back({.lane = lane_, .count = count, .from = run.from, .to = run.to});
      lane_ += count;
      last_ = lane_;
      run.from += count;
      run.to += count * out_step_;
      run.count -= count;
    }
  }

 private:
  const ConvolutionKernels& kernels_;
  bool has_pairs_;
  std::int64_t out_step_;
  ColumnTiles& out_;
  std::int64_t lane_ = 1 << 20;  // of the open tile; beyond its end if there is none
  std::int64_t last_ = 0;        // end of its last piece
};

}  // namespace

void tile_columns(const SlidePlan& plan, const SlidePass& pass, const Box& box, std::int64_t rows,
                  ColumnTiles& out) {
  const ConvolutionKernels& kernels = *plan.products.kernels;
  const StageLayout layout = layout_of(plan, box);
  const std::int64_t out_step = plan.axis[2].out_step;
  std::int64_t runs = 0;
  std::int64_t columns = 0;
  std::int64_t spanned = 0;  // in whole vectors
  std::int64_t plane_begin = 0;
  std::int64_t end = 0;
  const auto end_plane = [&] { spanned += ceil_divide(end - plane_begin, kernels.lanes); };
  for_each_run(plan, pass, box, [&](const Run& run) {
    if (runs == 0 || run.from - end >= layout.pitch) {
      end_plane();
      plane_begin = run.from;
    }
    ++runs;
    columns += run.count;
    end = run.from + run.count;
  });
  end_plane();
  // In vector operations per point: products; to copy, a load per run and vector, and a store.
  const std::int64_t packed_cost = ceil_divide(columns, kernels.lanes) * (rows + 2) + runs;
  const std::int64_t along_cost = spanned * rows;
  TileWriter writer(plan.products, out_step, out);
  if (plan.products.has_pairs() || packed_cost < along_cost) {
    for_each_run(plan, pass, box, [&](const Run& run) { writer.append(run); });
  } else {
    end = -layout.pitch;
    for_each_run(plan, pass, box, [&](const Run& run) {
      const std::int64_t gap = run.from - end;
      // Rows of the same plane adjoin but for a gap less than a row.
      if (gap < layout.pitch) {
        writer.skip(gap);
      } else {
        writer.close();
      }
      writer.append(run);
      end = run.from + run.count;
    });
  }
  writer.close();
}

}  // namespace dojo::numerics::internal
