// Softmax, its logarithm, and their gradients. Along the last dimension they are made row by row,
// some rows at a time that stay in a core's cache from the first maximum to the last quotient;
// along another, pass by pass over the whole tensor.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>

#include "dojo/base/check.h"
#include "dojo/numerics/reduce.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::Shape;
using numerics::Reduction;

enum class Kind : std::uint8_t { Plain, Safe, Log };  // Safe: a row of nothing but -Inf gives zeros

std::vector<std::int64_t> softmax_dims(const Builder& b) {
  const std::size_t rank = b.in_shape(0).size();
  return rank == 0 ? std::vector<std::int64_t>{}
                   : std::vector<std::int64_t>{dim_of(graph::int_attr(b.op(), "dim"), rank)};
}

// --- rows ---
// PERF: 64 rows fill the lanes of a sum; 32,768 floats are 128 KiB, some of a second-level cache.
constexpr std::int64_t kMaxRows = 64;
constexpr std::int64_t kRowFloats = std::int64_t{1} << 15;

// Rows of the last dimension, some at a time, in FP32.
class RowBlock {
 public:
  RowBlock(const StepContext& context, std::int64_t first, std::int64_t rows, std::int64_t columns)
      : context_(context), first_(first), rows_(rows), columns_(columns) {}

  std::int64_t elements() const { return rows_ * columns_; }

  void load(const View& view, float* to) const {
    context_.load(view, first_ * columns_, {to, static_cast<std::size_t>(elements())});
  }

  // One number per row.
  using PerRow = std::array<float, kMaxRows>;
  PerRow reduce(const numerics::PreparedReduction& order, Reduction reduction,
                const float* x) const {
    PerRow made{};
    order.run_rows(reduction, {x, {}, 0}, rows_, made.data(), nullptr, context_.isa);
    return made;
  }

  // y = kernel(operands) for all elements; an operand per row is broadcast over it.
  struct Operand {
    const float* elements = nullptr;
    const PerRow* per_row = nullptr;
  };
  template <std::size_t count>
  void apply(const BlockKernel& kernel, const std::array<Operand, count>& operands, float* y,
             const Params& params = {}) const {
    std::array<std::array<float, kBlock>, count> broadcast;
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (std::size_t i = 0; i < count; ++i) {
        if (operands[i].per_row != nullptr) {
          const float number = (*operands[i].per_row)[static_cast<std::size_t>(row)];
          std::fill_n(broadcast[i].begin(), std::min(columns_, kBlock), number);
        }
      }
      for (std::int64_t column = 0; column < columns_; column += kBlock) {
        const std::int64_t at = row * columns_ + column;
        std::array<const void*, count> in{};
        for (std::size_t i = 0; i < count; ++i) {
          in[i] = operands[i].per_row != nullptr ? static_cast<const void*>(broadcast[i].data())
                                                 : operands[i].elements + at;
        }
        std::array<void*, 1> out{y + at};
        BlockCall call;
        call.count = std::min(kBlock, columns_ - column);
        call.in = in.data();
        call.out = out.data();
        call.params = &params;
        call.isa = context_.isa;
        kernel.function(context_.isa)(call);
      }
    }
  }

  void map_rows(const BlockKernel& kernel, const PerRow& x, PerRow& y) const {
    std::array<const void*, 1> in{x.data()};
    std::array<void*, 1> out{y.data()};
    BlockCall call;
    call.count = rows_;
    call.in = in.data();
    call.out = out.data();
    call.isa = context_.isa;
    kernel.function(context_.isa)(call);
  }

 private:
  const StepContext& context_;
  std::int64_t first_;
  std::int64_t rows_;
  std::int64_t columns_;
};

// Result i of an op that is made along the last dimension; `body(block, y, scratch)` makes the rows
// of one block in y, with room for as many elements in scratch.
template <class Body>
void by_rows(Builder& b, const std::vector<View>& in, const View& source, const Body& body) {
  const View made = b.target(0);
  RowProducer producer;
  producer.row_elements = made.shape.back();
  producer.rows = made.elements() / producer.row_elements;
  producer.source = source;
  const std::int64_t columns = producer.row_elements;
  producer.produce = [=](const StepContext& context, std::int64_t begin, std::int64_t end,
                         float* out) {
    const std::int64_t rows = std::clamp<std::int64_t>(kRowFloats / columns, 1, kMaxRows);
    const auto range = [&](std::int64_t first, std::int64_t last) {
      const RowBlock block(context, begin + first, last - first, columns);
      const auto scratch =
          std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(block.elements()));
      body(block, out + first * columns, scratch.get());
    };
    context.pool->parallel_for(end - begin, rows, std::ref(range));
  };
  b.rows(in, made, std::move(producer));
  b.finish(0, made);
}

// How a stage of the nest adds up rows of contiguous FP32.
numerics::PreparedReduction row_order(const Builder& b, std::string_view stage,
                                      std::int64_t columns) {
  return {{{{kMaxRows, columns}}, {{columns, 1}}}, b.cuts(b.stage(stage), {columns})};
}

