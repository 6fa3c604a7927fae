// Losses and their gradients. reduction: 0 none, 1 mean (the sum divided by the count), 2 sum.
#include <fmt/format.h>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::int_attr;
using graph::Shape;
using numerics::Reduction;

constexpr std::int64_t kNone = 0;
constexpr std::int64_t kMean = 1;

Shape broadcast_shape(const Builder& b) {
  Shape shape;
  for (std::size_t i = 0; i < b.op().inputs.size(); ++i) {
    if (!b.has_in(i)) {
      continue;
    }
    const Shape& each = b.in_shape(i);
    shape.insert(shape.begin(), each.size() > shape.size() ? each.size() - shape.size() : 0, 1);
    for (std::size_t d = 0; d < each.size(); ++d) {
      std::int64_t& extent = shape[shape.size() - each.size() + d];
      extent = std::max(extent, each[d]);
    }
  }
  return shape;
}

// The losses of the elements, as they are or reduced.
template <class Elements>
Result<void> distance(Builder& b, const Elements& elements) {
  const std::int64_t reduction = int_attr(b.op(), "reduction");
  if (reduction == kNone) {
    elements(b.out(0));
    return {};
  }
  const View all = b.temporary(broadcast_shape(b));
  elements(all);
  b.finish(0, b.reduce(reduction == kMean ? Reduction::Mean : Reduction::Sum, all,
                       other_dims(all.shape.size(), {}), ""));
  return {};
}

Result<void> mse(Builder& b) {
  return distance(
      b, [&](const View& to) { b.map(kernels::squared_difference, {b.in(0), b.in(1)}, {to}); });
}

Result<void> l1(Builder& b) {
  return distance(b, [&](const View& to) {
    const View differences = b.temporary(to.shape);
    b.map(kernels::sub, {b.in(0), b.in(1)}, {differences});
    b.map(kernels::abs, {differences}, {to});
  });
}

Result<void> smooth_l1(Builder& b) {
  Params params;
  params.f[0] = static_cast<float>(graph::float_attr(b.op(), "beta"));
  return distance(
      b, [&](const View& to) { b.map(kernels::smooth_l1, {b.in(0), b.in(1)}, {to}, params); });
}

Result<void> bce_with_logits(Builder& b) {
  return distance(b, [&](const View& to) {
    const View positive = b.has_in(3) ? b.in(3) : b.constant(1.0);
    if (!b.has_in(2)) {
      b.map(kernels::bce_with_logits, {b.in(0), b.in(1), positive}, {to});
      return;
    }
    const View losses = b.temporary(to.shape);
    b.map(kernels::bce_with_logits, {b.in(0), b.in(1), positive}, {losses});
    b.map(kernels::mul, {losses, b.in(2)}, {to});
  });
}

// What the gradient of each element is scaled with: `factor`, over the count for a mean.
float gradient_scale(const Builder& b, double factor) {
  const bool is_mean = int_attr(b.op(), "reduction") == kMean;
  const auto count = static_cast<double>(graph::element_count(b.out_value(0).shape));
  return static_cast<float>(is_mean ? factor / count : factor);
}

Result<void> mse_backward(Builder& b) {
  Params params;
  params.f[0] = gradient_scale(b, 2);
  b.map(kernels::mse_backward, {b.in(0), b.in(1), b.in(2)}, {b.out(0)}, params);
  return {};
}

Result<void> smooth_l1_backward(Builder& b) {
  Params params;
  params.f[0] = gradient_scale(b, 1);
  params.f[1] = static_cast<float>(graph::float_attr(b.op(), "beta"));
  b.map(kernels::smooth_l1_backward, {b.in(0), b.in(1), b.in(2)}, {b.out(0)}, params);
  return {};
}

// --- negative log likelihood: self [N, C, positions...], target [N, positions...] ---
struct Classes {
  std::int64_t rows = 1;       // N times positions
  std::int64_t count = 1;      // C
  std::int64_t positions = 1;  // per sample
  std::int64_t ignored = 0;
  bool has_weight = false;

  std::int64_t element(std::int64_t row, std::int64_t label) const {
    return (row / positions * count + label) * positions + row % positions;
  }
};

Classes classes_of(const Builder& b, const Shape& self, bool has_weight) {
  Classes classes;
  classes.count = self[1];
  classes.positions = graph::element_count(Shape(self.begin() + 2, self.end()));
  classes.rows = self[0] * classes.positions;
  classes.ignored = int_attr(b.op(), "ignore_index");
  classes.has_weight = has_weight;
  return classes;
}

View labels_of(Builder& b, std::size_t i) {
  const View labels = b.temporary(b.in_shape(i), Format::I64);
  b.map(kernels::copy_int, {b.in(i)}, {labels});
  return labels;
}

