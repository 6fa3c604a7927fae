// The interpreter's layer, group and batch norm, and their gradients.
#include <cmath>

#include "dojo/run/internal/interpret.h"

namespace dojo::run::internal {
namespace {

using graph::float_attr;
using graph::Operand;
using graph::Stage;

// The operand's value at a point, or `absent`.
float parameter(const Evaluation& e, const Stage& stage, int input, float absent,
                const Point& point) {
  return e.has_in(size_of(input)) ? *value_at(e, e.reading(stage, input), point) : absent;
}

float inverse_deviation(float variance, const graph::Op& op) {
  return 1 / std::sqrt(variance + static_cast<float>(float_attr(op, "eps")));
}

struct NormStatistics {
  std::vector<float> mean;     // in the order of the statistic's elements
  std::vector<float> squares;  // sums of squared differences
  std::vector<float> rstd;
  std::int64_t count = 1;
};

NormStatistics norm_statistics(const Evaluation& e) {
  const Stage& centre = e.stage("mean");
  const Stage& spread = e.stage("variance");
  NormStatistics made;
  made.count = e.folded_points(centre);
  e.each(centre, [&](Point& point) {
    const float total = e.sum(centre, point, [&](float acc, const Point& at) {
      return acc + *value_at(e, e.reading(centre, 0), at);
    });
    made.mean.push_back(total / static_cast<float>(made.count));
  });
  std::size_t row = 0;
  e.each(spread, [&](Point& point) {
    const float middle = made.mean[row++];
    made.squares.push_back(e.sum(spread, point, [&](float acc, const Point& at) {
      const float distance = *value_at(e, e.reading(spread, 0), at) - middle;
      return std::fma(distance, distance, acc);
    }));
    made.rstd.push_back(
        inverse_deviation(made.squares.back() / static_cast<float>(made.count), e.op));
  });
  return made;
}

// The element of a statistic that the apply stage reads: rows stand in row-major order.
const Operand& statistic_read(const Stage& stage, int output) {
  for (const Operand& operand : stage.operands) {
    if (operand.tensor == graph::TensorRef{graph::TensorKind::Output, output} &&
        operand.use == graph::OperandUse::Read) {
      return operand;
    }
  }
  DOJO_CHECK(false);
}

void apply_norm(Evaluation& e, const NormStatistics& statistics) {
  if (!e.has_out(0)) {
    return;
  }
  const Stage& apply = e.stage("apply");
  resize_out(e, 0);
  e.each(apply, [&](Point& point) {
    const std::size_t row = size_of(Evaluation::element_at(statistic_read(apply, 1), point));
    const float x = *value_at(e, e.reading(apply, 0), point);
    const float h = (x - statistics.mean[row]) * statistics.rstd[row];
    e.out[0].floats[size_of(Evaluation::element_at(e.writing(apply, 0), point))] =
        h * parameter(e, apply, 1, 1, point) + parameter(e, apply, 2, 0, point);
  });
}

Result<void> norm(Evaluation& e) {
  const NormStatistics statistics = norm_statistics(e);
  e.out[1].floats = statistics.mean;
  e.out[2].floats = statistics.rstd;
  apply_norm(e, statistics);
  return {};
}

Result<void> batch_norm(Evaluation& e) {
  const auto momentum = static_cast<float>(float_attr(e.op, "momentum"));
  const auto rest = static_cast<float>(1 - float_attr(e.op, "momentum"));
  if (graph::bool_attr(e.op, "training")) {
    const NormStatistics statistics = norm_statistics(e);
    e.out[1].floats = statistics.mean;
    e.out[2].floats = statistics.rstd;
    apply_norm(e, statistics);
    const auto degrees = static_cast<float>(static_cast<double>(statistics.count) - 1);
    for (std::size_t c = 0; c < statistics.mean.size(); ++c) {
      const auto channel = static_cast<std::int64_t>(c);
      e.out[3].floats.push_back(momentum * statistics.mean[c] + rest * e.in[3]->number(channel));
      e.out[4].floats.push_back(momentum * (statistics.squares[c] / degrees) +
                                rest * e.in[4]->number(channel));
    }
    return {};
  }
  const Stage& apply = e.stage("apply");
  resize_out(e, 0);
  e.each(apply, [&](Point& point) {
    const float rstd = inverse_deviation(parameter(e, apply, 4, 0, point), e.op);
    const float x = *value_at(e, e.reading(apply, 0), point);
    const float h = (x - parameter(e, apply, 3, 0, point)) * rstd;
    e.out[0].floats[size_of(Evaluation::element_at(e.writing(apply, 0), point))] =
        h * parameter(e, apply, 1, 1, point) + parameter(e, apply, 2, 0, point);
  });
  e.out[3].floats = e.in[3]->floats;
  e.out[4].floats = e.in[4]->floats;
  return {};
}

struct GradientOperands {
  int gradient = 0;
  int input = 1;
  int mean = 2;
  int rstd = 3;
  int weight = 4;
};

// With h = (x - mean) rstd and g = dY w. `has_sums`: the statistics are those of this input.
class NormGradient {
 public:
  NormGradient(Evaluation& e, const GradientOperands& at, bool has_sums)
      : e_(e), at_(at), has_sums_(has_sums) {}

