// Cursor: reads literals, words and integers from the front of a short text.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dojo::machine::internal {

class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  // True and past it if the literal comes next.
  bool take(std::string_view literal) {
    if (!rest_.starts_with(literal)) {
      return false;
    }
    rest_.remove_prefix(literal.size());
    return true;
  }

  // A decimal integer, "-" allowed, that fits in int64.
  std::optional<std::int64_t> take_integer() {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc{}) {
      return std::nullopt;
    }
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  // Letters and underscores; may be empty.
  std::string_view take_word() {
    std::size_t length = 0;
    while (length < rest_.size() && is_word(rest_[length])) {
      ++length;
    }
    const std::string_view word = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return word;
  }

  void skip_spaces() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) {
      rest_.remove_prefix(1);
    }
  }

 private:
  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }
  std::string_view rest_;
};

}  // namespace dojo::machine::internal
