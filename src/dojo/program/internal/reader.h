// Reads a Program's text word by word.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "dojo/base/result.h"
#include "dojo/base/text.h"
#include "dojo/machine/region.h"
#include "dojo/program/program_text.h"

namespace dojo::program::internal {

// Reads the text from front to back; every take_* skips spaces, newlines and comments first.
class Reader {
 public:
  Reader(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  Error expected(std::string_view what) const {
    std::string_view found = text_.substr(at_, 24);
    found = found.substr(0, found.find('\n'));
    return error(fmt::format("expected {}, found {}", what,
                             at_ >= text_.size() ? "the end of the text" : quoted(found)));
  }
  Error error(std::string message) const {
    int line = 1;
    std::size_t start = 0;
    for (std::size_t i = 0; i < at_ && i < text_.size(); ++i) {
      if (text_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    }
    return Error{ErrorKind::InvalidInput, std::move(message),
                 Location{file_, line, static_cast<int>(at_ - start) + 1}};
  }

  // Of what comes next.
  int line() {
    skip();
    for (; counted_ < at_; ++counted_) {
      line_ += text_[counted_] == '\n' ? 1 : 0;
    }
    return line_;
  }
  bool at_end() {
    skip();
    return at_ >= text_.size();
  }
  bool peek(std::string_view literal) {
    skip();
    return text_.substr(at_).starts_with(literal);
  }
  // Punctuation (the x of 4x5 too), or a word that ends where its letters end.
  bool take(std::string_view literal) {
    if (!peek(literal)) {
      return false;
    }
    const std::size_t end = at_ + literal.size();
    const bool is_word = literal.size() > 1 && literal.front() >= 'a' && literal.front() <= 'z';
    if (is_word && end < text_.size() && is_name(text_[end])) {
      return false;
    }
    at_ = end;
    return true;
  }
  Result<void> expect(std::string_view literal) {
    if (!take(literal)) {
      return expected(quoted(literal));
    }
    return {};
  }
  // A whole number, not negative.
  Result<std::int64_t> integer() {
    skip();
    std::int64_t value = 0;
    const auto [end, code] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (code != std::errc{} || value < 0) {
      return expected("a whole number");
    }
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  // KEY INTEGER
  Result<std::int64_t> integer(std::string_view key) {
    DOJO_TRY_VOID(expect(key));
    return integer();
  }
  Result<std::int64_t> at_least_one() {
    const std::size_t before = at_;
    DOJO_TRY(const std::int64_t value, integer());
    if (value < 1) {
      at_ = before;
      return expected("a number above zero");
    }
    return value;
  }
  Result<int> small_integer() {
    const std::size_t before = at_;
    DOJO_TRY(const std::int64_t value, integer());
    if (value > std::numeric_limits<int>::max()) {
      at_ = before;
      return expected("a number that fits in 31 bits");
    }
    return static_cast<int>(value);
  }
  Result<std::string> string() {
    DOJO_TRY_VOID(expect("\""));
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
      if (text_[at_] != '\\') {
        out += text_[at_++];
        continue;
      }
      DOJO_TRY(const char escaped, escape());
      out += escaped;
    }
    DOJO_TRY_VOID(expect("\""));
    return out;
  }
  Result<std::string> name() {
    const std::size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_])) {
      ++at_;
    }
    if (at_ == start) {
      return expected("a name");
    }
    return std::string(text_.substr(start, at_ - start));
  }
  Result<std::string> value_name() {
    DOJO_TRY_VOID(expect("%"));
    return name();
  }
  Result<std::string> word() {
    skip();
    return name();
  }
  // Up to a character of `ends`, which stays.
  std::string_view until(std::string_view ends) {
    skip();
    const std::size_t start = at_;
    at_ = std::min(text_.find_first_of(ends, at_), text_.size());
    return text_.substr(start, at_ - start);
  }
  Result<machine::Region> region() {
    skip();
    const std::size_t start = at_;
    const std::size_t first = text_.find(']', at_);
    const std::size_t second = first == std::string_view::npos ? first : text_.find(']', first + 1);
    if (!peek("@") || second == std::string_view::npos) {
      return expected("a region");
    }
    at_ = second + 1;
    Result<machine::Region> region = machine::parse_region(text_.substr(start, at_ - start));
    if (!region) {
      at_ = start;
      return error(region.error().message);
    }
    return region;
  }
  Result<machine::Pattern> pattern() {
    skip();
    const std::size_t start = at_;
    std::string_view body = until(",]\n");
    Result<machine::Pattern> pattern = machine::parse_pattern(body);
    if (!pattern) {
      at_ = start;
      return error(pattern.error().message);
    }
    return pattern;
  }
  // "[" item { "," item } "]"
  template <class Item>
  Result<void> list(std::string_view open, std::string_view close, Item item) {
    DOJO_TRY_VOID(expect(open));
    for (std::size_t count = 0; !take(close); ++count) {
      if (count >= ProgramLimits::kListLength) {
        return error(fmt::format("a list of more than {} entries", ProgramLimits::kListLength));
      }
      if (count > 0) {
        DOJO_TRY_VOID(expect(","));
      }
      DOJO_TRY_VOID(item());
    }
    return {};
  }

 private:
  static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  }
  Result<char> escape() {
    const std::string_view rest = text_.substr(at_);
    if (rest.size() >= 2 && (rest[1] == '"' || rest[1] == '\\')) {
      at_ += 2;
      return rest[1];
    }
    int code = 0;
    const std::string_view digits = rest.size() >= 6 ? rest.substr(2, 4) : std::string_view{};
    if (!rest.starts_with("\\u") || digits.empty() ||
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16).ptr !=
            digits.data() + digits.size() ||
        code > 0x7f) {
      return error("expected an escape \\\", \\\\ or \\u00XX");
    }
    at_ += 6;
    return static_cast<char>(code);
  }
  void skip() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else if (text_.substr(at_).starts_with("//")) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return;
      }
    }
  }

  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0;
  std::size_t counted_ = 0;  // line_ is that of this offset
  int line_ = 1;
};

}  // namespace dojo::program::internal
