"""Checkpoints: everything that training needs to go on with the same bits.

A checkpoint is a folder of safetensors files `step-00001234.safetensors`, the newest two of which
are kept. Each holds the leaves of the step (weights, buffers, optimiser states), the bias windows
and, as metadata, completed steps, seed, the hash of the lowered Graph, the caller's own `extra`
and the SHA-256 of all contents. A file appears whole or not at all: it is written beside its place,
flushed to disk and renamed.

A model that torch.compile trains is saved with the states of all its executors and its optimiser,
in the same form (model_checkpoint.py).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from opendojo.errors import Error
from opendojo.step import TrainingStep

KEPT = 2
"""Checkpoints that stay in a folder: the newest, and the one before it should the newest tear."""

_T = TypeVar("_T")
_NAME = re.compile(r"step-(\d{8})\.safetensors")
_WINDOW = "bias_window/"
_POSITION = "bias_position/"
_LEARNT = "bias_learnt/"
_LEAF = "leaf/"
_LEAF_BIAS = "leaf_bias/"


Windows = dict[int, tuple[np.ndarray, int, tuple[int, int] | None]]
"""Tensor id -> history of amax in FP32, next place in it; learnt bias and votes, if it has one."""


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
    """Values by label, floats of any format in FP32."""
    leaf_biases: dict[str, int]
    """Of leaves whose format has one: with it, the value is stored as the same code again."""
    windows: Windows
    extra: dict[str, Any]


def save(
    folder: str | Path,
    step: TrainingStep | None = None,
    extra: Mapping[str, Any] | None = None,
    *,
    model: torch.nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Path:
    """Writes a checkpoint of `step`, or of a `model` that torch.compile trains with its
    `optimizer`, into `folder` (made if need be) and drops all but the newest two. `extra` is the
    caller's own, anything that JSON can say.

    Errors (opendojo.Error): no write access, no space; the checkpoints before stay as they are.
    """
    if model is not None and step is None:
        from opendojo import model_checkpoint

        return model_checkpoint.save_model(Path(folder), model, optimizer, extra)
    if step is None or model is not None or optimizer is not None:
        raise Error("save: expected a step, or a model with its optimizer")
    state = step.executor.snapshot()
    about = {
        "step": state["step"],
        "seed": state["seed"],
        "lowered_graph_sha256": step.lowered_graph_sha256,
        "recipe": step.recipe,
        "machine": step.machine,
        "extra": dict(extra or {}),
    }
    return write_checkpoint(Path(folder), state_tensors(step, state), about)


def write_checkpoint(
    folder: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> Path:
    """One more file in `folder`, numbered by about["step"]; all but the newest two go."""
    about = {"version": 1, **about, "sha256": _digest(tensors)}
    target = folder / f"step-{about['step']:08d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target, format_tensors(dict(tensors), {"opendojo": json.dumps(about)}))
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
    return read_newest(Path(folder), _read)


def read_newest(folder: Path, read: Callable[[Path], _T]) -> tuple[_T, list[str]]:
    """`read` of the newest file of which it raises no Error, and the Errors of newer ones."""
    files = [folder] if folder.is_file() else _files(folder)
    if not files:
        raise Error(f"checkpoint {folder}: there is none; train first, or name another folder")
    damaged: list[str] = []
    for path in files:
        try:
            return read(path), damaged
        except Error as error:
            damaged.append(str(error))
    raise Error("; ".join(damaged) + "; no checkpoint is left to go on from")


def resume(
    folder: str | Path,
    step: TrainingStep | None = None,
    *,
    model: torch.nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Puts `step`, or a `model` that torch.compile trains and its `optimizer`, where the newest
    whole checkpoint was: what follows has the same bits as if it had never stopped.

    Returns:
        The checkpoint's `extra`, and one sentence for each damaged checkpoint passed over.

    Errors (opendojo.Error): none is whole, or it is of another Graph.
    """
    if model is not None and step is None:
        from opendojo import model_checkpoint

        return model_checkpoint.resume_model(Path(folder), model, optimizer)
    if step is None or model is not None or optimizer is not None:
        raise Error("resume: expected a step, or a model with its optimizer")
    checkpoint, damaged = load(folder)
    if checkpoint.lowered_graph_sha256 != step.lowered_graph_sha256:
        raise Error(
            f"checkpoint {checkpoint.path} is of another step (recipe {checkpoint.recipe}, machine "
            f"{checkpoint.machine}, graph {checkpoint.lowered_graph_sha256[:12]}; this one is "
            f"{step.recipe}, {step.machine}, {step.lowered_graph_sha256[:12]}): resume with the "
            "model, recipe and machine it was made with"
        )
    for label, contents in checkpoint.leaves.items():
        step.executor.write(label, contents, checkpoint.leaf_biases.get(label))
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
    """Leaves, their biases and bias windows under the names that `dojo graph eval` reads, too."""
    tensors = {_LEAF + label: step.executor.read(label) for label in step.leaf_labels}
    for label in step.leaf_labels:
        bias = step.executor.leaf_bias(label)
        if bias is not None:
            tensors[_LEAF_BIAS + label] = np.array(bias, dtype=np.int64)
    return tensors | window_tensors(state["windows"])


def window_tensors(windows: Windows, prefix: str = "") -> dict[str, np.ndarray]:
    """Per bias window its history, the next place in it, and what has been learnt, if anything."""
    tensors = {}
    for tensor_id, (history, position, learnt) in windows.items():
        tensors[f"{prefix}{_WINDOW}{tensor_id:08x}"] = history
        tensors[f"{prefix}{_POSITION}{tensor_id:08x}"] = np.array(position, dtype=np.int64)
        if learnt is not None:
            tensors[f"{prefix}{_LEARNT}{tensor_id:08x}"] = np.array(learnt, dtype=np.int64)
    return tensors


def windows_among(tensors: Mapping[str, np.ndarray], prefix: str = "") -> Windows:
    """What window_tensors() wrote."""
    windows = {}
    for name, history in tensors.items():
        if name.startswith(prefix + _WINDOW):
            number = name.removeprefix(prefix + _WINDOW)
            position = int(tensors[prefix + _POSITION + number])
            learnt = tensors.get(prefix + _LEARNT + number)
            windows[int(number, 16)] = (
                history,
                position,
                None if learnt is None else (int(learnt[0]), int(learnt[1])),
            )
    return windows


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


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and metadata of a checkpoint file. Errors: it cannot be read, or is damaged."""
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
    return tensors, about


def leaves_among(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(_LEAF): t for n, t in tensors.items() if n.startswith(_LEAF)}


def _read(path: Path) -> Checkpoint:
    tensors, about = read_file(path)
    return Checkpoint(
        path=path,
        step=about["step"],
        seed=about["seed"],
        lowered_graph_sha256=about["lowered_graph_sha256"],
        recipe=about["recipe"],
        machine=about["machine"],
        leaves=leaves_among(tensors),
        leaf_biases={
            name.removeprefix(_LEAF_BIAS): int(bias)
            for name, bias in tensors.items()
            if name.startswith(_LEAF_BIAS)
        },
        windows=windows_among(tensors),
        extra=about["extra"],
    )
