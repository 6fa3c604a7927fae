"""The names of the ops that a Graph can hold: the rows of the op table (docs/ops.md)."""

from functools import cache

from opendojo import _core


@cache
def op_names() -> frozenset[str]:
    return frozenset(_core.op_names())
