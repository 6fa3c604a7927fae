#include "dojo/graph/nest.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "dojo/graph/test_graphs.h"

namespace dojo::graph {
namespace {

Graph convolution(std::string_view x, std::string_view w, std::string_view y,
                  std::string_view attributes) {
  return parsed_body(fmt::format(
      "%x = input f32{} \"x\"\n%w = weight f32{} \"w\"\n"
      "%y = aten.convolution(%x, %w, none) {} : f32{} @\"\" fwd\n"
      "%dx = dojo.conv_input_grad(%y, %w) {} : f32{} @\"\" bwd\n"
      "%dw = dojo.conv_weight_grad(%y, %x) {} : f32{} @\"\" bwd\n",
      x, w, attributes.empty() ? "" : fmt::format("{{{}}}", attributes), y,
      fmt::format("{{{}{}input_size={}}}", attributes, attributes.empty() ? "" : ", ", x), x,
      fmt::format("{{{}{}weight_size={}}}", attributes, attributes.empty() ? "" : ", ", w), w));
}

const Operand& read_of(const Stage& stage, int input) {
  return *std::find_if(stage.operands.begin(), stage.operands.end(), [input](const Operand& each) {
    return each.tensor == TensorRef{TensorKind::Input, input};
  });
}

Slice with_loop(const LoopNest& nest, std::string_view loop, Interval interval) {
  Slice slice = whole_slice(nest);
  slice[*nest.loop_named(loop)] = interval;
  return slice;
}

// --- the worked examples of the placement design, section 1.3 ---
TEST(Footprint, OfAResNetLayerIsItsRowsAndOneMoreOnEachSide) {
  const Graph graph = convolution("[1,64,56,56]", "[64,64,3,3]", "[1,64,56,56]", "padding=[1,1]");
  const LoopNest nest = nest_of(graph, graph.ops[0]);
  const Stage& stage = nest.stages[0];
  const Operand& x = read_of(stage, 0);
  const Operand& w = read_of(stage, 1);
  const Interval rows = footprint(x, with_loop(nest, "y", {21, 28}))[2];
  EXPECT_EQ(rows, (Interval{20, 29}));
  EXPECT_EQ(halo({21, 28}, rows), (Halo{1, 1}));
  EXPECT_EQ(bytes(stage, x, with_loop(nest, "y", {20, 21}), Format::U8).count() -
                bytes(stage, x, with_loop(nest, "y", {20, 20}), Format::U8).count(),
            3 * 56 * 64);
  EXPECT_EQ(halo({21, 28}, rows).low * 56 * 64, 3584);
  EXPECT_EQ(footprint(x, with_loop(nest, "y", {0, 7}))[2], (Interval{0, 8}));
  EXPECT_EQ(bytes(stage, w, with_loop(nest, "y", {0, 7}), Format::Cf8_1_4_3).count(), 36'864);
  EXPECT_TRUE(is_shared_along(stage, w, *nest.loop_named("y")));
  EXPECT_FALSE(is_shared_along(stage, x, *nest.loop_named("y")));
  EXPECT_TRUE(is_partial_along(stage, *nest.loop_named("c")));
  EXPECT_FALSE(is_partial_along(stage, *nest.loop_named("y")));
}

TEST(Footprint, OfTheResNetStemAndItsInputGradient) {
  const Graph graph =
      convolution("[1,3,224,224]", "[64,3,7,7]", "[1,64,112,112]", "padding=[3,3], stride=[2,2]");
  const LoopNest forward = nest_of(graph, graph.ops[0]);
  const Operand& x = read_of(forward.stages[0], 0);
  const Interval needed = footprint(x, with_loop(forward, "y", {35, 42}))[2];
  EXPECT_EQ(needed, (Interval{67, 86}));
  EXPECT_EQ(halo({70, 84}, needed), (Halo{3, 2}));
  EXPECT_EQ(3 * 224 * 3, 2016);
  const LoopNest backward = nest_of(graph, graph.ops[1]);
  const Operand& dy = read_of(backward.stages[0], 0);
  const Interval gradient = footprint(dy, with_loop(backward, "h", {70, 84}))[2];
  EXPECT_EQ(gradient, (Interval{34, 44}));
  EXPECT_EQ(halo({35, 42}, gradient), (Halo{1, 2}));
}

TEST(Footprint, OfALargeProductIsAStripOfEachFactor) {
  const Graph graph = parsed_body(
      "%a = input f32[4096,4096] \"a\"\n%b = input f32[4096,4096] \"b\"\n"
      "%c = aten.mm(%a, %b) : f32[4096,4096] @\"\" fwd");
  const LoopNest nest = nest_of(graph, graph.ops[0]);
  const Stage& stage = nest.stages[0];
  Slice slice = whole_slice(nest);
  slice[*nest.loop_named("m")] = {0, 232};
  slice[*nest.loop_named("n")] = {216, 432};
  EXPECT_EQ(bytes(stage, read_of(stage, 0), slice, Format::Bf16).count(), 232 * 4096 * 2);
  EXPECT_EQ(bytes(stage, read_of(stage, 1), slice, Format::Bf16).count(), 216 * 4096 * 2);
  EXPECT_EQ(bytes(stage, stage.operands[2], slice, Format::F32).count(), 200'448);
  EXPECT_TRUE(is_shared_along(stage, read_of(stage, 0), *nest.loop_named("n")));
  EXPECT_TRUE(is_shared_along(stage, read_of(stage, 1), *nest.loop_named("m")));
  EXPECT_TRUE(is_partial_along(stage, *nest.loop_named("k")));
}

// --- proof obligation 1 ---
struct RandomMap {
  Affine map;
  Slice slice;
  std::int64_t extent;
};

RandomMap random_map(std::mt19937& rng) {
  const auto pick = [&rng](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(rng);
  };
  RandomMap out;
  const int loops = static_cast<int>(pick(1, 3));
  for (int loop = 0; loop < loops; ++loop) {
    const std::int64_t begin = pick(0, 6);
    out.slice.push_back({begin, begin + pick(1, 5)});
    out.map.terms.push_back({loop, pick(-3, 3)});
  }
  out.map.offset = pick(-8, 12);
  if (pick(0, 3) == 0) {
    out.map.ratio = Ratio{0, pick(1, 5), pick(-4, 4), pick(1, 5)};
  } else {
    out.map.divisor = pick(0, 2) == 0 ? pick(2, 4) : 1;
  }
  out.extent = pick(1, 30);
  return out;
}

TEST(Footprint, ContainsTheImageOfRandomMaps) {
  std::mt19937 rng(20260701);
  int exact = 0;
  for (int round = 0; round < 20'000; ++round) {
    const RandomMap each = random_map(rng);
    std::set<std::int64_t> image;
    bool is_clipped = false;
    for_each_point(each.slice, [&](const std::vector<std::int64_t>& point) {
      const std::optional<std::int64_t> index = index_at(each.map, point);
      if (index.has_value() && *index >= 0 && *index < each.extent) {
        image.insert(*index);
      } else if (index.has_value()) {
        is_clipped = true;
      }
    });
    const Interval found = footprint(each.map, each.slice, each.extent);
    ASSERT_GE(found.begin, 0);
    ASSERT_LE(found.end, each.extent);
    if (!image.empty()) {
      ASSERT_LE(found.begin, *image.begin()) << "round " << round;
      ASSERT_GE(found.end, *image.rbegin() + 1) << "round " << round;
    }
    // One loop in a term and in the ratio makes a hull, too.
    if (each.map.divisor == 1 && !is_clipped && !each.map.ratio.has_value()) {
      ASSERT_EQ(found, (Interval{*image.begin(), *image.rbegin() + 1})) << "round " << round;
      ++exact;
    }
  }
  EXPECT_GT(exact, 1000);
}

// (y, ky) pairs and so on of a convolution: all, and those inside the input.
struct Counts {
  std::int64_t all = 0;
  std::int64_t inside = 0;
};

Counts enumerate(const Graph& graph) {
  const Op& op = graph.ops[0];
  const Shape& x = graph.value(*op.inputs[0]).shape;
  const Shape& w = graph.value(*op.inputs[1]).shape;
  const Shape& y = graph.value(*op.outputs[0]).shape;
  const std::vector<std::int64_t> stride = ints_attr(op, "stride", 2);
  const std::vector<std::int64_t> padding = ints_attr(op, "padding", 2);
  const std::vector<std::int64_t> dilation = ints_attr(op, "dilation", 2);
  Counts out;
  const Slice all{{0, y[2]}, {0, y[3]}, {0, w[2]}, {0, w[3]}};
  for_each_point(all, [&](const std::vector<std::int64_t>& p) {
    bool is_inside = true;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::int64_t at = stride[i] * p[i] + dilation[i] * p[2 + i] - padding[i];
      is_inside = is_inside && at >= 0 && at < x[2 + i];
    }
    const std::int64_t macs = y[0] * y[1] * w[1];
    out.all += macs;
    out.inside += is_inside ? macs : 0;
  });
  return out;
}

TEST(Flops, OfConvolutionGradientsAreTheForwardsForAllShapes) {
  std::mt19937 rng(7);
  const auto pick = [&rng](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(rng);
  };
  for (int round = 0; round < 300; ++round) {
    const int groups = pick(1, 3);
    const int n = pick(1, 2), c = pick(1, 2), o = pick(1, 2);
    std::vector<int> h, k, s, p, d, y;
    for (int i = 0; i < 2; ++i) {
      k.push_back(pick(1, 3));
      s.push_back(pick(1, 3));
      p.push_back(pick(0, 2));
      d.push_back(pick(1, 2));
      h.push_back(pick(d[i] * (k[i] - 1) + 1, 9));
      y.push_back((h[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1) / s[i] + 1);
    }
    const Graph graph =
        convolution(fmt::format("[{},{},{},{}]", n, groups * c, h[0], h[1]),
                    fmt::format("[{},{},{},{}]", groups * o, c, k[0], k[1]),
                    fmt::format("[{},{},{},{}]", n, groups * o, y[0], y[1]),
                    fmt::format("dilation=[{},{}], groups={}, padding=[{},{}], stride=[{},{}]",
                                d[0], d[1], groups, p[0], p[1], s[0], s[1]));
    const Counts counts = enumerate(graph);
    for (const Op& op : graph.ops) {
      const LoopNest nest = nest_of(graph, op);
      ASSERT_EQ(flops(nest).count(), 2 * counts.all) << op.info->name << " round " << round;
      ASSERT_EQ(macs_inside(nest), counts.inside) << op.info->name << " round " << round;
    }
  }
}

// --- maps that say what an op reads: a move executed by its nest alone gives the op's result ---
std::int64_t flat(const Shape& shape, const Element& element) {
  std::int64_t index = 0;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    index = index * shape[dim] + element[dim];
  }
  return index;
}

// Flat input index for each flat output index (-1: pad) of a one-operand move.
std::vector<std::int64_t> moved(const Graph& graph, const Op& op) {
  const LoopNest nest = nest_of(graph, op);
  const Stage& stage = nest.stages[0];
  const Operand& write = stage.operands.back();
  std::vector<std::int64_t> out(static_cast<std::size_t>(element_count(write.shape)), -2);
  for_each_point(whole_slice(nest), [&](const std::vector<std::int64_t>& point) {
    Element source;
    bool is_inside = true;
    for (std::size_t dim = 0; dim < stage.operands[0].access.size(); ++dim) {
      const auto index = index_at(std::get<Affine>(stage.operands[0].access[dim]), point);
      is_inside =
          is_inside && index.has_value() && *index >= 0 && *index < stage.operands[0].shape[dim];
      source.push_back(index.value_or(0));
    }
    out[static_cast<std::size_t>(flat(write.shape, element_at(write, point)))] =
        is_inside ? flat(stage.operands[0].shape, source) : -1;
  });
  return out;
}

std::vector<std::int64_t> moved(std::string_view statement) {
  const Graph graph =
      parsed_body(fmt::format("%x = input f32[2,3,4] \"x\"\n{} @\"\" fwd", statement));
  return moved(graph, graph.ops[0]);
}

TEST(MoveNest, OfAViewIsTheIdentityOnFlatIndices) {
  for (const char* size : {"24", "6,4", "2,12", "2,3,2,2", "1,24,1", "2,1,3,4"}) {
    const std::vector<std::int64_t> found =
        moved(fmt::format("%y = aten.view(%x) {{size=[{0}]}} : f32[{0}]", size));
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i], static_cast<std::int64_t>(i)) << size;
    }
  }
}

