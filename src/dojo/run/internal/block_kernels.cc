#include "dojo/run/internal/block_kernels.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "dojo/numerics/encode.h"
#include "dojo/numerics/special.h"

namespace dojo::run::internal::plain {
namespace {

#include "dojo/run/internal/block_bodies.h"

}  // namespace
}  // namespace dojo::run::internal::plain

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace dojo::run::internal::avx2 {
namespace {

#include "dojo/run/internal/block_bodies.h"  // NOLINT: a second time on purpose

}  // namespace
}  // namespace dojo::run::internal::avx2

#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")

namespace dojo::run::internal::avx512 {
namespace {

#include "dojo/run/internal/block_bodies.h"  // NOLINT: a third time on purpose

}  // namespace
}  // namespace dojo::run::internal::avx512

#pragma GCC pop_options

namespace dojo::run::internal::kernels {

// NOLINTBEGIN: as they are declared
#define DOJO_DEFINE(name, operands, results) \
  const BlockKernel name{operands, results, plain::name, avx2::name, avx512::name};
DOJO_BLOCK_KERNELS(DOJO_DEFINE)
#undef DOJO_DEFINE
// NOLINTEND

}  // namespace dojo::run::internal::kernels