  Result<void> run() {
    if (e_.has_out(0)) {
      input();
    }
    if (e_.has_out(1)) {
      parameter_sum(1, "weight", [this](const Stage& stage, const Point& point) {
        return dy(stage, point) * h(stage, point);
      });
    }
    if (e_.has_out(2)) {
      parameter_sum(2, "bias",
                    [this](const Stage& stage, const Point& point) { return dy(stage, point); });
    }
    return {};
  }

 private:
  float read(const Stage& stage, int operand, const Point& point) const {
    return *value_at(e_, e_.reading(stage, operand), point);
  }
  float dy(const Stage& stage, const Point& point) const {
    return read(stage, at_.gradient, point);
  }
  float rstd(const Stage& stage, const Point& point) const {
    const float given = read(stage, at_.rstd, point);
    return has_sums_ ? given : inverse_deviation(given, e_.op);
  }
  float h(const Stage& stage, const Point& point) const {
    return (read(stage, at_.input, point) - read(stage, at_.mean, point)) * rstd(stage, point);
  }
  float g(const Stage& stage, const Point& point) const {
    return e_.has_in(size_of(at_.weight)) ? dy(stage, point) * read(stage, at_.weight, point)
                                          : dy(stage, point);
  }

  void sums() {
    const Stage& stage = e_.stage("sums");
    count_ = static_cast<float>(e_.folded_points(stage));
    e_.each(stage, [&](Point& point) {
      s1_.push_back(
          e_.sum(stage, point, [&](float acc, const Point& p) { return acc + g(stage, p); }));
      s2_.push_back(e_.sum(stage, point, [&](float acc, const Point& p) {
        return acc + g(stage, p) * h(stage, p);
      }));
    });
  }

  // The row of a point, from where it reads a sum.
  static std::size_t row_of(const Stage& stage, const Point& point) {
    for (const Operand& operand : stage.operands) {
      if (operand.tensor.kind == graph::TensorKind::Scratch) {
        return size_of(Evaluation::element_at(operand, point));
      }
    }
    DOJO_CHECK(false);
  }

  void input() {
    if (has_sums_) {
      sums();
    }
    const Stage& stage = e_.stage("input");
    resize_out(e_, 0);
    e_.each(stage, [&](Point& point) {
      float result = g(stage, point) * rstd(stage, point);
      if (has_sums_) {
        const std::size_t row = row_of(stage, point);
        result = rstd(stage, point) *
                 ((g(stage, point) - s1_[row] / count_) - h(stage, point) * (s2_[row] / count_));
      }
      e_.out[0].floats[size_of(Evaluation::element_at(e_.writing(stage, 0), point))] = result;
    });
  }

  template <class Term>
  void parameter_sum(int output, std::string_view name, const Term& term) {
    const Stage& stage = e_.stage(name);
    std::vector<float>& made = e_.out[size_of(output)].floats;
    resize_out(e_, size_of(output));
    e_.each(stage, [&](Point& point) {
      made[size_of(Evaluation::element_at(e_.writing(stage, output), point))] =
          e_.sum(stage, point, [&](float acc, const Point& p) { return acc + term(stage, p); });
    });
  }

  Evaluation& e_;
  GradientOperands at_;
  bool has_sums_;
  float count_ = 1;
  std::vector<float> s1_;  // sums of g, by row
  std::vector<float> s2_;  // sums of g h
};

Result<void> norm_backward(Evaluation& e) { return NormGradient(e, {}, true).run(); }

Result<void> batch_norm_backward(Evaluation& e) {
  const bool is_training = graph::bool_attr(e.op, "train");
  const GradientOperands at{0, 1, is_training ? 5 : 3, is_training ? 6 : 4, 2};
  return NormGradient(e, at, is_training).run();
}

}  // namespace

void add_norm_interpreters(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.native_layer_norm", norm},
      {"aten.native_group_norm", norm},
      {"aten._native_batch_norm_legit_functional", batch_norm},
      {"aten.native_layer_norm_backward", norm_backward},
      {"aten.native_group_norm_backward", norm_backward},
      {"aten.native_batch_norm_backward", batch_norm_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
