#include "dojo/graph/lower.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "dojo/graph/op_table.h"
#include "dojo/graph/statistics.h"
#include "dojo/graph/text.h"
#include "dojo/graph/verify.h"

namespace dojo::graph {
namespace {

// A step of three convolutions and a linear head, as capture writes it.
constexpr const char* kConvolutions = R"(graph "convolutions" {
  %x = input u8[2,3,8,8] "frames"
  %t = input f32[2,2] "labels"
  %lr = input f32[] "lr"
  %w0 = weight f32[4,3,3,3] "a.weight"
  %b0 = weight f32[4] "a.bias"
  %w1 = weight f32[4,4,3,3] "b.weight"
  %w2 = weight f32[2,256] "head.weight"
  %xf = aten._to_copy(%x) {dtype="f32"} : f32[2,3,8,8] @"" fwd
  %y0 = aten.convolution(%xf, %w0, %b0) {dilation=[1,1], groups=1, output_padding=[0,0], padding=[1,1], stride=[1,1], transposed=false} : f32[2,4,8,8] @"a" fwd
  %a0 = aten.relu(%y0) : f32[2,4,8,8] @"act" fwd
  %y1 = aten.convolution(%a0, %w1, none) {dilation=[1,1], groups=1, output_padding=[0,0], padding=[1,1], stride=[1,1], transposed=false} : f32[2,4,8,8] @"b" fwd
  %a1 = aten.relu(%y1) : f32[2,4,8,8] @"act" fwd
  %f = aten.view(%a1) {size=[2,256]} : f32[2,256] @"" fwd
  %w2t = aten.t(%w2) : f32[256,2] @"head" fwd
  %o = aten.mm(%f, %w2t) : f32[2,2] @"head" fwd
  %loss = aten.mse_loss(%o, %t) : f32[] @"" fwd
  %one = aten.full() {fill_value=1.0, size=[]} : f32[] @"" bwd
  %do = aten.mse_loss_backward(%one, %o, %t) {reduction=1} : f32[2,2] @"" bwd
  %df = aten.mm(%do, %w2) : f32[2,256] @"head" bwd
  %dot = aten.t(%do) : f32[2,2] @"head" bwd
  %dw2 = aten.mm(%dot, %f) : f32[2,256] @"head" bwd
  %da1 = aten.view(%df) {size=[2,4,8,8]} : f32[2,4,8,8] @"" bwd
  %dy1 = aten.threshold_backward(%da1, %a1) {threshold=0.0} : f32[2,4,8,8] @"act" bwd
  %da0 = dojo.conv_input_grad(%dy1, %w1) {dilation=[1,1], groups=1, padding=[1,1], input_size=[2,4,8,8], stride=[1,1]} : f32[2,4,8,8] @"b" bwd
  %dw1 = dojo.conv_weight_grad(%dy1, %a0) {dilation=[1,1], groups=1, padding=[1,1], weight_size=[4,4,3,3], stride=[1,1]} : f32[4,4,3,3] @"b" bwd
  %dy0 = aten.threshold_backward(%da0, %a0) {threshold=0.0} : f32[2,4,8,8] @"act" bwd
  %dw0 = dojo.conv_weight_grad(%dy0, %xf) {dilation=[1,1], groups=1, padding=[1,1], weight_size=[4,3,3,3], stride=[1,1]} : f32[4,3,3,3] @"a" bwd
  %db0 = aten.sum(%dy0) {dim=[0,2,3]} : f32[4] @"a" bwd
  %w0n, _ = dojo.sgd(%w0, %dw0, none, %lr) : f32[4,3,3,3] @"a" upd
  %b0n, _ = dojo.sgd(%b0, %db0, none, %lr) : f32[4] @"a" upd
  %w1n, _ = dojo.sgd(%w1, %dw1, none, %lr) : f32[4,4,3,3] @"b" upd
  %w2n, _ = dojo.sgd(%w2, %dw2, none, %lr) : f32[2,256] @"head" upd
  update %w0 = %w0n
  update %b0 = %b0n
  update %w1 = %w1n
  update %w2 = %w2n
  output %loss "loss"
}
)";

