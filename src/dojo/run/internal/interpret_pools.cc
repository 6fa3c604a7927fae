// The interpreter's pools and resizing of planes.
#include <algorithm>
#include <array>
#include <limits>

#include "dojo/run/internal/interpret.h"

namespace dojo::run::internal {
namespace {

using graph::Operand;
using graph::Shape;
using graph::Stage;

std::int64_t width_of(const Shape& shape) { return shape.back(); }
std::int64_t height_of(const Shape& shape) { return shape[shape.size() - 2]; }

std::int64_t pair_at(const graph::Op& op, std::string_view name, std::size_t i) {
  return graph::ints_attr(op, name, 2)[i];
}

Result<void> max_pool(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  const std::int64_t columns = width_of(e.in[0]->shape);
  const bool has_taps = graph::bool_attr(e.op, "in_window");
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::int64_t> indices;
  e.each(stage, [&](Point& point) {
    std::optional<std::int64_t> best;  // an element of x
    std::int64_t index = 0;
    std::int64_t tap = 0;
    e.visit(stage, point, [&](const Point& at) {
      const auto position = *Evaluation::position(x, at);
      const auto element = Evaluation::element(x, position);
      if (element.has_value() &&
          (!best.has_value() ||
           (e.in[0]->has_floats() ? takes_over(e.in[0]->number(*element), e.in[0]->number(*best))
                                  : e.in[0]->integer(*element) > e.in[0]->integer(*best)))) {
        best = element;
        index = has_taps ? tap : position[position.size() - 2] * columns + position.back();
      }
      ++tap;  // visited as ky, kx
    });
    if (e.in[0]->has_floats()) {
      floats.push_back(best.has_value() ? e.in[0]->number(*best)
                                        : -std::numeric_limits<float>::infinity());
    } else {
      ints.push_back(best.has_value() ? e.in[0]->integer(*best)
                                      : std::numeric_limits<std::int64_t>::lowest());
    }
    indices.push_back(index);
  });
  e.out[0].floats = floats;
  e.out[0].ints = ints;
  e.out[1].ints = indices;
  return {};
}

// Sums share(window element, its row, its column) over the windows of each input element.
Result<void> gather_windows(
    Evaluation& e,
    const std::function<std::optional<float>(std::int64_t window, std::int64_t y, std::int64_t x,
                                             std::int64_t place)>& share) {
  const Stage& stage = e.stage();
  const Operand& gradient = e.reading(stage, 0);
  const Operand& result = e.writing(stage, 0);
  resize_out(e, 0);
  const std::int64_t plane = height_of(result.shape) * width_of(result.shape);
  e.each(stage, [&](Point& point) {
    const std::int64_t to = Evaluation::element_at(result, point);
    e.out[0].floats[size_of(to)] = e.sum(stage, point, [&](float acc, const Point& at) {
      const auto position = Evaluation::position(gradient, at);
      const auto window =
          position.has_value() ? Evaluation::element(gradient, *position) : std::nullopt;
      if (!window.has_value()) {
        return acc;
      }
      const std::optional<float> part =
          share(*window, (*position)[position->size() - 2], position->back(), to % plane);
      return part.has_value() ? acc + *part : acc;
    });
  });
  return {};
}

// The place in the plane of tap `tap` of the window at (y, x); -1: it has none.
std::int64_t place_of_tap(const Evaluation& e, std::int64_t y, std::int64_t x, std::int64_t tap) {
  const Shape& plane = e.out_value(0).shape;
  const std::int64_t columns = pair_at(e.op, "kernel_size", 1);
  const std::array<std::int64_t, 2> window{y, x};
  const std::array<std::int64_t, 2> taps{tap / columns, tap % columns};
  std::array<std::int64_t, 2> place{};
  for (std::size_t i = 0; i < 2; ++i) {
    const bool is_given = !graph::ints_attr(e.op, "stride").empty();
    place[i] = window[i] * pair_at(e.op, is_given ? "stride" : "kernel_size", i) -
               pair_at(e.op, "padding", i) + taps[i] * pair_at(e.op, "dilation", i);
    if (taps[i] >= pair_at(e.op, "kernel_size", i) || place[i] < 0 ||
        place[i] >= (i == 0 ? height_of(plane) : width_of(plane))) {
      return -1;
    }
  }
  return place[0] * width_of(plane) + place[1];
}

Result<void> max_pool_backward(Evaluation& e) {
  const bool has_taps = graph::bool_attr(e.op, "in_window");
  return gather_windows(
      e, [&](std::int64_t window, std::int64_t y, std::int64_t x, std::int64_t place) {
        const std::int64_t index = e.in[2]->integer(window);
        const std::int64_t winner = has_taps ? place_of_tap(e, y, x, index) : index;
        return winner == place ? std::optional(e.in[0]->number(window)) : std::nullopt;
      });
}

// The elements of a window that count: those in the padded input, or those in the input.
float pool_divisor(const Evaluation& e, const Shape& input, std::int64_t y, std::int64_t x) {
  if (const auto given = graph::optional_int_attr(e.op, "divisor_override")) {
    return static_cast<float>(*given);
  }
  std::int64_t count = 1;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int64_t kernel = pair_at(e.op, "kernel_size", i);
    const std::int64_t stride =
        graph::ints_attr(e.op, "stride").empty() ? kernel : pair_at(e.op, "stride", i);
    const std::int64_t padding = pair_at(e.op, "padding", i);
    const std::int64_t extent = i == 0 ? height_of(input) : width_of(input);
    std::int64_t inside = 0;
    for (std::int64_t k = 0; k < kernel; ++k) {
      const std::int64_t at = (i == 0 ? y : x) * stride - padding + k;
      const bool counts = graph::bool_attr(e.op, "count_include_pad") ? at < extent + padding
                                                                      : at >= 0 && at < extent;
      inside += counts ? 1 : 0;
    }
    count *= inside;
  }
  return static_cast<float>(count);
}

Result<void> average_pool(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  const Operand& result = e.writing(stage, 0);
  resize_out(e, 0);
  e.each(stage, [&](Point& point) {
    const float total = e.sum(stage, point, [&](float acc, const Point& at) {
      const auto element = Evaluation::element(x, *Evaluation::position(x, at));
      return element.has_value() ? acc + e.in[0]->number(*element) : acc;
    });
    const auto place = *Evaluation::position(result, point);
    e.out[0].floats[size_of(Evaluation::element_at(result, point))] =
        total / pool_divisor(e, e.in[0]->shape, place[place.size() - 2], place.back());
  });
  return {};
}

Result<void> average_pool_backward(Evaluation& e) {
  const Shape& input = e.out_value(0).shape;
  return gather_windows(e, [&](std::int64_t window, std::int64_t y, std::int64_t x, std::int64_t) {
    return std::optional(e.in[0]->number(window) / pool_divisor(e, input, y, x));
  });
}

// Adaptive windows: i covers floor(i from / to) up to, and without, ceil((i + 1) from / to).
bool covers(std::int64_t i, std::int64_t from, std::int64_t to, std::int64_t element) {
  return element * to < (i + 1) * from && (element + 1) * to > i * from;
}

float adaptive_size(const Shape& input, const Shape& output, std::int64_t y, std::int64_t x) {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  for (std::int64_t h = 0; h < height_of(input); ++h) {
    rows += covers(y, height_of(input), height_of(output), h) ? 1 : 0;
  }
  for (std::int64_t w = 0; w < width_of(input); ++w) {
    columns += covers(x, width_of(input), width_of(output), w) ? 1 : 0;
  }
  return static_cast<float>(rows * columns);
}

Result<void> adaptive_pool(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  const Operand& result = e.writing(stage, 0);
  const Shape& input = x.shape;
  const Shape& output = result.shape;
  resize_out(e, 0);
  e.each(stage, [&](Point& point) {
    const auto place = *Evaluation::position(result, point);
    const std::int64_t row = place[place.size() - 2];
    const std::int64_t column = place.back();
    const float total = e.sum(stage, point, [&](float acc, const Point& at) {
      const auto position = *Evaluation::position(x, at);
      const auto element = Evaluation::element(x, position);
      const bool counts =
          element.has_value() &&
          covers(row, height_of(input), height_of(output), position[position.size() - 2]) &&
          covers(column, width_of(input), width_of(output), position.back());
      return counts ? acc + e.in[0]->number(*element) : acc;
    });
    e.out[0].floats[size_of(Evaluation::element_at(result, point))] =
        total / adaptive_size(input, output, row, column);
  });
  return {};
}

Result<void> adaptive_pool_backward(Evaluation& e) {
  const Shape& input = e.out_value(0).shape;
  const Shape& output = e.in[0]->shape;
  return gather_windows(e,
                        [&](std::int64_t window, std::int64_t y, std::int64_t x,
                            std::int64_t place) -> std::optional<float> {
                          const std::int64_t h = place / width_of(input);
                          const std::int64_t w = place % width_of(input);
                          if (!covers(y, height_of(input), height_of(output), h) ||
                              !covers(x, width_of(input), width_of(output), w)) {
                            return std::nullopt;
                          }
                          return e.in[0]->number(window) / adaptive_size(input, output, y, x);
                        });
}

// --- resizing ---
bool is_nearest(const Evaluation& e) {
  return e.op.info->name.find("nearest") != std::string_view::npos;
}

// The weights with which output i of `to` reads element `at` of `from`, through its first and its
// second tap; nullopt: not at all.
struct TapWeights {
  std::optional<float> first;
  std::optional<float> second;
  bool reads() const { return first.has_value() || second.has_value(); }
};

TapWeights weights(const Evaluation& e, std::int64_t i, std::int64_t from, std::int64_t to,
                   std::int64_t at) {
  if (is_nearest(e)) {
    return {i * from / to == at ? std::optional(1.0F) : std::nullopt, std::nullopt};
  }
  const bool are_aligned = graph::bool_attr(e.op, "align_corners");
  // The source position as numerator / denominator.
  std::int64_t numerator = are_aligned ? i * (from - 1) : (2 * i + 1) * from - to;
  const std::int64_t denominator = are_aligned ? std::max<std::int64_t>(to - 1, 1) : 2 * to;
  numerator = are_aligned && to == 1 ? 0 : std::max<std::int64_t>(numerator, 0);
  const std::int64_t low = numerator / denominator;
  const std::int64_t high = std::min(low + 1, from - 1);
  const float l = static_cast<float>(numerator % denominator) / static_cast<float>(denominator);
  return {low == at ? std::optional(1 - l) : std::nullopt,
          high == at ? std::optional(l) : std::nullopt};
}

float total(const TapWeights& taps) { return taps.first.value_or(0) + taps.second.value_or(0); }

Result<void> resize(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& result = e.writing(stage, 0);
  const Shape& from = e.in[0]->shape;
  const Shape& to = result.shape;
  resize_out(e, 0);
  // Finds the element that a tap reads by asking every one.
  const auto tap = [&](std::size_t dim, std::int64_t i, std::int64_t k) {
    for (std::int64_t at = 0; at < from[dim]; ++at) {
      const TapWeights taps = weights(e, i, from[dim], to[dim], at);
      const std::optional<float>& weight = k == 0 ? taps.first : taps.second;
      if (weight.has_value()) {
        return std::pair(at, *weight);
      }
    }
    DOJO_CHECK(false);
  };
  e.each(stage, [&](Point& point) {
    const auto place = *Evaluation::position(result, point);
    const std::int64_t plane = place[0] * from[1] + place[1];
    const auto value = [&](std::int64_t row, std::int64_t column) {
      return e.in[0]->number((plane * from[2] + row) * from[3] + column);
    };
    float& made = e.out[0].floats[size_of(Evaluation::element_at(result, point))];
    if (is_nearest(e)) {
      made = value(tap(2, place[2], 0).first, tap(3, place[3], 0).first);
      return;
    }
    const std::size_t ky = size_of(*e.nest.loop_named("ky"));
    const std::size_t kx = size_of(*e.nest.loop_named("kx"));
    made = e.sum(stage, point, [&](float acc, const Point& at) {
      const auto [row, wy] = tap(2, place[2], at[ky]);
      const auto [column, wx] = tap(3, place[3], at[kx]);
      return acc + (wy * wx) * value(row, column);
    });
  });
  return {};
}

Result<void> resize_backward(Evaluation& e) {
  const Shape& from = e.out_value(0).shape;
  const Shape& to = e.in[0]->shape;
  return gather_windows(e,
                        [&](std::int64_t window, std::int64_t y, std::int64_t x,
                            std::int64_t place) -> std::optional<float> {
                          const TapWeights rows = weights(e, y, from[2], to[2], place / from[3]);
                          const TapWeights columns = weights(e, x, from[3], to[3], place % from[3]);
                          if (!rows.reads() || !columns.reads()) {
                            return std::nullopt;
                          }
                          return (total(rows) * total(columns)) * e.in[0]->number(window);
                        });
}

}  // namespace

void add_pool_interpreters(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.max_pool2d_with_indices", max_pool},
      {"aten.max_pool2d_with_indices_backward", max_pool_backward},
      {"aten.avg_pool2d", average_pool},
      {"aten.avg_pool2d_backward", average_pool_backward},
      {"aten._adaptive_avg_pool2d", adaptive_pool},
      {"aten._adaptive_avg_pool2d_backward", adaptive_pool_backward},
      {"aten.upsample_nearest2d", resize},
      {"aten.upsample_nearest2d_backward", resize_backward},
      {"aten.upsample_bilinear2d", resize},
      {"aten.upsample_bilinear2d_backward", resize_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
