// The interpreter's ops that fold over loops: matrix products, convolutions, reductions, softmax,
// norms, pools, resizing. Loops, order of summation and maps are read from the op's nest; the
// bodies are written here.
#include <algorithm>
#include <cmath>
#include <limits>

#include "dojo/numerics/special.h"
#include "dojo/run/internal/interpret.h"

namespace dojo::run::internal {
namespace {

using graph::float_attr;
using graph::int_attr;
using graph::Operand;
using graph::Shape;
using graph::Stage;

// --- products: acc = fma(a, b, acc), then one rounding for what is added ---
// Reads a factor at the points of one result. The same as value_at; what the result fixes is
// computed once, since a step has billions of points.
class FactorReader {
 public:
  FactorReader(const Evaluation& e, const Operand& operand, const std::vector<bool>& is_folded)
      : array_(*e.in[size_of(operand.tensor.index)]) {
    std::int64_t stride = 1;
    for (std::size_t d = operand.access.size(); d-- > 0;) {
      Dim dim{std::get<graph::Affine>(operand.access[d]), {}, operand.shape[d], stride, 0};
      for (const graph::Term& term : dim.map.terms) {
        if (is_folded[size_of(term.loop)]) {
          dim.folded.push_back(term);
        }
      }
      std::erase_if(dim.map.terms,
                    [&](const graph::Term& term) { return is_folded[size_of(term.loop)]; });
      dims_.push_back(std::move(dim));
      stride *= operand.shape[d];
    }
  }

  // What the parallel loops of the point give; the folded ones follow in each read.
  void begin(const Point& point) {
    for (Dim& dim : dims_) {
      dim.base = dim.map.offset;
      for (const graph::Term& term : dim.map.terms) {
        dim.base += term.stride * point[size_of(term.loop)];
      }
    }
  }

  std::optional<float> operator()(const Point& point) const {
    std::int64_t number = 0;
    bool is_inside = true;
    for (const Dim& dim : dims_) {
      std::int64_t index = dim.base;
      for (const graph::Term& term : dim.folded) {
        index += term.stride * point[size_of(term.loop)];
      }
      if (dim.map.divisor != 1) {
        if (index % dim.map.divisor != 0) {
          return std::nullopt;
        }
        index /= dim.map.divisor;
      }
      is_inside = is_inside && index >= 0 && index < dim.extent;
      number += index * dim.stride;
    }
    return is_inside ? array_.number(number) : 0.0F;
  }

 private:
  struct Dim {
    graph::Affine map;  // terms of the parallel loops
    std::vector<graph::Term> folded;
    std::int64_t extent = 1;
    std::int64_t stride = 1;
    std::int64_t base = 0;  // what the parallel loops give
  };
  const Array& array_;
  std::vector<Dim> dims_;
};

// Results do not depend on each other, so threads share them.
Result<void> product(Evaluation& e) {
  const Stage& stage = e.nest.stages.front();
  const Operand* added =
      stage.operands[2].use == graph::OperandUse::Read ? &stage.operands[2] : nullptr;
  const Operand& result = e.writing(stage, 0);
  const std::vector<bool> is_folded = e.is_folded(stage);
  resize_out(e, 0);
  const auto some = [&](std::int64_t begin, std::int64_t end) {
    FactorReader left(e, stage.operands[0], is_folded);
    FactorReader right(e, stage.operands[1], is_folded);
    Point point = e.point_at(stage, begin);
    for (std::int64_t i = begin; i < end; ++i, e.advance(stage, point)) {
      left.begin(point);
      right.begin(point);
      float sum = e.sum(stage, point, [&](float acc, const Point& at) {
        const std::optional<float> a = left(at);
        const std::optional<float> b = right(at);
        return a.has_value() && b.has_value() ? std::fma(*a, *b, acc) : acc;
      });
      if (added != nullptr) {
        sum = sum + *value_at(e, *added, point);
      }
      e.out[0].floats[size_of(Evaluation::element_at(result, point))] = sum;
    }
  };
  e.pool->parallel_for(e.results(stage), 64, std::ref(some));
  return {};
}

// --- reductions ---
// fold(point) for each result of the only stage.
void each_result(Evaluation& e, const Stage& stage,
                 const std::function<void(Point&, std::size_t)>& f) {
  const Operand& result = e.writing(stage, 0);
  e.each(stage, [&](Point& point) { f(point, size_of(Evaluation::element_at(result, point))); });
}

Result<void> sum(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  if (!is_float(e.out_value(0).format)) {
    e.out[0].ints.resize(size_of(graph::element_count(e.out_value(0).shape)));
    each_result(e, stage, [&](Point& point, std::size_t to) {
      std::uint64_t total = 0;
      e.sum(stage, point, [&](float, const Point& at) {
        total += static_cast<std::uint64_t>(e.in[0]->integer(Evaluation::element_at(x, at)));
        return 0.0F;
      });
      e.out[0].ints[to] = static_cast<std::int64_t>(total);
    });
    return {};
  }
  resize_out(e, 0);
  each_result(e, stage, [&](Point& point, std::size_t to) {
    e.out[0].floats[to] =
        e.sum(stage, point, [&](float acc, const Point& at) { return acc + *value_at(e, x, at); });
  });
  return {};
}

Result<void> mean(Evaluation& e) {
  const Result<void> summed = sum(e);
  for (float& value : e.out[0].floats) {
    value = value / static_cast<float>(e.folded_points(e.stage()));
  }
  return summed;
}

// The elements each result folds, in order, and then what f makes of them.
template <class T, class F>
auto of_elements(Evaluation& e, const F& f) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  std::vector<decltype(f(std::vector<T>{}))> made(
      size_of(graph::element_count(e.out_value(0).shape)));
  each_result(e, stage, [&](Point& point, std::size_t to) {
    std::vector<T> elements;
    e.visit(stage, point, [&](const Point& at) {
      const std::int64_t i = Evaluation::element_at(x, at);
      elements.push_back(std::is_same_v<T, float> ? static_cast<T>(e.in[0]->number(i))
                                                  : static_cast<T>(e.in[0]->integer(i)));
    });
    made[to] = f(elements);
  });
  return made;
}

template <class T>
std::int64_t best_index(const std::vector<T>& elements) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < elements.size(); ++i) {
    best = takes_over(elements[i], elements[best]) ? i : best;
  }
  return static_cast<std::int64_t>(best);
}