Graph parsed(const std::string& text) {
  Result<Graph> graph = parse_graph(text, "test.graph");
  EXPECT_TRUE(graph.has_value()) << (graph ? "" : graph.error().to_string());
  return *std::move(graph);
}

Graph lowered(const std::string& text, Recipe recipe) {
  Result<Graph> graph = lower(parsed(text), recipe, "d1");
  EXPECT_TRUE(graph.has_value()) << (graph ? "" : graph.error().to_string());
  const Result<void> verified = verify(*graph);
  EXPECT_TRUE(verified.has_value()) << (verified ? "" : verified.error().to_string());
  return *std::move(graph);
}

const Value& named(const Graph& graph, std::string_view name) {
  const auto found = std::find_if(graph.values.begin(), graph.values.end(),
                                  [&](const Value& value) { return value.name == name; });
  EXPECT_NE(found, graph.values.end()) << name;
  return *found;
}

const Op& defining(const Graph& graph, std::string_view name) {
  for (const Op& op : graph.ops) {
    for (const auto& output : op.outputs) {
      if (output.has_value() && graph.value(*output).name == name) {
        return op;
      }
    }
  }
  ADD_FAILURE() << name;
  return graph.ops.front();
}

TEST(Lower, StoresOperandsAndTheirGradientsInTheTwoCFloat8Formats) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  EXPECT_EQ(named(graph, "a0").format, Format::Cf8_1_4_3);
  EXPECT_EQ(named(graph, "a0").role, Role::MatrixOperand);
  EXPECT_EQ(named(graph, "dy1").format, Format::Cf8_1_5_2);
  EXPECT_EQ(named(graph, "dy1").role, Role::GradientOperand);
  const Op& convolution = defining(graph, "y1");
  EXPECT_EQ(graph.value(*convolution.inputs[1]).format, Format::Cf8_1_4_3);
  EXPECT_EQ(graph.value(*convolution.inputs[1]).role, Role::WeightOperand);
}

TEST(Lower, KeepsTheFirstAndTheLastLayerInBf16) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  EXPECT_EQ(graph.value(*defining(graph, "y0").inputs[0]).format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "y0").inputs[1]).format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "dw0").inputs[0]).format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "o").inputs[0]).format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "o").inputs[1]).format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "df").inputs[0]).format, Format::Bf16);
}

TEST(Lower, ConvertsAWeightOnceForAllItsReaders) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  EXPECT_EQ(defining(graph, "y1").inputs[1], defining(graph, "da0").inputs[1]);
  EXPECT_EQ(std::count_if(graph.ops.begin(), graph.ops.end(),
                          [](const Op& op) { return op.info->name == "dojo.convert"; }),
            3);
}

TEST(Lower, FusesWhatOneElementWiseReaderTakesOver) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  EXPECT_TRUE(named(graph, "y0").is_fused);   // convolution into relu
  EXPECT_FALSE(named(graph, "a0").is_fused);  // saved for the backward part
  EXPECT_TRUE(named(graph, "df").is_fused);   // through a view into threshold_backward
  EXPECT_TRUE(named(graph, "da1").is_fused);
}

TEST(Lower, KeepsLossWeightsAndTheirGradientsInFp32) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  for (const char* name : {"o", "loss", "w1", "dw1", "db0", "w1n"}) {
    EXPECT_EQ(named(graph, name).format, Format::F32) << name;
  }
  EXPECT_EQ(named(graph, "dw1").role, Role::WeightGradient);
  EXPECT_EQ(named(graph, "o").role, Role::Loss);
}

// Without update ops, gradients leave the Graph as outputs; that changes no format.
TEST(Lower, KeepsGradientsThatAreHandedOutInFp32) {
  std::string text = kConvolutions;
  const std::size_t first = text.find("  %w0n");
  text.replace(first, text.find("  output %loss") - first,
               "  output %dw0 \"grad.a.weight\"\n  output %dw1 \"grad.b.weight\"\n"
               "  output %dw2 \"grad.head.weight\"\n  output %db0 \"grad.a.bias\"\n");
  const Graph graph = lowered(text, *recipe_named("cfloat8"));
  const Graph with_updates = lowered(kConvolutions, *recipe_named("cfloat8"));
  for (const Value& value : graph.values) {
    EXPECT_EQ(value.role, named(with_updates, value.name).role) << value.name;
    EXPECT_EQ(value.format, named(with_updates, value.name).format) << value.name;
  }
  EXPECT_EQ(named(graph, "dw1").role, Role::WeightGradient);
  EXPECT_EQ(named(graph, "dw1").format, Format::F32);
}

