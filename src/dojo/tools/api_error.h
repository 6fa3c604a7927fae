// ApiError: how an Error leaves a command. Thrown here at the edge alone; main() prints it as one
// line and exits with 1.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "dojo/base/result.h"

namespace dojo {

class ApiError : public std::runtime_error {
 public:
  explicit ApiError(const Error& error)
      : std::runtime_error(error.to_string()), kind_(error.kind) {}
  explicit ApiError(const std::string& message) : std::runtime_error(message) {}
  // None of one that is about this process alone, such as a stdout that is closed.
  std::optional<ErrorKind> kind() const { return kind_; }

 private:
  std::optional<ErrorKind> kind_;
};

// The value of a result; throws its Error as ApiError.
template <class T>
T value_of(Result<T>&& result) {
  if (!result.has_value()) {
    throw ApiError(result.error());
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

}  // namespace dojo
