"""What products and convolutions share: in which order a sum is taken, and what follows it."""

from collections.abc import Sequence
from typing import Literal

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import choice, integer, integers
from opendojo.numerics.arrays import ArrayT, check_array, contiguous, dtype_name

Activation = Literal["relu"]
Order = Literal["sequential", "tile4", "w21", "exact"]
Size = int | Sequence[int]

_ACTIVATIONS = {None: _core.numerics.Activation.None_, "relu": _core.numerics.Activation.Relu}
_MOST = 2**48 - 1
_UNCUT = {order: _core.numerics.ReduceCuts([], order) for order in _core.numerics.sum_orders}


def reduce_cuts(
    cuts: Size | None, loops: int, order: str, runs: int | None = None
) -> "_core.numerics.ReduceCuts":
    """The block lengths of `loops` loops, outermost first, and a named order; so many parts of the
    outermost loop make a run."""
    uncut = choice(_UNCUT, order, "order")
    if cuts is None:
        if runs is not None:
            raise Error(f"runs {runs} without cuts: a run is so many parts of a loop that is cut")
        return uncut
    blocks = integers(cuts, "cuts", loops, 1, _MOST)
    if runs is None:
        return _core.numerics.ReduceCuts(blocks, order)
    first = integer(runs, "runs", 1, _MOST)
    return _core.numerics.ReduceCuts(blocks, order, [first, *[_MOST] * (loops - 1)])


def activation_named(activation: str | None) -> "_core.numerics.Activation":
    """As kernels take it."""
    return choice(_ACTIVATIONS, activation, "activation")


def bias_vector(bias: ArrayT | None, size: int) -> ArrayT | None:
    """`bias`, C-contiguous; opendojo.Error unless it is float32 of that size."""
    if bias is None:
        return None
    check_array(bias, "bias")
    if dtype_name(bias) != "float32" or tuple(bias.shape) != (size,):
        raise Error(f"bias is {dtype_name(bias)}{list(bias.shape)}: expected float32[{size}]")
    return contiguous(bias)
