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

// --- all rows ---
class EveryOp : public testing::Test {
 protected:
  const Graph graph_ = parsed(every_op_text());
};

// Elements of a write of a stage: index per dimension at each point of the parallel (and scan)
// loops. Written maps are affine.
using Element = std::vector<std::int64_t>;

Element element_at(const Operand& operand, const std::vector<std::int64_t>& point) {
  Element element;
  for (const Access& access : operand.access) {
    element.push_back(*index_at(std::get<Affine>(access), point));
  }
  return element;
}

Slice parallel_only(const LoopNest& nest, const Stage& stage) {
  Slice slice = only_loops_of(stage, whole_slice(nest));
  for (const StageLoop& each : stage.loops) {
    if (each.kind == LoopKind::Reduce || each.kind == LoopKind::Indexed) {
      slice[each.loop] = {0, 1};
    }
  }
  return slice;
}

TEST_F(EveryOp, IsOwnerForm) {
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    std::set<int> written_outputs;
    for (const Stage& stage : nest.stages) {
      for (const Operand& operand : stage.operands) {
        if (operand.use != OperandUse::Write) {
          continue;
        }
        std::set<Element> elements;
        for_each_point(parallel_only(nest, stage), [&](const std::vector<std::int64_t>& point) {
          EXPECT_TRUE(elements.insert(element_at(operand, point)).second)
              << op.info->name << ": an element is written by two points";
        });
        EXPECT_EQ(static_cast<std::int64_t>(elements.size()), element_count(operand.shape))
            << op.info->name << ": an element is never written";
        for (const StageLoop& each : stage.loops) {
          if (contains(stage, operand, each.loop)) {
            EXPECT_TRUE(each.kind == LoopKind::Parallel || each.kind == LoopKind::Scan)
                << op.info->name << " " << nest.loops[each.loop].name;
          }
        }
        if (operand.tensor.kind == TensorKind::Output) {
          written_outputs.insert(operand.tensor.index);
        }
      }
    }
    for (int i = 0; i < static_cast<int>(op.outputs.size()); ++i) {
      if (op.outputs[i].has_value()) {
        EXPECT_TRUE(written_outputs.contains(i)) << op.info->name << " output " << i;
      }
    }
  }
}

TEST_F(EveryOp, ReadsEachOperandThatIsNotForItsShapeAlone) {
  // Which of its statistics batch norm reads depends on whether it trains.
  const std::set<std::string_view> choosy{"aten.native_batch_norm_backward"};
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    for (int i = 0; i < static_cast<int>(op.inputs.size()); ++i) {
      if (!op.inputs[i].has_value() || choosy.contains(op.info->name)) {
        continue;
      }
      const bool is_read =
          std::any_of(nest.stages.begin(), nest.stages.end(), [i](const Stage& stage) {
            return std::any_of(stage.operands.begin(), stage.operands.end(),
                               [i](const Operand& each) {
                                 return each.tensor == TensorRef{TensorKind::Input, i};
                               });
          });
      const auto operand = std::min<std::size_t>(i, op.info->operands.size() - 1);
      const bool masked_out =
          op.info->name == "aten.convolution_backward" && ints_attr(op, "output_mask")[0] == 0;
      if (!masked_out) {
        EXPECT_EQ(is_read, !op.info->operands[operand].is_shape_only)
            << op.info->name << " operand " << i;
      }
    }
  }
}

TEST_F(EveryOp, HasMapsThatFitItsTensorsAndLoops) {
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    std::set<std::string> names;
    for (const Loop& loop : nest.loops) {
      EXPECT_TRUE(names.insert(loop.name).second) << op.info->name << " " << loop.name;
      EXPECT_GE(loop.extent, 1);
    }
    EXPECT_FALSE(nest.stages.empty()) << op.info->name;
    for (const Stage& stage : nest.stages) {
      bool has_serial = false;  // parallel loops come first
      for (const StageLoop& each : stage.loops) {
        EXPECT_FALSE(has_serial && each.kind == LoopKind::Parallel) << op.info->name;
        has_serial = has_serial || each.kind != LoopKind::Parallel;
      }
      for (const Operand& operand : stage.operands) {
        EXPECT_EQ(operand.access.size(), operand.shape.size()) << op.info->name;
        for (int loop = 0; loop < static_cast<int>(nest.loops.size()); ++loop) {
          EXPECT_TRUE(!contains(stage, operand, loop) || kind_of(stage, loop).has_value())
              << op.info->name << ": a map uses a loop that is not the stage's";
        }
      }
      EXPECT_EQ(stage.per_point.macs > 0, stage.body == BodyClass::Matrix) << op.info->name;
    }
  }
}

// Reduce loops of all stages of one op are in one order, so that k_parts can name them.
TEST_F(EveryOp, ReducesInTheOrderOfItsLoops) {
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    for (const Stage& stage : nest.stages) {
      int last = -1;
      for (const StageLoop& each : stage.loops) {
        if (each.kind == LoopKind::Reduce) {
          EXPECT_GT(each.loop, last) << op.info->name << " " << nest.loops[each.loop].name;
          last = each.loop;
        }
      }
    }
  }
}