// Floats in the stated order and parts: of equal zeros the first one met stays.
template <bool is_least>
Result<void> extremum(Evaluation& e) {
  if (!e.in[0]->has_floats()) {
    e.out[0].ints = of_elements<std::int64_t>(e, [](const auto& elements) {
      return is_least ? *std::min_element(elements.begin(), elements.end())
                      : *std::max_element(elements.begin(), elements.end());
    });
    return {};
  }
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  const auto better = [](float best, float value) {
    const bool takes = is_least ? takes_over(-value, -best) : takes_over(value, best);
    return takes ? value : best;
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  resize_out(e, 0);
  each_result(e, stage, [&](Point& point, std::size_t to) {
    e.out[0].floats[to] = e.fold(
        stage, point, is_least ? kInfinity : -kInfinity,
        [&](float best, const Point& at) { return better(best, *value_at(e, x, at)); }, better);
  });
  return {};
}

Result<void> argmax(Evaluation& e) {
  const auto pick = [](const auto& elements) { return best_index(elements); };
  e.out[0].ints =
      e.in[0]->has_floats() ? of_elements<float>(e, pick) : of_elements<std::int64_t>(e, pick);
  return {};
}

template <bool is_all>
Result<void> any_or_all(Evaluation& e) {
  const auto test = [](const auto& elements) {
    const auto is_set = [](auto x) { return x != 0; };
    return std::int64_t{is_all ? std::all_of(elements.begin(), elements.end(), is_set)
                               : std::any_of(elements.begin(), elements.end(), is_set)};
  };
  e.out[0].ints =
      e.in[0]->has_floats() ? of_elements<float>(e, test) : of_elements<std::int64_t>(e, test);
  return {};
}

Result<void> variance(Evaluation& e) {
  const Stage& centre = e.stage("mean");
  const Stage& squares = e.stage("squares");
  const Operand& x = e.reading(centre, 0);
  const Operand& result = e.writing(squares, 0);
  const double correction = graph::optional_float_attr(e.op, "correction").value_or(1);
  const std::int64_t count = e.folded_points(centre);
  const auto divisor = static_cast<float>(std::max(0.0, static_cast<double>(count) - correction));
  resize_out(e, 0);
  e.each(centre, [&](Point& point) {
    const float total =
        e.sum(centre, point, [&](float acc, const Point& at) { return acc + *value_at(e, x, at); });
    const float middle = total / static_cast<float>(count);
    const float squared = e.sum(squares, point, [&](float acc, const Point& at) {
      const float distance = *value_at(e, x, at) - middle;
      return std::fma(distance, distance, acc);
    });
    e.out[0].floats[size_of(Evaluation::element_at(result, point))] = squared / divisor;
  });
  return {};
}

Result<void> running_sum(Evaluation& e) {
  const Shape& shape = e.in[0]->shape;
  const std::int64_t rank = static_cast<std::int64_t>(shape.size());
  std::int64_t dim = int_attr(e.op, "dim");
  dim = dim < 0 ? dim + std::max<std::int64_t>(rank, 1) : dim;
  std::int64_t stride = 1;
  for (std::int64_t i = rank - 1; i > dim; --i) {
    stride *= shape[size_of(i)];
  }
  const std::int64_t extent = rank == 0 ? 1 : shape[size_of(dim)];
  for (std::int64_t i = 0; i < e.in[0]->elements(); ++i) {
    const bool is_first = i / stride % extent == 0;
    const std::size_t before = size_of(i - stride);
    if (is_float(e.out_value(0).format)) {
      e.out[0].floats.push_back((is_first ? 0.0F : e.out[0].floats[before]) + e.in[0]->number(i));
    } else {
      const std::int64_t so_far = is_first ? 0 : e.out[0].ints[before];
      e.out[0].ints.push_back(static_cast<std::int64_t>(
          static_cast<std::uint64_t>(so_far) + static_cast<std::uint64_t>(e.in[0]->integer(i))));
    }
  }
  return {};
}

// --- softmax ---
template <bool is_safe, bool is_log>
Result<void> softmax(Evaluation& e) {
  const Stage& max = e.stage("max");
  const Stage& total = e.stage("sum");
  const Stage& apply = e.stage("apply");
  const Operand& x = e.reading(total, 0);
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  std::vector<float> greatest;
  std::vector<float> sums;
  const auto grown = [&](float value, float m) {
    return is_safe && m == kLowest ? 0.0F : numerics::exp(value - m);
  };
  e.each(max, [&](Point& point) {
    float m = kLowest;
    e.fold(
        max, point, kLowest,
        [&](float, const Point& at) {
          const float value = *value_at(e, e.reading(max, 0), at);
          m = takes_over(value, m) ? value : m;
          return m;
        },
        [](float, float part) { return part; });
    greatest.push_back(m);
    sums.push_back(e.sum(total, point, [&](float acc, const Point& at) {
      return acc + grown(*value_at(e, x, at), m);
    }));
  });
  resize_out(e, 0);
  // Rows in the order of `max`: the apply stage has the column as its last parallel loop.
  const std::size_t columns = e.out[0].floats.size() / greatest.size();
  std::size_t point_number = 0;
  e.each(apply, [&](Point& point) {
    const std::size_t row = point_number++ / columns;
    const float value = *value_at(e, e.reading(apply, 0), point);
    const float m = greatest[row];
    const float z = sums[row];
    float& result = e.out[0].floats[size_of(Evaluation::element_at(e.writing(apply, 0), point))];
    if (is_log) {
      result = (value - m) - numerics::log(z);
    } else {
      result = is_safe && z == 0 ? 0.0F : grown(value, m) / z;
    }
  });
  return {};
}

template <bool is_log>
Result<void> softmax_backward(Evaluation& e) {
  const Stage& total = e.stage("sum");
  const Stage& apply = e.stage("apply");
  std::vector<float> sums;
  e.each(total, [&](Point& point) {
    sums.push_back(e.sum(total, point, [&](float acc, const Point& at) {
      const float dy = *value_at(e, e.reading(total, 0), at);
      return acc + (is_log ? dy : dy * *value_at(e, e.reading(total, 1), at));
    }));
  });
  resize_out(e, 0);
  const std::size_t columns = e.out[0].floats.size() / sums.size();
  std::size_t point_number = 0;
  e.each(apply, [&](Point& point) {
    const float t = sums[point_number++ / columns];
    const float dy = *value_at(e, e.reading(apply, 0), point);
    const float y = *value_at(e, e.reading(apply, 1), point);
    e.out[0].floats[size_of(Evaluation::element_at(e.writing(apply, 0), point))] =
        is_log ? dy - numerics::exp(y) * t : y * (dy - t);
  });
  return {};
}

// --- norms ---
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

void add_nest_interpreters(std::vector<InterpretRow>& rows) {
  const std::vector<InterpretRow> made{
      {"aten.mm", product},
      {"aten.bmm", product},
      {"aten.addmm", product},
      {"aten.baddbmm", product},
      {"aten.convolution", product},
      {"dojo.conv_input_grad", product},
      {"dojo.conv_weight_grad", product},
      {"aten.sum", sum},
      {"aten.mean", mean},
      {"aten.amax", extremum<false>},
      {"aten.amin", extremum<true>},
      {"aten.any", any_or_all<false>},
      {"aten.all", any_or_all<true>},
      {"aten.argmax", argmax},
      {"aten.var", variance},
      {"aten.cumsum", running_sum},
      {"aten._softmax", softmax<false, false>},
      {"aten._safe_softmax", softmax<true, false>},
      {"aten._log_softmax", softmax<false, true>},
      {"aten._softmax_backward_data", softmax_backward<false>},
      {"aten._log_softmax_backward_data", softmax_backward<true>},
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
