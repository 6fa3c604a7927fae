// Writes loop nests in the words of the table of nests: loops, then stages of operands.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/graph/op_table.h"

namespace dojo::graph {

// --- accesses ---
Access at(int loop);           // index = loop
Access fixed(std::int64_t i);  // index = i
Access affine(std::int64_t offset, std::vector<Term> terms, std::int64_t divisor = 1);
std::vector<Access> at_each(std::span<const int> loops);
std::vector<Access> whole(std::size_t rank);
// Accesses of a tensor that broadcasts to the shape the loops run over.
std::vector<Access> broadcast_access(const Shape& shape, std::span<const int> loops,
                                     const Shape& target);

// The loops "d" -> "d0", "d1", ... of a shape; a single one is called "d".
class NestBuilder {
 public:
  explicit NestBuilder(const OpCall& call) : call_(call) {}

  int loop(std::string name, std::int64_t extent);
  std::vector<int> loops(std::string_view prefix, const Shape& extents);
  TensorRef scratch(Shape shape);

  // Begins a stage; what follows adds to it.
  NestBuilder& stage(std::string name, BodyClass body);
  NestBuilder& parallel(std::span<const int> loops);
  NestBuilder& parallel(std::initializer_list<int> loops);
  NestBuilder& reduce(std::span<const int> loops, Combine combine = Combine::Sum);
  NestBuilder& reduce(std::initializer_list<int> loops, Combine combine = Combine::Sum);
  NestBuilder& scan(int loop);
  NestBuilder& indexed(std::span<const int> loops, int picks);
  // Reads operand `index` of the op. Returns its position in the stage.
  int read(std::size_t index, std::vector<Access> access, double pad_value = 0);
  int read(TensorRef scratch, std::vector<Access> access);
  void write(std::size_t index, std::vector<Access> access);  // output `index`
  void write(TensorRef scratch, std::vector<Access> access);
  NestBuilder& per_point(PointCost cost);
  NestBuilder& per_result(PointCost cost);

  // Counts the roundings of outputs that are stored in other formats than FP32.
  LoopNest finish();

 private:
  Stage& current() { return nest_.stages.back(); }
  const OpCall& call_;
  LoopNest nest_;
};

// Parallel loops over output 0, operands broadcast to it, the row's cost per element.
LoopNest elementwise_nest(const OpCall& call);
LoopNest elementwise_nest(const OpCall& call, PointCost cost);

}  // namespace dojo::graph
