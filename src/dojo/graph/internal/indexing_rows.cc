// Ops whose elements an index operand chooses: embedding, gather, index, scatter.
#include <algorithm>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

Format moved_format(const OpCall& call) { return float_class(call.input(0).format); }

// --- embedding: loops t over the indices, e over the row ---
Result<InferredTypes> infer_embedding(const OpCall& call) {
  DOJO_TRY_VOID(expect_rank(call, 0, 2, 2));
  DOJO_TRY_VOID(expect_integer(call, 1));
  if (bool_attr(call, "sparse") || bool_attr(call, "scale_grad_by_freq")) {
    return unsupported("sparse and scale_grad_by_freq are not supported");
  }
  Shape shape = call.shape(1);
  shape.push_back(call.shape(0)[1]);
  return single(moved_format(call), std::move(shape));
}

LoopNest embedding_nest(const OpCall& call) {
  NestBuilder nest(call);
  std::vector<int> loops = nest.loops("t", call.shape(1));
  nest.stage("", BodyClass::Move).parallel(loops);
  const int index = nest.read(1, at_each(loops));
  const int e = nest.loop("e", call.shape(0)[1]);
  nest.parallel({e});
  nest.read(0, {Indexed{index}, at(e)});
  loops.push_back(e);
  nest.write(0, at_each(loops));
  return nest.finish();
}

Result<InferredTypes> infer_embedding_backward(const OpCall& call) {
  DOJO_TRY_VOID(expect_float(call, 0));
  DOJO_TRY_VOID(expect_integer(call, 1));
  if (bool_attr(call, "scale_grad_by_freq")) {
    return unsupported("scale_grad_by_freq is not supported");
  }
  const std::int64_t rows = int_attr(call, "num_weights");
  if (rows < 1) {
    return invalid("num_weights is {}, expected 1 or more", rows);
  }
  if (call.shape(0).empty()) {
    return invalid("grad_output must have a last dimension");
  }
  Shape expected = call.shape(1);
  expected.push_back(call.shape(0).back());
  DOJO_TRY_VOID(expect_shape(call, 0, expected));
  return single(Format::F32, {rows, expected.back()});
}

// dW[v, e] = sum of dY[t, e] over the t with index v, ascending.
LoopNest embedding_backward_nest(const OpCall& call) {
  NestBuilder nest(call);
  const int v = nest.loop("v", int_attr(call, "num_weights"));
  const int e = nest.loop("e", call.shape(0).back());
  std::vector<int> t = nest.loops("t", call.shape(1));
  nest.stage("", BodyClass::Vector).parallel({v, e}).indexed(t, v);
  nest.per_point({.vector_ops = 1});
  std::vector<Access> gradient = at_each(t);
  gradient.push_back(at(e));
  nest.read(0, std::move(gradient));
  nest.read(1, at_each(t));
  nest.write(0, {at(v), at(e)});
  return nest.finish();
}

// --- index: self[i0, i1, ...] with index tensors, none for a whole dimension ---
struct IndexLayout {
  Shape index;                       // the broadcast shape of the index tensors
  std::vector<std::size_t> indexed;  // dimensions of self with an index tensor
  std::size_t position = 0;          // where the index dimensions stand in the result
  Shape result;
};

// Index tensors are the operands from `first` on. Adjacent ones put their dimensions where they
// stand, others in front (PyTorch's and NumPy's rule).
Result<IndexLayout> index_layout(const OpCall& call, std::size_t first) {
  const Shape& self = call.shape(0);
  if (call.inputs.size() - std::min(call.inputs.size(), first) > self.size()) {
    return invalid("{} indices for {}", call.inputs.size() - first, show(self));
  }
  IndexLayout out;
  OpCall indices = call;
  for (std::size_t i = 0; i < indices.inputs.size(); ++i) {
    if (i < first) {
      indices.inputs[i].reset();
    } else if (indices.inputs[i].has_value()) {
      if (call.input(i).format == Format::Bool) {
        return unsupported("a bool index has no fixed shape: use where or gather");
      }
      DOJO_TRY_VOID(expect_integer(call, i));
      out.indexed.push_back(i - first);
    }
  }
  if (out.indexed.empty()) {
    return invalid("needs one index at least");
  }
  DOJO_TRY(out.index, broadcast(indices));
  const bool are_adjacent = out.indexed.back() - out.indexed.front() + 1 == out.indexed.size();
  for (std::size_t dim = 0; dim < self.size(); ++dim) {
    if (std::find(out.indexed.begin(), out.indexed.end(), dim) == out.indexed.end()) {
      out.result.push_back(self[dim]);
    }
  }
  out.position = are_adjacent ? out.indexed.front() : 0;
  out.result.insert(out.result.begin() + static_cast<std::ptrdiff_t>(out.position),
                    out.index.begin(), out.index.end());
  return out;
}

