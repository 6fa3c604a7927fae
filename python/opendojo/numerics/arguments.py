"""Checks of plain arguments: an integer in its range, a word of a table."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from opendojo.errors import Error

Value = TypeVar("Value")


def integer(value: Any, name: str, low: int, high: int) -> int:
    """`value` as int; opendojo.Error unless it is an integer from `low` to `high`."""
    if type(value) is int and low <= value <= high:
        return value
    try:
        if not isinstance(value, bool) and low <= operator.index(value) <= high:
            return operator.index(value)
    except TypeError:
        pass
    raise Error(f"{name} {value!r}: expected an integer from {low} to {_readable(high)}")


def integers(value: Any, name: str, count: int, low: int, high: int) -> list[int]:
    """`count` integers from `low` to `high`: a sequence of them, or one that stands for all."""
    if type(value) is int:
        return [integer(value, name, low, high)] * count
    values = list(value) if isinstance(value, Iterable) else [value] * count
    if len(values) != count:
        raise Error(f"{name} {value!r}: expected {count} integers, or one for all")
    return [integer(each, name, low, high) for each in values]


def choice(table: Mapping[Any, Value], key: Any, what: str) -> Value:
    """`table[key]`; opendojo.Error if the table has no such key."""
    if key not in table:
        raise Error(f"{what} {key!r}: expected one of {', '.join(map(repr, table))}")
    return table[key]


def _readable(number: int) -> str:
    """2^31 - 1 instead of its ten digits."""
    exponent = (number + 1).bit_length() - 1
    return f"2^{exponent} - 1" if exponent > 16 and number + 1 == 1 << exponent else str(number)
