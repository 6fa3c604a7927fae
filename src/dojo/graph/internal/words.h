// Words of the Graph text that stand for enumerators, by their order.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace dojo::graph {

inline constexpr std::array kPhaseWords{std::string_view("fwd"), std::string_view("bwd"),
                                        std::string_view("upd")};
inline constexpr std::array kDenormalsWords{std::string_view("paper"), std::string_view("gradual")};
inline constexpr std::array kLeafWords{std::string_view("input"), std::string_view("weight"),
                                       std::string_view("buffer"), std::string_view("state")};

// Index into a table of words.
template <class Words>
std::optional<std::size_t> find_word(const Words& words, std::string_view word) {
  const auto found = std::find(words.begin(), words.end(), word);
  return found == words.end() ? std::nullopt
                              : std::optional(static_cast<std::size_t>(found - words.begin()));
}

}  // namespace dojo::graph
