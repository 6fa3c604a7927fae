// PreparedReduction::run_norm_gradient of reduce.h on the vocabulary of lanes_avx512.h and
// lanes_avx2.h, after reduce_algorithms.h. This text is included twice, in the namespaces avx512
// and avx2.
// NOLINT(llvm-header-guard): included more than once on purpose.

namespace {

// Folds the four sums of up to two vectors of outputs in one walk over both tensors.
class NormGradientReducer {
 public:
  // PERF: four sums and three constants of two vectors are 14 registers, and eight chains hide the
  // latency of an addition.
  static constexpr std::int64_t kMostLanes = 2 * kLanes;

  NormGradientReducer(const Storage& dy, const Storage& x, const internal::ReduceOrder& order,
                      const NormConstants& constants, std::int64_t unit,
                      const NormGradientSums& sums)
      : order_(order), dy_(dy), x_(x), constants_(constants), unit_(unit), sums_(sums) {}

  std::int64_t scratch_size() const {
    return 2 * kMostLanes * internal::kReduceBlockPoints + kSums * level_floats();
  }

  // Outputs first .. first + lanes of the `row`-th pass of the innermost parallel loop.
  void run(std::int64_t row, std::int64_t first, std::int64_t lanes, float* scratch) const {
    if (constants_.mean.is_of_points) {
      constants_.weight.is_of_points ? run_with<true, true>(row, first, lanes, scratch)
                                     : run_with<true, false>(row, first, lanes, scratch);
    } else {
      constants_.weight.is_of_points ? run_with<false, true>(row, first, lanes, scratch)
                                     : run_with<false, false>(row, first, lanes, scratch);
    }
  }

 private:
  static constexpr int kSums = 4;

  // A tensor with its loads.
  struct Tensor {
    explicit Tensor(const Storage& storage)
        : data(static_cast<const std::byte*>(storage.data) +
               storage.offset * bytes_of(storage.type.format)),
          load(load_of(storage.type)) {}
    const std::byte* data;
    AnyLoad load;
  };

  // Constants of points are in the state of no lane.
  template <int vectors>
  struct Lanes {
    Floats mean[vectors];
    Floats rstd[vectors];
    Floats weight[vectors];
    Floats acc[kSums][vectors];
  };

  // Packed points of both tensors, and the index of the first among all points.
  struct Points {
    const float* dy = nullptr;
    const float* x = nullptr;
    std::int64_t count = 0;
    std::int64_t first = 0;
  };

  std::int64_t level_floats() const { return kMaxLanes * (order_.levels + 1); }

  template <bool has_point_stats, bool has_point_weight>
  void run_with(std::int64_t row, std::int64_t first, std::int64_t lanes, float* scratch) const {
    lanes > kLanes ? fold_lanes<2, has_point_stats, has_point_weight>(row, first, lanes, scratch)
                   : fold_lanes<1, has_point_stats, has_point_weight>(row, first, lanes, scratch);
  }

