// The machine files that are built into the program (generated from machines/*.toml).
#pragma once

#include <span>
#include <string_view>

namespace dojo::machine::internal {

struct ShippedFile {
  std::string_view name;  // "d1.toml"
  std::string_view text;
};

// Sorted by name.
std::span<const ShippedFile> shipped_files();

}  // namespace dojo::machine::internal
