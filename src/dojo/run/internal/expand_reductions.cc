// Reductions and running sums. Sums are numerics::reduce in the order of the
// nest; maxima and index results have one value in any order.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::Shape;
using numerics::Reduction;

// The result of reduce() in the output's shape (with or without the reduced dimensions).
void finish_reduced(Builder& b, const View& made) {
  b.finish(0, *reshaped(made, b.out_value(0).shape));
}

std::int64_t count_of(const View& x, const std::vector<std::int64_t>& dims) {
  std::int64_t count = 1;
  for (const std::int64_t dim : dims) {
    count *= x.shape[static_cast<std::size_t>(dim)];
  }
  return count;
}

// Kept dimensions first, reduced ones last, as a contiguous [rows, columns] of floats or int64.
struct Rows {
  View view;
  std::int64_t rows = 1;
  std::int64_t columns = 1;
};

Rows rows_of(Builder& b, const View& x, const std::vector<std::int64_t>& dims) {
  std::vector<std::int64_t> order = other_dims(x.shape.size(), dims);
  order.insert(order.end(), dims.begin(), dims.end());
  View arranged = permuted(x, order);
  if (is_float(b.format_of(x))) {
    arranged = b.dense(arranged);
  } else {
    const View copy = b.temporary(arranged.shape, Format::I64);
    b.map(kernels::copy_int, {arranged}, {copy});
    arranged = copy;
  }
  const std::int64_t columns = count_of(x, dims);
  return {arranged, x.elements() / columns, columns};
}

// One int64 per row, from the row.
template <class T, class F>
View per_row(Builder& b, const Rows& rows, const Shape& shape, const F& f) {
  const View made = b.temporary(shape, Format::I64);
  b.whole({rows.view}, {made}, [=](const StepContext& context) -> Result<void> {
    const T* in = context.at<const T>(rows.view);
    auto* out = context.at<std::int64_t>(made);
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      out[r] = f(in + r * rows.columns, rows.columns);
    }
    return {};
  });
  return made;
}

void finish_integers(Builder& b, const View& made) {
  b.map(kernels::copy_int, {*reshaped(made, b.out_value(0).shape)}, {b.out(0)});
}

Shape kept_shape(const View& x, const std::vector<std::int64_t>& dims) {
  Shape shape;
  for (const std::int64_t dim : other_dims(x.shape.size(), dims)) {
    shape.push_back(x.shape[static_cast<std::size_t>(dim)]);
  }
  return shape;
}

std::vector<std::int64_t> reduced_dims(const Builder& b) {
  return dims_of(b.op(), b.in_shape(0).size());
}

Result<void> sum(Builder& b) {
  const std::vector<std::int64_t> dims = reduced_dims(b);
  if (is_float(b.out_value(0).format)) {
    finish_reduced(b, b.reduce(Reduction::Sum, b.in(0), dims, ""));
    return {};
  }
  const Rows rows = rows_of(b, b.in(0), dims);
  finish_integers(b, per_row<std::uint64_t>(b, rows, kept_shape(b.in(0), dims),
                                            [](const std::uint64_t* row, std::int64_t count) {
                                              std::uint64_t total = 0;
                                              for (std::int64_t i = 0; i < count; ++i) {
                                                total += row[i];
                                              }
                                              return static_cast<std::int64_t>(total);
                                            }));
  return {};
}

Result<void> mean(Builder& b) {
  finish_reduced(b, b.reduce(Reduction::Mean, b.in(0), reduced_dims(b), ""));
  return {};
}

