// A mesh's state as bytes and back.
#pragma once

#include <string>
#include <string_view>

#include "dojo/base/result.h"
#include "dojo/mesh/internal/state.h"

namespace dojo::mesh::internal {

std::string to_bytes(const State& state, Cycle now, const Counters& counters);

// Into the first state of the same machine. Error, and `state` unchanged, if it is of another.
Result<void> from_bytes(std::string_view bytes, State& state, Cycle& now, Counters& counters);

}  // namespace dojo::mesh::internal