// --- proof obligation 2 ---
// Blocks of a loop, the last may be short; all of them cover it once.
std::vector<Interval> blocks(std::int64_t extent, std::int64_t block) {
  std::vector<Interval> out;
  for (std::int64_t begin = 0; begin < extent; begin += block) {
    out.push_back({begin, std::min(extent, begin + block)});
  }
  return out;
}

// All slices of a nest with each loop cut into blocks.
std::vector<Slice> slices(const LoopNest& nest, const std::vector<std::int64_t>& block) {
  std::vector<Slice> out{{}};
  for (std::size_t loop = 0; loop < nest.loops.size(); ++loop) {
    std::vector<Slice> longer;
    for (const Slice& slice : out) {
      for (const Interval& part : blocks(nest.loops[loop].extent, block[loop])) {
        longer.push_back(slice);
        longer.back().push_back(part);
      }
    }
    out = std::move(longer);
  }
  return out;
}

// Random blocks; loops of the whole op are cut one or two at a time to keep it quick.
std::vector<std::int64_t> random_blocks(const LoopNest& nest, std::mt19937& rng) {
  std::vector<std::int64_t> block;
  for (const Loop& loop : nest.loops) {
    const bool is_cut = std::uniform_int_distribution<int>(0, 2)(rng) == 0;
    block.push_back(is_cut ? std::uniform_int_distribution<std::int64_t>(1, loop.extent)(rng)
                           : loop.extent);
  }
  return block;
}

std::int64_t points_of(const Slice& slice) {
  std::int64_t points = 1;
  for (const Interval& loop : slice) {
    points *= loop.length();
  }
  return points;
}

TEST_F(EveryOp, IsTiledByItsSlices) {
  std::mt19937 rng(42);
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    const std::vector<Slice> parts = slices(nest, random_blocks(nest, rng));
    for (const Stage& stage : nest.stages) {
      for (const Operand& operand : stage.operands) {
        if (operand.use == OperandUse::Write) {
          // Parallel slices own disjoint elements; together all.
          std::map<Element, std::set<std::vector<std::int64_t>>> owners;
          for (const Slice& part : parts) {
            std::vector<std::int64_t> owner;
            Slice inside = only_loops_of(stage, part);
            for (const StageLoop& each : stage.loops) {
              if (each.kind == LoopKind::Parallel) {
                owner.push_back(part[each.loop].begin);
              } else if (each.kind != LoopKind::Scan) {
                inside[each.loop] = {0, 1};
              }
            }
            for_each_point(inside, [&](const std::vector<std::int64_t>& point) {
              owners[element_at(operand, point)].insert(owner);
            });
          }
          EXPECT_EQ(static_cast<std::int64_t>(owners.size()), element_count(operand.shape));
          for (const auto& [element, owner] : owners) {
            EXPECT_EQ(owner.size(), 1u) << op.info->name << ": an element has two owners";
          }
        }
      }
    }
  }
}

// What a point reads lies in the footprint of its slice, or outside the tensor.
TEST_F(EveryOp, ReadsInsideTheFootprintOfItsSlices) {
  std::mt19937 rng(43);
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    for (const Stage& stage : nest.stages) {
      for (const Slice& whole_part : slices(nest, random_blocks(nest, rng))) {
        const Slice part = only_loops_of(stage, whole_part);
        if (points_of(part) > 20'000) {
          continue;
        }
        for (const Operand& operand : stage.operands) {
          const std::vector<Interval> needed = footprint(operand, part);
          for_each_point(part, [&](const std::vector<std::int64_t>& point) {
            for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
              const auto* map = std::get_if<Affine>(&operand.access[dim]);
              const auto index = map == nullptr ? std::nullopt : index_at(*map, point);
              if (index.has_value() && *index >= 0 && *index < operand.shape[dim]) {
                ASSERT_TRUE(*index >= needed[dim].begin && *index < needed[dim].end)
                    << op.info->name << " dim " << dim;
              }
            }
          });
        }
      }
    }
  }
}

// Work of slices never falls below their share, and is exact where nothing is shared out.
TEST_F(EveryOp, HasSlicesWhoseWorkAddsUp) {
  std::mt19937 rng(44);
  for (const Op& op : graph_.ops) {
    const LoopNest nest = nest_of(graph_, op);
    for (const Stage& stage : nest.stages) {
      std::int64_t points = 0;
      std::vector<std::int64_t> block = random_blocks(nest, rng);
      for (int loop = 0; loop < static_cast<int>(block.size()); ++loop) {
        if (!kind_of(stage, loop).has_value()) {
          block[loop] = nest.loops[loop].extent;
        }
      }
      for (const Slice& part : slices(nest, block)) {
        points += work(nest, stage, part).points;
      }
      bool is_shared_out = false;
      for (const StageLoop& each : stage.loops) {
        is_shared_out = is_shared_out || each.picks.has_value();
      }
      for (const Operand& operand : stage.operands) {
        for (const Access& access : operand.access) {
          const auto* map = std::get_if<Affine>(&access);
          is_shared_out = is_shared_out || (map != nullptr && map->counted_loop.has_value());
        }
      }
      if (is_shared_out) {
        EXPECT_GE(points, work(nest, stage).points) << op.info->name;
      } else {
        EXPECT_EQ(points, work(nest, stage).points) << op.info->name;
        EXPECT_EQ(points, points_of(only_loops_of(stage, whole_slice(nest)))) << op.info->name;
      }
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
}

}  // namespace
}  // namespace dojo::graph
