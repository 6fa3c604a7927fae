#include "dojo/graph/internal/lexer.h"

#include <fmt/format.h>

#include <algorithm>

#include "dojo/base/text.h"

namespace dojo::graph {
namespace {

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_letter(c) || is_digit(c) || c == '.'; }
bool is_numeric(char c) { return is_digit(c) || c == '.'; }

// A message shows at most this much of what was found.
std::string_view shortened(std::string_view text) { return text.substr(0, 60); }

}  // namespace

void Lexer::skip_blanks() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
      ++at_;
    } else if (c == '/' && at_ + 1 < text_.size() && text_[at_ + 1] == '/') {
      at_ = end_of(at_, [](char each) { return each != '\n'; });
    } else {
      return;
    }
  }
}

void Lexer::advance() {
  skip_blanks();
  token_ = {TokenKind::End, {}, at_};
  if (at_ >= text_.size()) {
    return;
  }
  const char c = text_[at_];
  std::size_t end = at_ + 1;
  if (c == '"') {
    take_string();
    return;
  }
  if (c == '%') {
    end = end_of(end, is_name);
    token_ = {end > at_ + 1 ? TokenKind::Value : TokenKind::Wrong,
              text_.substr(at_ + 1, end - at_ - 1), at_};
  } else if (is_digit(c) || ((c == '-' || c == '+') && end < text_.size() &&
                             (is_digit(text_[end]) || is_letter(text_[end])))) {
    // Letters only after a sign (-inf) or as an exponent, so that 16x8 is three tokens.
    if (is_letter(text_[at_ + 1 < text_.size() ? at_ + 1 : at_]) && !is_digit(c)) {
      end = end_of(end, is_letter);
    } else {
      end = end_of(end, is_numeric);
      if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        ++end;
        if (end < text_.size() && (text_[end] == '-' || text_[end] == '+')) {
          ++end;
        }
        end = end_of(end, is_digit);
      }
    }
    token_ = {TokenKind::Number, text_.substr(at_, end - at_), at_};
  } else if (is_letter(c)) {
    end = end_of(end, is_name);
    token_ = {TokenKind::Word, text_.substr(at_, end - at_), at_};
  } else if (std::string_view("{}[]()=,:@").find(c) != std::string_view::npos) {
    token_ = {TokenKind::Punctuation, text_.substr(at_, 1), at_};
  } else {
    token_ = {TokenKind::Wrong, text_.substr(at_, 1), at_};
  }
  at_ = end;
}

void Lexer::take_string() {
  const std::size_t begin = at_++;
  while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
    at_ += text_[at_] == '\\' ? 2 : 1;
  }
  at_ = std::min(at_, text_.size());
  if (at_ < text_.size() && text_[at_] == '"') {
    token_ = {TokenKind::String, text_.substr(begin + 1, at_ - begin - 1), begin};
    ++at_;
  } else {
    token_ = {TokenKind::Wrong, text_.substr(begin, at_ - begin), begin};
  }
}

Location Lexer::location(std::size_t offset, const std::string& file) const {
  const std::string_view before = text_.substr(0, std::min(offset, text_.size()));
  const std::size_t line_begin = before.rfind('\n');
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t column =
      line_begin == std::string_view::npos ? before.size() + 1 : before.size() - line_begin;
  return {file, static_cast<int>(line), static_cast<int>(column)};
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::End:
      return "the end of the text";
    case TokenKind::Value:
      return fmt::format("%{}", shortened(token.text));
    case TokenKind::String:
      return fmt::format("the string {}", quoted(shortened(token.text)));
    case TokenKind::Wrong:
      if (token.text.starts_with('"')) {
        return "a string without its closing quote";
      }
      return token.text.empty() ? "% without a name" : quoted(token.text);
    case TokenKind::Word:
    case TokenKind::Number:
    case TokenKind::Punctuation:
      break;
  }
  return quoted(shortened(token.text));
}

Result<std::string> unescaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char kind = i + 1 < text.size() ? text[i + 1] : ' ';
    ++i;
    if (kind == '"' || kind == '\\') {
      out += kind;
      continue;
    }
    unsigned code = 0;
    bool is_code = kind == 'u' && i + 4 < text.size();
    for (std::size_t digit = 0; is_code && digit < 4; ++digit) {
      const char c = text[i + 1 + digit];
      const auto value = std::string_view("0123456789abcdef").find(c);
      is_code = value != std::string_view::npos;
      code = code * 16 + static_cast<unsigned>(value);
    }
    if (!is_code || code > 0x7f) {
      return Error{ErrorKind::InvalidInput,
                   "unknown escape in a string: \\\", \\\\ and \\u0000 to \\u007f are known"};
    }
    out += static_cast<char>(code);
    i += 4;
  }
  return out;
}

}  // namespace dojo::graph
