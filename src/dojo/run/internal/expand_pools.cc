// Pooling of planes. Windows fold in the order ky, kx of the nest; gradients gather,
// for each element of the input, from the windows that hold it, in that order, too.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"
#include "dojo/run/internal/planes.h"

namespace dojo::run::internal {
namespace {

using graph::ints_attr;
using graph::Shape;

struct Windows {
  Plane input;
  Plane output;
  std::array<std::int64_t, 2> kernel{};
  std::array<std::int64_t, 2> stride{};
  std::array<std::int64_t, 2> padding{};
  std::array<std::int64_t, 2> dilation{1, 1};
};

std::array<std::int64_t, 2> pair_attr(const graph::Op& op, std::string_view name) {
  const std::vector<std::int64_t> values = ints_attr(op, name, 2);
  return {values[0], values[1]};
}

Windows windows_of(const graph::Op& op, const Shape& input, const Shape& output) {
  Windows windows{plane_of(input), plane_of(output), pair_attr(op, "kernel_size"), {}, {}};
  windows.stride = ints_attr(op, "stride").empty() ? windows.kernel : pair_attr(op, "stride");
  windows.padding = pair_attr(op, "padding");
  if (graph::has_attribute(op, "dilation")) {
    windows.dilation = pair_attr(op, "dilation");
  }
  return windows;
}

// --- max pooling ---
bool is_not_a_number(float x) { return std::isnan(x); }
bool is_not_a_number(std::int64_t /*x*/) { return false; }

// How the winners of maximum pooling are numbered: by their place in the plane (int64), or by the
// tap of the window (uint8; attribute in_window).
template <class Index>
constexpr bool kIsTap = std::is_same_v<Index, std::uint8_t>;

// Outputs [0, count) of a row from the elements of one tap, the first of which has the number
// `at`, each next one `at_step` more; an index below 0: none yet. The first of equals; a NaN is
// greater than any number.
// PERF: without branches, for which element is greatest cannot be predicted.
template <std::int64_t kStride, class T>
void take_greater(const T* in, std::int64_t stride, std::int32_t at, std::int32_t at_step,
                  std::int64_t count, T* best, std::int32_t* index) {
  const std::int64_t step = kStride > 0 ? kStride : stride;
#pragma GCC ivdep
  for (std::int64_t x = 0; x < count; ++x) {
    const T value = in[x * step];
    const T old = best[x];
    const std::int32_t old_index = index[x];
    const bool is_nan = is_not_a_number(value);
    const bool was_nan = is_not_a_number(old);
    const bool is_first_nan = is_nan & !was_nan;
    const bool takes = (old_index < 0) | (value > old) | is_first_nan;
    best[x] = takes ? value : old;
    index[x] = takes ? at : old_index;
    at += at_step;
  }
}

template <class T>
void take_greater(const T* in, std::int64_t stride, std::int32_t at, std::int32_t at_step,
                  std::int64_t count, T* best, std::int32_t* index) {
  switch (stride) {
    case 1:
      return take_greater<1>(in, stride, at, at_step, count, best, index);
    case 2:
      return take_greater<2>(in, stride, at, at_step, count, best, index);
    default:
      return take_greater<0>(in, stride, at, at_step, count, best, index);
  }
}

// Outputs x whose column at a tap lies inside.
struct Inside {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

Inside columns_inside(const Windows& w, std::int64_t kx) {
  const std::int64_t shift = kx * w.dilation[1] - w.padding[1];  // column = x stride + shift
  const std::int64_t stride = w.stride[1];
  const std::int64_t begin = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
  const std::int64_t end = (w.input.width - shift + stride - 1) / stride;
  return {std::min(begin, w.output.width), std::clamp(end, begin, w.output.width)};
}

// One plane. A window without an element (it begins in the padding of a dilated kernel) gives the
// lowest number, and index 0.
template <class Index, class T>
void max_pool_plane(const Windows& w, const T* in, T* out, Index* indices) {
  std::vector<std::int32_t> index(static_cast<std::size_t>(w.output.width));
  for (std::int64_t y = 0; y < w.output.height; ++y) {
    T* best = out + y * w.output.width;
    std::fill_n(best, w.output.width,
                std::is_same_v<T, float> ? -std::numeric_limits<T>::infinity()
                                         : std::numeric_limits<T>::lowest());
    std::fill(index.begin(), index.end(), -1);
    for (std::int64_t ky = 0; ky < w.kernel[0]; ++ky) {
      const std::int64_t row = y * w.stride[0] - w.padding[0] + ky * w.dilation[0];
      for (std::int64_t kx = 0; row >= 0 && row < w.input.height && kx < w.kernel[1]; ++kx) {
        const Inside inside = columns_inside(w, kx);
        const std::int64_t first =
            row * w.input.width + inside.begin * w.stride[1] - w.padding[1] + kx * w.dilation[1];
        const std::int64_t number = kIsTap<Index> ? ky * w.kernel[1] + kx : first;
        const std::int64_t number_step = kIsTap<Index> ? 0 : w.stride[1];
        if (inside.end > inside.begin) {
          take_greater(in + first, w.stride[1], static_cast<std::int32_t>(number),
                       static_cast<std::int32_t>(number_step), inside.end - inside.begin,
                       best + inside.begin, index.data() + inside.begin);
        }
      }
    }
    for (std::int64_t x = 0; x < w.output.width; ++x) {
      indices[y * w.output.width + x] =
          static_cast<Index>(std::max(index[static_cast<std::size_t>(x)], 0));
    }
  }
}

template <class Index>
Result<void> max_pool_integers(Builder& b, const Windows& w, const View& indices) {
  const View x = b.temporary(b.in_shape(0), Format::I64);
  b.map(kernels::copy_int, {b.in(0)}, {x});
  const View values = b.temporary(indices.shape, Format::I64);
  const std::int64_t planes = x.elements() / w.input.size();
  b.whole({x}, {values, indices}, [=](const StepContext& context) -> Result<void> {
    const auto* from = context.at<const std::int64_t>(x);
    each_plane(context, planes, w.output.size() * w.kernel[0] * w.kernel[1],
               [&](std::int64_t plane) {
                 max_pool_plane(w, from + plane * w.input.size(),
                                context.at<std::int64_t>(values) + plane * w.output.size(),
                                context.at<Index>(indices) + plane * w.output.size());
               });
    return {};
  });
  if (b.has_out(0)) {
    b.map(kernels::copy_int, {values}, {b.out(0)});
  }
  return {};
}

template <class Index>
Result<void> max_pool_with(Builder& b) {
  const Shape output = b.has_out(0) ? b.out_value(0).shape : b.out_value(1).shape;
  const Windows w = windows_of(b.op(), b.in_shape(0), output);
  static_cast<void>(tap_cuts(b));  // a maximum is the same in any parts
  if (w.input.size() > std::numeric_limits<std::int32_t>::max()) {
    return Error{ErrorKind::Unsupported,
                 fmt::format("{}: planes of 2^31 elements or more are not executed", b.where())};
  }
  const View indices =
      b.has_out(1) ? b.out(1) : b.temporary(output, kIsTap<Index> ? Format::U8 : Format::I64);
  if (!is_float(b.in_format(0))) {
    return max_pool_integers<Index>(b, w, indices);
  }
  const View x = b.packed(b.in(0));
  const View values = b.has_out(0) ? b.target(0) : b.temporary(output);
  RowProducer producer;
  producer.rows = x.elements() / w.input.size();
  producer.row_elements = w.output.size();
  producer.source = x;
  producer.produce = [=](const StepContext& context, std::int64_t begin, std::int64_t end,
                         float* out) {
    each_plane(context, end - begin, w.input.size() * w.kernel[0], [&](std::int64_t i) {
      const std::int64_t plane = begin + i;
      std::vector<float> in(static_cast<std::size_t>(w.input.size()));
      context.load(x, plane * w.input.size(), in);
      max_pool_plane(w, in.data(), out + i * w.output.size(),
                     context.at<Index>(indices) + plane * w.output.size());
    });
  };
  b.rows({x}, values, std::move(producer), {indices});
  if (b.has_out(0)) {
    b.finish(0, values);
  }
  return {};
}

bool has_taps(const Builder& b) { return graph::bool_attr(b.op(), "in_window"); }

Result<void> max_pool(Builder& b) {
  return has_taps(b) ? max_pool_with<std::uint8_t>(b) : max_pool_with<std::int64_t>(b);
}

// The window of tap k that has `position` of the input at that tap, if there is one.
struct WindowAt {
  std::int64_t index = 0;
  bool is_one = false;
};

WindowAt window_at(const Windows& w, std::size_t i, std::int64_t position, std::int64_t tap) {
  const std::int64_t distance = position + w.padding[i] - tap * w.dilation[i];
  const std::int64_t extent = i == 0 ? w.output.height : w.output.width;
  const bool is_one =
      distance >= 0 && distance % w.stride[i] == 0 && distance / w.stride[i] < extent;
  return {is_one ? distance / w.stride[i] : 0, is_one};
}

// dX[h, w] = sum over the windows of f(sum, window, position); made for each plane.
template <class F>
void gather_windows(const StepContext& context, const Windows& w, std::int64_t planes,
                    const numerics::ReduceCuts& cuts, float* out, const F& f) {
  const std::int64_t work = w.input.size() * w.kernel[0] * w.kernel[1];
  each_plane(context, planes, work, [&](std::int64_t plane) {
    for (std::int64_t at = 0; at < w.input.size(); ++at) {
      const std::int64_t h = at / w.input.width;
      const std::int64_t column = at % w.input.width;
      out[plane * w.input.size() + at] =
          sum_taps(w.kernel, cuts, [&](float sum, std::int64_t ky, std::int64_t kx) {
            const WindowAt y = window_at(w, 0, h, ky);
            const WindowAt x = window_at(w, 1, column, kx);
            return y.is_one && x.is_one ? f(sum, plane, y.index, x.index, at) : sum;
          });
    }
  });
}

// The element of the plane at a window's tap, if it is inside.
std::optional<std::int64_t> element_at(const Windows& w, std::int64_t y, std::int64_t x,
                                       std::int64_t ky, std::int64_t kx) {
  const std::int64_t row = y * w.stride[0] - w.padding[0] + ky * w.dilation[0];
  const std::int64_t column = x * w.stride[1] - w.padding[1] + kx * w.dilation[1];
  const bool is_inside = row >= 0 && row < w.input.height && column >= 0 && column < w.input.width;
  return is_inside ? std::optional(row * w.input.width + column) : std::nullopt;
}

// The same sums from the windows' side, for uncut loops: windows from the last to the first meet an
// element in the order of its taps. f(plane, y, x, sums of the plane).
template <class F>
void scatter_windows(const StepContext& context, const Windows& w, std::int64_t planes, float* out,
                     const F& f) {
  each_plane(context, planes, w.input.size(), [&](std::int64_t plane) {
    float* sums = out + plane * w.input.size();
    std::fill(sums, sums + w.input.size(), 0.0F);
    for (std::int64_t y = w.output.height; y-- > 0;) {
      for (std::int64_t x = w.output.width; x-- > 0;) {
        f(plane, y, x, sums);
      }
    }
  });
}

// Whether the element is one of the window's.
bool holds(const Windows& w, std::int64_t y, std::int64_t x, std::int64_t element) {
  if (element < 0 || element >= w.input.size()) {
    return false;
  }
  const std::int64_t row = element / w.input.width + w.padding[0] - y * w.stride[0];
  const std::int64_t column = element % w.input.width + w.padding[1] - x * w.stride[1];
  return row >= 0 && row % w.dilation[0] == 0 && row / w.dilation[0] < w.kernel[0] && column >= 0 &&
         column % w.dilation[1] == 0 && column / w.dilation[1] < w.kernel[1];
}

// The place in the plane of a window's winner; nullopt: it has none.
std::optional<std::int64_t> winner_of(const Windows& w, std::int64_t y, std::int64_t x,
                                      std::int64_t place) {
  return holds(w, y, x, place) ? std::optional(place) : std::nullopt;
}
std::optional<std::int64_t> winner_of(const Windows& w, std::int64_t y, std::int64_t x,
                                      std::uint8_t tap) {
  return tap < w.kernel[0] * w.kernel[1] ? element_at(w, y, x, tap / w.kernel[1], tap % w.kernel[1])
                                         : std::nullopt;
}

template <class Index>
Result<void> max_pool_backward_with(Builder& b) {
  const Windows windows = windows_of(b.op(), b.in_shape(1), b.in_shape(0));
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const View dy = b.dense(b.in(0));
  const View indices = b.temporary(b.in_shape(2), kIsTap<Index> ? Format::U8 : Format::I64);
  b.map(kernels::copy_int, {b.in(2)}, {indices});
  const View made = b.target(0);
  const std::int64_t planes = made.elements() / windows.input.size();
  b.whole({dy, indices}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* gradient = context.at<const float>(dy);
    const Index* winners = context.at<const Index>(indices);
    const Plane& output = windows.output;
    if (cuts.block.empty()) {
      scatter_windows(context, windows, planes, context.at<float>(made),
                      [&](std::int64_t plane, std::int64_t y, std::int64_t x, float* sums) {
                        const std::int64_t window = plane * output.size() + y * output.width + x;
                        if (const auto winner = winner_of(windows, y, x, winners[window])) {
                          sums[*winner] = sums[*winner] + gradient[window];
                        }
                      });
      return {};
    }
    gather_windows(
        context, windows, planes, cuts, context.at<float>(made),
        [&](float sum, std::int64_t plane, std::int64_t y, std::int64_t x, std::int64_t at) {
          const std::int64_t window = plane * output.size() + y * output.width + x;
          return winner_of(windows, y, x, winners[window]) == at ? sum + gradient[window] : sum;
        });
    return {};
  });
  b.finish(0, made);
  return {};
}

Result<void> max_pool_backward(Builder& b) {
  return has_taps(b) ? max_pool_backward_with<std::uint8_t>(b)
                     : max_pool_backward_with<std::int64_t>(b);
}

// --- average pooling ---
// The number each window is divided by.
struct Divisor {
  bool includes_padding = true;
  std::int64_t given = 0;  // 0: none

