// One bind function per library, each in a file of its own name; module.cc calls them in order.
// No logic here: arguments are converted, the library is called, an Error becomes an ApiError.
#pragma once

#include <nanobind/nanobind.h>

#include <stdexcept>
#include <utility>

#include "dojo/base/result.h"

namespace dojo::bindings {

namespace nb = nanobind;

// What Python sees as opendojo.Error; the message is Error::to_string().
class ApiError : public std::runtime_error {
 public:
  explicit ApiError(const Error& error) : std::runtime_error(error.to_string()) {}
};

// The value of a result; throws its Error as ApiError.
template <class T>
T value_or_throw(Result<T>&& result) {
  if (!result.has_value()) {
    throw ApiError(result.error());
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

void bind_base(nb::module_& module);
void bind_graph(nb::module_& module);
void bind_numerics(nb::module_& module);
void bind_run(nb::module_& module);
void bind_system(nb::module_& module);

}  // namespace dojo::bindings
