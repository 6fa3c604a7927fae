#include "dojo/graph/text.h"

#include <algorithm>
#include <random>

#include "dojo/graph/test_graphs.h"
#include "dojo/graph/verify.h"

namespace dojo::graph {
namespace {

// The example of docs/graph.md, small and whole.
constexpr const char* kLowered =
    R"(graph "steer.step" recipe "cfloat8" machine "training-tile" {bias="delayed", bias_grid=1, bias_margin=1, bias_window=16, denormals="paper", sum_order="sequential"} {
  %x = input u8[4,3,9,9] "frames"
  %lr = input f32[] "lr"
  %w0 = weight f32[8,3,3,3] "trunk.0.weight"
  %w0.m = state f32[8,3,3,3] "trunk.0.weight.momentum"
  %w0.c = dojo.convert(%w0) : cf8_1_4_3[8,3,3,3] weight_operand @"trunk.0" fwd
  %y0 = aten.convolution(%x, %w0.c, none) {stride=[2,2]} : f32[4,8,4,4] fused @"trunk.0" fwd
  %x.b = aten._to_copy(%x) {dtype="f32"} : bf16[4,3,9,9] activation @"" fwd
  %a0 = aten.relu(%y0) : cf8_1_4_3[4,8,4,4] matrix_operand stochastic @"trunk.1" fwd
  %loss = aten.sum(%a0) : f32[] loss @"" fwd
  %d0 = aten.threshold_backward(%loss, %a0) {threshold=0} : cf8_1_5_2[4,8,4,4] gradient_operand @"trunk.1" bwd
  %dw0 = dojo.conv_weight_grad(%d0, %x) {stride=[2,2], weight_size=[8,3,3,3]} : f32[8,3,3,3] weight_gradient @"trunk.0" bwd k_parts={n:4x1 by 3, y:2x3}
  %x.b.again = aten._to_copy(%x) {dtype="f32"} : bf16[4,3,9,9] activation again_of %x.b @"" bwd
  %w0.1, %w0.m1 = dojo.sgd(%w0, %dw0, %w0.m, %lr) {momentum=0.9} : f32[8,3,3,3], f32[8,3,3,3] @"trunk.0" upd
  update %w0 = %w0.1
  update %w0.m = %w0.m1
  output %loss "loss"
}
)";

TEST(GraphText, PrintsWhatItParsed) { EXPECT_EQ(print_graph(parsed(kLowered)), kLowered); }

TEST(GraphText, OfEveryOpIsCanonicalAfterOnePrint) {
  const std::string once = print_graph(parsed(every_op_text()));
  EXPECT_EQ(print_graph(parsed(once)), once);
}

TEST(GraphText, KeepsWhatItSays) {
  const Graph graph = parsed(kLowered);
  EXPECT_EQ(graph.name, "steer.step");
  EXPECT_EQ(graph.lowering->machine, "training-tile");
  EXPECT_EQ(graph.lowering->bias, BiasPolicy{});
  ASSERT_EQ(graph.ops.size(), 9u);
  EXPECT_EQ(graph.ops[1].inputs.size(), 3u);
  EXPECT_FALSE(graph.ops[1].inputs[2].has_value());
  EXPECT_TRUE(graph.value(*graph.ops[1].outputs[0]).is_fused);
  EXPECT_TRUE(graph.value(*graph.ops[3].outputs[0]).is_stochastic);
  EXPECT_EQ(graph.value(*graph.ops[3].outputs[0]).role, Role::MatrixOperand);
  EXPECT_EQ(graph.ops[6].k_parts, (std::vector<ReduceCut>{{"n", 4, 1, 3}, {"y", 2, 3}}));
  EXPECT_EQ(graph.value(*graph.ops[7].outputs[0]).again_of, *graph.ops[2].outputs[0]);
  EXPECT_EQ(graph.ops[8].phase, Phase::Update);
  EXPECT_EQ(graph.updates.size(), 2u);
  EXPECT_EQ(graph.outputs[0].label, "loss");
}

