"""Convolutions over one to three axes in one stated order of summation, and their gradients."""

from collections.abc import Sequence
from typing import Any

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import integer, integers
from opendojo.numerics.arrays import ArrayT, check_same_kind, empty_like, exported
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

_KERNEL_AXES = 3  # z, y, x: kernels give what has fewer axes of extent 1 in front


def convolution(
    x: ArrayT | Quantized[ArrayT],
    weight: ArrayT | Quantized[ArrayT],
    bias: ArrayT | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    activation: Activation | None = None,
    order: Order = "sequential",
    cuts: Sequence[int] | None = None,
) -> ArrayT:
    """A convolution over one to three axes, as torch.nn.functional.conv1d, conv2d and conv3d, with
    one value: the fold acc = fma(weight, x, acc) over c (of the group), then the kernel's axes,
    each ascending, from +0. A point in the padding counts with operand +0.

    >>> image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> convolution(image, np.ones((1, 1, 2, 2), np.float32)).tolist()
    [[[[8.0, 12.0], [20.0, 24.0]]]]

    Args:
        x: [n, c, size...]; weight: [o, c / groups, kernel...]; each as an operand of `matmul`, with
            any strides.
        bias: float32 [o], added to the finished sum with one rounding.
        stride, padding, dilation: one integer, or one for each axis.
        activation: "relu", after the bias.
        order: as `matmul`.
        cuts: block lengths of the loop over c and of those over the kernel's axes
            (docs/numerics.md, Sums). Default: one part.

    Returns:
        float32 [n, o, out size...], C-contiguous.

    Errors (opendojo.Error): as `matmul`; a kernel that is larger than the padded input.
    """
    given = _Given(x=x, weight=weight)
    images, weights = given.codes
    check_same_kind(images, bias=bias)
    geometry = _Geometry(stride, padding, dilation, groups, given)
    geometry.check_channels(images.shape[1], weights.shape)
    size: list[int] = geometry.output_size(images.shape[2:], weights.shape[2:])
    out = empty_like(images, (images.shape[0], weights.shape[0], *size))
    added = bias_vector(bias, weights.shape[0])
    _core.numerics.convolution(
        workers(),
        *given.exported,
        geometry.core,
        geometry.cuts(cuts, order),
        None if added is None else exported(added),
        activation_named(activation),
        exported(out),
    )
    return out


def convolution_input_gradient(
    output_gradient: ArrayT | Quantized[ArrayT],
    weight: ArrayT | Quantized[ArrayT],
    size: Sequence[int],
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    order: Order = "sequential",
    cuts: Sequence[int] | None = None,
) -> ArrayT:
    """The gradient of `convolution` with respect to x: the fold
    acc = fma(weight, output_gradient, acc) over o (of the group), then the kernel's axes, each
    ascending, from +0. A tap whose distance the stride does not divide is no point.

    Args:
        output_gradient: [n, o, out size...]; weight: [o, c / groups, kernel...].
        size: of the convolution's input, one for each axis: the output does not tell it.
        cuts: block lengths of the loop over o and of those over the kernel's axes.
        stride, padding, dilation, groups, order: as `convolution` had them.

    Returns:
        float32 [n, c, size...], C-contiguous.

    Errors (opendojo.Error): as `convolution`.
    """
    given = _Given(output_gradient=output_gradient, weight=weight)
    gradients, weights = given.codes
    geometry = _Geometry(stride, padding, dilation, groups, given)
    channels = weights.shape[1] * geometry.groups
    geometry.check_channels(channels, weights.shape)
    image: list[int] = geometry.per_axis(size, "size", at_least=0)
    geometry.check_output(gradients.shape, weights.shape[0], image, weights.shape[2:])
    out = empty_like(gradients, (gradients.shape[0], channels, *image))
    _core.numerics.convolution_input_gradient(
        workers(),
        *given.exported,
        geometry.core,
        geometry.cuts(cuts, order),
        exported(out),
    )
    return out