Result<void> check_labels(const std::int64_t* labels, const Classes& classes,
                          const std::string& where) {
  for (std::int64_t row = 0; row < classes.rows; ++row) {
    if (labels[row] != classes.ignored && (labels[row] < 0 || labels[row] >= classes.count)) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("{}: label {} is out of range 0 to {} (and not ignore_index {})",
                               where, labels[row], classes.count - 1, classes.ignored)};
    }
  }
  return {};
}

// Per row -(w self) at the label and w; 0 and 0 where the label is ignored.
Result<void> nll(Builder& b) {
  const View self = b.dense(b.in(0));
  const View labels = labels_of(b, 1);
  const Classes classes = classes_of(b, self.shape, b.has_in(2));
  const View weight = classes.has_weight ? b.dense(b.in(2)) : b.constant(1.0);
  const View losses = b.temporary(labels.shape);
  const View weights = b.temporary(labels.shape);
  const std::string where = b.where();
  b.whole(
      {self, labels, weight}, {losses, weights},
      [=](const StepContext& context) -> Result<void> {
        const std::int64_t* label = context.at<const std::int64_t>(labels);
        DOJO_TRY_VOID(check_labels(label, classes, where));
        const float* x = context.at<const float>(self);
        const float* w = context.at<const float>(weight);
        for (std::int64_t row = 0; row < classes.rows; ++row) {
          const bool counts = label[row] != classes.ignored;
          const float factor = !counts ? 0.0F : w[classes.has_weight ? label[row] : 0];
          context.at<float>(weights)[row] = factor;
          context.at<float>(losses)[row] =
              counts ? -(factor * x[classes.element(row, label[row])]) : 0.0F;
        }
        return {};
      },
      true);
  const std::vector<std::int64_t> dims = other_dims(labels.shape.size(), {});
  const std::int64_t reduction = int_attr(b.op(), "reduction");
  const std::string_view stage = reduction == kNone ? "weight" : "loss";
  const bool needs_total = reduction == kMean || b.has_out(1);
  const View total = needs_total ? b.reduce(Reduction::Sum, weights, dims, stage) : View{};
  if (b.has_out(0)) {
    if (reduction == kNone) {
      b.map(kernels::copy, {losses}, {b.out(0)});
    } else {
      const View sum = b.reduce(Reduction::Sum, losses, dims, stage);
      if (reduction == kMean) {
        b.map(kernels::div, {sum, total}, {b.out(0)});
      } else {
        b.finish(0, sum);
      }
    }
  }
  if (b.has_out(1)) {
    b.finish(1, total);
  }
  return {};
}

// At the label -(w dY), divided by total_weight for a mean; 0 elsewhere.
Result<void> nll_backward(Builder& b) {
  const View dy = b.dense(b.in(0));
  const View labels = labels_of(b, 2);
  const Classes classes = classes_of(b, b.in_shape(1), b.has_in(3));
  const View weight = classes.has_weight ? b.dense(b.in(3)) : b.constant(1.0);
  const View total = b.dense(b.in(4));
  const bool is_mean = int_attr(b.op(), "reduction") == kMean;
  const bool is_per_row = int_attr(b.op(), "reduction") == kNone;
  const View made = b.target(0);
  const std::string where = b.where();
  b.whole(
      {dy, labels, weight, total}, {made},
      [=](const StepContext& context) -> Result<void> {
        const std::int64_t* label = context.at<const std::int64_t>(labels);
        DOJO_TRY_VOID(check_labels(label, classes, where));
        const float* gradient = context.at<const float>(dy);
        const float* w = context.at<const float>(weight);
        float* out = context.at<float>(made);
        std::fill(out, out + made.elements(), 0.0F);
        for (std::int64_t row = 0; row < classes.rows; ++row) {
          if (label[row] == classes.ignored) {
            continue;
          }
          const float share =
              -(w[classes.has_weight ? label[row] : 0] * gradient[is_per_row ? row : 0]);
          out[classes.element(row, label[row])] =
              is_mean ? share / *context.at<const float>(total) : share;
        }
        return {};
      },
      true);
  b.finish(0, made);
  return {};
}

}  // namespace

void add_loss_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.mse_loss", mse},
      {"aten.l1_loss", l1},
      {"aten.smooth_l1_loss", internal::smooth_l1},
      {"aten.binary_cross_entropy_with_logits", internal::bce_with_logits},
      {"aten.mse_loss_backward", internal::mse_backward},
      {"aten.smooth_l1_loss_backward", internal::smooth_l1_backward},
      {"aten.nll_loss_forward", nll},
      {"aten.nll_loss2d_forward", nll},
      {"aten.nll_loss_backward", nll_backward},
      {"aten.nll_loss2d_backward", nll_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
