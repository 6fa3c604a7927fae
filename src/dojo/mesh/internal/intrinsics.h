// <immintrin.h> without GCC 12's warnings about its own AVX-512 header (GCC bug 105593).
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>  // IWYU pragma: export

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
