// The reductions of reduce.h on the vocabulary of lanes_avx512.h and lanes_avx2.h. This text is
// included twice, in the namespaces avx512 and avx2.
// Up to four vectors of outputs at a time, one per lane: each lane folds its own points in the
// stated order, so the lanes hide the latency of the chain. Lanes run along the innermost parallel
// loop.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

constexpr std::int64_t kMaxLanes = 4 * kLanes;
// PERF: a packed block of 64 lanes is 32 KiB, two thirds of a 48 KiB L1.
constexpr std::int64_t kBlockPoints = 128;

struct FoldSum {
  static constexpr float kStart = 0;
  static Floats fold(Floats acc, Floats x, Floats /*center*/) { return add(acc, x); }
  static Floats combine(Floats total, Floats part) { return add(total, part); }
};

struct FoldSquares : FoldSum {
  static Floats fold(Floats acc, Floats x, Floats /*center*/) { return fused(x, x, acc); }
};

struct FoldDeviations : FoldSum {
  static Floats fold(Floats acc, Floats x, Floats center) {
    const Floats d = subtract(x, center);
    return fused(d, d, acc);
  }
};

struct FoldMax {
  static constexpr float kStart = -std::numeric_limits<float>::infinity();
  static Floats fold(Floats acc, Floats x, Floats /*center*/) { return combine(acc, x); }
  static Floats combine(Floats total, Floats x) { return larger_or_first_nan(total, x); }
};

// Points along the innermost reduce loop, and what their end closes.
struct Run {
  std::int64_t offset = 0;  // in elements, of its first point
  internal::Segment segment;
};

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

std::int64_t offset_of(std::span<const StridedLoop> loops, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t i = loops.size(); i-- > 0;) {
    offset += index % loops[i].extent * loops[i].stride;
    index /= loops[i].extent;
  }
  return offset;
}

class Reducer {
 public:
  Reducer(Reduction reduction, const Storage& input, const ReduceSpace& space,
          const ReduceCuts& cuts, float* out, const float* center)
      : reduction_(reduction),
        data_(static_cast<const std::byte*>(input.data) +
              input.offset * bytes_of(input.type.format)),
        load_(load_of(input.type)),
        out_(out),
        center_(center),
        parallel_(joined(space.parallel)) {
    for (const StridedLoop& loop : space.parallel) {
      outputs_ *= loop.extent;
    }
    if (parallel_.empty()) {
      parallel_.push_back({1, 0});
    }
    lanes_ = parallel_.back();
    parallel_.pop_back();
    make_runs(space, cuts);
  }

  std::int64_t outputs() const { return outputs_; }
  std::int64_t lane_loop() const { return lanes_.extent; }
  std::int64_t scratch_size() const { return kMaxLanes * (kBlockPoints + levels_ + 1); }

  // Outputs first .. first + lanes of the `row`-th pass of the innermost parallel loop.
  void run(std::int64_t row, std::int64_t first, std::int64_t lanes, float* scratch) const {
    with_load(load_, [&](const auto& load) {
      switch (reduction_) {
        case Reduction::Sum:
        case Reduction::Mean:
          return run_with<FoldSum>(load, row, first, lanes, scratch);
        case Reduction::Max:
          return run_with<FoldMax>(load, row, first, lanes, scratch);
        case Reduction::SumOfSquares:
          return run_with<FoldSquares>(load, row, first, lanes, scratch);
        case Reduction::SumOfSquaredDeviations:
          return run_with<FoldDeviations>(load, row, first, lanes, scratch);
      }
    });
  }