template <bool is_least>
Result<void> extremum(Builder& b) {
  const std::vector<std::int64_t> dims = reduced_dims(b);
  if (!is_float(b.out_value(0).format)) {
    const Rows rows = rows_of(b, b.in(0), dims);
    finish_integers(b, per_row<std::int64_t>(b, rows, kept_shape(b.in(0), dims),
                                             [](const std::int64_t* row, std::int64_t count) {
                                               return is_least
                                                          ? *std::min_element(row, row + count)
                                                          : *std::max_element(row, row + count);
                                             }));
    return {};
  }
  if (!is_least) {
    finish_reduced(b, b.reduce(Reduction::Max, b.in(0), dims, ""));
    return {};
  }
  const View negated = b.temporary(b.in_shape(0));
  b.map(kernels::neg, {b.in(0)}, {negated});
  const View greatest = b.reduce(Reduction::Max, negated, dims, "");
  const View least = b.temporary(greatest.shape);
  b.map(kernels::neg, {greatest}, {least});
  finish_reduced(b, least);
  return {};
}

template <bool is_all>
Result<void> any_or_all(Builder& b) {
  const std::vector<std::int64_t> dims = reduced_dims(b);
  const View flags = b.temporary(b.in_shape(0), Format::Bool);
  b.map(is_float(b.in_format(0)) ? kernels::is_nonzero : kernels::copy_int, {b.in(0)}, {flags});
  const Rows rows = rows_of(b, flags, dims);
  finish_integers(b, per_row<std::int64_t>(b, rows, kept_shape(flags, dims),
                                           [](const std::int64_t* row, std::int64_t count) {
                                             return is_all ? *std::min_element(row, row + count)
                                                           : *std::max_element(row, row + count);
                                           }));
  return {};
}

bool is_not_a_number(float x) { return std::isnan(x); }
bool is_not_a_number(std::int64_t /*x*/) { return false; }

template <class T>
std::int64_t index_of_greatest(const T* row, std::int64_t count) {
  std::int64_t best = 0;
  for (std::int64_t i = 1; i < count; ++i) {
    best =
        row[i] > row[best] || (is_not_a_number(row[i]) && !is_not_a_number(row[best])) ? i : best;
  }
  return best;
}

Result<void> argmax(Builder& b) {
  const std::vector<std::int64_t> dims = reduced_dims(b);
  const Rows rows = rows_of(b, b.in(0), dims);
  const Shape shape = kept_shape(b.in(0), dims);
  finish_integers(b, is_float(b.in_format(0))
                         ? per_row<float>(b, rows, shape, index_of_greatest<float>)
                         : per_row<std::int64_t>(b, rows, shape, index_of_greatest<std::int64_t>));
  return {};
}

// The mean, then the sum of squared differences from it, divided by count - correction.
Result<void> variance(Builder& b) {
  const std::vector<std::int64_t> dims = reduced_dims(b);
  const View x = b.in(0);
  const View center = b.reduce(Reduction::Mean, x, dims, "mean");
  const View squares = b.reduce(Reduction::SumOfSquaredDeviations, x, dims, "squares", &center);
  const double correction = graph::optional_float_attr(b.op(), "correction").value_or(1);
  const double divisor = std::max(0.0, static_cast<double>(count_of(x, dims)) - correction);
  const View made = b.temporary(squares.shape);
  b.map(kernels::div, {squares, b.constant(divisor)}, {made});
  finish_reduced(b, made);
  return {};
}

// The indices of the k greatest of a row, greatest first; the lowest of equals first, and NaN
// before all numbers.
template <class T>
void indices_of_greatest(const T* row, std::span<std::int64_t> order, std::span<std::int64_t> out) {
  std::iota(order.begin(), order.end(), 0);
  const auto comes_before = [row](std::int64_t i, std::int64_t j) {
    const bool is_nan = is_not_a_number(row[i]);
    if (is_nan != is_not_a_number(row[j])) {
      return is_nan;
    }
    return row[i] > row[j] || (!(row[j] > row[i]) && i < j);
  };
  std::partial_sort(order.begin(), order.begin() + std::ssize(out), order.end(), comes_before);
  std::copy_n(order.begin(), out.size(), out.begin());
}

