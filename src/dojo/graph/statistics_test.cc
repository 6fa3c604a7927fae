#include "dojo/graph/statistics.h"

#include "dojo/graph/test_graphs.h"

namespace dojo::graph {
namespace {

std::int64_t flops_of(std::string_view body) {
  const Graph graph = parsed_body(body);
  return statistics_of(graph, graph.ops.back()).matrix_flops.count();
}

TEST(Flops, OfProductsAreTwoPerMultiplication) {
  EXPECT_EQ(flops_of("%a = input f32[3,5] \"a\"\n%b = input f32[5,7] \"b\"\n"
                     "%c = aten.mm(%a, %b) : f32[3,7] @\"\" fwd"),
            2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of("%v = input f32[7] \"v\"\n%a = input f32[3,5] \"a\"\n%b = input f32[5,7] "
                     "\"b\"\n%c = aten.addmm(%v, %a, %b) : f32[3,7] @\"\" fwd"),
            2 * 3 * 5 * 7);
  EXPECT_EQ(flops_of("%a = input f32[4,3,5] \"a\"\n%b = input f32[4,5,7] \"b\"\n"
                     "%c = aten.bmm(%a, %b) : f32[4,3,7] @\"\" fwd"),
            2 * 4 * 3 * 5 * 7);
}

// As torch.utils.flop_counter: 2 prod(output) prod(kernel) C / groups.
TEST(Flops, OfConvolutionsByHand) {
  // 7 rows, stride 2, padding 1, kernel 3: 4 rows.
  const char* odd =
      "%x = input f32[2,6,7,7] \"x\"\n%w = weight f32[8,3,3,3] \"w\"\n%g = input f32[2,8,4,4] "
      "\"g\"\n";
  constexpr std::int64_t kExpected = 2 * (2 * 8 * 4 * 4) * (3 * 3) * 3;
  const char* attributes = "groups=2, padding=[1,1], stride=[2,2]";
  EXPECT_EQ(flops_of(fmt::format("{}%y = aten.convolution(%x, %w) {{{}}} : f32[2,8,4,4] @\"\" fwd",
                                 odd, attributes)),
            kExpected);
  EXPECT_EQ(flops_of(fmt::format("{}%y = dojo.conv_input_grad(%g, %w) {{{}, "
                                 "input_size=[2,6,7,7]}} : f32[2,6,7,7] @\"\" bwd",
                                 odd, attributes)),
            kExpected);
  EXPECT_EQ(flops_of(fmt::format("{}%y = dojo.conv_weight_grad(%g, %x) {{{}, "
                                 "weight_size=[8,3,3,3]}} : f32[8,3,3,3] @\"\" bwd",
                                 odd, attributes)),
            kExpected);
  EXPECT_EQ(flops_of(fmt::format("{}%a, %b, %c = aten.convolution_backward(%g, %x, %w) {{{}, "
                                 "output_mask=[1,1,1]}} : f32[2,6,7,7], f32[8,3,3,3], f32[8] "
                                 "@\"\" bwd",
                                 odd, attributes)),
            2 * kExpected);
  EXPECT_EQ(flops_of(fmt::format("{}_, %b, _ = aten.convolution_backward(%g, %x, %w) {{{}, "
                                 "output_mask=[0,1,0]}} : f32[8,3,3,3] @\"\" bwd",
                                 odd, attributes)),
            kExpected);
}

TEST(Flops, OfAnythingElseAreNone) {
  EXPECT_EQ(flops_of("%a = input f32[3,5] \"a\"\n%b = aten.gelu(%a) : f32[3,5] @\"\" fwd"), 0);
}

// ResNet-50's stem: 118,013,952 multiply-accumulates at 224 x 224.
TEST(Flops, OfTheResNetStemAreThePublishedNumber) {
  EXPECT_EQ(flops_of("%x = input f32[1,3,224,224] \"x\"\n%w = weight f32[64,3,7,7] \"w\"\n"
                     "%y = aten.convolution(%x, %w) {padding=[3,3], stride=[2,2]} : "
                     "f32[1,64,112,112] @\"\" fwd"),
            2 * std::int64_t{118'013'952});
}

constexpr const char* kStep =
    R"(graph "t" recipe "r" machine "m" {bias_window=16} {
  %x = input f32[4,6] "x"
  %w = weight f32[6,8] "w"
  %lr = input f32[] "lr"
  %xc = dojo.convert(%x) : cf8_1_4_3[4,6] matrix_operand @"a" fwd
  %wc = dojo.convert(%w) : cf8_1_4_3[6,8] weight_operand @"a" fwd
  %y = aten.mm(%xc, %wc) : f32[4,8] fused @"a" fwd
  %r = aten.relu(%y) : bf16[4,8] activation @"b" fwd
  %f = aten.view(%r) {size=[32]} : bf16[32] activation @"b" fwd
  %l = aten.sum(%f) : f32[] loss @"" fwd
  %g0 = aten.expand(%l) {size=[4,8]} : f32[4,8] @"" bwd
  %fv = aten.view(%f) {size=[4,8]} : bf16[4,8] activation @"b" bwd
  %g = aten.threshold_backward(%g0, %fv) {threshold=0} : cf8_1_5_2[4,8] gradient_operand @"b" bwd
  %xt = aten.t(%xc) : cf8_1_4_3[6,4] matrix_operand @"a" bwd
  %dw = aten.mm(%xt, %g) : f32[6,8] weight_gradient @"a" bwd
  %w1, _ = dojo.sgd(%w, %dw, none, %lr) : f32[6,8] @"a" upd
  update %w = %w1
  output %l "loss"
}
)";

