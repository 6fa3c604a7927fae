"""The exponent bias of a tensor: from the largest magnitude, or by a rule from what it showed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from opendojo import _core
from opendojo.errors import Error
from opendojo.numerics.arguments import choice, integer
from opendojo.numerics.number_format import MAX_BIAS, Format, as_format

Rule = Literal["delayed", "current", "learnt"]

_RULES = {rule: rule for rule in ("delayed", "current", "learnt")}


@dataclass(frozen=True)
class Flags:
    """The exception flags of Tesla's paper, each of all elements of an encode together.

    Attributes:
        invalid: an element was NaN, or negative where the format has no sign.
        denormal: an element was a denormal FP32 number.
        overflow: a value, rounded (stochastic: before), was beyond the largest finite one; or an
            Inf did not stay one.
        underflow: a value below the smallest normal one of the format, after rounding, is not what
            was read.

    Source: Tesla, "A Guide to Tesla's Configurable Floating Point Formats & Arithmetic", 2021;
    docs/numerics.md for what it leaves open.
    """

    invalid: bool = False
    denormal: bool = False
    overflow: bool = False
    underflow: bool = False


@dataclass(frozen=True)
class Stats:
    """What an encode met, counted in the same pass.

    Attributes:
        amax: the largest finite magnitude read; 0 if there is none.
        saturated: elements beyond the range: too large (for uhp negative, too), and Inf and NaN
            unless they stay what they are.
        zeroed: elements that were not zero and became zero.
        not_finite: elements that were Inf or NaN.
        flags: which exceptions occurred.
    """

    amax: float
    saturated: int
    zeroed: int
    not_finite: int
    flags: Flags = Flags()

    @classmethod
    def of(
        cls, counts: tuple[float, int, int, int], flags: tuple[bool, bool, bool, bool]
    ) -> "Stats":
        """As a kernel gives them."""
        return cls(*counts, Flags(*flags))


def bias_from_amax(amax: float, format: str | Format, margin: int = 0) -> int:
    """The largest bias, 0 to 63, at which `amax` is still in range, less `margin` binades of
    headroom. 63 where amax is 0 or not finite.

    >>> bias_from_amax(1.0, "cf8_1_4_3")
    15

    Errors (opendojo.Error): a negative amax, a format without bias, a margin out of 0 to 63.
    """
    if amax < 0:
        raise Error(f"amax {amax}: expected the largest magnitude, 0 or more")
    return _core.numerics.bias_from_amax(
        _configurable(format).name, float(amax), integer(margin, "margin", 0, MAX_BIAS)
    )


class BiasControl:
    """The bias of one tensor, step by step, by a rule of docs/bias.md.

    >>> control = BiasControl("delayed", window=2, margin=0)
    >>> biases = []
    >>> for amax in (1.0, 4.0, 1.0, 1.0, 1.0):
    ...     q = quantize(np.array([amax], np.float32), "cf8_1_4_3", control)
    ...     biases.append(q.bias)
    >>> biases
    [15, 15, 13, 13, 15]

    Args:
        rule: "delayed", by the largest amax of the last `window` encodes; "current", by the amax of
            the very encode; "learnt", towards fewer saturated and zeroed elements.
        window: of "delayed": 1 to 4096.
        margin: binades of headroom above an amax.
        grid: biases are multiples of it, 1 to 63, so that there are few different ones.

    Errors (opendojo.Error): arguments out of these ranges.

    Source: delayed scaling as in arXiv 2209.05433; with a bias instead of a scale 2206.02915; the
    learnt rule is ours.
    """

    def __init__(
        self, rule: Rule = "delayed", *, window: int = 16, margin: int = 1, grid: int = 1
    ) -> None:
        self._policy = _core.numerics.BiasPolicy(
            choice(_RULES, rule, "rule"),
            integer(window, "window", 1, 4096),
            integer(margin, "margin", 0, MAX_BIAS),
            integer(grid, "grid", 1, MAX_BIAS),
        )
        self._memory = _core.numerics.BiasMemory([], 0, None, 0)

    @property
    def follows_pass(self) -> bool:
        """Whether the coming bias depends on the amax of its own encode."""
        return self._policy.follows_pass(self._memory)

    def choose(self, format: str | Format, current_amax: float = 0.0) -> int:
        """The bias of the coming encode; the amax counts only if `follows_pass`.

        Errors (opendojo.Error): a format without bias.
        """
        return self._policy.choose(_configurable(format).name, self._memory, float(current_amax))

    def note(self, bias: int, stats: Stats, elements: int) -> None:
        """Takes note of an encode of so many elements with that bias; `quantize` does it."""
        counts = (stats.amax, stats.saturated, stats.zeroed, stats.not_finite)
        self._policy.note(bias, counts, elements, self._memory)

    def state_dict(self) -> dict[str, Any]:
        """What the coming biases depend on beside the arguments, as plain values."""
        memory = self._memory
        return {
            "amax": memory.amax,
            "position": memory.position,
            "learnt": memory.learnt,
            "votes": memory.votes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave. Errors (opendojo.Error): another rule's state."""
        memory = _core.numerics.BiasMemory(
            [float(amax) for amax in state["amax"]],
            int(state["position"]),
            state["learnt"],
            int(state["votes"]),
        )
        if not self._policy.is_sound(memory):
            raise Error("the state is none of a BiasControl with these arguments")
        self._memory = memory


def _configurable(format: str | Format) -> Format:
    chosen = as_format(format)
    if not chosen.has_bias:
        raise Error(f"{chosen.name} has no bias")
    return chosen