  template <int vectors, bool has_point_stats, bool has_point_weight>
  void fold_lanes(std::int64_t row, std::int64_t first, std::int64_t lanes, float* scratch) const {
    float* const packed_dy = scratch;
    float* const packed_x = packed_dy + vectors * kLanes * internal::kReduceBlockPoints;
    float* const totals = scratch + 2 * kMostLanes * internal::kReduceBlockPoints;
    const std::int64_t index = row * order_.lanes.extent + first;
    const std::int64_t base =
        internal::offset_of(order_.parallel, row) + first * order_.lanes.stride;
    Lanes<vectors> state{};
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t at = index + v * kLanes;
      const std::int64_t count = std::min<std::int64_t>(kLanes, lanes - v * kLanes);
      if constexpr (!has_point_stats) {
        state.mean[v] = load_floats(constants_.mean.data + at, count);
        state.rstd[v] = load_floats(constants_.rstd.data + at, count);
      }
      if constexpr (!has_point_weight) {
        state.weight[v] = load_floats(constants_.weight.data + at, count);
      }
      for (int s = 0; s < kSums; ++s) {
        state.acc[s][v] = all(0.0F);
      }
    }
    const auto pack_both = [&](std::int64_t begin, std::int64_t points, std::int64_t to) {
      pack_points<vectors>(dy_, base + begin, lanes, points, packed_dy + to * vectors * kLanes);
      pack_points<vectors>(x_, base + begin, lanes, points, packed_x + to * vectors * kLanes);
    };
    if (order_.lanes.stride == 1) {  // lanes adjoin in memory: no blocks
      for (const internal::ReduceRun& run : order_.runs) {
        for (std::int64_t done = 0; done < run.segment.points;) {
          const std::int64_t points =
              std::min(internal::kReduceBlockPoints, run.segment.points - done);
          const std::int64_t begin = run.offset + done * order_.point_stride;
          pack_both(begin, points, 0);
          fold_points<vectors, has_point_stats, has_point_weight>(
              {packed_dy, packed_x, points, begin / unit_}, state);
          done += points;
        }
        close_sums<vectors>(run.segment, state, totals);
      }
    }
    for (const internal::ReduceBlock& block : order_.blocks) {
      std::int64_t to = 0;
      for (std::size_t i = block.first_stretch; i < block.end_stretch; ++i) {
        pack_both(order_.stretches[i].begin, order_.stretches[i].points, to);
        to += order_.stretches[i].points;
      }
      for (std::size_t i = block.first_run; i < block.end_run; ++i) {
        const internal::ReduceRun& run = order_.runs[i];
        const std::int64_t at = run.in_block * vectors * kLanes;
        fold_points<vectors, has_point_stats, has_point_weight>(
            {packed_dy + at, packed_x + at, run.segment.points, run.offset / unit_}, state);
        close_sums<vectors>(run.segment, state, totals);
      }
    }
    store_sums<vectors>(state, totals, index, lanes);
  }

  template <int vectors>
  void pack_points(const Tensor& tensor, std::int64_t begin, std::int64_t lanes,
                   std::int64_t points, float* to) const {
    with_load(tensor.load, [&]<class Load>(const Load& load) {
      const Panel panel{tensor.data + begin * Load::kBytes, order_.lanes.stride,
                        order_.point_stride, lanes, points};
      pack(load, panel, to, vectors * kLanes);
    });
  }

  template <int vectors, bool has_point_stats, bool has_point_weight>
  void fold_points(const Points& points, Lanes<vectors>& state) const {
    Lanes<vectors> s = state;  // in registers
    for (std::int64_t p = 0; p < points.count; ++p) {
      for (int v = 0; v < vectors; ++v) {
        if constexpr (has_point_stats) {
          s.mean[v] = all(constants_.mean.data[points.first + p]);
          s.rstd[v] = all(constants_.rstd.data[points.first + p]);
        }
        if constexpr (has_point_weight) {
          s.weight[v] = all(constants_.weight.data[points.first + p]);
        }
        const std::int64_t at = (p * vectors + v) * kLanes;
        const Floats dy = load_floats(points.dy + at);
        const Floats h = multiply(subtract(load_floats(points.x + at), s.mean[v]), s.rstd[v]);
        const Floats g = multiply(dy, s.weight[v]);
        s.acc[0][v] = add(s.acc[0][v], g);
        s.acc[1][v] = add(s.acc[1][v], multiply(g, h));
        s.acc[2][v] = add(s.acc[2][v], multiply(dy, h));
        s.acc[3][v] = add(s.acc[3][v], dy);
      }
    }
    state = s;
  }

  template <int vectors>
  void close_sums(const internal::Segment& segment, Lanes<vectors>& state, float* totals) const {
    for (int s = 0; s < kSums; ++s) {
      Reducer::close<FoldSum, vectors>(segment, state.acc[s], totals + s * level_floats());
    }
  }

  template <int vectors>
  void store_sums(const Lanes<vectors>& state, const float* totals, std::int64_t index,
                  std::int64_t lanes) const {
    float* const out[kSums] = {sums_.g, sums_.g_h, sums_.dy_h, sums_.dy};
    for (int s = 0; s < kSums; ++s) {
      for (int v = 0; v < vectors; ++v) {
        const float* const total =
            totals + s * level_floats() + (order_.levels - 1) * kMaxLanes + v * kLanes;
        const Floats value = order_.levels == 0 ? state.acc[s][v] : load_floats(total);
        store_floats(out[s] + index + v * kLanes, value,
                     std::min<std::int64_t>(kLanes, lanes - v * kLanes));
      }
    }
  }

  const internal::ReduceOrder& order_;
  Tensor dy_;
  Tensor x_;
  NormConstants constants_;
  std::int64_t unit_;
  NormGradientSums sums_;
};

}  // namespace