TEST(GraphText, LeavesOutDefaultsAndWritesFloatsAsFloats) {
  const Graph graph = parsed_body(
      "%x = input f32[2,3] \"x\"\n"
      "%a = aten.add(%x, %x) {alpha=1} : f32[2,3] @\"\" fwd\n"
      "%l = aten.leaky_relu(%a) {negative_slope=0.01} : f32[2,3] @\"\" fwd\n"
      "%n, _, _ = aten.native_layer_norm(%l) {normalized_shape=3, eps=1} : f32[2,3] @\"\" fwd\n"
      "%m = aten.mul(%n) {other=-inf} : f32[2,3] @\"\" fwd\n");
  EXPECT_EQ(print_op(graph, graph.ops[0]), "%a = aten.add(%x, %x) : f32[2,3] @\"\" fwd");
  EXPECT_EQ(print_op(graph, graph.ops[1]), "%l = aten.leaky_relu(%a) : f32[2,3] @\"\" fwd");
  EXPECT_EQ(print_op(graph, graph.ops[2]),
            "%n, _, _ = aten.native_layer_norm(%l) {eps=1.0, normalized_shape=[3]} : f32[2,3] "
            "@\"\" fwd");
  EXPECT_EQ(print_op(graph, graph.ops[3]), "%m = aten.mul(%n) {other=-inf} : f32[2,3] @\"\" fwd");
}

TEST(GraphText, LeavesOutDefaultsThatAProgramWroteOut) {
  Graph graph = parsed_body("%x = input f32[2] \"x\"\n%a = aten.add(%x, %x) : f32[2] @\"\" fwd");
  const std::string text = print_graph(graph);
  graph.ops[0].attributes["alpha"] = std::int64_t{1};
  EXPECT_EQ(print_graph(graph), text);
}

TEST(GraphText, FloatsKeepTheirBits) {
  for (const double value : {0.1, 1e300, 5e-324, -0.0, 3.0, 1.0 / 3, 123456789.0, 1e22}) {
    Graph graph =
        parsed_body("%x = input f32[2] \"x\"\n%a = aten.mul(%x) {other=1.5} : f32[2] @\"\" fwd");
    graph.ops[0].attributes["other"] = value;
    const Graph again = parsed(print_graph(graph));
    const auto* found = std::get_if<double>(&again.ops[0].attributes.at("other"));
    ASSERT_NE(found, nullptr) << value;
    EXPECT_EQ(std::signbit(*found), std::signbit(value));
    EXPECT_EQ(*found, value);
  }
}

TEST(GraphText, StringsKeepWhatTheyHold) {
  const std::string label = "a \"b\" \\ \x1b [0m";
  Graph graph = parsed_body("%x = input f32[2] \"x\"");
  graph.values[0].label = label;
  EXPECT_EQ(parsed(print_graph(graph)).values[0].label, label);
}

// --- diagnostics ---
std::string error_of(std::string_view text) {
  const Result<Graph> graph = parse_graph(text, "f.graph");
  return graph ? "no error" : graph.error().to_string();
}

std::string body_error(std::string_view body) {
  return error_of("graph \"t\" {\n%x = input f32[2,3] \"x\"\n" + std::string(body) + "\n}\n");
}

struct Diagnostic {
  std::string_view body;  // line 3 of the text
  std::string_view message;
};

