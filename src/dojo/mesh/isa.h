// How wide the vectors are that the engine works with. The choice is about speed alone: results
// are the same bits, and tests make it explicit.
#pragma once

#include <cstdint>
#include <string_view>

namespace dojo::mesh {

enum class Isa : std::uint8_t { Plain, Avx2, Avx512 };  // each CPU has those up to its best

Isa best_isa();
std::string_view name(Isa isa);

}  // namespace dojo::mesh