TEST(MoveNest, OfAViewWithoutCommonRefinementNeedsTheWholeGroup) {
  const Graph graph = parsed_body(
      "%x = input f32[5,6,4] \"x\"\n%y = aten.view(%x) {size=[5,4,6]} : f32[5,4,6] @\"\" fwd");
  const LoopNest nest = nest_of(graph, graph.ops[0]);
  const Operand& x = nest.stages[0].operands[0];
  EXPECT_TRUE(std::holds_alternative<Affine>(x.access[0]));
  EXPECT_TRUE(std::holds_alternative<Whole>(x.access[1]));
  EXPECT_TRUE(std::holds_alternative<Whole>(x.access[2]));
}

TEST(MoveNest, GivesTheElementsOfPermuteSlicePadFlipAndRepeat) {
  const auto at = [](std::int64_t a, std::int64_t b, std::int64_t c) {
    return (a * 3 + b) * 4 + c;
  };
  EXPECT_EQ(moved("%y = aten.permute(%x) {dims=[2,0,1]} : f32[4,2,3]")[5], at(1, 2, 0));
  EXPECT_EQ(moved("%y = aten.transpose(%x) {dim0=0, dim1=1} : f32[3,2,4]")[4 + 3], at(1, 0, 3));
  EXPECT_EQ(moved("%y = aten.slice(%x) {dim=2, start=1, step=2} : f32[2,3,2]")[1], at(0, 0, 3));
  EXPECT_EQ(moved("%y = aten.select(%x) {dim=1, index=-1} : f32[2,4]")[4], at(1, 2, 0));
  EXPECT_EQ(moved("%y = aten.flip(%x) {dims=[0,2]} : f32[2,3,4]")[0], at(1, 0, 3));
  EXPECT_EQ(moved("%y = aten.expand(%x) {size=[5,2,3,4]} : f32[5,2,3,4]")[24], at(0, 0, 0));
  EXPECT_EQ(moved("%y = aten.repeat(%x) {repeats=[1,2,1]} : f32[2,6,4]")[3 * 4], at(0, 0, 0));
  const auto padded = moved("%y = aten.constant_pad_nd(%x) {pad=[1,0,-1,0]} : f32[2,2,5]");
  EXPECT_EQ(padded[0], -1);
  EXPECT_EQ(padded[1], at(0, 1, 0));
  const auto spread = moved(
      "%y = aten.slice_backward(%x) {dim=1, end=6, input_sizes=[2,6,4], start=1, step=2} : "
      "f32[2,6,4]");
  EXPECT_EQ(spread[0], -1);
  EXPECT_EQ(spread[4], at(0, 0, 0));
  EXPECT_EQ(spread[8], -1);
  EXPECT_EQ(spread[12], at(0, 1, 0));
}