TEST(GraphText, SaysWhatItFoundWhereAndWhatItExpected) {
  const std::vector<Diagnostic> cases{
      {"%y = aten.rellu(%x) : f32[2,3] @\"\" fwd",
       "f.graph:3:6: unknown op \"aten.rellu\" (nearest: aten.relu, aten.elu, "},
      {"%y = aten.relu(%z) : f32[2,3] @\"\" fwd",
       "f.graph:3:16: %z is not defined before this line"},
      {"%y = aten.relu(%x : f32[2,3] @\"\" fwd", "f.graph:3:19: found \":\", expected ,"},
      {"%y = aten.relu(%x) f32[2,3] @\"\" fwd", "f.graph:3:20: found \"f32\", expected :"},
      {"%y = aten.relu(%x) : f23[2,3] @\"\" fwd",
       "f.graph:3:22: unknown format \"f23\", expected one of f32, bf16"},
      {"%y = aten.relu(%x) : f32[2,3} @\"\" fwd", "f.graph:3:29: found \"}\", expected ,"},
      {"%y = aten.relu(%x) : f32[2,3.5] @\"\" fwd",
       "f.graph:3:28: found \"3.5\", expected an extent or ]"},
      {"%y = aten.relu(%x) : f32[2,0] @\"\" fwd",
       "f.graph:3:28: a type has at most 16 extents, each from 1 to 2^40"},
      {"%y = aten.relu(%x) : f32[2,3] residul @\"\" fwd",
       "f.graph:3:31: found \"residul\", expected one role, fused, stochastic, again_of %name or @ "
       "(nearest: "
       "residual"},
      {"%y = aten.relu(%x) : f32[2,3] fwd",
       "f.graph:3:31: found \"fwd\", expected one role, fused, stochastic, again_of %name or @"},
      {"%y = aten.relu(%x) : f32[2,3] @ fwd",
       "f.graph:3:33: found \"fwd\", expected the module's path in quotes"},
      {"%y = aten.relu(%x) : f32[2,3] @\"\" sideways",
       "f.graph:3:35: found \"sideways\", expected fwd, bwd or upd"},
      {"%y = aten.relu(%x) {alpha=1} : f32[2,3] @\"\" fwd",
       "f.graph:3:20: aten.relu: unknown attribute \"alpha\"; it takes none"},
      {"%y = aten.add(%x, %x) {alpah=1} : f32[2,3] @\"\" fwd",
       "f.graph:3:23: aten.add: unknown attribute \"alpah\"; it takes alpha, other"},
      {"%y = aten.add(%x, %x) {alpha=\"one\"} : f32[2,3] @\"\" fwd",
       "f.graph:3:23: aten.add: attribute alpha must be a number"},
      {"%y = aten.add(%x, %x) {alpha=2, alpha=3} : f32[2,3] @\"\" fwd",
       "f.graph:3:33: attribute \"alpha\" is given twice"},
      {"%y = aten.add(%x, %x) {alpha=} : f32[2,3] @\"\" fwd",
       "f.graph:3:30: found \"}\", expected a number, true, false, a string or a list"},
      {"%y = aten.add(%x, %x) {alpha=99999999999999999999} : f32[2,3] @\"\" fwd",
       "f.graph:3:30: found \"99999999999999999999\", expected a number that fits 64 bits"},
      {"%y = aten.sum(%x) {dim=[0,x]} : f32[3] @\"\" fwd",
       "f.graph:3:27: found \"x\", expected a number"},
      {"%y, %z = aten.relu(%x) : f32[2,3] @\"\" fwd",
       "f.graph:3:35: found \"@\", expected a comma and one type for each target with a name"},
      {"%y, %z = aten.relu(%x) : f32[2,3], f32[2,3] @\"\" fwd",
       "f.graph:3:1: %y = aten.relu in module \"\": has 2 targets, computes 1 outputs"},
      {"%x = aten.relu(%x) : f32[2,3] @\"\" fwd", "f.graph:3:1: %x is defined twice"},
      {"y = aten.relu(%x) : f32[2,3] @\"\" fwd",
       "f.graph:3:1: found \"y\", expected a statement (%name = ..., update, output) or }"},
      {"%y, 3 = aten.relu(%x) : f32[2,3] @\"\" fwd",
       "f.graph:3:5: found \"3\", expected %name or _"},
      {"%y, %z = input f32[2] \"y\"", "f.graph:3:1: a leaf defines one value with a name"},
      {"%y = weight f32[2]", "f.graph:4:1: found \"}\", expected the leaf's label in quotes"},
      {"%y = weight f32[2] \"y", "f.graph:3:20: found a string without its closing quote"},
      {"%y = weight f32[2] \"y\\n\"", "f.graph:3:20: unknown escape in a string"},
      {"% = weight f32[2] \"y\"", "f.graph:3:1: found % without a name"},
      {"update %x", "f.graph:4:1: found \"}\", expected ="},
      {"output %x", "f.graph:4:1: found \"}\", expected the output's label in quotes"},
      {"%y = aten.relu(3) : f32[2,3] @\"\" fwd",
       "f.graph:3:16: found \"3\", expected an operand (%name or none) or )"},
      {"%y = aten.sum(%x) : f32[] @\"\" fwd k_parts={d0:2}",
       "f.graph:3:48: found \"}\", expected xBLOCK such as x8 after the number of parts"},
      {"%y = aten.sum(%x) : f32[] @\"\" fwd k_parts={d0:2x1 by}",
       "f.graph:3:53: found \"}\", expected how many parts make a run, such as 4"},
      {"%y = aten.sum(%x) : f32[] @\"\" fwd k_parts={d0:2x1 in 2}",
       "f.graph:3:51: found \"in\", expected ,"},
      {"#", "f.graph:3:1: found \"#\", expected a statement"},
  };
  for (const Diagnostic& each : cases) {
    const std::string found = body_error(each.body);
    EXPECT_TRUE(found.starts_with(each.message)) << each.body << "\n  " << found;
  }
}

