#include "dojo/graph/internal/nest_builder.h"

#include <fmt/format.h>

#include "dojo/base/check.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {

Access at(int loop) { return Affine{.offset = 0, .terms = {{loop, 1}}}; }

Access fixed(std::int64_t i) { return Affine{.offset = i, .terms = {}}; }

Access affine(std::int64_t offset, std::vector<Term> terms, std::int64_t divisor) {
  return Affine{.offset = offset, .terms = std::move(terms), .divisor = divisor};
}

std::vector<Access> at_each(std::span<const int> loops) {
  std::vector<Access> out;
  for (const int loop : loops) {
    out.push_back(at(loop));
  }
  return out;
}

std::vector<Access> whole(std::size_t rank) { return std::vector<Access>(rank, Whole{}); }

std::vector<Access> broadcast_access(const Shape& shape, std::span<const int> loops,
                                     const Shape& target) {
  std::vector<Access> out;
  const std::size_t missing = target.size() - shape.size();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    out.push_back(shape[i] == target[missing + i] ? at(loops[missing + i]) : fixed(0));
  }
  return out;
}

int NestBuilder::loop(std::string name, std::int64_t extent) {
  DOJO_CHECK(!nest_.loop_named(name).has_value());
  nest_.loops.push_back({std::move(name), extent});
  return static_cast<int>(nest_.loops.size()) - 1;
}

std::vector<int> NestBuilder::loops(std::string_view prefix, const Shape& extents) {
  std::vector<int> out;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    out.push_back(loop(extents.size() == 1 ? std::string(prefix) : fmt::format("{}{}", prefix, i),
                       extents[i]));
  }
  return out;
}

TensorRef NestBuilder::scratch(Shape shape) {
  nest_.scratch.push_back(std::move(shape));
  return {TensorKind::Scratch, static_cast<int>(nest_.scratch.size()) - 1};
}

NestBuilder& NestBuilder::stage(std::string name, BodyClass body) {
  nest_.stages.push_back(Stage{.name = std::move(name), .body = body, .loops = {}, .operands = {}});
  return *this;
}

NestBuilder& NestBuilder::parallel(std::span<const int> loops) {
  for (const int loop : loops) {
    current().loops.push_back({loop, LoopKind::Parallel});
  }
  return *this;
}

NestBuilder& NestBuilder::parallel(std::initializer_list<int> loops) {
  return parallel(std::span<const int>(loops.begin(), loops.size()));
}

NestBuilder& NestBuilder::reduce(std::span<const int> loops, Combine combine) {
  for (const int loop : loops) {
    current().loops.push_back({loop, LoopKind::Reduce, combine});
  }
  return *this;
}

NestBuilder& NestBuilder::reduce(std::initializer_list<int> loops, Combine combine) {
  return reduce(std::span<const int>(loops.begin(), loops.size()), combine);
}

NestBuilder& NestBuilder::scan(int loop) {
  current().loops.push_back({loop, LoopKind::Scan});
  return *this;
}

// All index loops pick together: the first carries the mark, so that the picked loop is counted
// out once.
NestBuilder& NestBuilder::indexed(std::span<const int> loops, int picks) {
  for (std::size_t i = 0; i < loops.size(); ++i) {
    current().loops.push_back(
        {loops[i], LoopKind::Indexed, Combine::Sum, i == 0 ? std::optional(picks) : std::nullopt});
  }
  return *this;
}

int NestBuilder::read(std::size_t index, std::vector<Access> access, double pad_value) {
  const Shape& shape = call_.shape(index);
  DOJO_CHECK(access.size() == shape.size());
  current().operands.push_back({{TensorKind::Input, static_cast<int>(index)},
                                OperandUse::Read,
                                shape,
                                std::move(access),
                                pad_value});
  return static_cast<int>(current().operands.size()) - 1;
}

int NestBuilder::read(TensorRef scratch, std::vector<Access> access) {
  current().operands.push_back({scratch, OperandUse::Read,
                                scratch.kind == TensorKind::Scratch
                                    ? nest_.scratch[scratch.index]
                                    : call_.outputs[scratch.index]->shape,
                                std::move(access)});
  return static_cast<int>(current().operands.size()) - 1;
}

void NestBuilder::write(std::size_t index, std::vector<Access> access) {
  write(TensorRef{TensorKind::Output, static_cast<int>(index)}, std::move(access));
}

void NestBuilder::write(TensorRef tensor, std::vector<Access> access) {
  const Shape& shape = tensor.kind == TensorKind::Scratch ? nest_.scratch[tensor.index]
                                                          : call_.outputs[tensor.index]->shape;
  DOJO_CHECK(access.size() == shape.size());
  current().operands.push_back({tensor, OperandUse::Write, shape, std::move(access)});
}

NestBuilder& NestBuilder::per_point(PointCost cost) {
  current().per_point = cost;
  return *this;
}

NestBuilder& NestBuilder::per_result(PointCost cost) {
  current().per_result = cost;
  return *this;
}

LoopNest NestBuilder::finish() {
  for (Stage& stage : nest_.stages) {
    for (const Operand& operand : stage.operands) {
      if (operand.use != OperandUse::Write || operand.tensor.kind != TensorKind::Output) {
        continue;
      }
      const Format format = call_.outputs[operand.tensor.index]->format;
      if (is_float(format) && format != Format::F32) {
        const bool has_scan = !stage.loops.empty() && stage.loops.back().kind == LoopKind::Scan;
        (has_scan ? stage.per_point : stage.per_result).conversions += 1;
      }
    }
  }
  return std::move(nest_);
}

LoopNest elementwise_nest(const OpCall& call, PointCost cost) {
  NestBuilder nest(call);
  const Shape& shape = call.outputs[0]->shape;
  const std::vector<int> loops = nest.loops("d", shape);
  nest.stage("", BodyClass::Vector).parallel(loops).per_point(cost);
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const bool is_read =
        call.has_input(i) &&
        !call.info->operands[std::min(i, call.info->operands.size() - 1)].is_shape_only;
    if (is_read) {
      nest.read(i, broadcast_access(call.shape(i), loops, shape));
    }
  }
  nest.write(0, at_each(loops));
  return nest.finish();
}

LoopNest elementwise_nest(const OpCall& call) { return elementwise_nest(call, call.info->cost); }

}  // namespace dojo::graph