TEST(Statistics, CountFlopsByPhase) {
  const Statistics found = statistics_of(parsed(kStep));
  EXPECT_EQ(found.by_phase[0].matrix_flops.count(), 2 * 4 * 6 * 8);
  EXPECT_EQ(found.by_phase[1].matrix_flops.count(), 2 * 4 * 6 * 8);
  EXPECT_EQ(found.by_phase[2].matrix_flops.count(), 0);
  EXPECT_EQ(found.total().matrix_flops.count(), 4 * 4 * 6 * 8);
  EXPECT_EQ(found.ops.at("aten.mm"), 2);
  EXPECT_EQ(found.ops.at("dojo.convert"), 2);
}

TEST(Statistics, CountTensorsAsStored) {
  const Statistics found = statistics_of(parsed(kStep));
  EXPECT_EQ(found.parameters, 48);
  EXPECT_EQ(found.weight_bytes.count(), 48 * 4);
  EXPECT_EQ(found.input_bytes.count(), 24 * 4 + 4);
  // Saved: xc (24 B of codes), r through two views (64 B), l (4 B); not the weight, not y.
  EXPECT_EQ(found.saved_bytes.count(), 24 + 64 + 4);
  EXPECT_EQ(found.saved_bytes_f32.count(), 4 * (24 + 32 + 1));
}

TEST(Statistics, CountNoBytesOfFusedValues) {
  const Graph graph = parsed(kStep);
  const OpStatistics product = statistics_of(graph, graph.ops[2]);
  EXPECT_EQ(product.bytes_read.count(), 24 + 48);
  EXPECT_EQ(product.bytes_written.count(), 0);
  const OpStatistics relu = statistics_of(graph, graph.ops[3]);
  EXPECT_EQ(relu.bytes_read.count(), 0);
  EXPECT_EQ(relu.bytes_written.count(), 64);
  EXPECT_EQ(relu.vector_ops, 32);
  EXPECT_EQ(relu.conversions, 32);
}

TEST(Statistics, AreJsonWithNamedKeys) {
  const std::string json = statistics_json(statistics_of(parsed(kStep)));
  EXPECT_NE(json.find("\"matrix_flops\": 768"), std::string::npos);
  EXPECT_NE(json.find("\"saved_bytes\": 92"), std::string::npos);
}

}  // namespace
}  // namespace dojo::graph
