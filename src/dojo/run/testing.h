// For tests: results that must be there.
#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <utility>

#include "dojo/base/result.h"

namespace dojo::run::testing {

template <class T>
T value_of(Result<T> result) {
  if (!result.has_value()) {
    throw std::runtime_error(result.error().to_string());
  }
  return *std::move(result);
}

inline void expect_done(const Result<void>& result) {
  EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().to_string());
}

}  // namespace dojo::run::testing
