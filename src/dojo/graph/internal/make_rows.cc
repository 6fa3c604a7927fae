// Tensors made from attributes alone: constants, ranges, random masks.
#include <cmath>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {
namespace {

Result<Shape> size_attr(const OpCall& call) {
  Shape size = ints_attr(call, "size");
  for (const std::int64_t extent : size) {
    if (extent < 1) {
      return invalid("size {} has an extent below 1", show(size));
    }
  }
  return size;
}

Format number_format(const OpCall& call, std::string_view name) {
  return dtype_attr(call, "dtype").value_or(is_int_attr(call, name) ? Format::I64 : Format::F32);
}

Result<InferredTypes> infer_full(const OpCall& call) {
  DOJO_TRY(Shape size, size_attr(call));
  return single(number_format(call, "fill_value"), std::move(size));
}

Result<InferredTypes> infer_scalar(const OpCall& call) {
  return single(dtype_attr(call, "dtype").value_or(Format::F32), {});
}

Result<InferredTypes> infer_arange(const OpCall& call) {
  const double start = float_attr(call, "start");
  const double end = float_attr(call, "end");
  const double step = float_attr(call, "step");
  const double count = std::ceil((end - start) / step);
  if (!(count >= 1 && count <= 0x1p40)) {
    return invalid("there is nothing from {} to {} by {}", start, end, step);
  }
  const bool are_ints =
      is_int_attr(call, "start") && is_int_attr(call, "end") && is_int_attr(call, "step");
  const Format format = dtype_attr(call, "dtype").value_or(are_ints ? Format::I64 : Format::F32);
  return single(format, {static_cast<std::int64_t>(count)});
}

Result<InferredTypes> infer_mask(const OpCall& call) {
  const double p = float_attr(call, "p");
  if (!(p >= 0 && p < 1)) {
    return invalid("p is {}, expected 0 up to but without 1", p);
  }
  DOJO_TRY(Shape size, size_attr(call));
  return single(Format::F32, std::move(size));
}

OpInfo make_row(std::string_view name, std::vector<AttributeInfo> attributes, InferFunction infer,
                PointCost cost, std::string_view doc) {
  OpInfo row;
  row.name = name;
  row.group = OpGroup::Make;
  row.attributes = std::move(attributes);
  row.infer = infer;
  row.nest = elementwise_nest;
  row.cost = cost;
  row.doc = doc;
  return row;
}

}  // namespace

void add_make_rows(std::vector<OpInfo>& rows) {
  const AttributeInfo dtype = optional("dtype", AttributeType::Dtype);
  const AttributeInfo size = required("size", AttributeType::Ints);
  rows.push_back(make_row("aten.full", {size, required("fill_value", AttributeType::Scalar), dtype},
                          infer_full, {}, "fill_value everywhere"));
  rows.push_back(make_row("aten.scalar_tensor", {required("s", AttributeType::Scalar), dtype},
                          infer_scalar, {}, "one number; f32 unless dtype says otherwise"));
  rows.push_back(make_row("aten.arange",
                          {defaulted_scalar("start", 0), required("end", AttributeType::Scalar),
                           defaulted_scalar("step", 1), dtype},
                          infer_arange, {.vector_ops = 1}, "start, start + step, ... below end"));
  // Ten rounds of Philox for eight elements: about 5 integer operations a round and element.
  rows.push_back(make_row(
      "dojo.mask",
      {required("p", AttributeType::Float), size, optional("site", AttributeType::Int)}, infer_mask,
      {.vector_ops = 12},
      "dropout mask: 0 with probability p, else 1 / (1 - p); a pure function of seed, step, site "
      "(the value's tensor id if absent) and element"));
}

}  // namespace dojo::graph