// Every output whose window holds an input element is among those its gradient gathers from.
TEST(PoolNest, GradientsGatherFromEachWindowThatHoldsTheElement) {
  std::mt19937 rng(5);
  const auto pick = [&rng](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(rng);
  };
  for (int round = 0; round < 100; ++round) {
    const int from = pick(1, 12), to = pick(1, 12);
    const Graph graph = parsed_body(fmt::format(
        "%x = input f32[1,1,{0},1] \"x\"\n"
        "%a = aten._adaptive_avg_pool2d(%x) {{output_size=[{1},1]}} : f32[1,1,{1},1] @\"\" fwd\n"
        "%da = aten._adaptive_avg_pool2d_backward(%a, %x) : f32[1,1,{0},1] @\"\" bwd\n"
        "%n = aten.upsample_nearest2d(%x) {{output_size=[{1},1]}} : f32[1,1,{1},1] @\"\" fwd\n"
        "%dn = aten.upsample_nearest2d_backward(%n) {{input_size=[1,1,{0},1], output_size=[{1},1]}}"
        " : f32[1,1,{0},1] @\"\" bwd\n"
        "%b = aten.upsample_bilinear2d(%x) {{align_corners={2}, output_size=[{1},1]}} : "
        "f32[1,1,{1},1] @\"\" fwd\n"
        "%db = aten.upsample_bilinear2d_backward(%b) {{align_corners={2}, "
        "input_size=[1,1,{0},1], output_size=[{1},1]}} : f32[1,1,{0},1] @\"\" bwd\n",
        from, to, round % 2 == 0 ? "true" : "false"));
    // Pairs (input row, output row) that a nest says it reads.
    const auto pairs = [&](const Op& op, bool is_gradient) {
      std::set<std::pair<std::int64_t, std::int64_t>> out;
      const LoopNest nest = nest_of(graph, op);
      const Stage& stage = nest.stages[0];
      for_each_point(whole_slice(nest), [&](const std::vector<std::int64_t>& point) {
        const auto read = index_at(std::get<Affine>(stage.operands[0].access[2]), point);
        const auto written = index_at(std::get<Affine>(stage.operands.back().access[2]), point);
        if (*read >= 0 && *read < stage.operands[0].shape[2]) {
          out.insert(is_gradient ? std::pair(*written, *read) : std::pair(*read, *written));
        }
      });
      return out;
    };
    for (const std::size_t forward : {0u, 2u, 4u}) {
      const auto read = pairs(graph.ops[forward], false);
      const auto gathered = pairs(graph.ops[forward + 1], true);
      // Taps beyond a window's own end have weight 0; those that count must be there.
      const bool is_adaptive = forward == 0;
      for (const auto& [h, y] : read) {
        const bool counts =
            !is_adaptive || (h >= y * from / to && h < ((y + 1) * from + to - 1) / to);
        if (counts) {
          EXPECT_TRUE(gathered.contains({h, y})) << forward << ": " << from << " to " << to;
        }
      }
    }
  }
}

