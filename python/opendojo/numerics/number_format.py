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

_DENORMALS = {
    "paper": _core.numerics.DenormalScale.Paper,
    "gradual": _core.numerics.DenormalScale.Gradual,
}


@dataclass(frozen=True)
class Format:
    """A floating-point format. Its values: docs/numerics.md, Formats.

    Attributes:
        name: as recipes and Graphs write it.
        bits: of one stored element; 8 bits are kept as uint8, 16 as uint16, 32 as float32.
        exponent_bits, mantissa_bits: field widths, the mantissa without its hidden bit.
        has_bias: whether a tensor has an exponent bias of its own, 0 to 63.
        what: one line about it.
    """

    name: str
    bits: int
    exponent_bits: int
    mantissa_bits: int
    has_bias: bool
    what: str

    def max(self, bias: int = 0) -> float:
        """The largest finite value. Errors (opendojo.Error): a bias that the format cannot have."""
        top = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        without_inf_nan = top if self.has_bias else top - (1 << self.mantissa_bits)
        return self._value(without_inf_nan, bias, "paper")

    def min_normal(self, bias: int = 0) -> float:
        """The smallest positive value with the full mantissa. Errors: as `max`."""
        return self._value(1 << self.mantissa_bits, bias, "paper")

    def min_denormal(self, bias: int = 0, denormals: Denormals = "paper") -> float:
        """The smallest positive value. Errors: as `max`."""
        return self._value(1, bias, denormals)

    def _value(self, code: int, bias: int, denormals: Denormals) -> float:
        codes = np.array([code], dtype=f"uint{self.bits}").view(self.numpy_dtype)
        value = np.empty(1, dtype=np.float32)
        _core.numerics.decode(workers(), codes, storage_format(self, bias, denormals), value)
        return float(value[0])

    @property
    def numpy_dtype(self) -> np.dtype:
        """Of codes in NumPy; PyTorch's has the same name."""
        return np.dtype(np.float32 if self.bits == 32 else f"uint{self.bits}")

    def __str__(self) -> str:
        return self.name


@cache
def formats() -> tuple[Format, ...]:
    """The floating-point formats, in the order of their table.

    >>> [format.name for format in formats()][:4]
    ['f32', 'bf16', 'cf8_1_4_3', 'cf8_1_5_2']
    """
    return tuple(
        Format(
            name=row.name,
            bits=8 * row.bytes,
            exponent_bits=row.exponent_bits,
            mantissa_bits=row.mantissa_bits,
            has_bias=row.has_bias,
            what=row.what,
        )
        for row in _core.formats()
        if row.exponent_bits > 0
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
    format: Format, bias: int = 0, denormals: Denormals = "paper"
) -> "_core.numerics.StorageFormat":
    """What the kernels take: a format with a bias that it may have."""
    return _storage_format(format.name, integer(bias, "bias", 0, MAX_BIAS), denormals)


@cache
def _storage_format(name: str, bias: int, denormals: str) -> "_core.numerics.StorageFormat":
    if bias != 0 and not as_format(name).has_bias:
        raise Error(f"bias {bias}: {name} has none, leave it out")
    return _core.numerics.StorageFormat(name, bias, choice(_DENORMALS, denormals, "denormals"))