Result<InferredTypes> infer_index(const OpCall& call) {
  DOJO_TRY(IndexLayout layout, index_layout(call, 1));
  return single(moved_format(call), std::move(layout.result));
}

LoopNest index_nest(const OpCall& call) {
  const auto layout = index_layout(call, 1);
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", layout->result);
  nest.stage("", BodyClass::Move).parallel(loops);
  const std::span<const int> index_loops(loops.data() + layout->position, layout->index.size());
  std::vector<Access> map(call.shape(0).size(), Whole{});
  for (const std::size_t dim : layout->indexed) {
    map[dim] = Indexed{
        nest.read(dim + 1, broadcast_access(call.shape(dim + 1), index_loops, layout->index))};
  }
  std::size_t next = 0;
  for (Access& access : map) {
    if (std::holds_alternative<Whole>(access)) {
      next = next == layout->position ? next + layout->index.size() : next;
      access = at(loops[next++]);
    }
  }
  nest.read(0, std::move(map));
  nest.write(0, at_each(loops));
  return nest.finish();
}

// --- gather and scatter along one dimension ---
// The index may be shorter than the other tensor in all dimensions but `dim`.
Result<std::size_t> expect_index(const OpCall& call, std::size_t index, const Shape& outer) {
  DOJO_TRY_VOID(expect_integer(call, index));
  DOJO_TRY_VOID(expect_rank(call, index, outer.size(), outer.size()));
  DOJO_TRY(const std::size_t dim, dimension(int_attr(call, "dim"), outer.size()));
  for (std::size_t i = 0; i < outer.size(); ++i) {
    if (i != dim && call.shape(index)[i] > outer[i]) {
      return invalid("index {} reaches beyond {} outside of dim {}", show(call.shape(index)),
                     show(outer), dim);
    }
  }
  return dim;
}

Result<InferredTypes> infer_gather(const OpCall& call) {
  DOJO_TRY(const std::size_t dim, expect_index(call, 1, call.shape(0)));
  static_cast<void>(dim);
  return single(moved_format(call), call.shape(1));
}

LoopNest gather_nest(const OpCall& call) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.shape(1));
  nest.stage("", BodyClass::Move).parallel(loops);
  const int index = nest.read(1, at_each(loops));
  std::vector<Access> map = at_each(loops);
  if (!map.empty()) {
    map[checked_dimension(int_attr(call, "dim"), map.size())] = Indexed{index};
  }
  nest.read(0, std::move(map));
  nest.write(0, at_each(loops));
  return nest.finish();
}

// Operands self, index, src (or the attribute `value`).
Result<InferredTypes> infer_scatter(const OpCall& call) {
  DOJO_TRY(const std::size_t dim, expect_index(call, 1, call.shape(0)));
  static_cast<void>(dim);
  const bool has_value = has_attribute(call, "value");
  if (call.has_input(2) == has_value) {
    return invalid("needs src as an operand{}",
                   call.info->name == "aten.scatter" ? ", or the attribute value" : "");
  }
  if (call.has_input(2)) {
    const Shape& source = call.shape(2);
    bool covers = source.size() == call.shape(1).size();
    for (std::size_t i = 0; covers && i < source.size(); ++i) {
      covers = source[i] >= call.shape(1)[i];
    }
    if (!covers) {
      return invalid("src {} does not cover index {}", show(source), show(call.shape(1)));
    }
  }
  return infer_like_first(call);
}

// A copy of self, then each index point goes to the element it picks, ascending.
LoopNest scatter_nest(const OpCall& call) {
  const Shape& self = call.shape(0);
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", self);
  nest.stage("copy", BodyClass::Move).parallel(loops);
  nest.read(0, at_each(loops));
  nest.write(0, at_each(loops));
  if (self.empty()) {
    nest.read(1, {});
    if (call.has_input(2)) {
      nest.read(2, {});
    }
    return nest.finish();
  }
  const std::size_t dim = checked_dimension(int_attr(call, "dim"), self.size());
  const int t = nest.loop("t", call.shape(1)[dim]);
  const std::vector<int> picks{t};
  nest.stage("scatter", BodyClass::Vector).parallel(loops).indexed(picks, loops[dim]);
  nest.per_point({.vector_ops = 1});
  std::vector<Access> map = at_each(loops);
  map[dim] = at(t);
  nest.read(1, map);
  if (call.has_input(2)) {
    nest.read(2, map);
  }
  nest.write(0, at_each(loops));
  return nest.finish();
}