  float of(const Windows& w, std::int64_t y, std::int64_t x) const {
    if (given != 0) {
      return static_cast<float>(given);
    }
    std::int64_t count = 1;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::int64_t extent = i == 0 ? w.input.height : w.input.width;
      const std::int64_t begin = (i == 0 ? y : x) * w.stride[i] - w.padding[i];
      const std::int64_t end = std::min(begin + w.kernel[i], extent + w.padding[i]);
      count *=
          includes_padding ? end - begin : std::min(end, extent) - std::max<std::int64_t>(begin, 0);
    }
    return static_cast<float>(count);
  }
};

Divisor divisor_of(const graph::Op& op) {
  return {graph::bool_attr(op, "count_include_pad"),
          graph::optional_int_attr(op, "divisor_override").value_or(0)};
}

Result<void> average_pool(Builder& b) {
  const Windows w = windows_of(b.op(), b.in_shape(0), b.out_value(0).shape);
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const Divisor divisor = divisor_of(b.op());
  const View x = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = x.elements() / w.input.size();
  b.whole({x}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* in = context.at<const float>(x);
    float* out = context.at<float>(made);
    each_plane(context, planes, w.output.size() * w.kernel[0] * w.kernel[1],
               [&](std::int64_t plane) {
                 const float* from = in + plane * w.input.size();
                 for (std::int64_t at = 0; at < w.output.size(); ++at) {
                   const std::int64_t y = at / w.output.width;
                   const std::int64_t column = at % w.output.width;
                   const float sum =
                       sum_taps(w.kernel, cuts, [&](float acc, std::int64_t ky, std::int64_t kx) {
                         const std::int64_t row = y * w.stride[0] - w.padding[0] + ky;
                         const std::int64_t col = column * w.stride[1] - w.padding[1] + kx;
                         const bool is_inside =
                             row >= 0 && row < w.input.height && col >= 0 && col < w.input.width;
                         return is_inside ? acc + from[row * w.input.width + col] : acc;
                       });
                   out[plane * w.output.size() + at] = sum / divisor.of(w, y, column);
                 }
               });
    return {};
  });
  b.finish(0, made);
  return {};
}