TEST(MatrixRoles, OfAConvolutionAreThoseOfItsProduct) {
  const Graph graph = convolution("[2,6,9,9]", "[8,3,3,3]", "[2,8,7,7]", "groups=2");
  const auto names = [&](const LoopNest& nest, const std::vector<int>& loops) {
    std::string out;
    for (const int loop : loops) {
      out += (out.empty() ? "" : " ") + nest.loops[loop].name;
    }
    return out;
  };
  const std::vector<std::array<std::string, 4>> expected{{"n y x", "o", "c ky kx", "g"},
                                                         {"n h w", "c", "o ky kx", "g"},
                                                         {"o", "c ky kx", "n y x", "g"}};
  for (std::size_t i = 0; i < 3; ++i) {
    const LoopNest nest = nest_of(graph, graph.ops[i]);
    const MatrixRoles roles = matrix_roles(nest.stages[0]);
    EXPECT_EQ(names(nest, roles.m), expected[i][0]);
    EXPECT_EQ(names(nest, roles.n), expected[i][1]);
    EXPECT_EQ(names(nest, roles.k), expected[i][2]);
    EXPECT_EQ(names(nest, roles.batch), expected[i][3]);
  }
}

TEST(Bytes, OfAnEmbeddingAreTheRowsItCanTouch) {
  const Graph graph = parsed_body(
      "%w = weight f32[1000,8] \"w\"\n%i = input i64[4,5] \"i\"\n"
      "%y = aten.embedding(%w, %i) : f32[4,5,8] @\"\" fwd");
  const LoopNest nest = nest_of(graph, graph.ops[0]);
  const Stage& stage = nest.stages[0];
  EXPECT_EQ(bytes(stage, read_of(stage, 0), whole_slice(nest), Format::F32).count(), 20 * 8 * 4);
  EXPECT_EQ(bytes(stage, read_of(stage, 0), with_loop(nest, "t0", {0, 1}), Format::F32).count(),
            5 * 8 * 4);
  EXPECT_TRUE(contains(stage, read_of(stage, 0), *nest.loop_named("t1")));
}

TEST(Work, OfAnEmbeddingGradientIsOnePointPerIndexAndElement) {
  const Graph graph = parsed_body(
      "%g = input f32[4,5,8] \"g\"\n%i = input i64[4,5] \"i\"\n"
      "%y = aten.embedding_dense_backward(%g, %i) {num_weights=1000, padding_idx=-1} : "
      "f32[1000,8] @\"\" bwd");
  const LoopNest nest = nest_of(graph, graph.ops[0]);
  EXPECT_EQ(work(nest, nest.stages[0]).points, 4 * 5 * 8);
  EXPECT_EQ(work(nest, nest.stages[0]).results, 1000 * 8);
  // A slice of the rows gets its share of the indices, rounded up.
  EXPECT_EQ(work(nest, nest.stages[0], with_loop(nest, "v", {0, 500})).points, 80);
  EXPECT_EQ(work(nest, nest.stages[0], with_loop(nest, "v", {0, 1})).points, 5 * 8);
}

}  // namespace
}  // namespace dojo::graph