// The gradient of the last hidden layer's output as an input of the backward part.
constexpr const char* kTangent = R"(graph "tangent" {
  %x = input f32[8,16] "x"
  %t = input f32[8,16] "tangent"
  %w0 = weight f32[16,16] "a.weight"
  %w1 = weight f32[16,16] "b.weight"
  %w2 = weight f32[16,16] "c.weight"
  %y0 = aten.mm(%x, %w0) : f32[8,16] @"a" fwd
  %y1 = aten.mm(%y0, %w1) : f32[8,16] @"b" fwd
  %y2 = aten.mm(%y1, %w2) : f32[8,16] @"c" fwd
  %dy0 = aten.mm(%t, %w1) : f32[8,16] @"b" bwd
  %xt = aten.permute(%x) {dims=[1,0]} : f32[16,8] @"a" bwd
  %dw0 = aten.mm(%xt, %dy0) : f32[16,16] @"a" bwd
  output %y2 "y"
  output %dw0 "grad.a.weight"
}
)";

TEST(Lower, AnInputOfTheBackwardPartAloneIsAGradient) {
  const Graph graph = lowered(kTangent, *recipe_named("cfloat8"));
  const Value& tangent = graph.value(*defining(graph, "dy0").inputs[0]);
  EXPECT_EQ(tangent.role, Role::GradientOperand);
  EXPECT_EQ(tangent.format, Format::Cf8_1_5_2);
  EXPECT_EQ(graph.value(*defining(graph, "y0").inputs[0]).role, Role::MatrixOperand);
}

TEST(Lower, InFp32ConvertsNothing) {
  const Graph graph = lowered(kConvolutions, *recipe_named("fp32"));
  for (const Op& op : graph.ops) {
    EXPECT_NE(op.info->name, "dojo.convert");
  }
  EXPECT_EQ(graph.lowering->recipe, "fp32");
}

TEST(Lower, AnOverrideChangesItsModuleAlone) {
  Recipe recipe = *recipe_named("cfloat8");
  recipe.overrides.push_back(*parse_override("b=gradient_operand:bf16"));
  const Graph graph = lowered(kConvolutions, recipe);
  EXPECT_EQ(graph.value(*defining(graph, "dw1").inputs[0]).format, Format::Bf16);
  EXPECT_EQ(named(graph, "a0").format, Format::Cf8_1_4_3);
}

TEST(Lower, RefusesAnOverrideThatMatchesNothing) {
  Recipe recipe = *recipe_named("cfloat8");
  recipe.overrides.push_back(*parse_override("trunk.*=weight_operand:bf16"));
  const Result<Graph> graph = lower(parsed(kConvolutions), recipe, "d1");
  ASSERT_FALSE(graph.has_value());
  EXPECT_NE(graph.error().message.find("trunk.*=weight_operand:bf16 matches no tensor"),
            std::string::npos);
}

TEST(Lower, WithoutMastersStoresWhatProductsRead) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8_no_master"));
  EXPECT_EQ(named(graph, "w1").format, Format::Cf8_1_4_3);
  EXPECT_EQ(defining(graph, "y1").inputs[1], defining(graph, "w1n").inputs[0]);  // no conversion
  EXPECT_EQ(named(graph, "w1n").format, Format::Cf8_1_4_3);
  EXPECT_EQ(named(graph, "w1n").role, Role::MasterWeight);
  EXPECT_TRUE(named(graph, "w1n").is_stochastic);
  for (const char* name : {"w0", "w2", "w2t", "w0n"}) {  // of the first and the last layer
    EXPECT_EQ(named(graph, name).format, Format::Bf16) << name;
  }
  EXPECT_EQ(named(graph, "b0n").role, Role::MasterParameter);
  EXPECT_EQ(named(graph, "b0").format, Format::Bf16);
  const Graph nearest = lowered(kConvolutions, *recipe_named("cfloat8_no_master_nearest"));
  for (const Value& value : nearest.values) {
    EXPECT_FALSE(value.is_stochastic) << value.name;
  }
}

