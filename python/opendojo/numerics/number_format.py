"""Number formats: how one element is stored, and what it is worth."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import choice, integer
from opendojo.numerics.workers import workers

MAX_BIAS = 63

Denormals = Literal["paper", "gradual"]
Overflow = Literal["format", "saturates", "special"]

_DENORMALS = {
    "paper": _core.numerics.DenormalScale.Paper,
    "gradual": _core.numerics.DenormalScale.Gradual,
}
_OVERFLOWS = {
    "format": _core.numerics.Overflow.OfFormat,
    "saturates": _core.numerics.Overflow.Saturates,
    "special": _core.numerics.Overflow.BecomesSpecial,
}


@dataclass(frozen=True)
class Format:
    """A floating-point format. Its values: docs/numerics.md, Formats.

    Attributes:
        name: as recipes and Graphs write it.
        bits: of one stored element; 8 bits are kept as uint8, 16 as uint16, 32 as float32.
        is_signed: whether there is a sign bit.
        exponent_bits, mantissa_bits: field widths, the mantissa without its hidden bit.
        has_bias: whether a tensor has an exponent bias of its own, 0 to 63.
        bias: of a format without `has_bias`; with it the one that makes it the usual format: 7 for
            OCP's E4M3, for example.
        has_inf, has_nan: whether there are codes for Inf and NaN; else they are clamped.
        what: one line about it.
    """

    name: str
    bits: int
    is_signed: bool
    exponent_bits: int
    mantissa_bits: int
    has_bias: bool
    bias: int
    has_inf: bool
    has_nan: bool
    what: str

    def max(self, bias: int | None = None) -> float:
        """The largest finite value, at a bias (default: `self.bias`).

        Errors (opendojo.Error): a bias that the format cannot have.
        """
        return self._value(_core.numerics.max_code(self.name), bias, "paper")

    def min_normal(self, bias: int | None = None) -> float:
        """The smallest positive value with the full mantissa. Errors: as `max`."""
        return self._value(1 << self.mantissa_bits, bias, "paper")

    def min_denormal(self, bias: int | None = None, denormals: Denormals = "paper") -> float:
        """The smallest positive value; where denormals are flushed, `min_normal`. Errors: as
        `max`."""
        return self._value(1, bias, denormals) or self.min_normal(bias)

    def _value(self, code: int, bias: int | None, denormals: Denormals) -> float:
        if bias is None:
            bias = self.bias if self.has_bias else 0
        codes = np.array([code], dtype=f"uint{self.bits}").view(self.code_dtype)
        value = np.empty(1, dtype=np.float32)
        _core.numerics.decode(workers(), codes, storage_format(self, bias, denormals), value)
        return float(value[0])

    @property
    def code_dtype(self) -> str:
        """The type of codes, in NumPy as in PyTorch."""
        return "float32" if self.bits == 32 else f"uint{self.bits}"

    def __str__(self) -> str:
        return self.name


@cache
def formats() -> tuple[Format, ...]:
    """The floating-point formats, in the order of their table.

    >>> [format.name for format in formats() if format.bits == 8]
    ['cf8_1_4_3', 'cf8_1_5_2', 'e4m3', 'e5m2']
    """
    return tuple(
        Format(
            name=row.name,
            bits=8 * row.bytes,
            is_signed=row.sign_bits == 1,
            exponent_bits=row.exponent_bits,
            mantissa_bits=row.mantissa_bits,
            has_bias=row.has_bias,
            bias=row.bias,
            has_inf=row.has_inf,
            has_nan=row.has_nan,
            what=row.what,
        )
        for row in _core.formats()
        if row.is_float
    )


@cache
def _format_named(name: str) -> Format | None:
    return next((format for format in formats() if format.name == name), None)


def as_format(format: str | Format) -> Format:
    """The format of that name, or itself."""
    if isinstance(format, Format):
        return format
    found = _format_named(format) if isinstance(format, str) else None
    if found is None:
        raise Error(f"format {format!r}: expected one of {', '.join(f.name for f in formats())}")
    return found


def storage_format(
    format: Format,
    bias: int = 0,
    denormals: Denormals = "paper",
    overflow: Overflow = "format",
) -> "_core.numerics.StorageFormat":
    """What the kernels take: a format with a bias that it may have."""
    return _storage_format(format.name, integer(bias, "bias", 0, MAX_BIAS), denormals, overflow)


@cache
def _storage_format(
    name: str, bias: int, denormals: str, overflow: str
) -> "_core.numerics.StorageFormat":
    if bias != 0 and not as_format(name).has_bias:
        raise Error(f"bias {bias}: {name} has none, leave it out")
    return _core.numerics.StorageFormat(
        name,
        bias,
        choice(_DENORMALS, denormals, "denormals"),
        choice(_OVERFLOWS, overflow, "overflow"),
    )
