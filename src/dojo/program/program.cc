#include "dojo/program/program.h"

#include <algorithm>
#include <array>

namespace dojo::program {
namespace {

constexpr std::array<std::string_view, 3> kScopeNames{"inside", "across", "through"};

}  // namespace

std::string_view name(Scope scope) { return kScopeNames[static_cast<std::size_t>(scope)]; }

std::optional<Scope> scope_named(std::string_view name) {
  const auto* const found = std::find(kScopeNames.begin(), kScopeNames.end(), name);
  if (found == kScopeNames.end()) {
    return std::nullopt;
  }
  return static_cast<Scope>(found - kScopeNames.begin());
}

Bytes Program::sram_peak() const {
  Bytes peak = reserved;
  for (const MemoryEntry& entry : memory) {
    peak = std::max(peak, reserved + entry.offset + entry.bytes);
  }
  return peak;
}

std::int64_t Program::fallbacks() const {
  return std::count_if(phases.begin(), phases.end(), [](const Phase& phase) {
    const auto* const transfer = std::get_if<Transfer>(&phase.body);
    return transfer != nullptr && transfer->is_fallback;
  });
}

}  // namespace dojo::program
