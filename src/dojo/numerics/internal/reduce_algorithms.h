// The reductions of reduce.h on the vocabulary of lanes_avx512.h and lanes_avx2.h. This text is
// included twice, in the namespaces avx512 and avx2.
// Up to four vectors of outputs at a time, one per lane: each lane folds its own points in the
// stated order, so the lanes hide the latency of the chain. Lanes run along the innermost parallel
// loop.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

constexpr std::int64_t kMaxLanes = 4 * kLanes;
constexpr std::int64_t kBlockFloats = kMaxLanes * internal::kReduceBlockPoints;

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

class Reducer {
 public:
  Reducer(Reduction reduction, const Storage& input, const internal::ReduceOrder& order, float* out,
          const float* center)
      : reduction_(reduction),
        order_(order),
        data_(static_cast<const std::byte*>(input.data) +
              input.offset * bytes_of(input.type.format)),
        load_(load_of(input.type)),
        out_(out),
        center_(center) {}

  std::int64_t scratch_size() const { return kBlockFloats + kMaxLanes * (order_.levels + 1); }

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

  // Hands the value of a part to as many levels of totals as its end closes.
  template <class Fold, int vectors>
  static void close(const internal::Segment& segment, Floats (&acc)[vectors], float* totals) {
    if (segment.closes == 0) {
      return;
    }
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

 private:
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
    float* const packed = scratch + kMaxLanes * (order_.levels + 1);
    const std::int64_t index = row * order_.lanes.extent + first;
    const std::int64_t last = lanes - (vectors - 1) * kLanes;  // in the last vector
    Floats center[vectors];
    Floats acc[vectors];
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t count = v + 1 == vectors ? last : kLanes;
      center[v] = center_ != nullptr ? load_floats(center_ + index + v * kLanes, count) : all(0.0F);
      acc[v] = all(Fold::kStart);
    }
    const std::byte* base =
        data_ +
        (internal::offset_of(order_.parallel, row) + first * order_.lanes.stride) * Load::kBytes;
    if (order_.lanes.stride == 1) {  // lanes adjoin in memory
      for (const internal::ReduceRun& run : order_.runs) {
        const std::byte* at = base + run.offset * Load::kBytes;
        for (std::int64_t k = 0; k < run.segment.points; ++k) {
          for (int v = 0; v < vectors; ++v) {
            const std::byte* from = at + v * kLanes * Load::kBytes;
            const Floats x = v + 1 == vectors ? load_first(load, from, last) : load(from);
            acc[v] = Fold::fold(acc[v], x, center[v]);
          }
          at += order_.point_stride * Load::kBytes;
        }
        close<Fold, vectors>(run.segment, acc, totals);
      }
    }
    for (const internal::ReduceBlock& block : order_.blocks) {
      pack_block<vectors>(load, block, base, lanes, packed);
      for (std::size_t i = block.first_run; i < block.end_run; ++i) {
        const float* from = packed + order_.runs[i].in_block * vectors * kLanes;
        for (std::int64_t p = 0; p < order_.runs[i].segment.points; ++p, from += vectors * kLanes) {
          for (int v = 0; v < vectors; ++v) {
            acc[v] = Fold::fold(acc[v], load_floats(from + v * kLanes), center[v]);
          }
        }
        close<Fold, vectors>(order_.runs[i].segment, acc, totals);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      Floats value = order_.levels == 0
                         ? acc[v]
                         : load_floats(totals + (order_.levels - 1) * kMaxLanes + v * kLanes);
      if (reduction_ == Reduction::Mean) {
        value = divide(value, all(static_cast<float>(order_.points)));
      }
      store_floats(out_ + index + v * kLanes, value, v + 1 == vectors ? last : kLanes);
    }
  }

  template <int vectors, class Load>
  void pack_block(const Load& load, const internal::ReduceBlock& block, const std::byte* base,
                  std::int64_t lanes, float* to) const {
    for (std::size_t i = block.first_stretch; i < block.end_stretch; ++i) {
      const internal::ReduceStretch& stretch = order_.stretches[i];
      const Panel panel{base + stretch.begin * Load::kBytes, order_.lanes.stride,
                        order_.point_stride, lanes, stretch.points};
      pack(load, panel, to, vectors * kLanes);
      to += stretch.points * vectors * kLanes;
    }
  }

  Reduction reduction_;
  const internal::ReduceOrder& order_;
  const std::byte* data_;
  AnyLoad load_;
  float* out_;
  const float* center_;
};

// Runs a reducer on all outputs, `most` lanes at a time if that leaves work for all threads; where
// there are fewer vectors of outputs than threads, parts of vectors.
template <class R>
void run_all(ThreadPool& pool, const R& reducer, const internal::ReduceOrder& order,
             std::int64_t most) {
  if (order.outputs == 0) {
    return;
  }
  const std::int64_t extent = order.lanes.extent;
  const std::int64_t rows = order.outputs / extent;
  const std::int64_t threads = pool.threads();
  std::int64_t lanes = order.outputs >= most * 2 * threads || threads == 1 ? most : kLanes;
  lanes = std::min(lanes, internal::ceil_divide(extent, internal::ceil_divide(threads, rows)));
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

void reduce_some(Reduction reduction, const Storage& input, const internal::ReduceOrder& order,
                 std::int64_t count, float* out, const float* center) {
  const Reducer reducer(reduction, input, order, out, center);
  internal::BufferPool scratch(reducer.scratch_size());
  internal::BufferPool::Lease lease(scratch);
  for (std::int64_t first = 0; first < count; first += kMaxLanes) {
    reducer.run(0, first, std::min(kMaxLanes, count - first), lease.data());
  }
}

}  // namespace
