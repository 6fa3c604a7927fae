"""OpenDojo: train PyTorch networks in the number formats of Tesla's Dojo, and time them on it."""

import os
from collections.abc import Callable
from typing import Any

# Threads of PyTorch's OpenMP spin after each parallel region by default and would take the cores
# from OpenDojo's own kernels. Must be set before torch is imported; a user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from opendojo._core import __version__
from opendojo.capture import capture
from opendojo.checkpoint import load, resume, save
from opendojo.errors import Error
from opendojo.report import write_report
from opendojo.step import ForwardPass, TrainingStep, compile_forward, compile_step
from opendojo.tensor_log import TensorLog

__all__ = [
    "Error",
    "ForwardPass",
    "TensorLog",
    "TrainingStep",
    "__version__",
    "capture",
    "compile",
    "compile_forward",
    "compile_step",
    "load",
    "resume",
    "save",
    "write_report",
]


def compile(model: Callable, **options: Any) -> Callable:
    """As opendojo.backend.compile, which imports torch._dynamo: at first use, for it takes as long
    to import as all else."""
    from opendojo import backend

    return backend.compile(model, **options)
