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

using graph::int_attr;
using graph::Operand;
using graph::Shape;
using graph::Stage;

// --- products: summed in the order that the head names, then one rounding for what is added ---
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
      float sum = e.sum_products(stage, point, [&](auto& products, const Point& at) {
        const std::optional<float> a = left(at);
        const std::optional<float> b = right(at);
        if (a.has_value() && b.has_value()) {
          products.add(*a, *b);
        }
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

// Picks the greatest of those left, k times.
Result<void> topk(Evaluation& e) {
  const Stage& stage = e.stage();
  const Operand& x = e.reading(stage, 0);
  const Array& in = *e.in[0];
  const std::int64_t k = int_attr(e.op, "k");
  const auto dim =
      e.in[0]->shape.empty()
          ? 0
          : size_of((int_attr(e.op, "dim") + std::ssize(in.shape)) % std::ssize(in.shape));
  e.each(stage, [&](Point& point) {
    std::vector<std::int64_t> left;  // elements of x, ascending
    e.visit(stage, point, [&](const Point& at) { left.push_back(Evaluation::element_at(x, at)); });
    const std::int64_t place = in.shape.empty() ? 0 : point.back();
    DOJO_CHECK(place < k);
    std::int64_t found = 0;
    for (std::int64_t j = 0; j <= place; ++j) {
      const auto best = std::min_element(left.begin(), left.end(), [&](auto a, auto b) {
        return in.has_floats() ? takes_over(in.number(a), in.number(b))
                               : takes_over(in.integer(a), in.integer(b));
      });
      found = *best;
      left.erase(best);
    }
    if (in.has_floats()) {
      e.out[0].floats.push_back(in.number(found));
    } else {
      e.out[0].ints.push_back(in.integer(found));
    }
    e.out[1].ints.push_back(in.shape.empty() ? 0 : coordinates(in.shape, found)[dim]);
  });
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
      {"aten.topk", topk},
      {"aten._softmax", softmax<false, false>},
      {"aten._safe_softmax", softmax<true, false>},
      {"aten._log_softmax", softmax<false, true>},
      {"aten._softmax_backward_data", softmax_backward<false>},
      {"aten._log_softmax_backward_data", softmax_backward<true>},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