TEST(Lower, StoresMastersAsAnOverrideSays) {
  Recipe recipe = *recipe_named("cfloat8");
  ASSERT_TRUE(change(recipe, "b=master_weight:bf16:stochastic").has_value());
  ASSERT_TRUE(change(recipe, "*=first_moment:cf8_1_5_2").has_value());
  std::string text = kConvolutions;
  const std::string update = "%w1n, _ = dojo.sgd(%w1, %dw1, none, %lr) : f32[4,4,3,3]";
  text.replace(text.find(update), update.size(),
               "%w1n, %m1n = dojo.sgd(%w1, %dw1, %m1, %lr) {momentum=0.9} : f32[4,4,3,3], "
               "f32[4,4,3,3]");
  text.insert(text.find("  %xf ="), "  %m1 = state f32[4,4,3,3] \"b.weight.momentum\"\n");
  text.insert(text.find("  output"), "  update %m1 = %m1n\n");
  const Graph graph = lowered(text, recipe);
  EXPECT_EQ(named(graph, "w1").format, Format::Bf16);
  EXPECT_EQ(named(graph, "w0").format, Format::F32);
  EXPECT_EQ(named(graph, "m1").format, Format::Cf8_1_5_2);
  const std::string printed = print_graph(graph);
  EXPECT_NE(printed.find("  %w1 = weight bf16[4,4,3,3] \"b.weight\"\n"), std::string::npos);
  EXPECT_NE(printed.find("%w1n, %m1n = dojo.sgd(%w1, %dw1, %m1, %lr) {momentum=0.9} : "
                         "bf16[4,4,3,3] master_weight stochastic, cf8_1_5_2[4,4,3,3] first_moment "
                         "@\"b\" upd\n"),
            std::string::npos)
      << printed;
  EXPECT_EQ(print_graph(parsed(printed)), printed);
}

TEST(Lower, RoundsOperandsStochasticallyWhereAnOverrideSaysSo) {
  Recipe recipe = *recipe_named("cfloat8");
  for (const char* text : {"*=gradient_operand:cf8_1_5_2:stochastic", "*=gradient:bf16:stochastic",
                           "b=weight_operand:cf8_1_4_3:stochastic"}) {
    ASSERT_TRUE(change(recipe, text).has_value()) << text;
  }
  const Graph graph = lowered(kConvolutions, recipe);
  EXPECT_TRUE(named(graph, "dy1").is_stochastic);
  EXPECT_FALSE(named(graph, "a0").is_stochastic);
  EXPECT_FALSE(named(graph, "df").is_stochastic);  // fused
  EXPECT_TRUE(graph.value(*defining(graph, "y1").inputs[1]).is_stochastic);
}

TEST(Lower, KeepsSecondMomentsInUhpScaled) {
  std::string text = kConvolutions;
  const std::string update = "%w1n, _ = dojo.sgd(%w1, %dw1, none, %lr) : f32[4,4,3,3]";
  text.replace(text.find(update), update.size(),
               "%w1n, %m1n, %v1n = dojo.adamw(%w1, %dw1, %m1, %v1, %lr, %n) : f32[4,4,3,3], "
               "f32[4,4,3,3], f32[4,4,3,3]");
  text.insert(text.find("  %xf ="),
              "  %n = input i64[] \"n\"\n  %m1 = state f32[4,4,3,3] \"m\"\n"
              "  %v1 = state f32[4,4,3,3] \"v\"\n");
  text.insert(text.find("  output"), "  update %m1 = %m1n\n  update %v1 = %v1n\n");
  const Graph graph = lowered(text, *recipe_named("cfloat8_shp"));
  EXPECT_EQ(named(graph, "w1").format, Format::Shp);
  EXPECT_EQ(named(graph, "w0").format, Format::Shp);  // there are masters, so of all layers
  EXPECT_EQ(named(graph, "m1").format, Format::Shp);
  EXPECT_EQ(named(graph, "v1").format, Format::Uhp);
  EXPECT_EQ(float_attr(defining(graph, "v1n"), "v_scale"), 0x1p24);
  const Graph plain = lowered(text, *recipe_named("cfloat8"));
  EXPECT_EQ(float_attr(defining(plain, "v1n"), "v_scale"), 1);
}

