#include "dojo/graph/verify.h"

#include "dojo/graph/test_graphs.h"

namespace dojo::graph {
namespace {

std::string problem_of(std::string_view text) {
  const Result<Graph> graph = parse_graph(text, "f.graph");
  return graph ? "none" : graph.error().message;
}

std::string unlowered(std::string_view body) {
  return problem_of(fmt::format("graph \"t\" {{\n%x = input f32[4,6] \"x\"\n{}\n}}\n", body));
}

std::string lowered(std::string_view body) {
  return problem_of(
      fmt::format("graph \"t\" recipe \"r\" machine \"m\" {{bias_window=16}} {{\n"
                  "%x = input f32[4,6] \"x\"\n{}\n}}\n",
                  body));
}

#define EXPECT_HAS(text, part) \
  EXPECT_NE((text).find(part), std::string::npos) << "found: " << (text)

TEST(Verify, AcceptsEveryOp) { EXPECT_EQ(problem_of(every_op_text()), "none"); }

// --- values ---
TEST(Verify, HoldsNamesAndLeaves) {
  Graph graph = parsed_body("%x = input f32[2] \"x\"\n%y = input f32[2] \"y\"");
  const auto message = [&] { return verify(graph).error().message; };
  graph.values[1].name = "x";
  EXPECT_HAS(message(), "%x: two values have this name");
  graph.values[1].name = "y y";
  EXPECT_HAS(message(), "a name has letters, digits, _ and . only");
  graph.values[1].name = "y";
  graph.values[1].label = "";
  EXPECT_HAS(message(), "%y: a leaf needs a label");
  graph.values[1].label = "x";
  EXPECT_HAS(message(), "%x and %y are both input \"x\": give each its own label");
  graph.values[1].label = "y";
  graph.values[1].role = Role::Residual;
  EXPECT_HAS(message(), "%y: a leaf has no role");
  graph.values[1].role = Role::None;
  graph.values[1].shape = {0};
  EXPECT_HAS(message(), "%y: extent 0 is outside of 1 to 2^40");
  graph.values[1].shape = Shape(17, 1);
  EXPECT_HAS(message(), "%y: 17 dimensions, at most 16 are allowed");
  graph.values[1].shape = {kMaxExtent, kMaxExtent};
  EXPECT_HAS(message(), "%y: more than 2^48 elements");
}

TEST(Verify, HoldsTheHead) {
  Graph graph = parsed("graph \"t\" recipe \"r\" machine \"m\" {bias_window=16} {}");
  graph.lowering->bias.margin = 64;
  EXPECT_HAS(verify(graph).error().message, "bias_margin=64 is outside of 0..63");
}

TEST(Verify, HoldsDefinitionsAndTheirOrder) {
  Graph graph = parsed_body(
      "%x = input f32[2] \"x\"\n%a = aten.relu(%x) : f32[2] @\"m\" fwd\n"
      "%b = aten.relu(%a) : f32[2] @\"m\" fwd");
  const auto message = [&] { return verify(graph).error().message; };
  std::swap(graph.ops[0], graph.ops[1]);
  EXPECT_HAS(message(), "%b = aten.relu in module \"m\": reads %a before its definition");
  std::swap(graph.ops[0], graph.ops[1]);
  graph.ops[1].outputs = {ValueId{1}};
  EXPECT_HAS(message(), "%a is defined twice");
  graph.ops.pop_back();
  EXPECT_HAS(message(), "%b: no op defines it");
  graph.ops[0].outputs = {ValueId{0}};
  EXPECT_HAS(message(), "defines %x, which is a leaf");
  graph.ops[0].inputs = {ValueId{9}};
  EXPECT_HAS(message(), "names value number 9, but there are 3");
  graph.ops[0].info = nullptr;
  EXPECT_HAS(message(), "has no row of the op table");
}

// --- ops ---
TEST(Verify, HoldsOpsToTheirRows) {
  EXPECT_HAS(unlowered("%y = aten.mm(%x) : f32[4,4] @\"m\" fwd"),
             "%y = aten.mm in module \"m\": operand 2 (mat2) is missing");
  EXPECT_HAS(unlowered("%y = aten.relu(%x, %x) : f32[4,6] @\"\" fwd"),
             "has 2 operands, takes at most 1");
  EXPECT_HAS(unlowered("%y = aten.add(%x) : f32[4,6] @\"\" fwd"),
             "other must be given, as an operand or as an attribute, and not as both");
  EXPECT_HAS(unlowered("%y = aten.add(%x, %x) {other=1} : f32[4,6] @\"\" fwd"), "not as both");
  EXPECT_HAS(unlowered("%y = aten._softmax(%x) : f32[4,6] @\"\" fwd"),
             "attribute dim is missing: it must be an integer");
  EXPECT_HAS(unlowered("%y = aten._softmax(%x) {dim=2} : f32[4,6] @\"\" fwd"),
             "dim 2 is out of range for 2 dimensions");
  EXPECT_HAS(unlowered("%y, %i = aten.topk(%x) {k=7} : f32[4,7], i64[4,7] @\"\" fwd"),
             "k is 7, expected 1 to 6, the extent of dim 1");
  EXPECT_HAS(
      unlowered("%y, %i = aten.topk(%x) {k=2, largest=false} : f32[4,2], i64[4,2] @\"\" fwd"),
      "the least k are not supported: take the greatest of the negative");
  EXPECT_HAS(unlowered("%y = aten.relu(%x) : i64[4,6] @\"\" fwd"),
             "%y is i64[4,6], expected f32[4,6]");
  EXPECT_HAS(unlowered("_ = aten.relu(%x) : @\"\" fwd"), "has no output that anybody could read");
  EXPECT_HAS(unlowered("%w = weight f32[3,1,1,1] \"w\"\n%i = input f32[1,3,4,4] \"i\"\n"
                       "%y = aten.convolution(%i, %w) {groups=3, transposed=true} : f32[1,3,4,4] "
                       "@\"up\" fwd"),
             "%y = aten.convolution in module \"up\": transposed=true is not supported yet");
  EXPECT_HAS(unlowered("%y, %z = dojo.sgd(%x, %x, none, %x) : f32[4,6], f32[4,6] @\"\" upd"),
             "lr has shape [4,6], expected []");
  EXPECT_HAS(unlowered("%l = input f32[] \"l\"\n"
                       "%y, %z = dojo.sgd(%x, %x, none, %l) : f32[4,6], f32[4,6] @\"\" upd"),
             "output 2 (%z) does not exist with these attributes: write _");
}

TEST(Verify, HoldsUnloweredGraphsToFp32) {
  EXPECT_HAS(unlowered("%y = aten.relu(%x) : bf16[4,6] @\"\" fwd"),
             "%y: is bf16, but floats are f32 until the Graph is lowered");
  EXPECT_HAS(unlowered("%y = aten.relu(%x) : f32[4,6] fused @\"\" fwd"),
             "%y: fused and stochastic belong to lowered Graphs");
  EXPECT_HAS(unlowered("%y = aten.sum(%x) : f32[] @\"\" fwd k_parts={d0:2x2}"),
             "k_parts belong to lowered Graphs");
}

// --- lowered ---
TEST(Verify, FreesFloatFormatsInLoweredGraphsOnly) {
  EXPECT_EQ(lowered("%y = aten.relu(%x) : cf8_1_4_3[4,6] stochastic @\"\" fwd"), "none");
  EXPECT_HAS(lowered("%y = aten.argmax(%x) : cf8_1_4_3[] @\"\" fwd"),
             "%y is cf8_1_4_3[], expected i64[]");
  EXPECT_HAS(lowered("%y = aten.relu(%x) : f32[4,6] stochastic @\"\" fwd"),
             "%y: f32 is never rounded stochastically");
  EXPECT_HAS(lowered("%y = aten.relu(%x) : bf16[4,6] fused @\"\" fwd\n"
                     "%z = aten.relu(%y) : f32[4,6] @\"\" fwd"),
             "%y: is fused, so it must be f32, not bf16");
}

TEST(Verify, HoldsMovesToTheFormatOfWhatTheyMove) {
  EXPECT_HAS(lowered("%y = aten.permute(%x) {dims=[1,0]} : bf16[6,4] @\"\" fwd"),
             "only moves elements, so %y must be fused or keep the format f32");
  EXPECT_EQ(lowered("%y = aten.relu(%x) : bf16[4,6] @\"\" fwd\n"
                    "%v = aten.view(%y) {size=[24]} : f32[24] fused @\"\" fwd\n"
                    "%z = aten.relu(%v) : f32[24] @\"\" fwd"),
            "none");
}

TEST(Verify, HoldsFusedValuesToOneReaderInTheirPhase) {
  const std::string fused = "%y = aten.relu(%x) : f32[4,6] fused @\"\" fwd\n";
  EXPECT_EQ(lowered(fused + "%z = aten.mul(%y, %y) : f32[4,6] @\"\" fwd"), "none");
  EXPECT_HAS(lowered(fused), "%y: is fused, so exactly one op must read it, not 0");
  EXPECT_HAS(lowered(fused + "%z = aten.relu(%y) : f32[4,6] @\"\" fwd\n"
                             "%a = aten.relu(%y) : f32[4,6] @\"\" fwd"),
             "%y: is fused, so exactly one op must read it, not 2");
  EXPECT_HAS(lowered(fused + "%z = aten.relu(%y) : f32[4,6] @\"\" bwd"),
             "%y: is fused, so its reader must be in the phase of its definition");
  EXPECT_HAS(lowered(fused + "%z = aten.relu(%y) : f32[4,6] @\"\" fwd\noutput %y \"y\""),
             "%y: is fused, but an output or update keeps it");
}

TEST(Verify, HoldsWhatIsMadeAgainToWhatItIsMadeAgainOf) {
  const std::string first = "%y = aten.relu(%x) : cf8_1_4_3[4,6] @\"\" fwd\n";
  const std::string again = "%z = aten.relu(%x) : ";
  EXPECT_EQ(lowered(first + again + "cf8_1_4_3[4,6] again_of %y @\"\" bwd"), "none");
  EXPECT_HAS(lowered(first + again + "bf16[4,6] again_of %y @\"\" bwd"),
             "%z: is again_of %y, which is not a stored op value of this type, made once");
  EXPECT_HAS(lowered(first + again + "cf8_1_4_3[4,6] stochastic again_of %y @\"\" bwd"),
             "%z: again_of belongs to stored values of lowered Graphs, rounded to nearest");
  EXPECT_HAS(lowered(first + again +
                     "cf8_1_4_3[4,6] again_of %y @\"\" bwd\n"
                     "%v = aten.relu(%x) : cf8_1_4_3[4,6] again_of %z @\"\" bwd"),
             "%v: is again_of %z, which is not a stored op value of this type, made once");
  EXPECT_HAS(lowered(again + "f32[4,6] again_of %x @\"\" bwd"),
             "%z: is again_of %x, which is not a stored op value");
  EXPECT_HAS(unlowered("%y = aten.relu(%x) : f32[4,6] @\"\" fwd\n" + again +
                       "f32[4,6] again_of %y @\"\" bwd"),
             "%z: again_of belongs to stored values of lowered Graphs");
}

TEST(Verify, RefusesOpsThatLoweringTakesApart) {
  EXPECT_HAS(lowered("%w = weight f32[3,1,1,1] \"w\"\n%i = input f32[1,1,4,4] \"i\"\n"
                     "%g = input f32[1,3,4,4] \"g\"\n"
                     "%y, _, _ = aten.convolution_backward(%g, %i, %w) {output_mask=[1,0,0]} : "
                     "f32[1,1,4,4] @\"\" bwd"),
             "aten.convolution_backward in module \"\": must not stand in a lowered Graph");
}

TEST(Verify, HoldsCutsToTheNest) {
  const auto cut = [](std::string_view parts) {
    return lowered(fmt::format("%y = aten.sum(%x) : f32[] @\"\" fwd k_parts={{{}}}", parts));
  };
  EXPECT_EQ(cut("d0:2x2"), "none");
  EXPECT_EQ(cut("d0:2x3, d1:2x4"), "none");
  EXPECT_HAS(cut("k:2x3"),
             "k_parts cut \"k\", expected reduce loops of the nest in its order: d0, d1");
  EXPECT_HAS(cut("d1:2x3, d0:2x2"), "k_parts cut \"d0\"");
  EXPECT_HAS(cut("d0:2x2, d0:2x2"), "k_parts cut \"d0\"");
  EXPECT_HAS(cut("d1:3x3"),
             "k_parts cut d1 (6 points) into 3 parts of 3: parts must be extent / "
             "block rounded up, and at least 2");
  EXPECT_HAS(cut("d1:1x6"), "into 1 parts of 6");
  EXPECT_HAS(cut("d1:2x0"), "into 2 parts of 0");
  EXPECT_EQ(cut("d1:6x1 by 2"), "none");
  EXPECT_EQ(cut("d0:4x1 by 3, d1:6x1 by 5"), "none");
  EXPECT_HAS(cut("d1:6x1 by 1"),
             "k_parts add d1 by runs of 1: expected 2 to 5, fewer than its 6 parts");
  EXPECT_HAS(cut("d1:6x1 by 6"), "by runs of 6");
  EXPECT_HAS(cut("d1:6x1 by 0"), "by runs of 0");
}

// --- ends ---
TEST(Verify, HoldsUpdatesAndOutputs) {
  const std::string leaves =
      "%w = weight f32[4,6] \"w\"\n%y = aten.relu(%x) : f32[4,6] @\"\" upd\n";
  EXPECT_EQ(unlowered(leaves + "update %w = %y"), "none");
  EXPECT_HAS(unlowered(leaves + "update %x = %y"),
             "%x: only weights, buffers and states are updated");
  EXPECT_HAS(unlowered(leaves + "update %w = %y\nupdate %w = %x"), "%w: is updated twice");
  EXPECT_HAS(unlowered("%w = weight f32[6] \"w\"\nupdate %w = %x"),
             "%w: is f32[6], but %x is f32[4,6]");
  EXPECT_HAS(unlowered("output %x \"a\"\noutput %x \"a\""), "two outputs are called \"a\"");
}

}  // namespace
}  // namespace dojo::graph
