// Layer, group and batch norm. Two-pass: the mean (sum / count), then the sum of squared
// differences from it; rstd = 1 / sqrt(squares / count + eps); y = ((x - mean) rstd) w + b, where
// an absent w is 1 and an absent b is 0. Gradients, with h = (x - mean) rstd and g = dY w:
//   dX = rstd ((g - s1 / count) - h (s2 / count)), s1 = sum of g, s2 = sum of g h over the columns,
//   dW = sum of dY h and dB = sum of dY over the samples.
// Statistics are those FP32 values inside the op; stored, they are rounded as their format says.
#include <utility>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::Shape;
using numerics::Reduction;
using Dims = std::vector<std::int64_t>;

// How a norm sees its tensors: x arranged so that rows and columns are dimensions of their own.
struct NormView {
  Shape shape;         // of the arranged element tensors
  Dims columns;        // dimensions a statistic runs over, in order
  Dims samples;        // dimensions the gradients of w and b run over
  std::int64_t count;  // of the columns
};

View arranged(Builder& b, const View& x, const NormView& norm) {
  std::optional<View> view = reshaped(x, norm.shape);
  return view.has_value() ? *view : *reshaped(b.packed(x), norm.shape);
}

// w or b of the channels or columns, to broadcast over the arranged shape.
View parameter(Builder& b, std::size_t i, double absent, const NormView& norm) {
  if (!b.has_in(i)) {
    return b.constant(absent);
  }
  Shape shape = norm.shape;
  for (const std::int64_t dim : norm.samples) {
    shape[static_cast<std::size_t>(dim)] = 1;
  }
  std::optional<View> view = reshaped(b.in(i), shape);
  return view.has_value() ? *view : *reshaped(b.packed(b.in(i)), shape);
}

// A given statistic, one per row.
View statistic(Builder& b, const View& given, const NormView& norm) {
  Shape shape = norm.shape;
  for (const std::int64_t dim : norm.columns) {
    shape[static_cast<std::size_t>(dim)] = 1;
  }
  std::optional<View> view = reshaped(given, shape);
  return view.has_value() ? *view : *reshaped(b.packed(given), shape);
}

std::int64_t extents(const Shape& shape, const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t dim : dims) {
    count *= shape[static_cast<std::size_t>(dim)];
  }
  return count;
}

NormView layer_view(const Shape& shape, std::size_t columns) {
  NormView norm{shape, {}, {}, 1};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    (i + columns < shape.size() ? norm.samples : norm.columns)
        .push_back(static_cast<std::int64_t>(i));
  }
  norm.count = extents(shape, norm.columns);
  return norm;
}

// [n, c, positions...] as [n, g, c, positions...].
NormView group_view(const Builder& b, const Shape& shape) {
  const std::int64_t groups = graph::int_attr(b.op(), "group");
  NormView norm{shape, {2}, {0}, 1};
  norm.shape[1] = shape[1] / groups;
  norm.shape.insert(norm.shape.begin() + 1, groups);
  for (std::size_t i = 3; i < norm.shape.size(); ++i) {
    norm.columns.push_back(static_cast<std::int64_t>(i));
    norm.samples.push_back(static_cast<std::int64_t>(i));
  }
  norm.count = extents(norm.shape, norm.columns);
  return norm;
}

NormView batch_view(const Shape& shape) {
  NormView norm{shape, {0}, {0}, 1};
  for (std::size_t i = 2; i < shape.size(); ++i) {
    norm.columns.push_back(static_cast<std::int64_t>(i));
    norm.samples.push_back(static_cast<std::int64_t>(i));
  }
  norm.count = extents(shape, norm.columns);
  return norm;
}

void store(Builder& b, std::size_t i, const View& made) {
  if (b.has_out(i)) {
    b.finish(i, *reshaped(made, b.out_value(i).shape));
  }
}

struct Statistics {
  View mean;     // one per row
  View squares;  // sums of squared differences
  View rstd;
};

Statistics statistics_of(Builder& b, const View& x, const NormView& norm) {
  const View mean = b.reduce(Reduction::Mean, x, norm.columns, "mean");
  const View squares =
      b.reduce(Reduction::SumOfSquaredDeviations, x, norm.columns, "variance", &mean);
  const View rstd = b.temporary(mean.shape);
  Params params;
  params.f[0] = static_cast<float>(norm.count);
  params.f[1] = static_cast<float>(graph::float_attr(b.op(), "eps"));
  b.map(kernels::inverse_deviation, {squares}, {rstd}, params);
  return {mean, squares, rstd};
}

