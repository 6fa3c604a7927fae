// What the files of movement rows share.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "dojo/graph/internal/nest_builder.h"
#include "dojo/graph/internal/rows.h"

namespace dojo::graph {

void add_reshape_rows(std::vector<OpInfo>& rows);
void add_slice_rows(std::vector<OpInfo>& rows);

// Steps, pads and sizes beyond this are refused, so that sums of them cannot overflow.
inline constexpr std::int64_t kMaxStep = std::int64_t{1} << 40;

inline Format moved_format(const OpCall& call) { return float_class(call.input(0).format); }

// A nest over the dimensions of the output. `map` gives the access of each input dimension from the
// loops of the output.
template <class Map>
LoopNest move_nest(const OpCall& call, Map map, double pad_value = 0) {
  NestBuilder nest(call);
  const std::vector<int> loops = nest.loops("d", call.outputs[0]->shape);
  nest.stage("", BodyClass::Move).parallel(loops);
  nest.read(0, map(loops), pad_value);
  nest.write(0, at_each(loops));
  return nest.finish();
}

enum class Storage : std::uint8_t {
  Own,          // elements must move
  StridedView,  // elements of operand 0 at regular strides
};

OpInfo movement_row(std::string_view name, std::vector<OperandInfo> operands,
                    std::vector<AttributeInfo> attributes, InferFunction infer, NestFunction nest,
                    Storage storage, std::string_view doc);

}  // namespace dojo::graph