TEST(Lower, RefusesAGraphThatIsLowered) {
  const Graph graph = lowered(kConvolutions, *recipe_named("bf16"));
  const Result<Graph> twice = lower(graph, *recipe_named("bf16"), "d1");
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message.find("lowered already"), std::string::npos);
}

// x + f(x) twice, where f is a matrix product: a residual stream in BF16 whose readers get codes.
constexpr const char* kResidual = R"(graph "residual" {
  %x = input f32[8,16] "x"
  %w0 = weight f32[16,16] "in.weight"
  %w1 = weight f32[16,16] "f.weight"
  %w2 = weight f32[16,16] "g.weight"
  %s0 = aten.mm(%x, %w0) : f32[8,16] @"in" fwd
  %r = aten.relu(%s0) : f32[8,16] @"in" fwd
  %f = aten.mm(%r, %w1) : f32[8,16] @"f" fwd
  %s1 = aten.add(%r, %f) : f32[8,16] @"" fwd
  %m = dojo.mask() {p=0.5, size=[8,16]} : f32[8,16] @"drop" fwd
  %d = aten.mul(%s1, %m) : f32[8,16] @"drop" fwd
  %g = aten.mm(%d, %w2) : f32[8,16] @"g" fwd
  %loss = aten.sum(%g) {dim=[0,1]} : f32[] @"" fwd
  %one = aten.full() {fill_value=1.0, size=[8,16]} : f32[8,16] @"" bwd
  %dd = aten.mm(%one, %w2) : f32[8,16] @"g" bwd
  %dm = aten.mul(%dd, %m) : f32[8,16] @"drop" bwd
  %df = aten.mm(%dm, %w1) : f32[8,16] @"f" bwd
  %dr = aten.add(%dm, %df) : f32[8,16] @"" bwd
  %ds = aten.threshold_backward(%dr, %r) {threshold=0.0} : f32[8,16] @"in" bwd
  %dw0 = aten.mm(%ds, %w0) : f32[8,16] @"in" bwd
  output %loss "loss"
  output %dw0 "dw0"
}
)";

TEST(Lower, KeepsTheResidualStreamInBf16AndGivesMatrixReadersCodes) {
  const Graph graph = lowered(kResidual, *recipe_named("cfloat8"));
  EXPECT_EQ(named(graph, "r").role, Role::Residual);
  EXPECT_EQ(named(graph, "r").format, Format::Bf16);
  EXPECT_EQ(graph.value(*defining(graph, "f").inputs[0]).format, Format::Cf8_1_4_3);
  EXPECT_EQ(graph.value(*defining(graph, "s1").inputs[0]).name, "r");
}

TEST(Lower, LetsTheBackwardPartReadTheCodes) {
  const Graph graph = lowered(kResidual, *recipe_named("cfloat8"));
  EXPECT_EQ(defining(graph, "ds").inputs[1], defining(graph, "f").inputs[0]);
}

TEST(Lower, DrawsADropoutMaskAgainInTheBackwardPart) {
  const Graph graph = lowered(kResidual, *recipe_named("cfloat8"));
  const Op& forward = defining(graph, "m");
  const Op& again = defining(graph, graph.value(*defining(graph, "dm").inputs[1]).name);
  EXPECT_NE(&forward, &again);
  EXPECT_EQ(again.phase, Phase::Backward);
  EXPECT_EQ(int_attr(forward, "site"), int_attr(again, "site"));
}

TEST(Lower, ScalesThePixelsAgainInTheBackwardPartInsteadOfSavingThem) {
  const Graph graph = lowered(kConvolutions, *recipe_named("cfloat8"));
  const Op& gradient = defining(graph, "dw0");
  const Op& scaled = defining(graph, graph.value(*gradient.inputs[1]).name);
  EXPECT_EQ(scaled.phase, Phase::Backward);
  EXPECT_EQ(graph.value(*scaled.inputs[0]).label, "frames");
}

