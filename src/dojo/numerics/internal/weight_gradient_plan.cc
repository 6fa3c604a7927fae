#include "dojo/numerics/internal/weight_gradient_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "dojo/base/check.h"

namespace dojo::numerics::internal {
namespace {

// PERF: 128 units of both operands of a tile stay in a 48 KiB L1.
constexpr std::int64_t kChunkUnits = 128;
// PERF: the gradients of a step are read once per tile of columns and stay in half of a 2 MiB L2;
// of the images a tile of columns reads a few channels.
constexpr std::int64_t kGradientFloats = std::int64_t{1} << 18;
constexpr std::int64_t kImageFloats = std::int64_t{1} << 20;
// PERF: copying columns to a panel pays from about ten tiles of rows on (at 5, in place is 10 %
// quicker).
constexpr std::size_t kInPlaceRowTiles = 8;

bool follows(const Piece& piece, const Piece& before) {
  return piece.from - piece.lane == before.from - before.lane;
}

// Whether parts are cut within an image, so that their points are not in the order of storage.
bool has_plane_cuts(const ConvolutionShape& shape, const ReduceCuts& cuts) {
  const Axes out = shape.out_size();
  bool is_cut = false;
  for (std::size_t a = 0; a < 3; ++a) {
    is_cut = is_cut || cuts.block_of(a + 1, out[a]) < out[a];
  }
  return is_cut;
}

}  // namespace

WeightGradientPlan::WeightGradientPlan(const ConvolutionShape& shape_in, const ReduceCuts& cuts_in,
                                       const Products& products_in,
                                       std::span<const avx512::RowTile> tiles)
    : shape(shape_in),
      cuts(cuts_in),
      products(products_in),
      kernels(*products.kernels),
      out(shape.out_size()),
      split(out[0] > 1 || shape.kernel[0] > 1 ? 0 : 1),
      group(products.fold == avx512::TileFold::GroupOf4 ? 4 : 1),
      row_tiles(tiles) {
  const std::array<std::int64_t, 4> extent{shape.batch, out[0], out[1], out[2]};
  levels = cut_levels(extent, cuts);
  panels = ceil_divide(static_cast<std::int64_t>(tiles.size()), kPanelTiles);
  std::int64_t most = 0;
  for (std::int64_t panel = 0; panel < panels; ++panel) {
    most = std::max(most, rows_of(panel).rows);
  }
  // An odd number of lines: points a power of two apart would share few sets of a cache.
  panel_pitch = (ceil_divide(most, kernels.lanes) | 1) * kernels.lanes;
  make_columns();
  make_steps();
}

avx512::RowTile WeightGradientPlan::rows_of(std::int64_t panel) const {
  const std::size_t first = static_cast<std::size_t>(panel * kPanelTiles);
  const std::size_t end = std::min(first + kPanelTiles, row_tiles.size());
  const avx512::RowTile& last = row_tiles[end - 1];
  return {row_tiles[first].first, last.first + last.rows - row_tiles[first].first};
}

Axes WeightGradientPlan::points_of(const GradientStep& step) const {
  Axes points = out;
  points[split] = step.count;
  return points;
}

Axes WeightGradientPlan::stage_of(const GradientStep& step) const {
  Axes size = points_of(step);
  for (std::size_t a = 0; a < 3; ++a) {
    size[a] = (size[a] - 1) * shape.stride[a] + (shape.kernel[a] - 1) * shape.dilation[a] + 1;
  }
  return size;
}

void WeightGradientPlan::make_columns() {
  const std::int64_t channels = shape.group_in();
  const std::int64_t taps = volume(shape.kernel);
  const Axes stage = stage_of({.count = out[split]});
  const auto offset_of = [&](std::int64_t tap) {
    const Axes k{tap / (shape.kernel[1] * shape.kernel[2]), tap / shape.kernel[2] % shape.kernel[1],
                 tap % shape.kernel[2]};
    return ((k[0] * shape.dilation[0] * stage[1] + k[1] * shape.dilation[1]) * stage[2] +
            k[2] * shape.dilation[2]) *
           channels;
  };
  const auto finish = [&](GradientColumns& tile) {
    const Piece& last = tile.pieces.back();
    tile.columns = last.lane + last.count;
    tile.is_in_place = row_tiles.size() <= kInPlaceRowTiles && !products.has_pairs();
    for (const Piece& piece : tile.pieces) {
      tile.is_in_place = tile.is_in_place && piece.from - piece.lane == tile.pieces.front().from;
    }
    columns.push_back(std::move(tile));
    tile = {};
  };
  const bool is_wide = channels >= kernels.tile_columns;
  block_channels = is_wide ? kernels.tile_columns : channels;
  blocks = ceil_divide(channels, block_channels);
  GradientColumns tile;
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t end = std::min((block + 1) * block_channels, channels);
    std::int64_t lane = 0;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t c = block * block_channels; c < end;) {
        const std::int64_t count = std::min(end - c, kernels.lanes - lane % kernels.lanes);
        const Piece piece{.lane = lane, .count = count, .from = offset_of(tap) + c};
        if (lane % kernels.lanes > 0 && follows(piece, tile.pieces.back())) {
          tile.pieces.back().count += count;
        } else {
          tile.pieces.push_back(piece);
        }
        c += count;
        lane += count;
        const bool ends = is_wide ? c == end : lane == kernels.tile_columns;
        if (ends || (c == end && tap + 1 == taps)) {
          finish(tile);
          lane = 0;
        }
      }
    }
  }
}

