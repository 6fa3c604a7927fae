"""Products and convolutions of PyTorch with derivatives: operands and output gradients are rounded
to formats, and forward and backward sum in the one stated order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from opendojo.errors import Error
from opendojo.numerics.arrays import check_array
from opendojo.numerics.convolutions import (
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from opendojo.numerics.number_format import Denormals
from opendojo.numerics.products import matmul
from opendojo.numerics.quantized import Quantized, Rounding, quantize
from opendojo.numerics.sums import Order, Size

Operand = Tensor | Quantized[Tensor]


@dataclass(frozen=True)
class QuantSpec:
    """How a layer rounds. The default: 1-4-3 forward and 1-5-2 for gradients, as the literature
    found (arXiv 2209.05433, 2206.02915), each with the bias of its own amax.

    Attributes:
        forward: format of activations and weights; "f32" leaves them as they are.
        gradient: format of output gradients.
        margin: binades of headroom above the amax.
        rounding, gradient_rounding: as `quantize` has it.
        denormals: as `quantize` has it.
        order: of all sums, forward and backward, as `matmul` has it.
        seed: of stochastic rounding.
    """

    forward: str = "cf8_1_4_3"
    gradient: str = "cf8_1_5_2"
    margin: int = 0
    rounding: Rounding = "nearest"
    gradient_rounding: Rounding = "nearest"
    denormals: Denormals = "paper"
    order: Order = "sequential"
    seed: int = 0


@dataclass(frozen=True)
class _Rounder:
    """A spec at one step of one layer. Random bits of its operands are those of the tensors
    3 `tensor` + 0 (activation), 1 (weight), 2 (output gradient)."""

    spec: QuantSpec
    step: int
    tensor: int

    def operand(self, x: Tensor, role: int) -> Operand:
        return self._rounded(x, self.spec.forward, self.spec.rounding, role)

    def gradient(self, x: Tensor) -> Operand:
        return self._rounded(x, self.spec.gradient, self.spec.gradient_rounding, 2)

    def _rounded(self, x: Tensor, format: str, rounding: Rounding, role: int) -> Operand:
        if format == "f32":
            return x
        return quantize(
            x,
            format,
            margin=self.spec.margin,
            rounding=rounding,
            denormals=self.spec.denormals,
            seed=self.spec.seed,
            step=self.step,
            tensor=3 * self.tensor + role,
        )


def fake_quantize(x: Tensor, format: str, bias: Any = "amax", **options: Any) -> Tensor:
    """The values of `quantize(x, format, bias, **options)`, float32 of the shape of `x`. The
    gradient passes straight through, where `x` was clamped too.

    >>> x = torch.tensor([0.3, -2.0], requires_grad=True)
    >>> y = fake_quantize(x, "cf8_1_4_3", bias=7)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.3125, -2.0], [1.0, 1.0])

    Errors (opendojo.Error): as `quantize`.

    Source of the straight-through gradient: Bengio et al., arXiv 1308.3432.
    """
    return _FakeQuantize.apply(x, format, bias, options)


def quantized_matmul(
    a: Tensor,
    b: Tensor,
    spec: QuantSpec | None = None,
    *,
    step: int = 0,
    tensor: int = 0,
) -> Tensor:
    """`matmul` of `a` and `b` rounded to `spec.forward`, with derivatives: backward rounds the
    output gradient to `spec.gradient` and multiplies it with the rounded operands. The gradient
    passes straight through the rounding. Backward keeps codes, not FP32 operands.

    Args:
        a, b: [..., m, k] and [..., k, n], each of a plain type of `matmul`; batch dimensions
            broadcast. The gradient of a broadcast operand is one sum: over the batch dimensions it
            lacks, in order, outside the product's own reduction.
        spec: default `QuantSpec()`.
        step, tensor: of stochastic rounding: count the steps, and number the layers.

    Returns:
        float32 [..., m, n].

    Errors (opendojo.Error): as `quantize` and `matmul`; vectors.
    """
    _check_matrices(a=a, b=b)
    return _Matmul.apply(a, b, None, False, _Rounder(spec or QuantSpec(), step, tensor))


def quantized_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    spec: QuantSpec | None = None,
    *,
    step: int = 0,
    tensor: int = 0,
) -> Tensor:
    """x weight^T + bias, as torch.nn.functional.linear, rounded and with derivatives as
    `quantized_matmul`. The bias is FP32, and its gradient the sum of the rounded output gradients
    over rows, ascending.

    >>> x, w = torch.ones(2, 3), torch.full((4, 3), 0.3, requires_grad=True)
    >>> y = quantized_linear(x, w)  # 0.3 is 0.3125 in 1-4-3
    >>> y.sum().backward()
    >>> y[0, 0].item(), w.grad[0, 0].item()
    (0.9375, 2.0)

    Args:
        x: [..., i]; weight: [o, i]; each of a plain type of `matmul`. bias: float32 [o].
        spec, step, tensor: as `quantized_matmul`.

    Returns:
        float32 [..., o].

    Errors (opendojo.Error): as `quantize` and `matmul`.
    """
    _check_tensor(x, "x")
    rows = x[None] if x.ndim == 1 else x
    _check_matrices(x=rows, weight=weight)
    if weight.ndim != 2:
        raise Error(f"weight is {list(weight.shape)}: expected [out, in]")
    rounder = _Rounder(spec or QuantSpec(), step, tensor)
    out = _Matmul.apply(rows, weight, bias, True, rounder)
    return out[0] if x.ndim == 1 else out


def quantized_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    spec: QuantSpec | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    step: int = 0,
    tensor: int = 0,
) -> Tensor:
    """`convolution` of `x` and `weight` rounded to `spec.forward`, with derivatives as
    `quantized_matmul`. The gradient of the bias is the sum of the rounded output gradients over
    n and the axes ascending.

    Args:
        x: [n, c, size...] of one to three axes; weight: [o, c / groups, kernel...]; each of a
            plain type of `matmul`. bias: float32 [o].
        stride, padding, dilation, groups: as `convolution`.
        spec, step, tensor: as `quantized_matmul`.

    Returns:
        float32 [n, o, out size...].

    Errors (opendojo.Error): as `quantize` and `convolution`.
    """
    for name, array in (("x", x), ("weight", weight)):
        _check_tensor(array, name)
    rounder = _Rounder(spec or QuantSpec(), step, tensor)
    geometry = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "order": rounder.spec.order,
    }
    return _Convolution.apply(x, weight, bias, geometry, rounder)


def _check_tensor(x: Any, name: str) -> None:
    """Raises opendojo.Error unless `x` is a PyTorch tensor that kernels can read."""
    if not isinstance(x, Tensor):
        raise Error(f"{name} is of type {type(x).__name__}: derivatives need a torch.Tensor")
    with torch.no_grad():  # here a tensor may require a gradient
        check_array(x, name)


def _check_matrices(**arrays: Tensor) -> None:
    for name, x in arrays.items():
        _check_tensor(x, name)
        if x.ndim < 2:
            raise Error(f"{name} is {list(x.shape)}: expected a matrix or a batch of them")


def _save(ctx: Any, *operands: Operand) -> None:
    """Keeps operands for backward: codes where there are any, and how they are stored."""
    ctx.save_for_backward(*(x.codes if isinstance(x, Quantized) else x for x in operands))
    ctx.stored = [
        (x.format, x.bias, x.denormals) if isinstance(x, Quantized) else None for x in operands
    ]


def _saved(ctx: Any) -> list[Operand]:
    return [
        x if stored is None else Quantized(x, *stored)
        for x, stored in zip(ctx.saved_tensors, ctx.stored, strict=True)
    ]


def _moved(x: Operand, dims: list[int], shape: list[int]) -> Operand:
    """Dimensions in another order, then joined: a copy only where strides do not allow a view."""
    if isinstance(x, Quantized):
        return x.with_codes(x.codes.permute(dims).reshape(shape))
    return x.permute(dims).reshape(shape)


def _expanded(x: Operand, shape: list[int]) -> Operand:
    return x.with_codes(x.codes.expand(shape)) if isinstance(x, Quantized) else x.expand(shape)


def _summed_matmul(left: Operand, right: Operand, shape: Sequence[int], order: Order) -> Tensor:
    """left @ right, summed over the batch dimensions in which `shape` has 1 or nothing: those are
    joined with k, outermost first, so it is one sum in ascending order."""
    batch = list(torch.broadcast_shapes(left.shape[:-2], right.shape[:-2]))
    rank = len(batch)
    kept_of = [1] * (rank + 2 - len(shape)) + list(shape[:-2])
    kept = [i for i in range(rank) if kept_of[i] == batch[i]]
    summed = [i for i in range(rank) if kept_of[i] != batch[i]]
    if not summed:
        return matmul(left, right, order=order).reshape(shape)
    m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
    joined = math.prod(batch[i] for i in summed) * k
    outer = [batch[i] for i in kept]
    left = _expanded(left, [*batch, m, k])
    right = _expanded(right, [*batch, k, n])
    left = _moved(left, [*kept, rank, *summed, rank + 1], [*outer, m, joined])
    right = _moved(right, [*kept, *summed, rank, rank + 1], [*outer, joined, n])
    return matmul(left, right, order=order).reshape(shape)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, format: str, bias: Any, options: dict[str, Any]) -> Tensor:
        ctx.dtype = x.dtype
        return quantize(x, format, bias, **options).dequantize()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].to(ctx.dtype), None, None, None


class _Matmul(torch.autograd.Function):
    """a @ b, or a @ b^T; a bias is added to each row."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None, transposed: bool, rounder: _Rounder
    ) -> Tensor:
        left, right = rounder.operand(a, 0), rounder.operand(b, 1)
        _save(ctx, left, right)
        ctx.transposed, ctx.rounder = transposed, rounder
        ctx.dtypes = a.dtype, b.dtype
        other = right.mT if transposed else right
        return matmul(left, other, bias=bias, order=rounder.spec.order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        left, right = _saved(ctx)
        gradient = ctx.rounder.gradient(gradients[0])
        order = ctx.rounder.spec.order
        da = db = dbias = None
        if ctx.needs_input_grad[0]:
            other = right if ctx.transposed else right.mT
            da = _summed_matmul(gradient, other, left.shape, order).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            first, second = (gradient.mT, left) if ctx.transposed else (left.mT, gradient)
            db = _summed_matmul(first, second, right.shape, order).to(ctx.dtypes[1])
        if ctx.needs_input_grad[2]:
            ones = torch.ones(()).expand(*gradient.shape[:-2], 1, gradient.shape[-2])
            dbias = _summed_matmul(ones, gradient, [1, gradient.shape[-1]], order)[0]
        return da, db, dbias, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: dict[str, Any],
        rounder: _Rounder,
    ) -> Tensor:
        images, weights = rounder.operand(x, 0), rounder.operand(weight, 1)
        _save(ctx, images, weights)
        ctx.geometry, ctx.rounder = geometry, rounder
        ctx.dtypes = x.dtype, weight.dtype
        return convolution(images, weights, bias, **geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weights = _saved(ctx)
        gradient = ctx.rounder.gradient(gradients[0])
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            size = images.shape[2:]
            dx = convolution_input_gradient(gradient, weights, size, **ctx.geometry).to(
                ctx.dtypes[0]
            )
        if ctx.needs_input_grad[1]:
            kernel = weights.shape[2:]
            dweight = convolution_weight_gradient(gradient, images, kernel, **ctx.geometry)
            dweight = dweight.to(ctx.dtypes[1])
        if ctx.needs_input_grad[2]:
            n, _, *size = gradient.shape
            ones = torch.ones(()).expand(n, 1, *size)
            order = ctx.rounder.spec.order
            dbias = convolution_weight_gradient(gradient, ones, [1] * len(size), order=order)
            dbias = dbias.reshape(-1)
        return dx, dweight, dbias, None, None