// Convolution, relu, 2x2 maximum, convolution, product: only the product is the last layer.
constexpr const char* kPooled = R"(graph "pooled" {
  %x = input f32[2,3,8,8] "x"
  %w0 = weight f32[4,3,1,1] "a.weight"
  %w1 = weight f32[4,4,1,1] "b.weight"
  %w2 = weight f32[64,2] "c.weight"
  %y = aten.convolution(%x, %w0, none) : f32[2,4,8,8] @"a" fwd
  %r = aten.relu(%y) : f32[2,4,8,8] @"act" fwd
  %p, %i = aten.max_pool2d_with_indices(%r) {kernel_size=[2,2], stride=[2,2]} : f32[2,4,4,4], i64[2,4,4,4] @"pool" fwd
  %z = aten.convolution(%p, %w1, none) : f32[2,4,4,4] @"b" fwd
  %f = aten.view(%z) {size=[2,64]} : f32[2,64] @"" fwd
  %o = aten.mm(%f, %w2) : f32[2,2] @"c" fwd
  output %o "o"
}
)";

TEST(Lower, StoresWhatAMaximumMakesAnOperandOfAsAnOperand) {
  const Graph graph = lowered(kPooled, *recipe_named("cfloat8"));
  EXPECT_EQ(named(graph, "r").format, Format::Cf8_1_4_3);
  EXPECT_EQ(named(graph, "p").format, Format::Cf8_1_4_3);
}

TEST(Lower, NumbersTheWinnersOfAPoolingByTapForItsGradientAlone) {
  std::string text = kPooled;
  text.replace(text.rfind('}'), 1, "  output %i \"places\"\n}");
  EXPECT_EQ(named(lowered(text, *recipe_named("cfloat8")), "i").format, Format::I64);
  text = kPooled;
  text.replace(text.find("  output"), 0,
               "  %dp = aten.mul(%p) {other=2.0} : f32[2,4,4,4] @\"pool\" bwd\n"
               "  %dr = aten.max_pool2d_with_indices_backward(%dp, %r, %i) {kernel_size=[2,2], "
               "stride=[2,2]} : f32[2,4,8,8] @\"pool\" bwd\n"
               "  output %dr \"dr\"\n");
  const Graph graph = lowered(text, *recipe_named("cfloat8"));
  EXPECT_EQ(named(graph, "i").format, Format::U8);
  EXPECT_TRUE(bool_attr(defining(graph, "dr"), "in_window"));
}

// Two dense layers with a GELU between them, whose gradient reads what the GELU read.
constexpr const char* kGelu = R"(graph "gelu" {
  %x = input f32[8,16] "x"
  %w0 = weight f32[16,16] "in.weight"
  %w1 = weight f32[16,32] "up.weight"
  %w2 = weight f32[32,16] "down.weight"
  %w3 = weight f32[16,4] "out.weight"
  %y = aten.mm(%x, %w0) : f32[8,16] @"in" fwd
  %u = aten.mm(%y, %w1) : f32[8,32] @"up" fwd
  %g = aten.gelu(%u) : f32[8,32] @"act" fwd
  %d = aten.mm(%g, %w2) : f32[8,16] @"down" fwd
  %o = aten.mm(%d, %w3) : f32[8,4] @"out" fwd
  %do = aten.full() {fill_value=1.0, size=[8,4]} : f32[8,4] @"" bwd
  %w3.t = aten.permute(%w3) {dims=[1,0]} : f32[4,16] @"out" bwd
  %dd = aten.mm(%do, %w3.t) : f32[8,16] @"out" bwd
  %g.t = aten.permute(%g) {dims=[1,0]} : f32[32,8] @"down" bwd
  %dw2 = aten.mm(%g.t, %dd) : f32[32,16] @"down" bwd
  %w2.t = aten.permute(%w2) {dims=[1,0]} : f32[16,32] @"down" bwd
  %dg = aten.mm(%dd, %w2.t) : f32[8,32] @"down" bwd
  %du = aten.gelu_backward(%dg, %u) : f32[8,32] @"act" bwd
  output %o "o"
  output %dw2 "dw2"
  output %du "du"
}
)";