// --- index_put: operands self, values, then the indices ---
Result<InferredTypes> infer_index_put(const OpCall& call) {
  DOJO_TRY(const IndexLayout layout, index_layout(call, 2));
  const Shape& values = call.shape(1);
  bool fits = values.size() <= layout.result.size();
  for (std::size_t i = 0; fits && i < values.size(); ++i) {
    const std::int64_t extent = layout.result[layout.result.size() - values.size() + i];
    fits = values[i] == 1 || values[i] == extent;
  }
  if (!fits) {
    return invalid("values {} do not broadcast to {}", show(values), show(layout.result));
  }
  return infer_like_first(call);
}

// As scatter; of the values all indices are needed, since several may meet.
LoopNest index_put_nest(const OpCall& call) {
  const auto layout = index_layout(call, 2);
  const Shape& self = call.shape(0);
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", self);
  nest.stage("copy", BodyClass::Move).parallel(loops);
  nest.read(0, at_each(loops));
  nest.write(0, at_each(loops));
  const std::vector<int> t = nest.loops("t", layout->index);
  nest.stage("put", BodyClass::Vector).parallel(loops);
  nest.indexed(t, loops[layout->indexed.front()]).per_point({.vector_ops = 1});
  std::vector<int> of_result;  // the loop of each dimension of the result of picking
  for (std::size_t dim = 0; dim < self.size(); ++dim) {
    if (std::find(layout->indexed.begin(), layout->indexed.end(), dim) == layout->indexed.end()) {
      of_result.push_back(loops[dim]);
    }
  }
  of_result.insert(of_result.begin() + static_cast<std::ptrdiff_t>(layout->position), t.begin(),
                   t.end());
  nest.read(1, broadcast_access(call.shape(1), of_result, layout->result));
  for (const std::size_t dim : layout->indexed) {
    nest.read(dim + 2, broadcast_access(call.shape(dim + 2), t, layout->index));
  }
  nest.write(0, at_each(loops));
  return nest.finish();
}

OpInfo indexing_row(std::string_view name, std::vector<OperandInfo> operands,
                    std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                    std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Indexing;
  row.operands = std::move(operands);
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = nest;
  row.doc = doc;
  return row;
}

}  // namespace

void add_indexing_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo dim = required("dim", AttributeType::Int);
  const AttributeInfo frequency = defaulted("scale_grad_by_freq", false);
  rows.push_back(indexing_row(
      "aten.embedding", {{"weight"}, {"indices"}},
      {defaulted("padding_idx", std::int64_t{-1}), frequency, defaulted("sparse", false)},
      infer_embedding, embedding_nest, "rows of weight"));
  rows.push_back(indexing_row(
      "aten.embedding_dense_backward", {{"grad_output"}, {"indices"}},
      {required("num_weights", AttributeType::Int), required("padding_idx", AttributeType::Int),
       frequency},
      infer_embedding_backward, embedding_backward_nest,
      "rows of grad_output added to the rows they came from, ascending; padding_idx gets none"));
  rows.push_back(indexing_row("aten.index", {{"self"}, {"indices", true}}, {}, infer_index,
                              index_nest,
                              "self at index tensors, one per dimension, none for a whole one"));
  rows.back().is_variadic = true;
  rows.push_back(indexing_row("aten.gather", {{"self"}, {"index"}},
                              {dim, defaulted("sparse_grad", false)}, infer_gather, gather_nest,
                              "self at index along dim"));
  rows.push_back(
      indexing_row("aten.scatter", {{"self"}, {"index"}, {"src", true}},
                   {dim, optional("value", AttributeType::Scalar)}, infer_scatter, scatter_nest,
                   "self with src (or value) put at index along dim; the last of equals"));
  rows.push_back(indexing_row("aten.scatter_add", {{"self"}, {"index"}, {"src"}}, {dim},
                              infer_scatter, scatter_nest,
                              "self with src added at index along dim, ascending"));
  rows.push_back(indexing_row(
      "aten.index_put", {{"self"}, {"values"}, {"indices", true}}, {defaulted("accumulate", false)},
      infer_index_put, index_put_nest,
      "self with values put (or, with accumulate, added, ascending) at index tensors"));
  rows.back().is_variadic = true;
}

}  // namespace dojo::graph
