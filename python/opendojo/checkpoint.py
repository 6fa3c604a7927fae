"""Checkpoints: everything that a step needs to go on with the same bits.

A checkpoint is a folder of safetensors files `step-00001234.safetensors`, the newest two of which
are kept. Each holds the leaves of the step (weights, buffers, optimiser states), the bias windows
and, as metadata, completed steps, seed, the hash of the lowered Graph, the caller's own `extra`
and the SHA-256 of all contents. A file appears whole or not at all: it is written beside its place,
flushed to disk and renamed.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from opendojo.errors import Error
from opendojo.step import TrainingStep

KEPT = 2
"""Checkpoints that stay in a folder: the newest, and the one before it should the newest tear."""

_NAME = re.compile(r"step-(\d{8})\.safetensors")
_WINDOW = "bias_window/"
_POSITION = "bias_position/"
_LEAF = "leaf/"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    step: int
    seed: int
    lowered_graph_sha256: str
    recipe: str
    machine: str
    leaves: dict[str, np.ndarray]
    windows: dict[int, tuple[np.ndarray, int]]  # tensor id -> amax history f32, next place in it
    extra: dict[str, Any]


def save(folder: str | Path, step: TrainingStep, extra: Mapping[str, Any] | None = None) -> Path:
    """Writes a checkpoint of `step` into `folder` (made if need be) and drops all but the newest
    two. `extra` is the caller's own, anything that JSON can say.

    Errors (opendojo.Error): no write access, no space; the checkpoints before stay as they are.
    """
    folder = Path(folder)
    state = step.executor.snapshot()
    tensors = state_tensors(step, state)
    about = {
        "version": 1,
        "step": state["step"],
        "seed": state["seed"],
        "lowered_graph_sha256": step.lowered_graph_sha256,
        "recipe": step.recipe,
        "machine": step.machine,
        "extra": dict(extra or {}),
        "sha256": _digest(tensors),
    }
    target = folder / f"step-{state['step']:08d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target, format_tensors(tensors, {"opendojo": json.dumps(about)}))
        for old in _files(folder)[KEPT:]:
            old.unlink()
    except OSError as error:
        raise Error(f"checkpoint {target}: cannot write: {error.strerror}") from error
    return target


def load(folder: str | Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint of `folder` that is whole, and one sentence for each newer one that is
    damaged. `folder` may also be one checkpoint file.

    Errors (opendojo.Error): no checkpoint there, or none that is whole.
    """
    folder = Path(folder)
    files = [folder] if folder.is_file() else _files(folder)
    if not files:
        raise Error(f"checkpoint {folder}: there is none; train first, or name another folder")
    damaged: list[str] = []
    for path in files:
        try:
            return _read(path), damaged
        except Error as error:
            damaged.append(str(error))
    raise Error("; ".join(damaged) + "; no checkpoint is left to go on from")


def resume(folder: str | Path, step: TrainingStep) -> tuple[dict[str, Any], list[str]]:
    """Puts `step` where the newest whole checkpoint was: what follows has the same bits as if it
    had never stopped.

    Returns:
        The checkpoint's `extra`, and one sentence for each damaged checkpoint passed over.

    Errors (opendojo.Error): none is whole, or it is of another Graph.
    """
    checkpoint, damaged = load(folder)
    if checkpoint.lowered_graph_sha256 != step.lowered_graph_sha256:
        raise Error(
            f"checkpoint {checkpoint.path} is of another step (recipe {checkpoint.recipe}, machine "
            f"{checkpoint.machine}, graph {checkpoint.lowered_graph_sha256[:12]}; this one is "
            f"{step.recipe}, {step.machine}, {step.lowered_graph_sha256[:12]}): resume with the "
            "model, recipe and machine it was made with"
        )
    for label, contents in checkpoint.leaves.items():
        step.executor.write(label, contents)
    step.executor.restore(
        {"step": checkpoint.step, "seed": checkpoint.seed, "windows": checkpoint.windows}
    )
    return checkpoint.extra, damaged


def write_atomically(path: Path, content: bytes) -> None:
    """The file is old or new, never torn. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def state_tensors(step: TrainingStep, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves and bias windows under the names that `dojo graph eval` reads, too."""
    tensors = {_LEAF + label: step.executor.read(label) for label in step.leaf_labels}
    for tensor_id, (history, position) in state["windows"].items():
        tensors[f"{_WINDOW}{tensor_id:08x}"] = history
        tensors[f"{_POSITION}{tensor_id:08x}"] = np.array(position, dtype=np.int64)
    return tensors


def _files(folder: Path) -> list[Path]:
    """Checkpoint files, newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Checkpoint:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Error(f"checkpoint {path}: cannot read: {error.strerror}") from error
    try:
        tensors = parse_tensors(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"]["opendojo"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Error(f"checkpoint {path} is damaged: not a whole safetensors file") from error
    if about.get("sha256") != _digest(tensors):
        raise Error(f"checkpoint {path} is damaged: its contents do not have the recorded SHA-256")
    return Checkpoint(
        path=path,
        step=about["step"],
        seed=about["seed"],
        lowered_graph_sha256=about["lowered_graph_sha256"],
        recipe=about["recipe"],
        machine=about["machine"],
        leaves={n.removeprefix(_LEAF): t for n, t in tensors.items() if n.startswith(_LEAF)},
        windows={
            int(n.removeprefix(_WINDOW), 16): t for n, t in tensors.items() if n.startswith(_WINDOW)
        },
        extra=about["extra"],
    )