namespace {

// A step must end where a group of points that are folded together ends (tile4). `images` of them
// do, or `rows` along the split axis if images do.
struct GroupEnds {
  std::int64_t images = 1;
  std::int64_t rows = 1;
};

GroupEnds group_ends(const Axes& out, std::size_t split, std::int64_t group) {
  const std::int64_t image = volume(out);
  return {.images = group / std::gcd(group, image),
          .rows = group / std::gcd(group, image / out[split])};
}

}  // namespace

// If only n is cut, images follow one another and a step takes as many as the stage holds, or a
// band of one. If a part spans some positions of its images, the stage must hold all images of a
// block of n.
void WeightGradientPlan::make_steps() {
  const std::int64_t block = std::min(cuts.block_of(0, shape.batch), shape.batch);
  const GroupEnds ends = group_ends(out, split, group);
  const bool takes_blocks =
      (block < shape.batch && block % ends.images != 0) || has_plane_cuts(shape, cuts);
  const std::int64_t gradient = image_points() * panel_pitch * panels;
  const std::int64_t image = image_floats({.count = out[split]});
  const std::int64_t unit = takes_blocks ? block : ends.images;
  std::int64_t fitting = std::min(kGradientFloats / gradient, kImageFloats / image);
  fitting = std::min(shape.batch, std::max(unit, fitting / unit * unit));
  std::int64_t bands = 1;
  if (unit == 1 && !takes_blocks) {
    bands = std::max(ceil_divide(gradient, kGradientFloats), ceil_divide(image, kImageFloats));
    bands = std::min(bands, ceil_divide(out[split], ends.rows));
  }
  for (std::int64_t n = 0; n < shape.batch; n += fitting) {
    std::int64_t first = 0;
    for (std::int64_t i = 1; i <= bands; ++i) {
      const std::int64_t end =
          i == bands ? out[split] : out[split] * i / bands / ends.rows * ends.rows;
      if (end == first) {
        continue;
      }
      const GradientStep step{.image = n,
                              .images = std::min(fitting, shape.batch - n),
                              .first = first,
                              .count = end - first};
      first = end;
      largest.images = std::max(largest.images, step.images);
      largest.count = std::max(largest.count, step.count);
      steps.push_back(step);
    }
  }
  DOJO_CHECK(largest.images *
                 std::max(image_floats(largest), volume(points_of(largest)) * panel_pitch) <
             (std::int64_t{1} << 31));
  share_walks(block);
}