TEST(GraphText, TheHeadPrintsWhatItsBiasRuleLooksAt) {
  const auto head = [](const std::string& attributes) {
    const std::string begin = "graph \"t\" recipe \"r\" machine \"m\" ";
    const std::string text = print_graph(parsed(begin + "{" + attributes + "} {}"));
    return text.substr(begin.size(), text.find("} {") + 1 - begin.size());
  };
  EXPECT_EQ(head("bias_window=4"),
            "{bias=\"delayed\", bias_grid=1, bias_margin=1, bias_window=4, denormals=\"paper\", "
            "sum_order=\"sequential\"}");
  EXPECT_EQ(head("bias=\"current\", bias_margin=0"),
            "{bias=\"current\", bias_grid=1, bias_margin=0, denormals=\"paper\", "
            "sum_order=\"sequential\"}");
  EXPECT_EQ(head("bias=\"learnt\", bias_grid=8, denormals=\"gradual\""),
            "{bias=\"learnt\", bias_grid=8, bias_margin=1, denormals=\"gradual\", "
            "sum_order=\"sequential\"}");
  EXPECT_TRUE(head("bias=\"fixed\", bias_cf8_1_4_3=11")
                  .starts_with("{bias=\"fixed\", bias_cf8_1_4_3=11, bias_cf8_1_5_2=15, "));
}

TEST(GraphText, SaysWhatIsWrongWithTheHead) {
  EXPECT_EQ(error_of(""), "f.graph:1:1: found the end of the text, expected graph");
  EXPECT_EQ(error_of("graph steer {"),
            "f.graph:1:7: found \"steer\", expected the Graph's name in quotes");
  EXPECT_EQ(error_of("graph \"t\" recip"),
            "f.graph:1:11: found \"recip\", expected {, or recipe (of a lowered Graph)");
  EXPECT_EQ(error_of("graph \"t\" recipe \"r\" machine \"m\" {bias_window=-1} {}"),
            "f.graph:1:34: bias_window is not an integer from 1 to 4096");
  EXPECT_EQ(error_of("graph \"t\" recipe \"r\" machine \"m\" {bias=\"learned\"} {}"),
            "f.graph:1:34: bias is none of \"delayed\", \"current\", \"fixed\", \"learnt\" "
            "(nearest: learnt)");
  EXPECT_EQ(error_of("graph \"t\" recipe \"r\" machine \"m\" {bias_cf8_1_4_3=64} {}"),
            "f.graph:1:34: bias_cf8_1_4_3 is not an integer from 0 to 63");
  EXPECT_EQ(error_of("graph \"t\" recipe \"r\" machine \"m\" {sum_ordre=2} {}"),
            "f.graph:1:34: the head has no attribute sum_ordre (nearest: sum_order)");
  EXPECT_EQ(error_of("graph \"t\" {\n"),
            "f.graph:2:1: found the end of the text, expected a statement (%name = ..., update, "
            "output) or }");
  EXPECT_EQ(error_of("graph \"t\" {} x"),
            "f.graph:1:14: found \"x\", expected the end of the text after the closing }");
}

