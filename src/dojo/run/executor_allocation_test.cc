// A step of element-wise work and updates allocates nothing once it has run. (Matrix, convolution
// and reduction kernels of numerics take their packing buffers themselves.)
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "dojo/base/counted_allocations.h"
#include "dojo/graph/text.h"
#include "dojo/run/executor.h"

namespace dojo::run {
namespace {

TEST(ExecutorStep, AllocatesNothingOnceItHasRun) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer counts for itself";
#endif
  const auto graph = graph::parse_graph(
      R"(graph "map" recipe "cfloat8" machine "none" {bias_margin=1, bias_window=4, denormals="paper"} {
  %x = input f32[64,100] "x"
  %lr = input f32[] "lr"
  %w = weight f32[64,100] "w"
  %m = state f32[64,100] "m"
  %c = dojo.convert(%x) : cf8_1_4_3[64,100] activation @"a" fwd
  %t = aten.permute(%c) {dims=[1,0]} : cf8_1_4_3[100,64] activation @"a" fwd
  %e = aten.gelu(%t) : f32[100,64] fused @"b" fwd
  %d = aten.mul(%e) {other=3.0} : bf16[100,64] activation stochastic @"c" fwd
  %p = aten.permute(%d) {dims=[1,0]} : bf16[64,100] activation @"c" fwd
  %v, %n = dojo.sgd(%w, %p, %m, %lr) {momentum=0.9} : f32[64,100], f32[64,100] @"u" upd
  update %w = %v
  update %m = %n
  output %d "d"
}
)");
  ASSERT_TRUE(graph.has_value()) << graph.error().to_string();
  auto executor = Executor::create(*graph, {.threads = 2});
  ASSERT_TRUE(executor.has_value()) << executor.error().to_string();
  std::vector<float> values(6400, 0.5F);
  const std::array<std::int64_t, 2> shape{64, 100};
  const float lr = 0.1F;
  ASSERT_TRUE(
      executor->write({"w", Format::F32, shape, std::as_bytes(std::span(values))}).has_value());
  const std::array inputs{TensorInput{"x", Format::F32, shape, std::as_bytes(std::span(values))},
                          TensorInput{"lr", Format::F32, {}, std::as_bytes(std::span(&lr, 1))}};
  for (int i = 0; i < 6; ++i) {
    values[static_cast<std::size_t>(i)] += 1;
    counted::begin();
    const auto stepped = executor->step(inputs);
    const int allocations = counted::end();
    ASSERT_TRUE(stepped.has_value()) << stepped.error().to_string();
    EXPECT_TRUE(i == 0 || allocations == 0) << allocations << " in step " << i;
  }
}

}  // namespace
}  // namespace dojo::run
