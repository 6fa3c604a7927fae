"""Matrix products in one stated order of summation, on codes or on plain arrays."""

import math
from typing import Any

import numpy as np

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arrays import (
    Array,
    ArrayT,
    broadcast,
    check_same_kind,
    empty_like,
    exported,
    is_contiguous,
)
from opendojo.numerics.quantized import Quantized, operand
from opendojo.numerics.sums import (
    Activation,
    Order,
    Size,
    activation_named,
    bias_vector,
    reduce_cuts,
)
from opendojo.numerics.workers import workers

_MAX_BATCH_DIMENSIONS = 3  # of one call of the kernel


def matmul(
    a: ArrayT | Quantized[ArrayT],
    b: ArrayT | Quantized[ArrayT],
    *,
    bias: ArrayT | None = None,
    activation: Activation | None = None,
    order: Order = "sequential",
    cuts: Size | None = None,
    runs: int | None = None,
) -> ArrayT:
    """The matrix product with one value: each output is the fold acc = fma(a, b, acc) over
    ascending k from +0, whatever the threads, the strides and the instruction set.

    >>> a = quantize(np.eye(2, dtype=np.float32), "cf8_1_4_3")
    >>> matmul(a, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)).tolist()
    [[1.0, 2.0], [3.0, 4.0]]

    Args:
        a, b: [..., m, k] and [..., k, n], each `Quantized` or plain (float32,
            bfloat16, float16, float8_e4m3fn, float8_e5m2), in any mix; batch
            dimensions broadcast and vectors count as in torch.matmul. Views (transposed, sliced,
            expanded) are read where they lie.
        bias: float32 [n], added to the finished sum with one rounding.
        activation: "relu", after the bias.
        order: another order than "sequential": "tile4" sums four points, then adds the sums; "w21"
            rounds the accumulator to 21 bits, 1-7-13, at each point; "exact" rounds the real sum
            once (src/dojo/numerics/sum_order.h).
        cuts: block length of the k loop; k is cut into parts of that length, each summed from +0,
            and the parts are added in ascending order (docs/numerics.md, Sums). Default: one part.
        runs: so many consecutive parts are added first, then the sums of these runs, each in
            ascending order: `by` in a Graph's k_parts. Default: one run.

    Returns:
        float32 [..., m, n], C-contiguous, in the framework of a and b.

    Errors (opendojo.Error): shapes that do not fit, arrays of another type or device, of both
    frameworks, or that require a gradient (`quantized_matmul` has one).
    """
    left, left_type = operand(a, "a")
    right, right_type = operand(b, "b")
    check_same_kind(left, b=right, bias=bias)
    if left.ndim == 0 or right.ndim == 0:
        raise Error("matmul: a scalar has no rows and columns, multiply with *")
    is_row, is_column = left.ndim == 1, right.ndim == 1
    if is_row or is_column:
        left = left[None, :] if is_row else left
        right = right[:, None] if is_column else right
    m, k = left.shape[-2:]
    n = right.shape[-1]
    if right.shape[-2] != k:
        raise Error(
            f"matmul: k is {k} in a of {list(a.shape)} and {right.shape[-2]} in b of "
            f"{list(b.shape)}"
        )
    batch: tuple[int, ...] = _broadcast_batch(left.shape[:-2], right.shape[:-2])
    added = bias_vector(bias, n)
    rest = reduce_cuts(cuts, 1, order, runs), added, activation_named(activation)
    out = empty_like(left, (*batch, m, n))
    if right.ndim == 2 and left.ndim > 2 and is_contiguous(left):
        # The same rows as one matrix: nothing is packed twice.
        rows = math.prod(batch) * m
        flat = left.reshape(rows, k)
        _product(flat, left_type, right, right_type, *rest, out.reshape(rows, n))
    else:
        left = broadcast(left, (*batch, m, k))
        right = broadcast(right, (*batch, k, n))
        _batched_product(left, left_type, right, right_type, *rest, out)
    if is_row:
        out = out[..., 0, :]
    return out[..., 0] if is_column else out


def _product(
    left: Array,
    left_type: Any,
    right: Array,
    right_type: Any,
    cuts: Any,
    bias: Array | None,
    activation: Any,
    out: Array,
) -> None:
    _core.numerics.matmul(
        workers(),
        exported(left),
        left_type,
        exported(right),
        right_type,
        cuts,
        None if bias is None else exported(bias),
        activation,
        exported(out),
    )


def _batched_product(
    left: Array, left_type: Any, right: Array, right_type: Any, *rest: Any
) -> None:
    *epilogue, out = rest
    if out.ndim - 2 <= _MAX_BATCH_DIMENSIONS:
        _product(left, left_type, right, right_type, *rest)
        return
    for i in range(out.shape[0]):
        _batched_product(left[i], left_type, right[i], right_type, *epilogue, out[i])


def _broadcast_batch(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if a == b or not b:
        return a
    if not a:
        return b
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise Error(
            f"matmul: batch dimensions {list(a)} of a and {list(b)} of b do not broadcast"
        ) from None