// Steps whose points lie alike and close alike have one walk.
void WeightGradientPlan::share_walks(std::int64_t block) {
  std::vector<Segment> blocks_of_images;
  ReduceCuts of_images{{block}};
  of_images.run.assign(cuts.run.begin(), cuts.run.begin() + (cuts.run.empty() ? 0 : 1));
  for_each_part(std::array{shape.batch}, of_images,
                [&](const Part& part) { blocks_of_images.push_back(part.segment); });
  std::map<std::vector<std::int64_t>, std::size_t> known;
  for (GradientStep& step : steps) {
    const std::int64_t in_block =
        block < shape.batch ? step.image % block : std::min<std::int64_t>(step.image, 1);
    const bool ends_image = step.first + step.count == out[split];
    std::vector<std::int64_t> key{step.images, in_block, step.first == 0, ends_image, step.count};
    std::vector<ImagesOfBlock> parts;
    for (std::int64_t n = step.image; n < step.image + step.images;) {
      const Segment& whole = blocks_of_images[static_cast<std::size_t>(n / block)];
      const std::int64_t block_end = n / block * block + whole.points;
      const std::int64_t end = std::min(block_end, step.image + step.images);
      const bool closes = end == block_end && ends_image;
      parts.push_back({n, end, closes ? whole.closes : 0, whole.first});
      key.insert(key.end(), {end - n, parts.back().closes, parts.back().first});
      n = end;
    }
    const auto [entry, is_new] = known.try_emplace(std::move(key), walks.size());
    if (is_new) {
      walk_of(step, in_block != 0 || step.first > 0, parts);
    }
    step.walk = entry->second;
  }
}

void WeightGradientPlan::walk_of(const GradientStep& step, bool resumes,
                                 std::span<const ImagesOfBlock> parts) {
  GradientWalk walk;
  std::vector<Segment> segments;
  ReduceCuts inner = cuts;
  if (!inner.run.empty()) {
    inner.run[0] = 1;
  }
  const Axes points = points_of(step);
  for (const ImagesOfBlock& images : parts) {
    const std::array<std::int64_t, 4> extent{images.end - images.begin, points[0], points[1],
                                             points[2]};
    if (!inner.block.empty()) {
      inner.block[0] = extent[0];
    }
    const int inner_levels = cut_levels(extent, inner);
    for_each_part(extent, inner, [&](const Part& part) {
      append(part, images.begin - step.image, step, walk);
      segments.push_back(part.segment);
    });
    segments.back().closes += images.closes;
    segments.back().first |= images.first << inner_levels;
  }
  walk.chunked = into_chunks(segments, products.has_pairs() ? 2 * kChunkUnits : kChunkUnits,
                             group_of(products.fold));
  walk.chunked.chunks.front().resumes = resumes;
  const Units units = into_units(walk.chunked, products.fold);
  if (products.has_pairs()) {
    take_pairs(units, walk);
  }
  walks.push_back(std::move(walk));
}

// Offsets of points become offsets of pairs.
void WeightGradientPlan::take_pairs(const Units& units, GradientWalk& walk) {
  const auto take = [](const std::vector<std::int32_t>& points,
                       const std::vector<std::int32_t>& which) {
    std::vector<std::int32_t> taken;
    for (const std::int32_t point : which) {
      taken.push_back(point < 0 ? -1 : points[static_cast<std::size_t>(point)]);
    }
    return taken;
  };
  walk.image_second = take(walk.image_offset, units.second);
  walk.image_offset = take(walk.image_offset, units.first);
  walk.gradient_second = take(walk.gradient_offset, units.second);
  walk.gradient_offset = take(walk.gradient_offset, units.first);
}

// Appends the points of a part; its image 0 is the `image`-th of the step.
void WeightGradientPlan::append(const Part& part, std::int64_t image, const GradientStep& step,
                                GradientWalk& walk) const {
  const Axes stage = stage_of(step);
  const Axes points = points_of(step);
  for (std::int64_t n = part.begin[0]; n < part.end[0]; ++n) {
    for (std::int64_t z = part.begin[1]; z < part.end[1]; ++z) {
      for (std::int64_t y = part.begin[2]; y < part.end[2]; ++y) {
        for (std::int64_t x = part.begin[3]; x < part.end[3]; ++x) {
          const std::int64_t pixel =
              (((image + n) * stage[0] + z * shape.stride[0]) * stage[1] + y * shape.stride[1]) *
                  stage[2] +
              x * shape.stride[2];
          const std::int64_t point =
              (((image + n) * points[0] + z) * points[1] + y) * points[2] + x;
          walk.image_offset.push_back(static_cast<std::int32_t>(pixel * shape.group_in()));
          walk.gradient_offset.push_back(static_cast<std::int32_t>(point * panel_pitch));
        }
      }
    }
  }
}

}  // namespace dojo::numerics::internal
