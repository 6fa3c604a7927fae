// The largest finite magnitude of an array, for a bias that follows the tensor at hand.
#pragma once

#include <span>

#include "dojo/base/thread_pool.h"

namespace dojo::numerics {

// 0 for an array without finite elements. Equal to EncodeStats::amax of an encode of `values`.
float finite_amax(ThreadPool& pool, std::span<const float> values);

}  // namespace dojo::numerics
