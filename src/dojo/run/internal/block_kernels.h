// The element-wise functions of the op table, on blocks. Each is stated in block_bodies.h in
// IEEE 754 operations (and the special functions of numerics), one rounding per operation, no
// contraction; that text is compiled for any CPU, for AVX2 and for AVX-512, with equal bits.
#pragma once

#include "dojo/run/internal/map_program.h"

namespace dojo::run::internal {

// The table of kernels: name, lanes of the operands, lanes of the results (f float, i int64).
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): one list, expanded to declarations and rows
#define DOJO_BLOCK_KERNELS(ROW)           \
  ROW(copy, "f", "f")                     \
  ROW(copy_int, "i", "i")                 \
  ROW(truncate, "f", "i")                 \
  ROW(is_nonzero, "f", "i")               \
  ROW(add, "ff", "f")                     \
  ROW(sub, "ff", "f")                     \
  ROW(add_scaled, "ff", "f")              \
  ROW(sub_scaled, "ff", "f")              \
  ROW(mul, "ff", "f")                     \
  ROW(div, "ff", "f")                     \
  ROW(div_floor, "ff", "f")               \
  ROW(div_trunc, "ff", "f")               \
  ROW(remainder, "ff", "f")               \
  ROW(maximum, "ff", "f")                 \
  ROW(minimum, "ff", "f")                 \
  ROW(pow, "ff", "f")                     \
  ROW(square, "f", "f")                   \
  ROW(cube, "f", "f")                     \
  ROW(reciprocal_square, "f", "f")        \
  ROW(add_int, "ii", "i")                 \
  ROW(sub_int, "ii", "i")                 \
  ROW(add_scaled_int, "ii", "i")          \
  ROW(sub_scaled_int, "ii", "i")          \
  ROW(mul_int, "ii", "i")                 \
  ROW(div_floor_int, "ii", "i")           \
  ROW(div_trunc_int, "ii", "i")           \
  ROW(remainder_int, "ii", "i")           \
  ROW(maximum_int, "ii", "i")             \
  ROW(minimum_int, "ii", "i")             \
  ROW(pow_int, "ii", "i")                 \
  ROW(neg, "f", "f")                      \
  ROW(abs, "f", "f")                      \
  ROW(sign, "f", "f")                     \
  ROW(floor, "f", "f")                    \
  ROW(ceil, "f", "f")                     \
  ROW(round, "f", "f")                    \
  ROW(sqrt, "f", "f")                     \
  ROW(rsqrt, "f", "f")                    \
  ROW(reciprocal, "f", "f")               \
  ROW(exp, "f", "f")                      \
  ROW(expm1, "f", "f")                    \
  ROW(log, "f", "f")                      \
  ROW(log1p, "f", "f")                    \
  ROW(erf, "f", "f")                      \
  ROW(sin, "f", "f")                      \
  ROW(cos, "f", "f")                      \
  ROW(neg_int, "i", "i")                  \
  ROW(abs_int, "i", "i")                  \
  ROW(sign_int, "i", "i")                 \
  ROW(bitwise_and, "ii", "i")             \
  ROW(bitwise_or, "ii", "i")              \
  ROW(bitwise_not, "i", "i")              \
  ROW(eq, "ff", "i")                      \
  ROW(ne, "ff", "i")                      \
  ROW(lt, "ff", "i")                      \
  ROW(le, "ff", "i")                      \
  ROW(gt, "ff", "i")                      \
  ROW(ge, "ff", "i")                      \
  ROW(logical_and, "ff", "i")             \
  ROW(logical_or, "ff", "i")              \
  ROW(logical_not, "f", "i")              \
  ROW(eq_int, "ii", "i")                  \
  ROW(ne_int, "ii", "i")                  \
  ROW(lt_int, "ii", "i")                  \
  ROW(le_int, "ii", "i")                  \
  ROW(gt_int, "ii", "i")                  \
  ROW(ge_int, "ii", "i")                  \
  ROW(logical_and_int, "ii", "i")         \
  ROW(logical_or_int, "ii", "i")          \
  ROW(logical_not_int, "i", "i")          \
  ROW(where, "iff", "f")                  \
  ROW(where_int, "iii", "i")              \
  ROW(clamp, "fff", "f")                  \
  ROW(clamp_int, "iii", "i")              \
  ROW(triangle, "f", "f")                 \
  ROW(triangle_int, "i", "i")             \
  ROW(relu, "f", "f")                     \
  ROW(relu_int, "i", "i")                 \
  ROW(threshold_backward, "ff", "f")      \
  ROW(gelu, "f", "f")                     \
  ROW(gelu_tanh, "f", "f")                \
  ROW(gelu_backward, "ff", "f")           \
  ROW(gelu_tanh_backward, "ff", "f")      \
  ROW(silu, "f", "f")                     \
  ROW(silu_backward, "ff", "f")           \
  ROW(sigmoid, "f", "f")                  \
  ROW(sigmoid_backward, "ff", "f")        \
  ROW(tanh, "f", "f")                     \
  ROW(tanh_backward, "ff", "f")           \
  ROW(hardswish, "f", "f")                \
  ROW(hardswish_backward, "ff", "f")      \
  ROW(hardsigmoid, "f", "f")              \
  ROW(hardsigmoid_backward, "ff", "f")    \
  ROW(hardtanh_backward, "ff", "f")       \
  ROW(leaky_relu, "f", "f")               \
  ROW(leaky_relu_backward, "ff", "f")     \
  ROW(elu, "f", "f")                      \
  ROW(elu_backward, "ff", "f")            \
  ROW(elu_backward_of_result, "ff", "f")  \
  ROW(softplus, "f", "f")                 \
  ROW(softplus_backward, "ff", "f")       \
  ROW(exp_of_difference, "ff", "f")       \
  ROW(ratio_or_zero, "ff", "f")           \
  ROW(log_softmax, "fff", "f")            \
  ROW(softmax_backward, "fff", "f")       \
  ROW(log_softmax_backward, "fff", "f")   \
  ROW(inverse_deviation, "f", "f")        \
  ROW(blend, "ff", "f")                   \
  ROW(normalise, "fff", "f")              \
  ROW(normalise_affine, "fffff", "f")     \
  ROW(normalise_backward, "fffffff", "f") \
  ROW(squared_difference, "ff", "f")      \
  ROW(mse_backward, "fff", "f")           \
  ROW(smooth_l1, "ff", "f")               \
  ROW(bce_with_logits, "fff", "f")        \
  ROW(smooth_l1_backward, "fff", "f")     \
  ROW(full, "", "f")                      \
  ROW(full_int, "", "i")                  \
  ROW(arange, "", "f")                    \
  ROW(arange_int, "", "i")                \
  ROW(mask, "", "f")                      \
  ROW(sgd, "fff", "f")                    \
  ROW(sgd_momentum, "ffff", "ff")         \
  ROW(adamw, "fffffi", "fff")

namespace kernels {

// NOLINTBEGIN: named as the functions they stand for
#define DOJO_DECLARE(name, operands, results) extern const BlockKernel name;
DOJO_BLOCK_KERNELS(DOJO_DECLARE)
#undef DOJO_DECLARE
// NOLINTEND

}  // namespace kernels
}  // namespace dojo::run::internal