TEST(Lower, MakesAgainWhatOnePassMakesOfWhatIsSavedAnyway) {
  const Graph graph = lowered(kGelu, *recipe_named("cfloat8"));
  const Value& again = graph.value(*defining(graph, "g.t").inputs[0]);
  EXPECT_EQ(again.name, "g.again");
  EXPECT_EQ(graph.value(*again.again_of).name, "g");
  EXPECT_EQ(again.format, Format::Cf8_1_4_3);
  EXPECT_EQ(defining(graph, "g.again").inputs, defining(graph, "g").inputs);
  for (const ValueId saved : saved_values(graph)) {
    EXPECT_NE(graph.value(saved).name, "g");
  }
}

TEST(Lower, SavesWhatCouldOnlyBeMadeOfMore) {
  std::string text = kGelu;
  text.replace(text.find("aten.gelu_backward(%dg, %u)"), 27, "aten.mul(%dg, %g)");
  const Graph graph = lowered(text, *recipe_named("cfloat8"));
  const std::vector<ValueId> saved = saved_values(graph);
  EXPECT_TRUE(std::any_of(saved.begin(), saved.end(),
                          [&](ValueId id) { return graph.value(id).name == "g"; }));
}

TEST(Recipe, UnknownNamesGetTheNearest) {
  EXPECT_NE(recipe_named("cfloat").error().message.find("nearest: cfloat8"), std::string::npos);
  EXPECT_NE(parse_override("a=weigth_operand:bf16").error().message.find("weight_operand"),
            std::string::npos);
  EXPECT_NE(parse_override("a=weight_operand:u8").error().message.find("unknown float format"),
            std::string::npos);
  EXPECT_FALSE(parse_override("weight_operand").has_value());
}

TEST(Recipe, ASettingChangesTheHead) {
  Recipe recipe = *recipe_named("cfloat8");
  for (const char* text :
       {"bias=learnt", "bias_grid=8", "bias_margin=0", "denormals=gradual", "sum_order=w21"}) {
    EXPECT_TRUE(change(recipe, text).has_value()) << text;
  }
  const Graph graph = lowered(kConvolutions, recipe);
  EXPECT_NE(print_graph(graph).find("{bias=\"learnt\", bias_grid=8, bias_margin=0, "
                                    "denormals=\"gradual\", sum_order=\"w21\"}"),
            std::string::npos);
}

TEST(Recipe, WrongSettingsGetTheNearestNames) {
  Recipe recipe = *recipe_named("cfloat8");
  const auto message = [&](const char* text) { return change(recipe, text).error().message; };
  EXPECT_EQ(message("sum_order=tile"),
            "recipe override \"sum_order=tile\": sum_order is none of \"sequential\", \"tile4\", "
            "\"w21\", \"exact\" (nearest: tile4); an override of a format is MODULE=ROLE:FORMAT");
  EXPECT_NE(message("bias=lernt").find("nearest: learnt"), std::string::npos);
  EXPECT_NE(message("bias_grid=0").find("bias_grid is not an integer from 1 to 63"),
            std::string::npos);
  EXPECT_NE(message("sumorder=tile4").find("nearest: sum_order"), std::string::npos);
  EXPECT_NE(message("a=master_weight:bf16:sochastic").find("expected nothing or :stochastic"),
            std::string::npos);
  EXPECT_NE(message("a=master_weight:f32:stochastic").find("never rounded"), std::string::npos);
  EXPECT_NE(message("nothing").find("expected MODULE=ROLE:FORMAT"), std::string::npos);
  EXPECT_TRUE(recipe.overrides.empty());
}

TEST(Recipe, PatternsMatchWholePaths) {
  EXPECT_TRUE(matches("trunk.*", "trunk.0.conv"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*.conv", "a.b.conv"));
  EXPECT_FALSE(matches("trunk", "trunk.0"));
  EXPECT_FALSE(matches("t*x", "trunk"));
}

}  // namespace
}  // namespace dojo::graph
