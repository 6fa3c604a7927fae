"""MXFP8: blocks of 32 elements of e4m3 or e5m2 that share one power-of-two scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import choice, integer
from opendojo.numerics.arrays import (
    ArrayT,
    check_array,
    check_same_kind,
    contiguous,
    dtype_name,
    empty_like,
    exported,
)
from opendojo.numerics.bias import Stats
from opendojo.numerics.number_format import as_format, storage_format
from opendojo.numerics.quantized import ROUNDINGS, Rounding, float32_values, random_stream
from opendojo.numerics.workers import workers

Element = Literal["e4m3", "e5m2"]

BLOCK = 32
_ELEMENTS = {name: storage_format(as_format(name)) for name in ("e4m3", "e5m2")}


@dataclass(frozen=True, eq=False)
class QuantizedMx(Generic[ArrayT]):
    """An array in MXFP8. Made by `quantize_mx`, or of codes and scales that one has already.

    Attributes:
        codes: uint8 of any shape.
        scales: uint8, E8M0: code c is 2^(c - 127), 255 is NaN; of the shape of `codes` with
            ceil(extent / 32) blocks along `axis`.
        element: "e4m3" or "e5m2".
        axis: along which blocks lie, counted from 0.
        stats: of the encode that made it.

    Errors (opendojo.Error): arrays of other types or shapes.
    """

    codes: ArrayT
    scales: ArrayT
    element: Element
    axis: int
    stats: Stats | None = None

    def __post_init__(self) -> None:
        choice(_ELEMENTS, self.element, "element")
        check_array(self.codes, "codes")
        check_array(self.scales, "scales")
        check_same_kind(self.codes, scales=self.scales)
        integer(self.axis, "axis", 0, self.codes.ndim - 1)
        expected = _scales_shape(self.codes.shape, self.axis)
        if {dtype_name(self.codes), dtype_name(self.scales)} != {"uint8"}:
            raise Error("codes and scales of MXFP8 are uint8")
        if list(self.scales.shape) != expected:
            raise Error(f"scales are {list(self.scales.shape)}: expected {expected}")

    def dequantize(self) -> ArrayT:
        """The values, exactly: float32 of the shape of the codes. Matrix products take these."""
        values = empty_like(self.codes, self.codes.shape)
        _core.numerics.decode_mx(
            workers(),
            exported(contiguous(self.codes)),
            exported(contiguous(self.scales)),
            _extents(self.codes.shape, self.axis),
            _ELEMENTS[self.element],
            exported(values),
        )
        return values


def quantize_mx(
    x: ArrayT,
    element: Element = "e4m3",
    *,
    axis: int = -1,
    rounding: Rounding = "nearest",
    seed: int = 0,
    step: int = 0,
    tensor: int = 0,
) -> QuantizedMx[ArrayT]:
    """Rounds `x` to MXFP8: each block of 32 elements along `axis`, the last one maybe shorter, gets
    the scale 2^(floor(log2(amax)) - emax), with emax 8 (e4m3) or 15 (e5m2).

    >>> q = quantize_mx(np.array([3.0, 0.1, 1000.0], np.float32))
    >>> q.scales.tolist(), q.dequantize().tolist()
    ([128], [3.0, 0.1015625, 896.0])

    Args:
        x: as `quantize` has it, with at least one dimension.
        element: "e4m3" or "e5m2".
        axis: along which blocks lie; negative ones count from the last.
        rounding, seed, step, tensor: as `quantize` has them.

    Returns:
        Codes and scales in the framework of `x`. With the specification's scale, magnitudes above
        1.75 times the largest power of two in their block are clamped; `stats` counts them.

    Errors (opendojo.Error): as `quantize`; a scalar; an axis that there is not.

    Source: OCP Microscaling Formats (MX) Specification v1.0, 2023.
    """
    stored = choice(_ELEMENTS, element, "element")
    values = float32_values(x)
    along = integer(axis, "axis", -values.ndim, values.ndim - 1) % max(values.ndim, 1)
    codes = empty_like(values, values.shape, "uint8")
    scales = empty_like(values, _scales_shape(values.shape, along), "uint8")
    seen = _core.numerics.encode_mx(
        workers(),
        exported(values),
        _extents(values.shape, along),
        stored,
        choice(ROUNDINGS, rounding, "rounding"),
        random_stream(seed, tensor, step),
        exported(codes),
        exported(scales),
    )
    return QuantizedMx(codes, scales, element, along, Stats.of(*seen))


def _scales_shape(shape: Sequence[int], axis: int) -> list[int]:
    return [*shape[:axis], -(-shape[axis] // BLOCK), *shape[axis + 1 :]]


def _extents(shape: Sequence[int], axis: int) -> list[int]:
    return [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])]
