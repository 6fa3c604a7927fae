"""Products and convolutions in one stated order of summation, on codes or on plain arrays."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import choice, integer, integers
from opendojo.numerics.arrays import (
    Array,
    ArrayT,
    broadcast,
    check_array,
    check_same_kind,
    contiguous,
    dtype_name,
    empty_like,
    exported,
    is_contiguous,
    view_as,
)
from opendojo.numerics.number_format import as_format, storage_format
from opendojo.numerics.quantized import Quantized
from opendojo.numerics.workers import workers

Activation = Literal["relu"]
Order = Literal["sequential", "tile4", "w21", "exact"]
Size = int | Sequence[int]

_ACTIVATIONS = {None: _core.numerics.Activation.None_, "relu": _core.numerics.Activation.Relu}
_F32 = storage_format(as_format("f32"))
_BF16 = storage_format(as_format("bf16"))
_UNCUT = {order: _core.numerics.ReduceCuts([], order) for order in _core.numerics.sum_orders}
_MAX_BATCH_DIMENSIONS = 3  # of one call of the kernel


def matmul(
    a: ArrayT | Quantized[ArrayT],
    b: ArrayT | Quantized[ArrayT],
    *,
    bias: ArrayT | None = None,
    activation: Activation | None = None,
    order: Order = "sequential",
    cuts: Size | None = None,
) -> ArrayT:
    """The matrix product with one value: each output is the fold acc = fma(a, b, acc) over
    ascending k from +0, whatever the threads, the strides and the instruction set.

    >>> a = quantize(np.eye(2, dtype=np.float32), "cf8_1_4_3")
    >>> matmul(a, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)).tolist()
    [[1.0, 2.0], [3.0, 4.0]]

    Args:
        a, b: [..., m, k] and [..., k, n], each `Quantized`, float32 or bfloat16 as it likes; batch
            dimensions broadcast and vectors count as in torch.matmul. Views (transposed, sliced,
            expanded) are read where they lie.
        bias: float32 [n], added to the finished sum with one rounding.
        activation: "relu", after the bias.
        order: another order than "sequential": "tile4" sums four points, then adds the sums; "w21"
            rounds the accumulator to 21 bits, 1-7-13, at each point; "exact" rounds the real sum
            once (src/dojo/numerics/sum_order.h).
        cuts: block length of the k loop; k is cut into parts of that length, each summed from +0,
            and the parts are added in ascending order (docs/numerics.md, Sums). Default: one part.

    Returns:
        float32 [..., m, n], C-contiguous, in the framework of a and b.

    Errors (opendojo.Error): shapes that do not fit, arrays of another type or device, of both
    frameworks, or that require a gradient (`quantized_matmul` has one).
    """
    left, left_type = _operand(a, "a")
    right, right_type = _operand(b, "b")
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
    added = _bias_vector(bias, n)
    rest = _reduce_cuts(cuts, 1, order), added, choice(_ACTIVATIONS, activation, "activation")
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


def conv2d(
    x: ArrayT | Quantized[ArrayT],
    weight: ArrayT | Quantized[ArrayT],
    bias: ArrayT | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    activation: Activation | None = None,
    cuts: Sequence[int] | None = None,
) -> ArrayT:
    """A 2-D convolution, as torch.nn.functional.conv2d, in one stated order: the fold
    acc = fma(weight, x, acc) over c (of the group), ky, kx ascending, from +0; a point in the
    padding counts with operand +0.

    Args:
        x: [n, c, y, x]; weight: [o, c / groups, ky, kx]; each `Quantized`, float32 or bfloat16,
            with any strides.
        bias: float32 [o], added to the finished sum with one rounding.
        stride, padding, dilation: one integer, or one each for y and x.
        activation: "relu", after the bias.
        cuts: block lengths of the loops c, ky, kx (docs/numerics.md, Sums). Default: one part.

    Returns:
        float32 [n, o, out_y, out_x], C-contiguous.

    Errors (opendojo.Error): as `matmul`; a kernel that is larger than the padded input.
    """
    images, image_type = _operand(x, "x")
    weights, weight_type = _operand(weight, "weight")
    check_same_kind(images, weight=weights, bias=bias)
    _check_ranks(x=images, weight=weights)
    geometry = _Geometry(stride, padding, dilation, groups)
    geometry.check_channels(images.shape[1], weights.shape)
    size: tuple[int, int] = geometry.output_size(images.shape[2:], weights.shape[2:])
    added = _bias_vector(bias, weights.shape[0])
    out = empty_like(images, (images.shape[0], weights.shape[0], *size))
    _core.numerics.convolution(
        workers(),
        exported(images),
        image_type,
        exported(weights),
        weight_type,
        geometry.core,
        _reduce_cuts(cuts, 3, "sequential"),
        None if added is None else exported(added),
        choice(_ACTIVATIONS, activation, "activation"),
        exported(out),
    )
    return out


def conv2d_input_gradient(
    output_gradient: ArrayT | Quantized[ArrayT],
    weight: ArrayT | Quantized[ArrayT],
    size: Sequence[int],
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    cuts: Sequence[int] | None = None,
) -> ArrayT:
    """The gradient of `conv2d` with respect to x: the fold acc = fma(weight, output_gradient, acc)
    over o (of the group), ky, kx ascending, from +0. A pair (ky, kx) whose distance the stride does
    not divide is no point.

    Args:
        output_gradient: [n, o, out_y, out_x]; weight: [o, c / groups, ky, kx].
        size: (y, x) of the convolution's input, which the output size alone does not tell.
        cuts: block lengths of the loops o, ky, kx. The rest as `conv2d`.

    Returns:
        float32 [n, c, y, x], C-contiguous.

    Errors (opendojo.Error): as `conv2d`.
    """
    gradients, gradient_type = _operand(output_gradient, "output_gradient")
    weights, weight_type = _operand(weight, "weight")
    check_same_kind(gradients, weight=weights)
    _check_ranks(output_gradient=gradients, weight=weights)
    geometry = _Geometry(stride, padding, dilation, groups)
    channels = weights.shape[1] * geometry.groups
    geometry.check_channels(channels, weights.shape)
    image: tuple[int, int] = _pair(size, "size", at_least=0)
    geometry.check_output(gradients.shape, weights.shape[0], image, weights.shape[2:])
    out = empty_like(gradients, (gradients.shape[0], channels, *image))
    _core.numerics.convolution_input_gradient(
        workers(),
        exported(gradients),
        gradient_type,
        exported(weights),
        weight_type,
        geometry.core,
        _reduce_cuts(cuts, 3, "sequential"),
        exported(out),
    )
    return out


def conv2d_weight_gradient(
    output_gradient: ArrayT | Quantized[ArrayT],
    x: ArrayT | Quantized[ArrayT],
    kernel_size: Sequence[int],
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    cuts: Sequence[int] | None = None,
) -> ArrayT:
    """The gradient of `conv2d` with respect to the weight: the fold
    acc = fma(output_gradient, x, acc) over n, y, x (of the output) ascending, from +0.

    Args:
        output_gradient: [n, o, out_y, out_x]; x: [n, c, y, x].
        kernel_size: (ky, kx), which the sizes do not tell where the stride exceeds 1.
        cuts: block lengths of the loops n, y, x. The rest as `conv2d`.

    Returns:
        float32 [o, c / groups, ky, kx], C-contiguous.

    Errors (opendojo.Error): as `conv2d`.
    """
    gradients, gradient_type = _operand(output_gradient, "output_gradient")
    images, image_type = _operand(x, "x")
    check_same_kind(gradients, x=images)
    _check_ranks(output_gradient=gradients, x=images)
    geometry = _Geometry(stride, padding, dilation, groups)
    channels_out, channels = gradients.shape[1], images.shape[1]
    kernel: tuple[int, int] = _pair(kernel_size, "kernel_size", at_least=1)
    geometry.check_channels(channels, (channels_out, channels // geometry.groups, *kernel))
    geometry.check_output(gradients.shape, channels_out, images.shape[2:], kernel)
    if gradients.shape[0] != images.shape[0]:
        raise Error(f"output_gradient is of {gradients.shape[0]} images and x of {images.shape[0]}")
    out = empty_like(gradients, (channels_out, channels // geometry.groups, *kernel))
    _core.numerics.convolution_weight_gradient(
        workers(),
        exported(gradients),
        gradient_type,
        exported(images),
        image_type,
        geometry.core,
        _reduce_cuts(cuts, 3, "sequential"),
        exported(out),
    )
    return out


class _Geometry:
    """Strides, padding, dilation and groups of a convolution, and the sizes that follow."""

    def __init__(self, stride: Size, padding: Size, dilation: Size, groups: int) -> None:
        self.stride = _pair(stride, "stride", at_least=1)
        self.padding = _pair(padding, "padding", at_least=0)
        self.dilation = _pair(dilation, "dilation", at_least=1)
        self.groups = integer(groups, "groups", 1, 2**31 - 1)
        self.core = _core.numerics.ConvolutionGeometry(
            self.stride, self.padding, self.dilation, self.groups
        )

    def check_channels(self, channels: int, weight: Sequence[int]) -> None:
        if weight[0] % self.groups != 0 or channels % self.groups != 0:
            raise Error(
                f"groups {self.groups} divides not both {channels} channels in and {weight[0]} out"
            )
        if weight[1] * self.groups != channels:
            raise Error(
                f"x has {channels} channels and the weight {weight[1]} for each of "
                f"{self.groups} groups"
            )
        if 0 in weight[2:]:
            raise Error(f"a kernel of size {list(weight[2:])}: expected at least 1")

    def output_size(self, image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        size = [
            (image[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in range(2)
        ]
        if min(size) < 1:
            raise Error(
                f"a kernel of size {list(kernel)} with dilation {list(self.dilation)} exceeds the "
                f"input of size {list(image)} with padding {list(self.padding)}"
            )
        return size[0], size[1]

    def check_output(
        self,
        gradient: Sequence[int],
        channels_out: int,
        image: Sequence[int],
        kernel: Sequence[int],
    ) -> None:
        expected = [channels_out, *self.output_size(image, kernel)]
        if list(gradient[1:]) != expected:
            raise Error(
                f"output_gradient is {list(gradient)}: an output of this convolution is "
                f"[n, {', '.join(map(str, expected))}]"
            )


def _operand(x: Any, name: str) -> tuple[Any, Any]:
    """The codes of `x` and their format: float32 and bfloat16 arrays are codes of f32 and bf16."""
    if isinstance(x, Quantized):
        return x.codes, x.storage_format
    check_array(x, name)
    dtype = dtype_name(x)
    if dtype == "float32":
        return x, _F32
    if dtype == "bfloat16":
        return view_as(x, "uint16"), _BF16
    remedy = (
        f"codes need their format, give Quantized({name}, format, bias)"
        if dtype in ("uint8", "uint16")
        else "convert it first"
    )
    raise Error(f"{name} is {dtype}: expected Quantized, float32 or bfloat16; {remedy}")


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


def _bias_vector(bias: ArrayT | None, size: int) -> ArrayT | None:
    if bias is None:
        return None
    check_array(bias, "bias")
    if dtype_name(bias) != "float32" or tuple(bias.shape) != (size,):
        raise Error(f"bias is {dtype_name(bias)}{list(bias.shape)}: expected float32[{size}]")
    return contiguous(bias)


def _reduce_cuts(cuts: Size | None, loops: int, order: str) -> Any:
    uncut = choice(_UNCUT, order, "order")
    if cuts is None:
        return uncut
    return _core.numerics.ReduceCuts(integers(cuts, "cuts", loops, 1, 2**48 - 1), order)


def _pair(value: Size, name: str, at_least: int) -> tuple[int, int]:
    y, x = integers(value, name, 2, at_least, 2**31 - 1)
    return y, x


def _check_ranks(**operands: Array) -> None:
    for name, operand in operands.items():
        if operand.ndim != 4:
            raise Error(f"{name} is {list(operand.shape)}: expected four dimensions")