Result<void> average_pool_backward(Builder& b) {
  const Windows w = windows_of(b.op(), b.in_shape(1), b.in_shape(0));
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const Divisor divisor = divisor_of(b.op());
  const View dy = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = made.elements() / w.input.size();
  b.whole({dy}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* gradient = context.at<const float>(dy);
    const auto share_of = [&](std::int64_t plane, std::int64_t y, std::int64_t x) {
      return gradient[plane * w.output.size() + y * w.output.width + x] / divisor.of(w, y, x);
    };
    if (cuts.block.empty()) {
      scatter_windows(context, w, planes, context.at<float>(made),
                      [&](std::int64_t plane, std::int64_t y, std::int64_t x, float* sums) {
                        const float share = share_of(plane, y, x);
                        for (std::int64_t ky = 0; ky < w.kernel[0]; ++ky) {
                          for (std::int64_t kx = 0; kx < w.kernel[1]; ++kx) {
                            if (const auto at = element_at(w, y, x, ky, kx)) {
                              sums[*at] = sums[*at] + share;
                            }
                          }
                        }
                      });
      return {};
    }
    gather_windows(context, w, planes, cuts, context.at<float>(made),
                   [&](float sum, std::int64_t plane, std::int64_t y, std::int64_t x,
                       std::int64_t) { return sum + share_of(plane, y, x); });
    return {};
  });
  b.finish(0, made);
  return {};
}

