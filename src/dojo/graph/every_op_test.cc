// What holds for the loop nest of every row of the op table.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "dojo/graph/nest.h"
#include "dojo/graph/test_graphs.h"

namespace dojo::graph {
namespace {

class EveryOp : public testing::Test {
 protected:
  const Graph graph_ = parsed(every_op_text());
};

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

}  // namespace
}  // namespace dojo::graph
