#include "dojo/numerics/reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "dojo/numerics/testing.h"

namespace dojo::numerics {
namespace {

using testing::are_same;
using testing::Elements;
using testing::isas;
using testing::Random;

constexpr std::array kReductions{Reduction::Sum, Reduction::Mean, Reduction::Max,
                                 Reduction::SumOfSquares, Reduction::SumOfSquaredDeviations};

std::int64_t volume(const std::vector<StridedLoop>& loops) {
  std::int64_t count = 1;
  for (const StridedLoop& loop : loops) {
    count *= loop.extent;
  }
  return count;
}

std::vector<std::int64_t> extents(const std::vector<StridedLoop>& loops) {
  std::vector<std::int64_t> out;
  for (const StridedLoop& loop : loops) {
    out.push_back(loop.extent);
  }
  return out;
}

struct Case {
  Reduction reduction = Reduction::Sum;
  Elements input;
  ReduceSpace space;
  ReduceCuts cuts;
  std::vector<float> center;
};

// A contiguous tensor of up to 4 dimensions, each parallel or reduced, in any order.
void make(Random& random, std::int64_t longest, Case& c) {
  std::int64_t stride = 1;
  for (std::int64_t loop = random.between(1, 4); loop > 0; --loop) {
    const StridedLoop strided{random.between(1, loop == 1 ? longest : 7),
                              random.one_in(9) ? 0 : stride};
    stride *= strided.extent;
    std::vector<StridedLoop>& loops = random.one_in(2) ? c.space.reduce : c.space.parallel;
    loops.insert(random.one_in(4) ? loops.end() : loops.begin(), strided);
  }
  c.reduction = kReductions[static_cast<std::size_t>(random.between(0, 4))];
  c.input = testing::hard_elements(random, testing::any_format(random), stride + 2);
  c.cuts = testing::any_cuts(random, extents(c.space.reduce));
  if (c.reduction == Reduction::SumOfSquaredDeviations) {
    for (std::int64_t i = 0; i < volume(c.space.parallel); ++i) {
      c.center.push_back(testing::hard_value(random, 0));
    }
  }
}

std::vector<float> reduced(const Case& c, int threads, Isa isa) {
  std::vector<float> out(static_cast<std::size_t>(volume(c.space.parallel)), -7.0F);
  ThreadPool pool(threads);
  reduce(pool, c.reduction, c.input.storage(2), c.space, c.cuts, out.data(),
         c.center.empty() ? nullptr : c.center.data(), isa);
  return out;
}

float add(float a, float b) { return a + b; }
float max_of(float a, float b) { return std::isnan(a) || a >= b ? a : b; }

std::vector<float> reduced_long_hand(const Case& c) {
  const ElementReader read(c.input.storage(2));
  std::vector<float> out;
  for (std::int64_t index = 0; index < volume(c.space.parallel); ++index) {
    std::int64_t base = 0;
    std::int64_t rest = index;
    for (std::size_t i = c.space.parallel.size(); i-- > 0;) {
      base += rest % c.space.parallel[i].extent * c.space.parallel[i].stride;
      rest /= c.space.parallel[i].extent;
    }
    const bool is_max = c.reduction == Reduction::Max;
    float value = testing::fold_long_hand(
        extents(c.space.reduce), c.cuts, is_max ? -INFINITY : 0.0F,
        [&](float acc, const std::vector<std::int64_t>& at) {
          std::int64_t offset = base;
          for (std::size_t i = 0; i < at.size(); ++i) {
            offset += at[i] * c.space.reduce[i].stride;
          }
          const float x = read(offset);
          const float d = c.center.empty() ? x : x - c.center[static_cast<std::size_t>(index)];
          switch (c.reduction) {
            case Reduction::Max:
              return max_of(acc, x);
            case Reduction::SumOfSquares:
            case Reduction::SumOfSquaredDeviations:
              return std::fma(d, d, acc);
            default:
              return acc + x;
          }
        },
        is_max ? &max_of : &add);
    if (c.reduction == Reduction::Mean) {
      value = value / static_cast<float>(volume(c.space.reduce));
    }
    out.push_back(value);
  }
  return out;
}

TEST(Reduce, EqualsTheLongHandFold) {
  Random random(61);
  for (int i = 0; i < 500; ++i) {
    Case c;
    make(random, 40, c);
    const std::vector<float> wanted = reduced_long_hand(c);
    for (const Isa isa : isas()) {
      EXPECT_TRUE(are_same(reduced(c, 1, isa), wanted)) << "case " << i << " " << name_of(isa);
    }
  }
}

TEST(Reduce, PathsAndThreadsAgreeOnLongLoops) {
  Random random(62);
  for (int i = 0; i < 200; ++i) {
    Case c;
    make(random, 600, c);
    const std::vector<float> wanted = reduced(c, 1, Isa::Plain);
    for (const Isa isa : isas()) {
      for (const int threads : {1, 2}) {
        EXPECT_TRUE(are_same(reduced(c, threads, isa), wanted)) << "case " << i << name_of(isa);
      }
    }
  }
}

struct GradientCase {
  Case dy;  // lies as x does
  Case x;
  std::vector<float> mean;
  std::vector<float> rstd;
  std::vector<float> weight;
  bool has_point_stats = false;
  bool has_point_weight = false;
};

// Reduce loops that adjoin: the elements of rows or columns.
void make_adjoining(Random& random, Case& c) {
  const std::int64_t inner = random.between(1, 3);
  std::int64_t stride = inner;
  c.space = {};
  c.cuts = {};
  for (int loop = 0; loop < 2; ++loop) {
    const StridedLoop strided{random.between(1, 40), stride};
    stride *= strided.extent;
    c.space.reduce.insert(c.space.reduce.begin(), strided);
  }
  c.space.parallel = {{random.between(1, 70), random.one_in(2) ? stride : 1}};
  stride *= c.space.parallel.front().extent;
  c.cuts = testing::any_cuts(random, extents(c.space.reduce));
  c.input = testing::hard_elements(random, testing::any_format(random), stride + 2);
}

GradientCase make_gradient(Random& random, std::int64_t longest) {
  GradientCase c;
  make(random, longest, c.x);
  c.x.reduction = Reduction::Sum;
  if (random.one_in(2)) {
    make_adjoining(random, c.x);
    c.has_point_stats = random.one_in(2);
    c.has_point_weight = random.one_in(2);
  }
  c.dy = c.x;
  const std::size_t elements =
      c.x.input.bytes.size() / static_cast<std::size_t>(bytes_of(c.x.input.type.format));
  c.dy.input = testing::hard_elements(random, testing::any_format(random),
                                      static_cast<std::int64_t>(elements));
  const auto fill = [&](std::vector<float>& constants, bool is_of_points) {
    for (std::int64_t i = volume(is_of_points ? c.x.space.reduce : c.x.space.parallel); i > 0;
         --i) {
      constants.push_back(testing::hard_value(random, 0));
    }
  };
  fill(c.mean, c.has_point_stats);
  fill(c.rstd, c.has_point_stats);
  fill(c.weight, c.has_point_weight);
  return c;
}

std::array<std::vector<float>, 4> gradient_sums(const GradientCase& c, int threads, Isa isa) {
  std::array<std::vector<float>, 4> out;
  for (std::vector<float>& sums : out) {
    sums.assign(static_cast<std::size_t>(volume(c.x.space.parallel)), -7.0F);
  }
  ThreadPool pool(threads);
  const PreparedReduction prepared(c.x.space, c.x.cuts);
  prepared.run_norm_gradient(pool, c.dy.input.storage(2), c.x.input.storage(2),
                             {{c.mean.data(), c.has_point_stats},
                              {c.rstd.data(), c.has_point_stats},
                              {c.weight.data(), c.has_point_weight}},
                             {out[0].data(), out[1].data(), out[2].data(), out[3].data()}, isa);
  return out;
}

std::array<std::vector<float>, 4> gradient_sums_long_hand(const GradientCase& c) {
  const ElementReader read_x(c.x.input.storage(2));
  const ElementReader read_dy(c.dy.input.storage(2));
  std::array<std::vector<float>, 4> out;
  for (std::int64_t index = 0; index < volume(c.x.space.parallel); ++index) {
    std::int64_t base = 0;
    std::int64_t rest = index;
    for (std::size_t i = c.x.space.parallel.size(); i-- > 0;) {
      base += rest % c.x.space.parallel[i].extent * c.x.space.parallel[i].stride;
      rest /= c.x.space.parallel[i].extent;
    }
    for (std::size_t which = 0; which < 4; ++which) {
      out[which].push_back(testing::fold_long_hand(
          extents(c.x.space.reduce), c.x.cuts, 0.0F,
          [&](float acc, const std::vector<std::int64_t>& at) {
            std::int64_t offset = base;
            std::int64_t number = 0;  // of the point
            for (std::size_t i = 0; i < at.size(); ++i) {
              offset += at[i] * c.x.space.reduce[i].stride;
              number = number * c.x.space.reduce[i].extent + at[i];
            }
            const auto of = [&](const std::vector<float>& constants, bool is_of_points) {
              return constants[static_cast<std::size_t>(is_of_points ? number : index)];
            };
            const float dy = read_dy(offset);
            const float difference = read_x(offset) - of(c.mean, c.has_point_stats);
            const float h = difference * of(c.rstd, c.has_point_stats);
            const float g = dy * of(c.weight, c.has_point_weight);
            const std::array<float, 4> terms{g, g * h, dy * h, dy};
            return acc + terms[which];
          },
          &add));
    }
  }
  return out;
}

TEST(Reduce, NormGradientEqualsTheLongHandFolds) {
  Random random(63);
  for (int i = 0; i < 100; ++i) {
    const GradientCase c = make_gradient(random, i % 10 == 0 ? 400 : 40);
    const std::array<std::vector<float>, 4> wanted = gradient_sums_long_hand(c);
    for (const Isa isa : isas()) {
      const auto got = gradient_sums(c, 1 + i % 2, isa);
      for (std::size_t which = 0; which < 4; ++which) {
        EXPECT_TRUE(are_same(got[which], wanted[which]))
            << "case " << i << " sum " << which << " " << name_of(isa);
      }
    }
  }
}

std::vector<float> of(Reduction reduction, const std::vector<float>& x, const ReduceCuts& cuts,
                      Isa isa) {
  Case c;
  c.reduction = reduction;
  c.input.bytes.resize(4 * (x.size() + 2));
  std::ranges::copy(std::as_bytes(std::span(x)), c.input.bytes.begin() + 8);
  c.space.reduce = {{static_cast<std::int64_t>(x.size()), 1}};
  c.cuts = cuts;
  return reduced(c, 1, isa);
}

TEST(Reduce, SumsInTheStatedOrderByHand) {
  constexpr float kBig = 16777216.0F;
  for (const Isa isa : isas()) {
    EXPECT_EQ(of(Reduction::Sum, {kBig, 1, 1, 1, -kBig}, {}, isa)[0], 0.0F);
    EXPECT_EQ(of(Reduction::Sum, {kBig, 1, 1, 1, -kBig}, {{2}}, isa)[0], 2.0F);
    EXPECT_EQ(of(Reduction::Mean, {kBig, 1, 1, 1, -kBig}, {{2}}, isa)[0], 2.0F / 5.0F);
    EXPECT_EQ(of(Reduction::SumOfSquares, {4096, 1, 1, 3}, {}, isa)[0], kBig + 8.0F);
  }
}

TEST(Reduce, MaxTakesTheFirstNotANumberAndTheFirstOfEquals) {
  for (const Isa isa : isas()) {
    EXPECT_EQ(of(Reduction::Max, {-3, 5, 2}, {}, isa)[0], 5.0F);
    EXPECT_EQ(of(Reduction::Max, {-3, -INFINITY}, {{1}}, isa)[0], -3.0F);
    EXPECT_TRUE(std::isnan(of(Reduction::Max, {1, NAN, INFINITY}, {}, isa)[0]));
    EXPECT_TRUE(std::isnan(of(Reduction::Max, {1, INFINITY, 3, NAN}, {{2}}, isa)[0]));
    EXPECT_TRUE(std::signbit(of(Reduction::Max, {-0.0F, 0.0F}, {}, isa)[0]));
    EXPECT_FALSE(std::signbit(of(Reduction::Max, {0.0F, -0.0F}, {{1}}, isa)[0]));
  }
}

TEST(Reduce, WithoutPointsIsTheStart) {
  for (const Isa isa : isas()) {
    EXPECT_EQ(of(Reduction::Sum, {}, {}, isa)[0], 0.0F);
    EXPECT_EQ(of(Reduction::Max, {}, {}, isa)[0], -INFINITY);
  }
}

}  // namespace
}  // namespace dojo::numerics
