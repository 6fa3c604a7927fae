// Tokens of the Graph text: what a cursor finds, with its place for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dojo/base/result.h"

namespace dojo::graph {

enum class TokenKind : std::uint8_t {
  End,
  Word,         // graph, f32, aten.add
  Value,        // %x; text is without the %
  Number,       // integers and floats, unread
  String,       // text is what stands between the quotes, escapes unread
  Punctuation,  // one character
  Wrong,        // what begins no token; text says what it is
};

struct Token {
  TokenKind kind = TokenKind::End;
  std::string_view text;
  std::size_t offset = 0;  // of its first byte
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { advance(); }

  const Token& peek() const { return token_; }
  Token take() {
    const Token taken = token_;
    advance();
    return taken;
  }
  bool is(char punctuation) const {
    return token_.kind == TokenKind::Punctuation && token_.text[0] == punctuation;
  }
  bool is(std::string_view word) const {
    return token_.kind == TokenKind::Word && token_.text == word;
  }

  // 1-based line and column of a byte.
  Location location(std::size_t offset, const std::string& file) const;

 private:
  void advance();
  void skip_blanks();
  void take_string();
  template <class Predicate>
  std::size_t end_of(std::size_t from, Predicate belongs) const {
    while (from < text_.size() && belongs(text_[from])) {
      ++from;
    }
    return from;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Token token_;
};

// "%x", "end of text", "\"abc\"": for messages.
std::string describe(const Token& token);

// The text a String token stands for. Error: which escape is wrong.
Result<std::string> unescaped(std::string_view text);

}  // namespace dojo::graph