def convolution_weight_gradient(
    output_gradient: ArrayT | Quantized[ArrayT],
    x: ArrayT | Quantized[ArrayT],
    kernel_size: Sequence[int],
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    order: Order = "sequential",
    cuts: Sequence[int] | None = None,
    runs: int | None = None,
) -> ArrayT:
    """The gradient of `convolution` with respect to the weight: the fold
    acc = fma(output_gradient, x, acc) over n, then the output's axes, each ascending, from +0.

    Args:
        output_gradient: [n, o, out size...]; x: [n, c, size...].
        kernel_size: one for each axis: where the stride exceeds 1, the sizes do not tell it.
        cuts: block lengths of the loop over n and of those over the output's axes.
        runs: so many parts of the loop over n are added first, then the sums of these runs.
        stride, padding, dilation, groups, order: as `convolution` had them.

    Returns:
        float32 [o, c / groups, kernel...], C-contiguous.

    Errors (opendojo.Error): as `convolution`.
    """
    given = _Given(output_gradient=output_gradient, x=x)
    gradients, images = given.codes
    geometry = _Geometry(stride, padding, dilation, groups, given)
    channels_out, channels = gradients.shape[1], images.shape[1]
    kernel: list[int] = geometry.per_axis(kernel_size, "kernel_size", at_least=1)
    shape = (channels_out, channels // geometry.groups, *kernel)
    geometry.check_channels(channels, shape)
    geometry.check_output(gradients.shape, channels_out, images.shape[2:], kernel)
    if gradients.shape[0] != images.shape[0]:
        raise Error(f"output_gradient is of {gradients.shape[0]} images and x of {images.shape[0]}")
    out = empty_like(gradients, shape)
    _core.numerics.convolution_weight_gradient(
        workers(),
        *given.exported,
        geometry.core,
        geometry.cuts(cuts, order, runs),
        exported(out),
    )
    return out


class _Given:
    """The two operands of a kernel, by the names they have in messages."""

    def __init__(self, **operands: Any) -> None:
        self.names = tuple(operands)
        taken = [operand(x, name) for name, x in operands.items()]
        self.codes = tuple(codes for codes, _ in taken)
        check_same_kind(self.codes[0], **{self.names[1]: self.codes[1]})
        self.exported = [part for codes, kind in taken for part in (exported(codes), kind)]


class _Geometry:
    """Axes, strides, padding, dilation and groups of a convolution, and the sizes that follow."""

    def __init__(
        self, stride: Size, padding: Size, dilation: Size, groups: int, given: "_Given"
    ) -> None:
        first, second = given.names
        x, y = given.codes
        self.axes = x.ndim - 2
        if not 1 <= self.axes <= _KERNEL_AXES:
            raise Error(f"{first} is {list(x.shape)}: expected three to five dimensions")
        if y.ndim != x.ndim:
            raise Error(
                f"{first} is {list(x.shape)} and {second} {list(y.shape)}: expected equally many "
                "dimensions"
            )
        self.stride = self.per_axis(stride, "stride", at_least=1)
        self.padding = self.per_axis(padding, "padding", at_least=0)
        self.dilation = self.per_axis(dilation, "dilation", at_least=1)
        self.groups = integer(groups, "groups", 1, 2**31 - 1)
        ones = [1] * (_KERNEL_AXES - self.axes)
        zeros = [0] * (_KERNEL_AXES - self.axes)
        self.core = _core.numerics.ConvolutionGeometry(
            ones + self.stride, zeros + self.padding, ones + self.dilation, self.groups
        )

    def per_axis(self, value: Size, name: str, at_least: int) -> list[int]:
        return integers(value, name, self.axes, at_least, 2**31 - 1)

    def cuts(
        self, cuts: Sequence[int] | None, order: str, runs: int | None = None
    ) -> "_core.numerics.ReduceCuts":
        if cuts is not None:
            first, *rest = integers(cuts, "cuts", 1 + self.axes, 1, 2**48 - 1)
            cuts = [first, *[1] * (_KERNEL_AXES - self.axes), *rest]
        return reduce_cuts(cuts, 1 + _KERNEL_AXES, order, runs)

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

    def output_size(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        size = [
            (extent + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for extent, taps, stride, padding, dilation in zip(
                image, kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        if min(size) < 1:
            raise Error(
                f"a kernel of size {list(kernel)} with dilation {self.dilation} exceeds the input "
                f"of size {list(image)} with padding {self.padding}"
            )
        return size

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