TEST(GraphText, PointsAtTheOpThatIsWrong) {
  EXPECT_EQ(body_error("\n  // a comment\n  %y = aten.mm(%x, %x) : f32[2,2] @\"head\" fwd"),
            "f.graph:5:3: %y = aten.mm in module \"head\": cannot multiply [2,3] by [2,3]: the "
            "inner extents must be equal");
  EXPECT_EQ(body_error("%y = aten.relu(%x) : f32[3,2] @\"a\" fwd"),
            "f.graph:3:1: %y = aten.relu in module \"a\": %y is f32[3,2], expected f32[2,3]");
}

TEST(GraphText, CapsRankElementsAndListsAndSize) {
  std::string rank = "%y = input f32[1";
  for (int i = 0; i < 16; ++i) {
    rank += ",1";
  }
  EXPECT_NE(body_error(rank + "] \"y\"").find("at most 16 extents"), std::string::npos);
  EXPECT_NE(body_error("%y = input f32[1099511627777] \"y\"").find("2^40"), std::string::npos);
  EXPECT_NE(body_error("%y = input f32[1099511627776,1099511627776] \"y\"").find("2^48 elements"),
            std::string::npos);
  std::string list = "%y = aten.permute(%x) {dims=[0";
  for (std::size_t i = 0; i <= TextLimits::kListLength; ++i) {
    list += ",0";
  }
  EXPECT_NE(body_error(list + "]} : f32[2,3] @\"\" fwd").find("a list of at most"),
            std::string::npos);
  EXPECT_NE(body_error("%y = input f32[1] \"" + std::string(5000, 'y') + "\"").find("characters"),
            std::string::npos);
  EXPECT_NE(error_of(std::string(TextLimits::kBytes + 1, ' ')).find("at most"), std::string::npos);
}

TEST(GraphText, LoadNamesTheFileThatIsNotThere) {
  EXPECT_NE(load_graph("/no/such.graph").error().message.find("/no/such.graph"), std::string::npos);
}

// A chain as long as a large language model's step is read in one pass.
TEST(GraphText, ReadsTwentyThousandOps) {
  std::string text =
      "graph \"long\" {\n%v0 = input f32[8,16] \"x\"\n%w = weight f32[16,16] \"w\"\n";
  for (int i = 0; i < 20'000; ++i) {
    text +=
        fmt::format("%v{} = aten.mm(%v{}, %w) : f32[8,16] @\"layer.{}\" fwd\n", i + 1, i, i / 10);
  }
  const Graph graph = parsed(text + "}\n");
  EXPECT_EQ(graph.ops.size(), 20'000u);
}

// --- mutation: whatever the bytes, a value or an Error ---
TEST(GraphText, NeverFailsOnDamagedText) {
  const std::vector<std::string> seeds{kLowered, print_graph(parsed(every_op_text()))};
  std::mt19937 rng(20261);
  const auto pick = [&rng](std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(rng);
  };
  constexpr std::string_view kLikely = "%{}[]()=,:@\"\\ \n0123456789-+.einfx_/";
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = seeds[round % 8 == 0 ? 1 : 0];
    const std::size_t changes = 1 + pick(4);
    for (std::size_t change = 0; change < changes; ++change) {
      const std::size_t at = pick(text.size());
      const char likely = kLikely[pick(kLikely.size())];
      switch (pick(5)) {
        case 0:
          text[at] = static_cast<char>(text[at] ^ (1 << pick(8)));
          break;
        case 1:
          text.insert(at, 1, likely);
          break;
        case 2:
          text.erase(at, 1 + pick(8));
          break;
        case 3:
          text[at] = likely;
          break;
        default:
          text.insert(at, text.substr(pick(text.size()), pick(40)));
          break;
      }
    }
    const Result<Graph> graph = parse_graph(text, "mutant");
    if (graph) {
      ++accepted;
      const std::string printed = print_graph(*graph);
      const Result<Graph> again = parse_graph(printed, "printed");
      ASSERT_TRUE(again.has_value()) << again.error().to_string() << "\n" << printed;
      ASSERT_EQ(print_graph(*again), printed);
    } else {
      ASSERT_FALSE(graph.error().message.empty());
    }
  }
  EXPECT_GT(accepted, 10);  // else the mutations would say nothing about what lies behind
}

}  // namespace
}  // namespace dojo::graph
