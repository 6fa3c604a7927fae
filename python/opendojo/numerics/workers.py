"""The threads of this process that all functions of the package share."""

import os

from opendojo import _core
from opendojo.numerics.arguments import integer
from opendojo.step import default_threads

_workers = None


def workers() -> "_core.numerics.Workers":
    """The threads, started at first use."""
    global _workers
    if _workers is None:
        _workers = _core.numerics.Workers(default_threads())
    return _workers


def threads() -> int:
    """How many threads compute, the calling one included: by default one per core that this process
    may run on."""
    return workers().threads


def set_threads(count: int) -> None:
    """Computes with that many threads from now on. No bit of any result depends on it.

    Errors (opendojo.Error): `count` is no integer from 1 to 4096.
    """
    global _workers
    _workers = _core.numerics.Workers(integer(count, "threads", 1, 4096))


def _forget() -> None:
    global _workers
    _workers = None


os.register_at_fork(after_in_child=_forget)  # a forked child has none of its parent's threads
