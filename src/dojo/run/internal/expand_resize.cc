// Resizing of planes: nearest and bilinear, and their gradients.
#include <algorithm>
#include <array>

#include "dojo/base/check.h"
#include "dojo/run/internal/expansions.h"
#include "dojo/run/internal/planes.h"

namespace dojo::run::internal {
namespace {

using graph::Shape;

// What an output position reads: elements `first` and the next (or the same, at the edge), with
// weights 1 - l and l.
struct Source {
  std::int64_t first = 0;
  std::int64_t second = 0;
  float l = 0;
};

// Positions are exact ratios: floor, and the rest divided once in FP32.
Source bilinear_source(std::int64_t i, std::int64_t from, std::int64_t to, bool are_aligned) {
  std::int64_t numerator =
      are_aligned ? i * (from - 1) : std::max<std::int64_t>((2 * i + 1) * from - to, 0);
  const std::int64_t denominator = are_aligned ? to - 1 : 2 * to;
  if (denominator == 0) {
    return {};
  }
  const std::int64_t first = numerator / denominator;
  numerator -= first * denominator;
  return {first, std::min(first + 1, from - 1),
          static_cast<float>(numerator) / static_cast<float>(denominator)};
}

// The weight with which an output reads element `at`.
float weight_of(const Source& source, std::int64_t at) {
  const float low = source.first == at ? 1.0F - source.l : 0.0F;
  const float high = source.second == at ? source.l : 0.0F;
  return low + high;
}

struct Resize {
  Plane input;
  Plane output;
  bool is_nearest = false;
  bool are_aligned = false;

  Source row(std::int64_t y) const { return source(y, input.height, output.height); }
  Source column(std::int64_t x) const { return source(x, input.width, output.width); }

 private:
  Source source(std::int64_t i, std::int64_t from, std::int64_t to) const {
    const std::int64_t nearest = i * from / to;
    return is_nearest ? Source{nearest, nearest, 0} : bilinear_source(i, from, to, are_aligned);
  }
};

Resize resize_of(const graph::Op& op, const Shape& input, const Shape& output) {
  return {plane_of(input), plane_of(output), op.info->name.find("nearest") != std::string::npos,
          graph::has_attribute(op, "align_corners") && graph::bool_attr(op, "align_corners")};
}

// Nearest: the element itself. Bilinear: (wy wx) x added over the taps.
Result<void> resize(Builder& b) {
  const Resize r = resize_of(b.op(), b.in_shape(0), b.out_value(0).shape);
  const numerics::ReduceCuts cuts = r.is_nearest ? numerics::ReduceCuts{} : tap_cuts(b);
  const View x = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = x.elements() / r.input.size();
  b.whole({x}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* in = context.at<const float>(x);
    float* out = context.at<float>(made);
    each_plane(context, planes, r.output.size() * 4, [&](std::int64_t plane) {
      const float* from = in + plane * r.input.size();
      for (std::int64_t at = 0; at < r.output.size(); ++at) {
        const Source row = r.row(at / r.output.width);
        const Source column = r.column(at % r.output.width);
        float& to = out[plane * r.output.size() + at];
        if (r.is_nearest) {
          to = from[row.first * r.input.width + column.first];
          continue;
        }
        to = sum_taps({2, 2}, cuts, [&](float sum, std::int64_t ky, std::int64_t kx) {
          const float wy = ky == 0 ? 1.0F - row.l : row.l;
          const float wx = kx == 0 ? 1.0F - column.l : column.l;
          const std::int64_t element = (ky == 0 ? row.first : row.second) * r.input.width +
                                       (kx == 0 ? column.first : column.second);
          return sum + (wy * wx) * from[element];
        });
      }
    });
    return {};
  });
  b.finish(0, made);
  return {};
}

// dX = sum of (wy wx) dY over the outputs that read the element, ascending; wy and wx are what
// their taps give it in all.
Result<void> resize_backward(Builder& b) {
  const Resize r = resize_of(b.op(), b.out_value(0).shape, b.in_shape(0));
  const auto taps = taps_of(b);
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const std::array<std::optional<graph::Ratio>, 2> first{b.read_ratio(0, 2), b.read_ratio(0, 3)};
  const View dy = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = made.elements() / r.input.size();
  b.whole({dy}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* gradient = context.at<const float>(dy);
    float* out = context.at<float>(made);
    const auto first_reader = [&](std::size_t i, std::int64_t at) {
      if (!first[i].has_value()) {
        return std::int64_t{0};
      }
      const std::int64_t numerator = first[i]->multiplier * at + first[i]->addend;
      const std::int64_t quotient = numerator / first[i]->divisor;
      return numerator % first[i]->divisor < 0 ? quotient - 1 : quotient;
    };
    each_plane(context, planes, r.input.size() * taps[0] * taps[1], [&](std::int64_t plane) {
      const float* from = gradient + plane * r.output.size();
      for (std::int64_t at = 0; at < r.input.size(); ++at) {
        const std::int64_t h = at / r.input.width;
        const std::int64_t w = at % r.input.width;
        const std::int64_t top = first_reader(0, h);
        const std::int64_t left = first_reader(1, w);
        out[plane * r.input.size() + at] =
            sum_taps(taps, cuts, [&](float sum, std::int64_t ky, std::int64_t kx) {
              const std::int64_t y = top + ky;
              const std::int64_t x = left + kx;
              if (y < 0 || y >= r.output.height || x < 0 || x >= r.output.width) {
                return sum;
              }
              const Source row = r.row(y);
              const Source column = r.column(x);
              const bool reads =
                  (row.first == h || row.second == h) && (column.first == w || column.second == w);
              return reads ? sum + (weight_of(row, h) * weight_of(column, w)) *
                                       from[y * r.output.width + x]
                           : sum;
            });
      }
    });
    return {};
  });
  b.finish(0, made);
  return {};
}

}  // namespace

void add_resize_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.upsample_nearest2d", resize},
      {"aten.upsample_nearest2d_backward", resize_backward},
      {"aten.upsample_bilinear2d", resize},
      {"aten.upsample_bilinear2d_backward", resize_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