// Outputs are contiguous, so their arranged view is one of the same buffer.
void apply(Builder& b, const View& x, const View& mean, const View& rstd, const NormView& norm) {
  if (b.has_out(0)) {
    b.map(kernels::normalise_affine,
          {x, statistic(b, mean, norm), statistic(b, rstd, norm), parameter(b, 1, 1, norm),
           parameter(b, 2, 0, norm)},
          {*reshaped(b.out(0), norm.shape)});
  }
}

Result<void> forward(Builder& b, const NormView& norm) {
  const View x = arranged(b, b.in(0), norm);
  const Statistics made = statistics_of(b, x, norm);
  store(b, 1, made.mean);
  store(b, 2, made.rstd);
  apply(b, x, made.mean, made.rstd, norm);
  return {};
}

Result<void> layer_norm(Builder& b) {
  return forward(b, layer_view(b.in_shape(0), graph::ints_attr(b.op(), "normalized_shape").size()));
}

Result<void> group_norm(Builder& b) { return forward(b, group_view(b, b.in_shape(0))); }

// New running value: momentum of the batch's, the rest of the old one. The variance is unbiased.
void run_on(Builder& b, std::size_t output, const View& now, std::size_t old, double divisor) {
  if (!b.has_out(output)) {
    return;
  }
  const double momentum = graph::float_attr(b.op(), "momentum");
  Params params;
  params.f = {static_cast<float>(momentum), static_cast<float>(1 - momentum),
              static_cast<float>(divisor)};
  b.map(kernels::blend, {now, b.in(old)}, {b.out(output)}, params);
}

Result<void> batch_norm(Builder& b) {
  const NormView norm = batch_view(b.in_shape(0));
  const View x = arranged(b, b.in(0), norm);
  if (graph::bool_attr(b.op(), "training")) {
    const Statistics made = statistics_of(b, x, norm);
    store(b, 1, made.mean);
    store(b, 2, made.rstd);
    apply(b, x, made.mean, made.rstd, norm);
    run_on(b, 3, made.mean, 3, 1);
    run_on(b, 4, made.squares, 4, static_cast<double>(norm.count) - 1);
    return {};
  }
  const View rstd = b.temporary(b.in_shape(4));
  Params params;
  params.f[0] = 1;
  params.f[1] = static_cast<float>(graph::float_attr(b.op(), "eps"));
  b.map(kernels::inverse_deviation, {b.in(4)}, {rstd}, params);
  apply(b, x, b.in(3), rstd, norm);
  for (const std::size_t i : {std::size_t{3}, std::size_t{4}}) {
    if (b.has_out(i)) {
      b.map(kernels::copy, {b.in(i)}, {b.out(i)});
    }
  }
  return {};
}

// Where the operands of a gradient stand.
struct GradientOperands {
  std::size_t gradient = 0;
  std::size_t input = 1;
  std::size_t mean = 2;
  std::size_t rstd = 3;
  std::size_t weight = 4;
};

class NormGradient {
 public:
  NormGradient(Builder& b, const NormView& norm, const GradientOperands& at)
      : b_(b),
        norm_(norm),
        dy_(arranged(b, b.in(at.gradient), norm)),
        x_(b.has_out(0) || b.has_out(1) ? arranged(b, b.in(at.input), norm) : View{}),
        mean_(statistic(b, b.in(at.mean), norm)),
        rstd_(statistic(b, b.in(at.rstd), norm)),
        is_weighted_(b.has_in(at.weight)),
        weight_(parameter(b, at.weight, 1, norm)) {}

  void expand() {
    const bool has_one_space = norm_.columns == norm_.samples;  // batch norm
    const bool has_two_spaces =                                 // layer norm
        norm_.columns.size() + norm_.samples.size() == norm_.shape.size();
    const bool lies_alike =
        b_.has_out(0) && b_.is_reducible(dy_) && b_.is_reducible(x_) && dy_.strides == x_.strides;
    if (lies_alike && has_one_space) {
      expand_with_one_walk();
    } else if (lies_alike && has_two_spaces && x_.is_contiguous()) {
      expand_with_two_walks();
    } else {
      expand_sum_by_sum();
    }
  }

 private:
  // PERF: no term of a sum is stored in FP32; batch norm has all sums over the same points.
  void expand_with_one_walk() {
    const Builder::GradientSums sums =
        b_.reduce_norm_gradient(dy_, x_, {mean_, rstd_, weight_}, norm_.columns, "sums");
    finish(sums.g, sums.g_h);
    finish_parameters(sums);
  }

  void expand_with_two_walks() {
    const Builder::GradientSums rows = b_.reduce_norm_gradient(
        dy_, x_, {.mean = mean_, .rstd = rstd_, .weight = weight_, .has_point_weight = true},
        norm_.columns, "sums");
    finish(rows.g, rows.g_h);
    if (b_.has_out(1) || b_.has_out(2)) {
      finish_parameters(b_.reduce_norm_gradient(
          dy_, x_,
          {.mean = mean_, .rstd = rstd_, .weight = b_.constant(1.0), .has_point_stats = true},
          norm_.samples, b_.has_out(1) ? "weight" : "bias"));
    }
  }

