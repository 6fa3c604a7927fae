"""Paired timing: two ways to do the same thing, one after the other, many times.

Speeds of one machine drift by more than most changes are worth; the ratio within a pair does not.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PairedTiming:
    """What `paired_timing` measured; `ratio` above 1 says that `ours` is the quicker one."""

    ratio: float  # median over the pairs of seconds of theirs / seconds of ours
    ratio_quartiles: tuple[float, float]
    pairs: int
    ours_seconds: float  # medians
    theirs_seconds: float

    def detail(self) -> dict[str, object]:
        return {
            "ratio_quartiles": list(self.ratio_quartiles),
            "pairs": self.pairs,
            "ours_seconds": self.ours_seconds,
            "theirs_seconds": self.theirs_seconds,
        }


SETTLING_SECONDS = 0.02


def _seconds(action: Callable[[], object]) -> float:
    # Threads of the way before (OpenMP's) wait in a loop for some milliseconds: let them end.
    time.sleep(0.01)
    # Some virtual machines wake a thread on the core of the one that woke it, though another is
    # idle, and move it some milliseconds later: a call that short would be timed on one core. In a
    # training step threads never sleep that long. So the same calls go ahead of the timed one.
    settled = time.perf_counter() + SETTLING_SECONDS
    while time.perf_counter() < settled:
        action()
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def paired_timing(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int = 30,
    warm_up: int = 2,
) -> PairedTiming:
    """Times ours and theirs in turn, `pairs` times each; which goes first alternates."""
    if pairs < 3:
        raise ValueError(f"pairs = {pairs}: a median with quartiles takes at least 3")
    for _ in range(warm_up):
        ours()
        theirs()
    times: list[tuple[float, float]] = []
    for pair in range(pairs):
        if pair % 2 == 0:
            mine = _seconds(ours)
            other = _seconds(theirs)
        else:
            other = _seconds(theirs)
            mine = _seconds(ours)
        times.append((mine, other))
    ratios = [other / mine for mine, other in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return PairedTiming(
        ratio=middle,
        ratio_quartiles=(low, high),
        pairs=pairs,
        ours_seconds=statistics.median(mine for mine, _ in times),
        theirs_seconds=statistics.median(other for _, other in times),
    )