template <class T>
Result<void> topk_of(Builder& b) {
  const std::size_t rank = b.in_shape(0).size();
  const std::int64_t dim = dim_of(graph::int_attr(b.op(), "dim"), rank);
  const Rows rows = rows_of(b, b.in(0), rank == 0 ? std::vector<std::int64_t>{} : std::vector{dim});
  const std::int64_t k = graph::int_attr(b.op(), "k");
  Shape shape = rows.view.shape;  // dim is its last dimension
  if (rank > 0) {
    shape.back() = k;
  }
  const View values = b.temporary(shape, b.format_of(rows.view));
  const View indices = b.temporary(shape, Format::I64);
  b.whole({rows.view}, {values, indices}, [=](const StepContext& context) -> Result<void> {
    const T* in = context.at<const T>(rows.view);
    T* greatest = context.at<T>(values);
    auto* at = context.at<std::int64_t>(indices);
    const auto some_rows = [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int64_t> order(static_cast<std::size_t>(rows.columns));
      for (std::int64_t r = begin; r < end; ++r) {
        const T* row = in + r * rows.columns;
        const std::span<std::int64_t> found(at + r * k, static_cast<std::size_t>(k));
        indices_of_greatest(row, order, found);
        for (std::int64_t j = 0; j < k; ++j) {
          greatest[r * k + j] = row[found[static_cast<std::size_t>(j)]];
        }
      }
    };
    context.pool->parallel_for(rows.rows, 64, std::ref(some_rows));
    return {};
  });
  // The last dimension back to where it was.
  std::vector<std::int64_t> order;
  for (std::int64_t d = 0; d < std::ssize(shape); ++d) {
    order.push_back(d < dim ? d : d == dim ? std::ssize(shape) - 1 : d - 1);
  }
  if (b.has_out(0)) {
    const bool is_float_op = is_float(b.out_value(0).format);
    b.map(is_float_op ? kernels::copy : kernels::copy_int, {permuted(values, order)}, {b.out(0)});
  }
  if (b.has_out(1)) {
    b.map(kernels::copy_int, {permuted(indices, order)}, {b.out(1)});
  }
  return {};
}

Result<void> topk(Builder& b) {
  return is_float(b.in_format(0)) ? topk_of<float>(b) : topk_of<std::int64_t>(b);
}

// acc = acc + x from +0, along one dimension.
Result<void> running_sum(Builder& b) {
  const std::size_t rank = b.in_shape(0).size();
  const std::int64_t dim = dim_of(graph::int_attr(b.op(), "dim"), rank);
  const bool is_float_op = is_float(b.out_value(0).format);
  View x = b.temporary(b.in_shape(0), is_float_op ? Format::F32 : Format::I64);
  b.map(is_float_op ? kernels::copy : kernels::copy_int, {b.in(0)}, {x});
  const View made = b.temporary(x.shape, b.format_of(x));
  const std::int64_t extent = rank == 0 ? 1 : x.shape[static_cast<std::size_t>(dim)];
  const std::int64_t stride = rank == 0 ? 1 : x.strides[static_cast<std::size_t>(dim)];
  b.whole({x}, {made}, [=](const StepContext& context) -> Result<void> {
    const auto scan = [&](auto* in, auto* out) {
      for (std::int64_t line = 0; line < x.elements() / extent; ++line) {
        const std::int64_t first = line / stride * stride * extent + line % stride;
        std::remove_cvref_t<decltype(*out)> total = 0;
        for (std::int64_t i = 0; i < extent; ++i) {
          total = total + in[first + i * stride];
          out[first + i * stride] = total;
        }
      }
    };
    if (is_float_op) {
      scan(context.at<const float>(x), context.at<float>(made));
    } else {
      scan(context.at<const std::uint64_t>(x), context.at<std::uint64_t>(made));
    }
    return {};
  });
  b.map(is_float_op ? kernels::copy : kernels::copy_int, {made}, {b.out(0)});
  return {};
}

}  // namespace

void add_reduction_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.sum", sum},
      {"aten.mean", mean},
      {"aten.amax", extremum<false>},
      {"aten.amin", extremum<true>},
      {"aten.any", any_or_all<false>},
      {"aten.all", any_or_all<true>},
      {"aten.argmax", argmax},
      {"aten.var", variance},
      {"aten.cumsum", running_sum},
      {"aten.topk", topk},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
