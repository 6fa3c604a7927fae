// Checks on our own code. DOJO_CHECK aborts in all builds and names the place; DOJO_DCHECK is for
// hot loops and compiles to nothing with NDEBUG. Neither is for bad input: that is a Result.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace dojo {

[[noreturn]] inline void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: internal error, please report: check failed: %s\n", file, line,
               expression);
  std::abort();
}

}  // namespace dojo

#define DOJO_CHECK(...)                                       \
  do {                                                        \
    if (!(__VA_ARGS__)) [[unlikely]] {                        \
      ::dojo::check_failed(#__VA_ARGS__, __FILE__, __LINE__); \
    }                                                         \
  } while (false)

#ifdef NDEBUG
#define DOJO_DCHECK(...) \
  do {                   \
  } while (false)
#else
#define DOJO_DCHECK(...) DOJO_CHECK(__VA_ARGS__)
#endif