 private:
  void make_runs(const ReduceSpace& space, const ReduceCuts& cuts) {
    std::vector<StridedLoop> loops = space.reduce;
    std::vector<std::int64_t> extent;
    for (const StridedLoop& loop : loops) {
      extent.push_back(loop.extent);
      points_ *= loop.extent;
    }
    levels_ = internal::cut_levels(extent, cuts);
    if (levels_ == 0) {
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
    point_stride_ = loops.back().stride;
    internal::for_each_part(extent, levels_ == 0 ? ReduceCuts{} : cuts,
                            [&](const internal::Part& part) { add_part(loops, part); });
  }

  void add_part(const std::vector<StridedLoop>& loops, const internal::Part& part) {
    const std::size_t inner = loops.size() - 1;
    std::vector<std::int64_t> at(part.begin.begin(), part.begin.end());
    internal::Segment none;
    none.points = static_cast<std::int32_t>(part.end[inner] - part.begin[inner]);
    while (true) {
      std::int64_t offset = 0;
      for (std::size_t i = 0; i < loops.size(); ++i) {
        offset += at[i] * loops[i].stride;
      }
      runs_.push_back({offset, none});
      std::size_t i = inner;
      while (i > 0 && ++at[i - 1] >= part.end[i - 1]) {
        at[i - 1] = part.begin[i - 1];
        --i;
      }
      if (i == 0) {
        break;
      }
    }
    runs_.back().segment.closes = part.segment.closes;
    runs_.back().segment.first = part.segment.first;
  }

  template <class Fold, class Load>
  void run_with(const Load& load, std::int64_t row, std::int64_t first, std::int64_t lanes,
                float* scratch) const {
    switch ((lanes + kLanes - 1) / kLanes) {
      case 1:
        return fold_lanes<Fold, 1>(load, row, first, lanes, scratch);
      case 2:
        return fold_lanes<Fold, 2>(load, row, first, lanes, scratch);
      case 3:
        return fold_lanes<Fold, 3>(load, row, first, lanes, scratch);
      default:
        return fold_lanes<Fold, 4>(load, row, first, lanes, scratch);
    }
  }

  template <class Fold, int vectors, class Load>
  void fold_lanes(const Load& load, std::int64_t row, std::int64_t first, std::int64_t lanes,
                  float* scratch) const {
    float* const totals = scratch;  // one row per level
    float* const packed = scratch + kMaxLanes * (levels_ + 1);
    const std::int64_t index = row * lanes_.extent + first;
    const std::int64_t last = lanes - (vectors - 1) * kLanes;  // in the last vector
    Floats center[vectors];
    Floats acc[vectors];
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t count = v + 1 == vectors ? last : kLanes;
      center[v] = center_ != nullptr ? load_floats(center_ + index + v * kLanes, count) : all(0.0F);
      acc[v] = all(Fold::kStart);
    }
    const std::byte* base =
        data_ + (offset_of(parallel_, row) + first * lanes_.stride) * Load::kBytes;
    for (const Run& run : runs_) {
      const std::byte* at = base + run.offset * Load::kBytes;
      if (lanes_.stride == 1) {  // lanes adjoin in memory
        for (std::int64_t k = 0; k < run.segment.points; ++k) {
          for (int v = 0; v < vectors; ++v) {
            const std::byte* from = at + v * kLanes * Load::kBytes;
            const Floats x = v + 1 == vectors ? load_first(load, from, last) : load(from);
            acc[v] = Fold::fold(acc[v], x, center[v]);
          }
          at += point_stride_ * Load::kBytes;
        }
      } else {
        for (std::int64_t k = 0; k < run.segment.points; k += kBlockPoints) {
          const std::int64_t points = std::min(kBlockPoints, run.segment.points - k);
          const Panel panel{at + k * point_stride_ * Load::kBytes, lanes_.stride, point_stride_,
                            lanes, points};
          pack(load, panel, packed, vectors * kLanes);
          for (std::int64_t p = 0; p < points; ++p) {
            for (int v = 0; v < vectors; ++v) {
              const Floats x = load_floats(packed + (p * vectors + v) * kLanes);
              acc[v] = Fold::fold(acc[v], x, center[v]);
            }
          }
        }
      }
      if (run.segment.closes > 0) {
        close<Fold, vectors>(run.segment, acc, totals);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      Floats value =
          levels_ == 0 ? acc[v] : load_floats(totals + (levels_ - 1) * kMaxLanes + v * kLanes);
      if (reduction_ == Reduction::Mean) {
        value = divide(value, all(static_cast<float>(points_)));
      }
      store_floats(out_ + index + v * kLanes, value, v + 1 == vectors ? last : kLanes);
    }
  }

  template <class Fold, int vectors>
  static void close(const internal::Segment& segment, Floats (&acc)[vectors], float* totals) {
    for (int v = 0; v < vectors; ++v) {
      Floats value = acc[v];
      for (std::int32_t level = 0; level < segment.closes; ++level) {
        float* total = totals + level * kMaxLanes + v * kLanes;
        const bool is_first = ((segment.first >> level) & 1u) != 0;
        value = is_first ? value : Fold::combine(load_floats(total), value);
        store_floats(total, value, kLanes);
      }
      acc[v] = all(Fold::kStart);
    }
  }

  Reduction reduction_;
  const std::byte* data_;
  AnyLoad load_;
  float* out_;
  const float* center_;
  std::vector<StridedLoop> parallel_;  // without the innermost
  StridedLoop lanes_;
  std::int64_t outputs_ = 1;
  std::int64_t points_ = 1;
  std::int64_t point_stride_ = 0;
  int levels_ = 0;
  std::vector<Run> runs_;
};

void reduce_lanes(ThreadPool& pool, Reduction reduction, const Storage& input,
                  const ReduceSpace& space, const ReduceCuts& cuts, float* out,
                  const float* center) {
  const Reducer reducer(reduction, input, space, cuts, out, center);
  if (reducer.outputs() == 0) {
    return;
  }
  // All lanes if that leaves work for all threads.
  const std::int64_t extent = reducer.lane_loop();
  const std::int64_t rows = reducer.outputs() / extent;
  const bool is_wide = reducer.outputs() >= kMaxLanes * 2 * pool.threads();
  const std::int64_t lanes = is_wide || pool.threads() == 1 ? kMaxLanes : kLanes;
  const std::int64_t groups = (extent + lanes - 1) / lanes;
  internal::BufferPool scratch(reducer.scratch_size());
  pool.parallel_for(rows * groups, std::max<std::int64_t>(1, rows * groups / (4 * pool.threads())),
                    [&](std::int64_t begin, std::int64_t end) {
                      internal::BufferPool::Lease lease(scratch);
                      for (std::int64_t task = begin; task < end; ++task) {
                        const std::int64_t first = task % groups * lanes;
                        reducer.run(task / groups, first, std::min(lanes, extent - first),
                                    lease.data());
                      }
                    });
}

}  // namespace
