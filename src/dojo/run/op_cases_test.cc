#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <random>

#include "dojo/base/check.h"
#include "dojo/graph/op_table.h"
#include "dojo/run/op_cases.h"

namespace dojo::run::testing {

using graph::Attribute;
using graph::Graph;
using graph::Op;
using graph::Phase;
using graph::Shape;
using graph::Value;
using graph::ValueKind;

namespace {

using Attributes = std::map<std::string, Attribute>;
using Ints = std::vector<std::int64_t>;

CaseOperand floats(Shape shape) { return {std::move(shape)}; }
CaseOperand positive(Shape shape) {
  CaseOperand operand{std::move(shape)};
  operand.is_positive = true;
  return operand;
}
CaseOperand ints(Shape shape, std::int64_t low = -5, std::int64_t high = 5) {
  return {std::move(shape), Format::I64, low, high};
}
CaseOperand bytes(Shape shape) { return {std::move(shape), Format::U8, 0, 255}; }
CaseOperand bools(Shape shape) { return {std::move(shape), Format::Bool, 0, 1}; }
CaseOperand none() {
  CaseOperand operand;
  operand.is_given = false;
  return operand;
}
Attribute list(Ints values) { return values; }
Attribute number(double value) { return value; }
Attribute integer(std::int64_t value) { return value; }

void add_unary(std::vector<OpCase>& cases) {
  for (const char* name : {"aten.neg", "aten.abs", "aten.sign", "aten.floor", "aten.ceil",
                           "aten.round", "aten.relu", "aten.hardtanh"}) {
    cases.push_back({name, {floats({3, 7})}});
    cases.push_back({name, {ints({5})}});
  }
  for (const char* name :
       {"aten.exp", "aten.expm1", "aten.erf", "aten.sin", "aten.cos", "aten.gelu", "aten.silu",
        "aten.sigmoid", "aten.tanh", "aten.hardswish", "aten.hardsigmoid", "aten.leaky_relu",
        "aten.elu", "aten.softplus", "aten.reciprocal"}) {
    cases.push_back({name, {floats({2, 3, 5})}});
  }
  for (const char* name : {"aten.sqrt", "aten.rsqrt", "aten.log", "aten.log1p"}) {
    cases.push_back({name, {positive({4, 6})}});
    cases.push_back({name, {floats({3})}});
  }
  cases.push_back({"aten.gelu", {floats({1500})}, {{"approximate", std::string("tanh")}}});
  cases.push_back(
      {"aten.hardtanh", {floats({9})}, {{"min_val", number(-0.25)}, {"max_val", number(0.75)}}});
  cases.push_back({"aten.leaky_relu", {floats({9})}, {{"negative_slope", number(0.3)}}});
  cases.push_back({"aten.elu",
                   {floats({9})},
                   {{"alpha", number(0.7)}, {"scale", number(1.5)}, {"input_scale", number(0.5)}}});
  cases.push_back(
      {"aten.softplus", {floats({9})}, {{"beta", number(2)}, {"threshold", number(3)}}});
}

void add_binary(std::vector<OpCase>& cases) {
  for (const char* name : {"aten.add", "aten.sub", "aten.rsub", "aten.mul", "aten.div",
                           "aten.remainder", "aten.maximum", "aten.minimum"}) {
    cases.push_back({name, {floats({3, 4}), floats({3, 4})}});
    cases.push_back({name, {floats({2, 1, 4}), floats({3, 1})}});
    cases.push_back({name, {floats({2, 3000}), floats({3000})}});
    cases.push_back({name, {floats({4, 3})}, {{"other", number(0.375)}}});
    cases.push_back({name, {ints({3, 4}), ints({4})}});
    cases.push_back({name, {ints({6})}, {{"other", integer(-3)}}});
    cases.push_back({name, {floats({2, 3}), ints({2, 3}, 1, 9)}});
  }
  for (const char* name : {"aten.add", "aten.sub", "aten.rsub"}) {
    cases.push_back({name, {floats({3, 4}), floats({4})}, {{"alpha", number(0.3)}}});
    cases.push_back({name, {ints({3, 4}), ints({4})}, {{"alpha", integer(-2)}}});
  }
  for (const char* mode : {"floor", "trunc"}) {
    const Attributes attributes{{"rounding_mode", std::string(mode)}};
    cases.push_back({"aten.div", {floats({3, 4}), floats({4})}, attributes});
    cases.push_back({"aten.div", {ints({30}, -20, 20), ints({30})}, attributes});
  }
  cases.push_back({"aten.div", {bytes({4, 5})}, {{"other", number(255)}}});
  for (const double exponent : {0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, 1.7, 4.0, -3.0}) {
    cases.push_back({"aten.pow", {floats({13})}, {{"exponent", number(exponent)}}});
  }
  cases.push_back({"aten.pow", {positive({13}), floats({13})}});
  cases.push_back({"aten.pow", {none(), floats({13})}, {{"self", number(2)}}});
  cases.push_back({"aten.pow", {ints({13}), ints({13}, 0, 6)}});
  cases.push_back({"aten.clamp", {floats({13})}, {{"min", number(-0.5)}}});
  cases.push_back({"aten.clamp", {floats({13})}, {{"min", number(-0.5)}, {"max", number(0.25)}}});
  cases.push_back({"aten.clamp", {floats({3, 4}), none(), floats({4})}});
  cases.push_back({"aten.clamp", {ints({13})}, {{"min", integer(-2)}, {"max", integer(2)}}});
}

void add_logic(std::vector<OpCase>& cases) {
  for (const char* name : {"aten.eq", "aten.ne", "aten.lt", "aten.le", "aten.gt", "aten.ge",
                           "aten.logical_and", "aten.logical_or"}) {
    cases.push_back({name, {floats({3, 4}), floats({4})}});
    cases.push_back({name, {ints({30}, -2, 2), ints({30}, -2, 2)}});
    cases.push_back({name, {ints({9}, -2, 2)}, {{"other", integer(1)}}});
    cases.push_back({name, {ints({9}, -2, 2)}, {{"other", number(0.5)}}});
  }
  cases.push_back({"aten.logical_not", {floats({5})}});
  cases.push_back({"aten.logical_not", {bools({5})}});
  for (const char* name : {"aten.bitwise_and", "aten.bitwise_or"}) {
    cases.push_back({name, {ints({8}), ints({8})}});
    cases.push_back({name, {bools({8}), bools({8})}});
  }
  cases.push_back({"aten.bitwise_not", {ints({8})}});
  cases.push_back({"aten.bitwise_not", {bools({8})}});
  cases.push_back({"aten.where", {bools({3, 4}), floats({4}), floats({3, 1})}});
  cases.push_back({"aten.where", {bools({3, 4}), floats({4}), none()}, {{"other", number(-2)}}});
  cases.push_back({"aten.where", {bools({9}), ints({9}), ints({9})}});
  cases.push_back({"aten.masked_fill", {floats({3, 4}), bools({4})}, {{"value", number(-9.5)}}});
  cases.push_back({"aten.masked_fill", {ints({3, 4}), bools({3, 4})}, {{"value", integer(3)}}});
  for (const char* name : {"aten.tril", "aten.triu"}) {
    cases.push_back({name, {floats({2, 4, 5})}});
    cases.push_back({name, {floats({4, 4})}, {{"diagonal", integer(-1)}}});
    cases.push_back({name, {ints({3, 4})}, {{"diagonal", integer(1)}}});
  }
  cases.push_back({"aten._to_copy", {bytes({4, 5})}, {{"dtype", std::string("f32")}}});
  cases.push_back({"aten._to_copy", {floats({4, 5})}, {{"dtype", std::string("f32")}}});
  cases.push_back({"aten._to_copy", {floats({40})}, {{"dtype", std::string("i64")}}});
  cases.push_back({"aten._to_copy", {floats({40})}, {{"dtype", std::string("bool")}}});
  cases.push_back({"aten._to_copy", {ints({40}, -1000, 1000)}, {{"dtype", std::string("u8")}}});
  cases.push_back({"aten._to_copy", {ints({40}, -1000, 1000)}, {{"dtype", std::string("i32")}}});
  cases.push_back({"aten._to_copy", {bools({40})}, {{"dtype", std::string("i64")}}});
  cases.push_back({"dojo.convert", {floats({3, 1100})}});
}

void add_activation_gradients(std::vector<OpCase>& cases) {
  for (const char* name :
       {"aten.gelu_backward", "aten.silu_backward", "aten.sigmoid_backward", "aten.tanh_backward",
        "aten.hardswish_backward", "aten.hardsigmoid_backward"}) {
    cases.push_back({name, {floats({3, 50}), floats({3, 50})}});
  }
  cases.push_back(
      {"aten.gelu_backward", {floats({40}), floats({40})}, {{"approximate", std::string("tanh")}}});
  cases.push_back(
      {"aten.threshold_backward", {floats({40}), floats({40})}, {{"threshold", number(0)}}});
  cases.push_back(
      {"aten.threshold_backward", {floats({40}), floats({40})}, {{"threshold", number(0.5)}}});
  cases.push_back({"aten.hardtanh_backward",
                   {floats({40}), floats({40})},
                   {{"min_val", number(-0.5)}, {"max_val", number(1)}}});
  cases.push_back({"aten.leaky_relu_backward",
                   {floats({40}), floats({40})},
                   {{"negative_slope", number(0.1)}, {"self_is_result", false}}});
  for (const bool is_result : {false, true}) {
    cases.push_back({"aten.elu_backward",
                     {floats({40}), floats({40})},
                     {{"alpha", number(0.7)},
                      {"scale", number(1.1)},
                      {"input_scale", number(0.9)},
                      {"is_result", is_result}}});
  }
  cases.push_back({"aten.softplus_backward",
                   {floats({40}), floats({40})},
                   {{"beta", number(1.5)}, {"threshold", number(2)}}});
}

void add_movement(std::vector<OpCase>& cases) {
  cases.push_back({"aten.view", {floats({2, 6})}, {{"size", list({3, 4})}}});
  cases.push_back({"aten.view", {ints({2, 6})}, {{"size", list({12})}}});
  cases.push_back({"aten._unsafe_view", {floats({2, 6})}, {{"size", list({3, -1})}}});
  cases.push_back({"aten.reshape", {floats({2, 6})}, {{"shape", list({4, 3})}}});
  cases.push_back({"aten.squeeze", {floats({2, 1, 3, 1})}});
  cases.push_back({"aten.squeeze", {floats({2, 1, 3, 1})}, {{"dim", list({1})}}});
  cases.push_back({"aten.unsqueeze", {floats({2, 3})}, {{"dim", integer(1)}}});
  for (const char* name : {"aten.alias", "aten.detach", "aten.clone"}) {
    cases.push_back({name, {floats({2, 3})}});
  }
  cases.push_back({"aten.permute", {floats({2, 3, 4})}, {{"dims", list({2, 0, 1})}}});
  cases.push_back({"aten.permute", {bytes({2, 3, 4})}, {{"dims", list({1, 2, 0})}}});
  cases.push_back({"aten.t", {floats({3, 5})}});
  cases.push_back(
      {"aten.transpose", {floats({2, 3, 4})}, {{"dim0", integer(0)}, {"dim1", integer(2)}}});
  cases.push_back({"aten.expand", {floats({3, 1})}, {{"size", list({2, 3, 4})}}});
  cases.push_back(
      {"aten.slice",
       {floats({4, 9})},
       {{"dim", integer(1)}, {"start", integer(2)}, {"end", integer(8)}, {"step", integer(2)}}});
  cases.push_back({"aten.slice", {ints({4, 9})}, {{"start", integer(-3)}}});
  cases.push_back(
      {"aten.select", {floats({4, 5, 3})}, {{"dim", integer(1)}, {"index", integer(3)}}});
  cases.push_back({"aten.copy", {floats({2, 3}), floats({3})}});
  cases.push_back({"aten.repeat", {floats({2, 3})}, {{"repeats", list({2, 1, 3})}}});
  cases.push_back({"aten.flip", {floats({2, 3, 4})}, {{"dims", list({0, 2})}}});
  cases.push_back({"aten.constant_pad_nd", {floats({2, 3, 4})}, {{"pad", list({1, 2, 0, 1})}}});
  cases.push_back(
      {"aten.constant_pad_nd", {floats({3, 4})}, {{"pad", list({1, -2})}, {"value", number(1.5)}}});
  cases.push_back(
      {"aten.constant_pad_nd", {ints({5})}, {{"pad", list({-1, 2})}, {"value", integer(7)}}});
  cases.push_back({"aten.slice_backward",
                   {floats({4, 3})},
                   {{"input_sizes", list({4, 9})},
                    {"dim", integer(1)},
                    {"start", integer(2)},
                    {"end", integer(8)},
                    {"step", integer(2)}}});
  cases.push_back(
      {"aten.select_backward",
       {floats({4, 3})},
       {{"input_sizes", list({4, 5, 3})}, {"dim", integer(1)}, {"index", integer(-2)}}});
  cases.push_back(
      {"aten.cat", {floats({2, 3}), floats({2, 1}), floats({2, 4})}, {{"dim", integer(1)}}});
  cases.push_back({"aten.cat", {floats({2, 3})}});
  cases.push_back({"aten.cat", {ints({2, 3}), ints({1, 3})}});
  cases.push_back({"aten.split_with_sizes",
                   {floats({2, 9})},
                   {{"split_sizes", list({2, 3, 4})}, {"dim", integer(1)}}});
}

void add_matrix(std::vector<OpCase>& cases) {
  cases.push_back({"aten.mm", {floats({5, 7}), floats({7, 6})}});
  cases.push_back({"aten.mm", {floats({1, 33}), floats({33, 20})}});
  cases.push_back({"aten.mm", {bytes({4, 9}), floats({9, 3})}});
  cases.push_back({"aten.addmm", {floats({6}), floats({5, 40}), floats({40, 6})}});
  cases.push_back({"aten.addmm", {floats({5, 1}), floats({5, 8}), floats({8, 6})}});
  cases.push_back({"aten.bmm", {floats({3, 4, 9}), floats({3, 9, 5})}});
  cases.push_back({"aten.baddbmm", {floats({3, 4, 5}), floats({3, 4, 9}), floats({3, 9, 5})}});
  struct Geometry {
    Shape x, w;
    Attributes attributes;
    Shape y;
  };
  const std::vector<Geometry> geometries{
      {{2, 3, 7, 6}, {4, 3, 3, 3}, {{"padding", list({1, 1})}}, {2, 4, 7, 6}},
      {{3, 4, 9, 8},
       {6, 2, 3, 2},
       {{"stride", list({2, 1})}, {"groups", integer(2)}},
       {3, 6, 4, 7}},
      {{1, 2, 9, 9},
       {3, 2, 3, 3},
       {{"dilation", list({2, 3})}, {"padding", list({2, 2})}},
       {1, 3, 9, 7}},
      {{2, 5, 4, 4}, {7, 5, 1, 1}, {}, {2, 7, 4, 4}},
      {{2, 3, 11}, {4, 3, 3}, {{"stride", list({2})}, {"padding", list({1})}}, {2, 4, 6}},
      {{2, 3, 4, 6, 5},
       {4, 3, 2, 3, 3},
       {{"stride", list({1, 2, 1})}, {"padding", list({1, 1, 0})}},
       {2, 4, 5, 3, 3}},
      {{1, 4, 3, 5, 7},
       {4, 1, 3, 3, 3},
       {{"stride", list({2, 2, 2})},
        {"padding", list({1, 1, 2})},
        {"dilation", list({1, 1, 2})},
        {"groups", integer(4)}},
       {1, 4, 2, 3, 4}},
  };
  for (const Geometry& g : geometries) {
    cases.push_back({"aten.convolution", {floats(g.x), floats(g.w), none()}, g.attributes});
    cases.push_back(
        {"aten.convolution", {floats(g.x), floats(g.w), floats({g.w[0]})}, g.attributes});
    Attributes input = g.attributes;
    input["input_size"] = list(g.x);
    cases.push_back({"dojo.conv_input_grad", {floats(g.y), floats(g.w)}, input, Phase::Backward});
    Attributes weight = g.attributes;
    weight["weight_size"] = list(g.w);
    cases.push_back({"dojo.conv_weight_grad", {floats(g.y), floats(g.x)}, weight, Phase::Backward});
  }
  cases.push_back({"aten.convolution", {bytes({2, 3, 6, 6}), floats({4, 3, 3, 3}), none()}});
}

void add_reductions(std::vector<OpCase>& cases) {
  const std::vector<Attributes> dims{{},
                                     {{"dim", list({0})}},
                                     {{"dim", list({1})}, {"keepdim", true}},
                                     {{"dim", list({0, 2})}},
                                     {{"dim", list({1, 2})}, {"keepdim", true}}};
  for (const char* name : {"aten.sum", "aten.mean", "aten.amax", "aten.amin", "aten.var"}) {
    for (const Attributes& attributes : dims) {
      cases.push_back({name, {floats({3, 5, 4})}, attributes});
    }
    cases.push_back({name, {floats({70, 3})}, {{"dim", list({0})}}});
  }
  cases.push_back({"aten.var", {floats({3, 5})}, {{"dim", list({1})}, {"correction", number(0)}}});
  cases.push_back({"aten.sum", {ints({3, 5})}, {{"dim", list({1})}}});
  cases.push_back({"aten.sum", {bytes({3, 5})}});
  cases.push_back(
      {"aten.sum", {bytes({3, 5})}, {{"dim", list({1})}, {"dtype", std::string("f32")}}});
  cases.push_back(
      {"aten.mean", {ints({3, 5})}, {{"dim", list({1})}, {"dtype", std::string("f32")}}});
  cases.push_back({"aten.amax", {ints({3, 5})}, {{"dim", list({0})}}});
  cases.push_back({"aten.amin", {ints({3, 5})}, {{"dim", list({0})}}});
  for (const char* name : {"aten.any", "aten.all"}) {
    cases.push_back({name, {ints({6, 3}, 0, 1)}, {{"dim", list({1})}}});
    cases.push_back({name, {floats({6, 3})}});
  }
  cases.push_back({"aten.argmax", {floats({6, 9})}, {{"dim", list({1})}}});
  cases.push_back({"aten.argmax", {ints({6, 9})}, {{"dim", list({0})}, {"keepdim", true}}});
  cases.push_back({"aten.argmax", {floats({6, 9})}});
  cases.push_back({"aten.topk", {floats({6, 9})}, {{"k", integer(3)}}});
  cases.push_back({"aten.topk", {floats({3, 9, 2})}, {{"k", integer(2)}, {"dim", integer(1)}}});
  cases.push_back({"aten.topk", {ints({4, 9}, -2, 2)}, {{"k", integer(9)}}});  // with equals
  cases.push_back({"aten.topk", {floats({})}, {{"k", integer(1)}}});
  cases.push_back({"aten.cumsum", {floats({3, 5, 2})}, {{"dim", integer(1)}}});
  cases.push_back({"aten.cumsum", {ints({7})}, {{"dim", integer(0)}}});
  for (const char* name : {"aten._softmax", "aten._safe_softmax", "aten._log_softmax"}) {
    cases.push_back({name, {floats({4, 9})}, {{"dim", integer(1)}}});
    cases.push_back({name, {floats({2, 9, 3})}, {{"dim", integer(1)}}});
  }
  for (const char* name : {"aten._softmax_backward_data", "aten._log_softmax_backward_data"}) {
    cases.push_back(
        {name, {floats({4, 9}), floats({4, 9})}, {{"dim", integer(1)}}, Phase::Backward});
    cases.push_back(
        {name, {floats({2, 9, 3}), floats({2, 9, 3})}, {{"dim", integer(1)}}, Phase::Backward});
  }
}

void add_norms(std::vector<OpCase>& cases) {
  const Attribute eps = number(1e-5);
  const Attribute mask = list({1, 1, 1});
  cases.push_back({"aten.native_layer_norm",
                   {floats({3, 2, 10}), floats({10}), floats({10})},
                   {{"normalized_shape", list({10})}, {"eps", eps}}});
  cases.push_back({"aten.native_layer_norm",
                   {floats({3, 4, 5}), floats({4, 5}), none()},
                   {{"normalized_shape", list({4, 5})}, {"eps", eps}}});
  cases.push_back({"aten.native_layer_norm",
                   {floats({3, 20}), none(), none()},
                   {{"normalized_shape", list({20})}, {"eps", eps}}});
  cases.push_back({"aten.native_layer_norm_backward",
                   {floats({3, 2, 10}), floats({3, 2, 10}), floats({3, 2, 1}), positive({3, 2, 1}),
                    floats({10}), floats({10})},
                   {{"normalized_shape", list({10})}, {"output_mask", mask}},
                   Phase::Backward});
  cases.push_back({"aten.native_layer_norm_backward",
                   {floats({3, 4, 5}), floats({3, 4, 5}), floats({3, 1, 1}), positive({3, 1, 1}),
                    none(), none()},
                   {{"normalized_shape", list({4, 5})}, {"output_mask", list({1, 0, 0})}},
                   Phase::Backward});
  const Attributes group{
      {"N", integer(2)}, {"C", integer(6)}, {"HxW", integer(12)}, {"group", integer(3)}};
  Attributes group_forward = group;
  group_forward["eps"] = eps;
  Attributes group_backward = group;
  group_backward["output_mask"] = mask;
  cases.push_back(
      {"aten.native_group_norm", {floats({2, 6, 3, 4}), floats({6}), floats({6})}, group_forward});
  cases.push_back({"aten.native_group_norm", {floats({2, 6, 12}), none(), none()}, group_forward});
  cases.push_back(
      {"aten.native_group_norm_backward",
       {floats({2, 6, 3, 4}), floats({2, 6, 3, 4}), floats({2, 3}), positive({2, 3}), floats({6})},
       group_backward,
       Phase::Backward});
  const std::vector<Shape> images{{4, 3, 2, 5}, {8, 3}, {4, 3, 7}};
  for (const Shape& image : images) {
    for (const bool is_training : {true, false}) {
      cases.push_back({"aten._native_batch_norm_legit_functional",
                       {floats(image), floats({3}), floats({3}), floats({3}), positive({3})},
                       {{"training", is_training}, {"momentum", number(0.1)}, {"eps", eps}}});
      cases.push_back({"aten.native_batch_norm_backward",
                       {floats(image), floats(image), floats({3}),
                        is_training ? none() : floats({3}), is_training ? none() : positive({3}),
                        is_training ? floats({3}) : none(), is_training ? positive({3}) : none()},
                       {{"train", is_training}, {"eps", eps}, {"output_mask", mask}},
                       Phase::Backward});
    }
  }
  cases.push_back(
      {"aten.native_batch_norm_backward",
       {floats({4, 3, 7}), floats({4, 3, 7}), none(), none(), none(), floats({3}), positive({3})},
       {{"train", true}, {"eps", eps}, {"output_mask", list({1, 0, 0})}},
       Phase::Backward});
}

void add_pools(std::vector<OpCase>& cases) {
  const Attributes plain{{"kernel_size", list({2, 2})}};
  const Attributes overlapping{
      {"kernel_size", list({3, 3})}, {"stride", list({2, 2})}, {"padding", list({1, 1})}};
  Attributes hanging = overlapping;
  hanging["ceil_mode"] = true;
  const auto backward = [&](const char* op, const Shape& y, const Shape& x, const Attributes& a,
                            bool is_max) {
    OpCase one{op, {floats(y), floats(x)}, a, Phase::Backward};
    if (is_max) {
      one.operands.push_back(ints(y, 0, x[x.size() - 1] * x[x.size() - 2] - 1));
    }
    cases.push_back(one);
  };
  for (const bool is_max : {true, false}) {
    const char* forward = is_max ? "aten.max_pool2d_with_indices" : "aten.avg_pool2d";
    const char* gradient =
        is_max ? "aten.max_pool2d_with_indices_backward" : "aten.avg_pool2d_backward";
    cases.push_back({forward, {floats({2, 3, 6, 7})}, plain});
    cases.push_back({forward, {floats({2, 3, 6, 7})}, overlapping});
    cases.push_back({forward, {floats({3, 6, 8})}, hanging});
    backward(gradient, {2, 3, 3, 3}, {2, 3, 6, 7}, plain, is_max);
    backward(gradient, {2, 3, 3, 4}, {2, 3, 6, 7}, overlapping, is_max);
    backward(gradient, {3, 4, 5}, {3, 6, 8}, hanging, is_max);
  }
  Attributes dilated = plain;
  dilated["dilation"] = list({2, 1});
  cases.push_back({"aten.max_pool2d_with_indices", {floats({2, 3, 6, 7})}, dilated});
  cases.push_back({"aten.max_pool2d_with_indices", {ints({3, 6, 8})}, plain});
  for (Attributes each : {plain, overlapping, hanging, dilated}) {
    each["in_window"] = true;
    cases.push_back({"aten.max_pool2d_with_indices", {floats({2, 3, 6, 8})}, each});
    cases.push_back({"aten.max_pool2d_with_indices", {ints({3, 6, 8})}, each});
  }
  const auto from_taps = [&](const Shape& y, const Shape& x, Attributes a, std::int64_t taps) {
    a["in_window"] = true;
    OpCase one{"aten.max_pool2d_with_indices_backward", {floats(y), floats(x)}, a, Phase::Backward};
    one.operands.push_back(ints(y, 0, taps));
    one.operands.back().format = Format::U8;
    cases.push_back(one);
  };
  from_taps({2, 3, 3, 3}, {2, 3, 6, 7}, plain, 4);  // 4: of no tap
  from_taps({2, 3, 3, 4}, {2, 3, 6, 7}, overlapping, 8);
  Attributes inside = overlapping;
  inside["count_include_pad"] = false;
  cases.push_back({"aten.avg_pool2d", {floats({2, 3, 6, 7})}, inside});
  backward("aten.avg_pool2d_backward", {2, 3, 3, 4}, {2, 3, 6, 7}, inside, false);
  Attributes divided = plain;
  divided["divisor_override"] = integer(3);
  cases.push_back({"aten.avg_pool2d", {floats({2, 3, 6, 7})}, divided});
}

void add_adaptive_pools_and_resizing(std::vector<OpCase>& cases) {
  const std::vector<Shape> sizes{{1, 1}, {3, 4}, {4, 5}};
  for (const Shape& size : sizes) {
    cases.push_back(
        {"aten._adaptive_avg_pool2d", {floats({2, 3, 6, 7})}, {{"output_size", list(size)}}});
    cases.push_back({"aten._adaptive_avg_pool2d_backward",
                     {floats({2, 3, size[0], size[1]}), floats({2, 3, 6, 7})},
                     {},
                     Phase::Backward});
  }
  const std::vector<std::pair<Shape, Shape>> planes{
      {{3, 4}, {6, 8}}, {{5, 7}, {3, 4}}, {{4, 4}, {7, 5}}, {{1, 3}, {4, 1}}};
  for (const auto& [from, to] : planes) {
    const Shape x{2, 2, from[0], from[1]};
    const Shape y{2, 2, to[0], to[1]};
    Attributes attributes{{"output_size", list(to)}};
    cases.push_back({"aten.upsample_nearest2d", {floats(x)}, attributes});
    Attributes gradient = attributes;
    gradient["input_size"] = list(x);
    cases.push_back({"aten.upsample_nearest2d_backward", {floats(y)}, gradient, Phase::Backward});
    for (const bool are_aligned : {false, true}) {
      attributes["align_corners"] = are_aligned;
      gradient["align_corners"] = are_aligned;
      cases.push_back({"aten.upsample_bilinear2d", {floats(x)}, attributes});
      cases.push_back(
          {"aten.upsample_bilinear2d_backward", {floats(y)}, gradient, Phase::Backward});
    }
  }
}

void add_indexing(std::vector<OpCase>& cases) {
  cases.push_back({"aten.embedding", {floats({7, 5}), ints({2, 3}, 0, 6)}});
  cases.push_back({"aten.embedding_dense_backward",
                   {floats({4, 6, 5}), ints({4, 6}, 0, 6)},
                   {{"num_weights", integer(7)}, {"padding_idx", integer(2)}},
                   Phase::Backward});
  cases.push_back({"aten.gather", {floats({4, 5}), ints({3, 6}, 0, 4)}, {{"dim", integer(1)}}});
  cases.push_back({"aten.gather", {ints({4, 5}), ints({6, 5}, 0, 3)}, {{"dim", integer(0)}}});
  cases.push_back({"aten.scatter",
                   {floats({4, 5}), ints({3, 4}, 0, 4), floats({3, 4})},
                   {{"dim", integer(1)}}});
  cases.push_back({"aten.scatter",
                   {floats({4, 5}), ints({3, 4}, 0, 3), none()},
                   {{"dim", integer(0)}, {"value", number(2.5)}}});
  cases.push_back({"aten.scatter_add",
                   {floats({4, 5}), ints({30, 5}, 0, 3), floats({30, 5})},
                   {{"dim", integer(0)}}});
  cases.push_back(
      {"aten.scatter_add", {ints({4}), ints({9}, 0, 3), ints({9})}, {{"dim", integer(0)}}});
  cases.push_back({"aten.index", {floats({4, 5, 3}), ints({6}, -4, 3)}});
  cases.push_back({"aten.index", {floats({4, 5, 3}), none(), ints({2, 2}, 0, 4), ints({2}, 0, 2)}});
  cases.push_back({"aten.index", {ints({4, 5, 3}), ints({2, 1}, 0, 3), none(), ints({3}, 0, 2)}});
  for (const bool adds : {false, true}) {
    cases.push_back({"aten.index_put",
                     {floats({4, 5}), floats({6, 5}), ints({6}, 0, 3)},
                     {{"accumulate", adds}}});
    cases.push_back({"aten.index_put",
                     {floats({4, 5}), floats({1}), ints({6}, 0, 3), ints({6}, 0, 4)},
                     {{"accumulate", adds}}});
  }
}

void add_losses(std::vector<OpCase>& cases) {
  for (const std::int64_t reduction : {0, 1, 2}) {
    const Attribute how = integer(reduction);
    const Shape dy = reduction == 0 ? Shape{4, 6} : Shape{};
    for (const char* name : {"aten.mse_loss", "aten.l1_loss", "aten.smooth_l1_loss",
                             "aten.binary_cross_entropy_with_logits"}) {
      cases.push_back({name, {floats({4, 6}), floats({4, 6})}, {{"reduction", how}}});
    }
    cases.push_back({"aten.smooth_l1_loss",
                     {floats({4, 6}), floats({4, 6})},
                     {{"reduction", how}, {"beta", number(0.3)}}});
    cases.push_back({"aten.binary_cross_entropy_with_logits",
                     {floats({4, 6}), positive({4, 6}), positive({6}), positive({6})},
                     {{"reduction", how}}});
    cases.push_back({"aten.mse_loss_backward",
                     {floats(dy), floats({4, 6}), floats({4, 6})},
                     {{"reduction", how}},
                     Phase::Backward});
    cases.push_back({"aten.smooth_l1_loss_backward",
                     {floats(dy), floats({4, 6}), floats({4, 6})},
                     {{"reduction", how}, {"beta", number(0.5)}},
                     Phase::Backward});
    const Attributes labels{{"reduction", how}, {"ignore_index", integer(3)}};
    for (const bool is_2d : {false, true}) {
      const std::string name = is_2d ? "aten.nll_loss2d" : "aten.nll_loss";
      const Shape self = is_2d ? Shape{2, 5, 3, 2} : Shape{8, 5};
      const Shape rows = is_2d ? Shape{2, 3, 2} : Shape{8};
      cases.push_back({name + "_forward", {floats(self), ints(rows, 0, 4), none()}, labels});
      cases.push_back({name + "_forward", {floats(self), ints(rows, 0, 4), positive({5})}, labels});
      cases.push_back({name + "_backward",
                       {floats(reduction == 0 ? rows : Shape{}), floats(self), ints(rows, 0, 4),
                        positive({5}), positive({})},
                       labels,
                       Phase::Backward});
    }
  }
}

void add_rest(std::vector<OpCase>& cases) {
  cases.push_back({"aten.full", {}, {{"size", list({3, 4})}, {"fill_value", number(0.3)}}});
  cases.push_back({"aten.full", {}, {{"size", list({5})}, {"fill_value", integer(-7)}}});
  cases.push_back(
      {"aten.full",
       {},
       {{"size", list({5})}, {"fill_value", integer(1)}, {"dtype", std::string("bool")}}});
  cases.push_back({"aten.scalar_tensor", {}, {{"s", number(2.75)}}});
  cases.push_back({"aten.arange", {}, {{"end", integer(2000)}}});
  cases.push_back(
      {"aten.arange", {}, {{"start", number(-1)}, {"end", number(2)}, {"step", number(0.1)}}});
  cases.push_back({"dojo.mask", {}, {{"p", number(0.1)}, {"size", list({50, 41})}}});
  cases.push_back({"dojo.mask",
                   {},
                   {{"p", number(0.5)}, {"size", list({300})}, {"site", integer(4000000000)}}});
  const Shape shape{5, 300};
  cases.push_back({"dojo.sgd",
                   {floats(shape), floats(shape), none(), floats({})},
                   {{"weight_decay", number(0.01)}},
                   Phase::Update});
  cases.push_back({"dojo.sgd",
                   {floats(shape), floats(shape), floats(shape), floats({})},
                   {{"momentum", number(0.9)}, {"nesterov", true}, {"maximize", true}},
                   Phase::Update});
  for (const bool is_decoupled : {true, false}) {
    cases.push_back({"dojo.adamw",
                     {floats(shape), floats(shape), floats(shape), positive(shape), positive({}),
                      ints({}, 1, 5)},
                     {{"weight_decay", number(0.05)},
                      {"decoupled", is_decoupled},
                      {"v_scale", number(is_decoupled ? 0x1p24 : 1)}},
                     Phase::Update});
  }
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> made;
    add_unary(made);
    add_binary(made);
    add_logic(made);
    add_activation_gradients(made);
    add_movement(made);
    add_matrix(made);
    add_reductions(made);
    add_norms(made);
    add_pools(made);
    add_adaptive_pools_and_resizing(made);
    add_indexing(made);
    add_losses(made);
    add_rest(made);
    return made;
  }();
  return cases;
}

namespace {

std::string label_of(std::size_t operand) { return fmt::format("operand{}", operand); }

// Cuts every reduce loop that has at least two points.
void cut_loops(const Graph& graph, Op& op, Cuts cuts) {
  if (cuts == Cuts::None) {
    return;
  }
  const graph::LoopNest nest = graph::nest_of(graph, op);
  for (const int loop : graph::reduce_loops(nest)) {
    const graph::Loop& each = nest.loops[static_cast<std::size_t>(loop)];
    const std::int64_t wanted = cuts == Cuts::Two ? 2 : 5;
    const std::int64_t block = (each.extent + wanted - 1) / wanted;
    const std::int64_t parts = (each.extent + block - 1) / block;
    if (parts >= 2) {
      op.k_parts.push_back({each.name, parts, block});
      if (cuts == Cuts::Runs && parts > 2) {
        op.k_parts.back().run = 2;
      }
    }
  }
}

// What all values of one Graph share.
struct Making {
  Graph& graph;
  const OpCase& one;
  Format format;
  bool is_stochastic;
};

// The operand as a leaf, converted to the format of the test if it is a float.
std::optional<ValueId> add_operand(const Making& making, std::size_t i) {
  const CaseOperand& operand = making.one.operands[i];
  if (!operand.is_given) {
    return std::nullopt;
  }
  Value leaf;
  leaf.name = fmt::format("x{}", i);
  leaf.kind = i % 2 == 0 ? ValueKind::Input : ValueKind::Weight;
  leaf.format = operand.format;
  leaf.shape = operand.shape;
  leaf.label = label_of(i);
  const ValueId id = making.graph.add(leaf);
  if (operand.format != Format::F32 || making.format == Format::F32) {
    return id;
  }
  Value converted;
  converted.name = fmt::format("c{}", i);
  converted.format = making.format;
  converted.shape = operand.shape;
  converted.is_stochastic = making.is_stochastic;
  Op convert;
  convert.info = graph::find_op("dojo.convert");
  convert.inputs = {id};
  convert.module = fmt::format("convert{}", i);
  convert.phase = making.one.phase;
  convert.outputs = {making.graph.add(converted)};
  making.graph.ops.push_back(convert);
  return convert.outputs.front();
}

void add_results(const Making& making, Op& op) {
  const auto types = graph::infer(graph::call_of(making.graph, op));
  if (!types.has_value()) {
    throw std::runtime_error(making.one.op + ": " + types.error().to_string());
  }
  for (std::size_t i = 0; i < types->size(); ++i) {
    if (!(*types)[i].has_value()) {
      op.outputs.emplace_back(std::nullopt);
      continue;
    }
    const graph::TensorType& type = *(*types)[i];
    Value value;
    value.name = fmt::format("y{}", i);
    value.format = is_float(type.format) ? making.format : type.format;
    value.shape = type.shape;
    value.is_stochastic = making.is_stochastic && is_float(value.format);
    op.outputs.emplace_back(making.graph.add(value));
    making.graph.outputs.push_back({*op.outputs.back(), fmt::format("result{}", i)});
  }
}

}  // namespace

Graph graph_of(const OpCase& one, Format format, Cuts cuts, RoundingOf rounding,
               const BiasPolicy& policy) {
  Graph graph;
  graph.name = one.op;
  graph.lowering = graph::Lowering{"test", "none", graph::Denormals::Paper, policy};
  const Making making{graph, one, format,
                      rounding == RoundingOf::Stochastic && format != Format::F32};
  Op op;
  op.info = graph::find_op(one.op);
  DOJO_CHECK(op.info != nullptr);
  op.attributes = one.attributes;
  op.module = "layer";
  op.phase = one.phase;
  for (std::size_t i = 0; i < one.operands.size(); ++i) {
    op.inputs.push_back(add_operand(making, i));
  }
  DOJO_CHECK(graph::normalise_attributes(op).has_value());
  add_results(making, op);
  cut_loops(graph, op, cuts);
  graph.ops.push_back(std::move(op));
  return graph;
}

namespace {

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

}  // namespace

std::map<std::string, Tensor> random_leaves(const Graph& graph, const OpCase& one,
                                            std::uint32_t seed) {
  std::map<std::string, Tensor> leaves;
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 1);
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::Op) {
      continue;
    }
    const auto number = static_cast<std::size_t>(std::stoi(value.label.substr(7)));
    const CaseOperand& operand = one.operands[number];
    Tensor tensor{value.format, 0, value.shape, {}};
    for (std::int64_t i = 0; i < graph::element_count(value.shape); ++i) {
      const auto drawn = static_cast<std::int64_t>(
          operand.low + static_cast<std::int64_t>(
                            rng() % static_cast<std::uint32_t>(operand.high - operand.low + 1)));
      switch (value.format) {
        case Format::F32: {
          const float x = rng() % 16 == 0 ? 0.0F : normal(rng) * (rng() % 8 == 0 ? 20.0F : 1.0F);
          append(tensor.bytes, operand.is_positive ? std::fabs(x) + 0.01F : x);
          break;
        }
        case Format::I64:
          append(tensor.bytes, drawn);
          break;
        default:
          append(tensor.bytes, static_cast<std::uint8_t>(drawn));
      }
    }
    leaves.emplace(value.label, std::move(tensor));
  }
  return leaves;
}

}  // namespace dojo::run::testing
