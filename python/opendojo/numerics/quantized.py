"""Encode and decode: arrays of FP32 to codes of a format and back, and the choice of a bias."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, Literal

import numpy as np

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
    is_contiguous,
    shares_memory,
    view_as,
)
from opendojo.numerics.bias import BiasControl, Stats, bias_from_amax
from opendojo.numerics.number_format import (
    MAX_BIAS,
    Denormals,
    Format,
    Overflow,
    as_format,
    storage_format,
)
from opendojo.numerics.workers import workers

Rounding = Literal["nearest", "stochastic", "nearest_away"]

ROUNDINGS = {
    "nearest": _core.numerics.Rounding.NearestEven,
    "stochastic": _core.numerics.Rounding.Stochastic,
    "nearest_away": _core.numerics.Rounding.NearestAway,
}
_PLAIN = {
    "float32": "f32",
    "bfloat16": "bf16",
    "float16": "f16",
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
}


@dataclass(frozen=True, eq=False)
class Quantized(Generic[ArrayT]):
    """An array as codes of a format. Made by `quantize`, or of codes that one has already.

    Attributes:
        codes: torch.Tensor or numpy.ndarray of any shape and strides; uint8 for formats of 8 bits,
            uint16 for 16, float32 for f32.
        format: by name or as Format.
        bias: the exponent bias of all elements, 0 to 63; 0 where the format has none.
        denormals: what exponent code 0 is worth: 2^-bias 0.m as Tesla's paper has it, or
            2^(1-bias) 0.m as IEEE 754.
        stats: of the encode that made it.

    Errors (opendojo.Error): codes of another type, a bias that the format cannot have.
    """

    codes: ArrayT
    format: Format
    bias: int = 0
    denormals: Denormals = "paper"
    stats: Stats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", as_format(self.format))
        object.__setattr__(self, "bias", integer(self.bias, "bias", 0, MAX_BIAS))
        _ = self.storage_format  # checks the rest
        check_array(self.codes, "codes")
        expected = self.format.code_dtype
        if dtype_name(self.codes) != expected:
            raise Error(
                f"codes are {dtype_name(self.codes)}: those of {self.format.name} are {expected}"
            )

    @property
    def storage_format(self) -> "_core.numerics.StorageFormat":
        """Format, bias and denormals as kernels take them."""
        return storage_format(self.format, self.bias, self.denormals)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the codes."""
        return tuple(self.codes.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.codes.ndim

    @property
    def mT(self) -> "Quantized[ArrayT]":  # noqa: N802 (as PyTorch and NumPy call it)
        """A view with the last two dimensions swapped."""
        return self.with_codes(self.codes.mT)

    def __getitem__(self, index: Any) -> "Quantized[ArrayT]":
        """A view, as the codes are indexed."""
        return self.with_codes(self.codes[index])

    def with_codes(self, codes: ArrayT) -> "Quantized[ArrayT]":
        """The same format, bias and statistics with other codes, such as a view of these."""
        return replace(self, codes=codes)

    def dequantize(self) -> ArrayT:
        """The values, exactly: as `dequantize`."""
        return dequantize(self.codes, self.format, self.bias, denormals=self.denormals)

    def __repr__(self) -> str:
        bias = f", bias={self.bias}" if self.format.has_bias else ""
        return f"Quantized({self.format.name}{list(self.shape)}{bias})"


def quantize(
    x: ArrayT,
    format: str | Format,
    bias: int | Literal["amax"] | BiasControl = "amax",
    *,
    margin: int = 0,
    rounding: Rounding = "nearest",
    denormals: Denormals = "paper",
    overflow: Overflow = "format",
    seed: int = 0,
    step: int = 0,
    tensor: int = 0,
    out: ArrayT | None = None,
) -> Quantized[ArrayT]:
    """Rounds each element of `x` to a format and keeps its codes.

    >>> q = quantize(np.array([0.3, -2.0, 1e9, np.nan], np.float32), "cf8_1_4_3", bias=7)
    >>> q.dequantize().tolist(), q.stats.saturated
    ([0.3125, -2.0, 480.0, 480.0], 2)

    Args:
        x: of any shape; float32, bfloat16, float16, float8_e4m3fn or float8_e5m2. One that is not
            C-contiguous is copied first.
        format: a row of `formats()`.
        bias: 0 to 63; or "amax": by `bias_from_amax` of the largest finite magnitude of `x`, less
            `margin`; or a `BiasControl`, which notes what this encode met. For formats without bias
            leave it as it is.
        rounding: "nearest" with ties to the even code, "stochastic", or "nearest_away" with ties
            away from zero (a plain loop, for comparing with other implementations).
        denormals: what exponent code 0 is worth, where the format leaves it open: see `Quantized`.
        overflow: what Inf and what is too large become: "saturates", the largest magnitude; or
            "special", Inf or else NaN, where the format has them. "format": as IEEE formats and
            UHP have it, "special"; as formats with a bias have it, "saturates".
        seed, step, tensor: of "stochastic". The random bits of an element are a pure function of
            these (64, 32 and 32 bits) and of its index in C order.
        out: where the codes go: a C-contiguous array of the shape of `x` and the type of codes.

    Returns:
        Codes of the shape of `x` in the same framework. In a format without Inf and NaN these
        become the largest magnitude with their sign; `stats` counts them.

    Errors (opendojo.Error): an array that is not of the CPU, dense and of these types; a bias,
    margin, seed, step or tensor out of its range; an `out` that does not fit.

    Source: Tesla, "A Guide to Tesla's Configurable Floating Point Formats & Arithmetic", 2021 (cf8,
    shp, uhp); OCP 8-bit Floating Point Specification, 2023 (e4m3, e5m2); docs/numerics.md for what
    they leave open.
    """
    chosen = as_format(format)
    values = float32_values(x)
    codes = _checked_out(out, x, chosen.code_dtype)
    exponent_bias = _bias_for(values, chosen, bias, margin)
    stats = Stats.of(
        *_core.numerics.encode(
            workers(),
            exported(values),
            storage_format(chosen, exponent_bias, denormals, overflow),
            choice(ROUNDINGS, rounding, "rounding"),
            random_stream(seed, tensor, step),
            exported(codes),
        )
    )
    if isinstance(bias, BiasControl):
        bias.note(exponent_bias, stats, math.prod(x.shape))
    return Quantized(codes, chosen, exponent_bias, denormals, stats)


def dequantize(
    codes: ArrayT,
    format: str | Format,
    bias: int = 0,
    *,
    denormals: Denormals = "paper",
    out: ArrayT | None = None,
) -> ArrayT:
    """The values of codes, exactly.

    >>> dequantize(np.array([0x38, 0xB8], np.uint8), "cf8_1_4_3", bias=7).tolist()
    [1.0, -1.0]

    Args:
        codes: uint8, uint16 or float32 as the format has it, of any shape; codes that are not
            C-contiguous are copied first.
        format, bias, denormals: as `quantize` had them.
        out: where the values go: a C-contiguous float32 array of the shape of `codes`.

    Returns:
        float32 of the shape of `codes`, in the same framework.

    Errors (opendojo.Error): as `Quantized`, and an `out` that does not fit.
    """
    held = Quantized(codes, as_format(format), bias, denormals)
    values = _checked_out(out, codes, "float32")
    _core.numerics.decode(
        workers(),
        exported(contiguous(codes)),
        storage_format(held.format, bias, denormals),
        exported(values),
    )
    return values


def operand(x: Any, name: str) -> tuple[Any, "_core.numerics.StorageFormat"]:
    """The codes of `x` and their format, without a copy: plain arrays are codes too."""
    if isinstance(x, Quantized):
        return x.codes, x.storage_format
    check_array(x, name)
    dtype = dtype_name(x)
    if dtype in _PLAIN:
        codes = x if dtype == "float32" else view_as(x, f"uint{8 * x.dtype.itemsize}")
        return codes, _plain_format(_PLAIN[dtype])
    remedy = (
        f"codes need their format, give Quantized({name}, format, bias)"
        if dtype in ("uint8", "uint16")
        else "convert it first"
    )
    raise Error(f"{name} is {dtype}: expected Quantized or one of {', '.join(_PLAIN)}; {remedy}")


@cache
def _plain_format(name: str) -> "_core.numerics.StorageFormat":
    format = as_format(name)
    return storage_format(format, format.bias if format.has_bias else 0)


def float32_values(x: ArrayT) -> ArrayT:
    """`x` as C-contiguous float32."""
    check_array(x, "x")
    codes, storage = operand(x, "x")
    codes = contiguous(codes)
    if dtype_name(x) == "float32":
        return codes
    values = empty_like(codes, codes.shape)
    _core.numerics.decode(workers(), exported(codes), storage, exported(values))
    return values


def _bias_for(values: ArrayT, format: Format, bias: Any, margin: int) -> int:
    if isinstance(bias, str) and bias != "amax":
        raise Error(f"bias {bias!r}: expected an integer, 'amax' or a BiasControl")
    if not isinstance(bias, str | BiasControl):
        return integer(bias, "bias", 0, MAX_BIAS)
    if not format.has_bias:
        return 0
    if isinstance(bias, BiasControl) and not bias.follows_pass:
        return bias.choose(format)
    amax = _core.numerics.amax(workers(), exported(values))
    if isinstance(bias, BiasControl):
        return bias.choose(format, amax)
    return bias_from_amax(amax, format, margin)


def _checked_out(out: ArrayT | None, x: ArrayT, dtype: str) -> ArrayT:
    if out is None:
        return empty_like(x, x.shape, dtype)
    check_array(out, "out")
    check_same_kind(x, out=out)
    if shares_memory(x, out):
        raise Error("out overlaps the input")
    if dtype_name(out) != dtype or tuple(out.shape) != tuple(x.shape) or not is_contiguous(out):
        raise Error(
            f"out is {dtype_name(out)}{list(out.shape)}: expected a C-contiguous "
            f"{dtype}{list(x.shape)}"
        )
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise Error("out is read-only")
    return out


def random_stream(seed: int, tensor: int, step: int) -> "_core.numerics.RandomStream":
    """The random bits of one tensor in one step."""
    return _core.numerics.RandomStream(
        integer(seed, "seed", 0, 2**64 - 1),
        integer(tensor, "tensor", 0, 2**32 - 1),
        integer(step, "step", 0, 2**32 - 1),
    )
