#include "dojo/numerics/internal/reduce_order.h"

#include <cstddef>
#include <utility>

namespace dojo::numerics::internal {
namespace {

// Loops with the same points in the same order, fewer where neighbours adjoin.
std::vector<StridedLoop> joined(const std::vector<StridedLoop>& loops) {
  std::vector<StridedLoop> out;
  for (const StridedLoop& loop : loops) {
    if (loop.extent == 1) {
      continue;
    }
    if (!out.empty() && out.back().stride == loop.stride * loop.extent) {
      out.back() = {out.back().extent * loop.extent, loop.stride};
    } else {
      out.push_back(loop);
    }
  }
  return out;
}

class OrderMaker {
 public:
  explicit OrderMaker(ReduceOrder& order) : order_(order) {}

  void make_runs(const ReduceSpace& space, const ReduceCuts& cuts) {
    std::vector<StridedLoop> loops = space.reduce;
    std::vector<std::int64_t> extent;
    for (const StridedLoop& loop : loops) {
      extent.push_back(loop.extent);
      order_.points *= loop.extent;
    }
    order_.levels = cut_levels(extent, cuts);
    if (order_.levels == 0) {
      loops = joined(loops);
      extent.clear();
      for (const StridedLoop& loop : loops) {
        extent.push_back(loop.extent);
      }
    }
    if (loops.empty()) {
      loops.push_back({1, 0});
      extent.push_back(1);
    }
    order_.point_stride = loops.back().stride;
    for_each_part(extent, order_.levels == 0 ? ReduceCuts{} : cuts,
                  [&](const Part& part) { add_part(loops, part); });
  }

 private:
  void add_part(const std::vector<StridedLoop>& loops, const Part& part) {
    const std::size_t inner = loops.size() - 1;
    std::vector<std::int64_t> at(part.begin.begin(), part.begin.end());
    Segment none;
    none.points = static_cast<std::int32_t>(part.end[inner] - part.begin[inner]);
    while (true) {
      std::int64_t offset = 0;
      for (std::size_t i = 0; i < loops.size(); ++i) {
        offset += at[i] * loops[i].stride;
      }
      order_.runs.push_back({offset, none});
      std::size_t i = inner;
      while (i > 0 && ++at[i - 1] >= part.end[i - 1]) {
        at[i - 1] = part.begin[i - 1];
        --i;
      }
      if (i == 0) {
        break;
      }
    }
    order_.runs.back().segment.closes = part.segment.closes;
    order_.runs.back().segment.first = part.segment.first;
  }

 public:
  // Parts of an image are short runs of several rows, and a row has many parts side by side. PERF:
  // packed one by one, a run of two points costs a transpose of 16 x 16.
  void make_blocks() {
    split_long_runs();
    std::size_t run = 0;
    while (run < order_.runs.size()) {
      run = add_block(run);
    }
  }

 private:
  void split_long_runs() {
    std::vector<ReduceRun> split;
    for (ReduceRun run : order_.runs) {
      while (run.segment.points > kReduceBlockPoints) {
        ReduceRun head = run;
        head.segment = {.points = kReduceBlockPoints, .closes = 0, .first = 0};
        split.push_back(head);
        run.offset += kReduceBlockPoints * order_.point_stride;
        run.segment.points -= kReduceBlockPoints;
      }
      split.push_back(run);
    }
    order_.runs = std::move(split);
  }

  // As many runs from `first` on as fit; gives the first that does not.
  std::size_t add_block(std::size_t first) {
    const std::size_t first_stretch = order_.stretches.size();
    std::vector<std::size_t> stretch_of;
    std::int64_t total = 0;
    std::size_t i = first;
    for (; i < order_.runs.size() && total + order_.runs[i].segment.points <= kReduceBlockPoints;
         ++i) {
      const std::int64_t points = order_.runs[i].segment.points;
      total += points;
      std::size_t at = first_stretch;
      while (at < order_.stretches.size() && !adjoins(order_.stretches[at], order_.runs[i])) {
        ++at;
      }
      if (at == order_.stretches.size()) {
        order_.stretches.push_back({order_.runs[i].offset, 0});
      }
      order_.runs[i].in_block = order_.stretches[at].points;
      order_.stretches[at].points += points;
      stretch_of.push_back(at);
    }
    order_.blocks.push_back({first_stretch, order_.stretches.size(), first, i});
    std::vector<std::int64_t> begin{0};
    for (std::size_t at = first_stretch; at < order_.stretches.size(); ++at) {
      begin.push_back(begin.back() + order_.stretches[at].points);
    }
    for (std::size_t run = first; run < i; ++run) {
      order_.runs[run].in_block += begin[stretch_of[run - first] - first_stretch];
    }
    return i;
  }

  bool adjoins(const ReduceStretch& stretch, const ReduceRun& run) const {
    return order_.point_stride != 0 &&
           run.offset == stretch.begin + stretch.points * order_.point_stride;
  }

  ReduceOrder& order_;
};

}  // namespace

std::int64_t offset_of(std::span<const StridedLoop> loops, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t i = loops.size(); i-- > 0;) {
    offset += index % loops[i].extent * loops[i].stride;
    index /= loops[i].extent;
  }
  return offset;
}

std::optional<std::int64_t> adjoining_stride(const std::vector<StridedLoop>& loops) {
  const std::vector<StridedLoop> all = joined(loops);
  if (all.size() > 1 || (all.size() == 1 && all.front().stride == 0)) {
    return std::nullopt;
  }
  return all.empty() ? 1 : all.front().stride;
}

ReduceOrder::ReduceOrder(const ReduceSpace& space, const ReduceCuts& cuts)
    : parallel(joined(space.parallel)) {
  for (const StridedLoop& loop : space.parallel) {
    outputs *= loop.extent;
  }
  if (parallel.empty()) {
    parallel.push_back({1, 0});
  }
  lanes = parallel.back();
  parallel.pop_back();
  OrderMaker maker(*this);
  maker.make_runs(space, cuts);
  if (lanes.stride != 1) {
    maker.make_blocks();
  }
}

}  // namespace dojo::numerics::internal