  void finish_parameters(const Builder::GradientSums& sums) {
    if (b_.has_out(1)) {
      store(b_, 1, sums.dy_h);
    }
    if (b_.has_out(2)) {
      store(b_, 2, sums.dy);
    }
  }

  void expand_sum_by_sum() {
    if (b_.has_out(0)) {
      const View s1 = b_.reduce(Reduction::Sum, weighted(), norm_.columns, "sums");
      const View s2 =
          b_.reduce(Reduction::Sum, product(weighted(), normalised()), norm_.columns, "sums");
      finish(s1, s2);
    }
    if (b_.has_out(1)) {
      store(b_, 1, b_.reduce(Reduction::Sum, product(dy_, normalised()), norm_.samples, "weight"));
    }
    if (b_.has_out(2)) {
      store(b_, 2, b_.reduce(Reduction::Sum, dy_, norm_.samples, "bias"));
    }
  }

  // h and g are made anew for each sum, within its pass, rather than stored.
  View normalised() {
    const View h = b_.temporary(norm_.shape);
    b_.map(kernels::normalise, {x_, mean_, rstd_}, {h});
    return h;
  }
  View weighted() { return is_weighted_ ? product(dy_, weight_) : dy_; }
  View product(const View& left, const View& right) {
    const View made = b_.temporary(norm_.shape);
    b_.map(kernels::mul, {left, right}, {made});
    return made;
  }

  void finish(const View& s1, const View& s2) {
    b_.map(kernels::normalise_backward, {dy_, x_, mean_, rstd_, weight_, share(s1), share(s2)},
           {*reshaped(b_.out(0), norm_.shape)});
  }
  // A sum divided by the count.
  View share(const View& sum) {
    const View made = b_.temporary(sum.shape);
    b_.map(kernels::div, {sum, b_.constant(static_cast<double>(norm_.count))}, {made});
    return statistic(b_, made, norm_);
  }

  Builder& b_;
  const NormView& norm_;
  View dy_;
  View x_;
  View mean_;
  View rstd_;
  bool is_weighted_;
  View weight_;  // 1 if there is none
};

Result<void> backward(Builder& b, const NormView& norm, const GradientOperands& at) {
  NormGradient(b, norm, at).expand();
  return {};
}

Result<void> layer_norm_backward(Builder& b) {
  return backward(b, layer_view(b.in_shape(1), graph::ints_attr(b.op(), "normalized_shape").size()),
                  {});
}

Result<void> group_norm_backward(Builder& b) {
  return backward(b, group_view(b, b.in_shape(1)), {});
}

// Without training the statistics were constants: dX = (dY w) rstd.
Result<void> batch_norm_backward(Builder& b) {
  const NormView norm = batch_view(b.in_shape(1));
  if (graph::bool_attr(b.op(), "train")) {
    return backward(b, norm, {0, 1, 5, 6, 2});
  }
  const View dy = arranged(b, b.in(0), norm);
  const View rstd = b.temporary(b.in_shape(4));
  Params params;
  params.f[0] = 1;
  params.f[1] = static_cast<float>(graph::float_attr(b.op(), "eps"));
  b.map(kernels::inverse_deviation, {b.in(4)}, {rstd}, params);
  if (b.has_out(0)) {
    const View g = b.temporary(norm.shape);
    b.map(kernels::mul, {dy, parameter(b, 2, 1, norm)}, {g});
    b.map(kernels::mul, {g, statistic(b, rstd, norm)}, {*reshaped(b.out(0), norm.shape)});
  }
  if (b.has_out(1)) {
    const View h = b.temporary(norm.shape);
    b.map(kernels::normalise,
          {arranged(b, b.in(1), norm), statistic(b, b.in(3), norm), statistic(b, rstd, norm)}, {h});
    const View products = b.temporary(norm.shape);
    b.map(kernels::mul, {dy, h}, {products});
    store(b, 1, b.reduce(Reduction::Sum, products, norm.samples, "weight"));
  }
  if (b.has_out(2)) {
    store(b, 2, b.reduce(Reduction::Sum, dy, norm.samples, "bias"));
  }
  return {};
}

}  // namespace

void add_norm_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.native_layer_norm", layer_norm},
      {"aten.native_layer_norm_backward", layer_norm_backward},
      {"aten.native_group_norm", group_norm},
      {"aten.native_group_norm_backward", group_norm_backward},
      {"aten._native_batch_norm_legit_functional", batch_norm},
      {"aten.native_batch_norm_backward", batch_norm_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