bool is_by_rows(const Builder& b, const View& x) {
  const std::size_t rank = x.shape.size();
  return rank > 0 && softmax_dims(b).front() == static_cast<std::int64_t>(rank) - 1 &&
         x.elements() > 0;
}

// Float codes that adjoin, for RowBlock::load.
View row_operand(Builder& b, std::size_t i) { return b.packed(b.in(i)); }

template <Kind kind>
void softmax_rows(Builder& b) {
  const View x = row_operand(b, 0);
  const numerics::PreparedReduction max = row_order(b, "max", x.shape.back());
  const numerics::PreparedReduction sum = row_order(b, "sum", x.shape.back());
  Params params;
  params.i[0] = kind == Kind::Safe ? 1 : 0;
  by_rows(b, {x}, x, [=](const RowBlock& block, float* y, float* e) {
    block.load(x, y);
    const RowBlock::PerRow greatest = block.reduce(max, Reduction::Max, y);
    block.apply<2>(kernels::exp_of_difference, {{{y}, {nullptr, &greatest}}}, e, params);
    RowBlock::PerRow total = block.reduce(sum, Reduction::Sum, e);
    if (kind == Kind::Log) {
      block.map_rows(kernels::log, total, total);
      block.apply<3>(kernels::log_softmax, {{{y}, {nullptr, &greatest}, {nullptr, &total}}}, y);
    } else {
      block.apply<2>(kind == Kind::Safe ? kernels::ratio_or_zero : kernels::div,
                     {{{e}, {nullptr, &total}}}, y);
    }
  });
}

// m = max, e = exp(x - m), z = sum of e, then e / z; of the logarithm (x - m) - log z.
template <Kind kind>
Result<void> softmax(Builder& b) {
  const View x = b.in(0);
  if (is_by_rows(b, x)) {
    softmax_rows<kind>(b);
    return {};
  }
  const std::vector<std::int64_t> dims = softmax_dims(b);
  const View greatest = keep_dims(b.reduce(Reduction::Max, x, dims, "max"), dims);
  const View e = b.temporary(x.shape);
  Params params;
  params.i[0] = kind == Kind::Safe ? 1 : 0;
  b.map(kernels::exp_of_difference, {x, greatest}, {e}, params);
  const View total = b.reduce(Reduction::Sum, e, dims, "sum");
  if (kind == Kind::Log) {
    const View logarithm = b.temporary(total.shape);
    b.map(kernels::log, {total}, {logarithm});
    b.map(kernels::log_softmax, {x, greatest, keep_dims(logarithm, dims)}, {b.out(0)});
  } else {
    b.map(kind == Kind::Safe ? kernels::ratio_or_zero : kernels::div, {e, keep_dims(total, dims)},
          {b.out(0)});
  }
  return {};
}

// t = sum of dY Y, dX = Y (dY - t)
Result<void> softmax_backward(Builder& b) {
  if (is_by_rows(b, b.in(0))) {
    const View dy = row_operand(b, 0);
    const View y = row_operand(b, 1);
    const numerics::PreparedReduction sum = row_order(b, "sum", dy.shape.back());
    by_rows(b, {dy, y}, dy, [=](const RowBlock& block, float* made, float* products) {
      const auto given =
          std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(block.elements()));
      block.load(dy, given.get());
      block.load(y, made);
      block.apply<2>(kernels::mul, {{{given.get()}, {made}}}, products);
      const RowBlock::PerRow total = block.reduce(sum, Reduction::Sum, products);
      block.apply<3>(kernels::softmax_backward, {{{given.get()}, {made}, {nullptr, &total}}}, made);
    });
    return {};
  }
  const std::vector<std::int64_t> dims = softmax_dims(b);
  const View products = b.temporary(b.in_shape(0));
  b.map(kernels::mul, {b.in(0), b.in(1)}, {products});
  const View total = b.reduce(Reduction::Sum, products, dims, "sum");
  b.map(kernels::softmax_backward, {b.in(0), b.in(1), keep_dims(total, dims)}, {b.out(0)});
  return {};
}

// s = sum of dY, dX = dY - exp(Y) s
Result<void> log_softmax_backward(Builder& b) {
  const std::vector<std::int64_t> dims = softmax_dims(b);
  const View total = b.reduce(Reduction::Sum, b.in(0), dims, "sum");
  b.map(kernels::log_softmax_backward, {b.in(0), b.in(1), keep_dims(total, dims)}, {b.out(0)});
  return {};
}

}  // namespace

void add_softmax_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten._softmax", softmax<Kind::Plain>},
      {"aten._safe_softmax", softmax<Kind::Safe>},
      {"aten._log_softmax", softmax<Kind::Log>},
      {"aten._softmax_backward_data", internal::softmax_backward},
      {"aten._log_softmax_backward_data", internal::log_softmax_backward},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
