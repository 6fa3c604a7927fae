// Result<T>: a value or an Error, with std::expected's names (g++ 12 has no <expected>).
// Errors of the input (files, arguments, graphs) travel as Result; DOJO_TRY hands them up.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "dojo/base/check.h"

namespace dojo {

enum class ErrorKind {
  InvalidInput,  // a file, an argument or a graph says something wrong
  NotFound,      // a name or a file that does not exist
  Unsupported,   // right, but this version cannot do it
  DoesNotFit,    // more memory or nodes than the machine has
  Unspecified,   // the public sources do not say
  Io,            // the operating system refused
};

// A place in a text: 1-based line and column; column 0 means the whole line.
struct Location {
  std::string file;
  int line = 0;
  int column = 0;
};

// What went wrong, in one sentence with the remedy in it.
struct Error {
  ErrorKind kind = ErrorKind::InvalidInput;
  std::string message;
  std::optional<Location> where = std::nullopt;

  // "file:line:column: message", or the message alone.
  std::string to_string() const;
};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  const T& value() const& { return check(), std::get<0>(state_); }
  T& value() & { return check(), std::get<0>(state_); }
  T&& value() && { return check(), std::get<0>(std::move(state_)); }
  const T& operator*() const& { return value(); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  const T* operator->() const { return &value(); }
  T* operator->() { return &value(); }
  const Error& error() const& { return check_error(), std::get<1>(state_); }
  Error&& error() && { return check_error(), std::get<1>(std::move(state_)); }

 private:
  void check() const { DOJO_CHECK(has_value()); }
  void check_error() const { DOJO_CHECK(!has_value()); }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

}  // namespace dojo

#define DOJO_CONCAT_INNER(a, b) a##b
#define DOJO_CONCAT(a, b) DOJO_CONCAT_INNER(a, b)

// DOJO_TRY(const int rows, parse_int(text)); returns the Error from this function, or goes on.
#define DOJO_TRY(declaration, ...)                              \
  auto DOJO_CONCAT(dojo_try_, __LINE__) = (__VA_ARGS__);        \
  if (!DOJO_CONCAT(dojo_try_, __LINE__).has_value()) {          \
    return std::move(DOJO_CONCAT(dojo_try_, __LINE__)).error(); \
  }                                                             \
  declaration = *std::move(DOJO_CONCAT(dojo_try_, __LINE__))

// The same for Result<void>.
#define DOJO_TRY_VOID(...)                                              \
  if (auto dojo_try_void = (__VA_ARGS__); !dojo_try_void.has_value()) { \
    return std::move(dojo_try_void).error();                            \
  }                                                                     \
  static_assert(true, "")