// --- adaptive average pooling: window i of `to` covers floor(i from / to) .. ceil((i+1) from / to)
struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

Span window_span(std::int64_t i, std::int64_t from, std::int64_t to) {
  return {i * from / to, ((i + 1) * from + to - 1) / to};
}

float window_size(const Plane& from, const Plane& to, std::int64_t y, std::int64_t x) {
  const Span rows = window_span(y, from.height, to.height);
  const Span columns = window_span(x, from.width, to.width);
  return static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin));
}

// For each element (y, x) of a plane of size `to`, f folded over the span of elements of `from`
// that it covers.
template <class F>
void fold_spans(const StepContext& context, std::int64_t planes, const Plane& from, const Plane& to,
                const std::array<std::int64_t, 2>& taps, const numerics::ReduceCuts& cuts,
                float* out, const F& f) {
  each_plane(context, planes, std::max(from.size(), to.size()), [&](std::int64_t plane) {
    for (std::int64_t at = 0; at < to.size(); ++at) {
      const Span rows = window_span(at / to.width, from.height, to.height);
      const Span columns = window_span(at % to.width, from.width, to.width);
      out[plane * to.size() + at] =
          sum_taps(taps, cuts, [&](float sum, std::int64_t ky, std::int64_t kx) {
            const std::int64_t row = rows.begin + ky;
            const std::int64_t column = columns.begin + kx;
            return row < rows.end && column < columns.end ? f(sum, plane, row, column) : sum;
          });
    }
  });
}

Result<void> adaptive_pool(Builder& b) {
  const Plane from = plane_of(b.in_shape(0));
  const Plane to = plane_of(b.out_value(0).shape);
  const auto taps = taps_of(b);
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const View x = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = x.elements() / from.size();
  b.whole({x}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* in = context.at<const float>(x);
    float* out = context.at<float>(made);
    fold_spans(context, planes, from, to, taps, cuts, out,
               [&](float sum, std::int64_t plane, std::int64_t row, std::int64_t column) {
                 return sum + in[plane * from.size() + row * from.width + column];
               });
    for (std::int64_t i = 0; i < planes * to.size(); ++i) {
      const std::int64_t at = i % to.size();
      out[i] = out[i] / window_size(from, to, at / to.width, at % to.width);
    }
    return {};
  });
  b.finish(0, made);
  return {};
}

Result<void> adaptive_pool_backward(Builder& b) {
  const Plane windows = plane_of(b.in_shape(0));
  const Plane input = plane_of(b.in_shape(1));
  const auto taps = taps_of(b);
  const numerics::ReduceCuts cuts = tap_cuts(b);
  const View dy = b.dense(b.in(0));
  const View made = b.target(0);
  const std::int64_t planes = made.elements() / input.size();
  b.whole({dy}, {made}, [=](const StepContext& context) -> Result<void> {
    const float* gradient = context.at<const float>(dy);
    fold_spans(context, planes, windows, input, taps, cuts, context.at<float>(made),
               [&](float sum, std::int64_t plane, std::int64_t y, std::int64_t x) {
                 const float share = gradient[plane * windows.size() + y * windows.width + x] /
                                     window_size(input, windows, y, x);
                 return sum + share;
               });
    return {};
  });
  b.finish(0, made);
  return {};
}

}  // namespace

void add_pool_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.max_pool2d_with_indices", max_pool},
      {"aten.max_pool2d_with_indices_backward", max_pool_backward},
      {"aten.avg_pool2d", average_pool},
      {"aten.avg_pool2d_backward", average_pool_backward},
      {"aten._adaptive_avg_pool2d", adaptive_pool},
      {"aten._adaptive_avg_pool2d_backward", adaptive_pool_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
