"""Checkpoints of a model that torch.compile trains: parameters and buffers, the optimiser, and of
each compiled graph the completed forward passes, the seed and the bias windows.

Compiled graphs do not exist yet when a new process resumes: their states wait until a graph of the
same text meets the model (backend.expect_states).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opendojo import backend
from opendojo.backend import GraphState
from opendojo.checkpoint import (
    leaves_among,
    read_file,
    read_newest,
    window_tensors,
    windows_among,
    write_checkpoint,
)
from opendojo.errors import Error

_OPTIMIZER = "optimizer/"


def save_model(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    extra: Mapping[str, Any] | None,
) -> Path:
    """The file is numbered by the completed forward passes of training."""
    model = _unwrapped(model)
    states = backend.states_of(model)
    trained = [state for state in states if state.trains]
    main = max(trained, key=lambda state: state.step, default=None)
    tensors = {f"leaf/{name}": _array(name, t) for name, t in _contents(model).items()}
    graphs = []
    for index, state in enumerate(states):
        tensors |= window_tensors(state.windows, f"graph/{index}/")
        about = {name: getattr(state, name) for name in _ABOUT_GRAPH}
        graphs.append({**about, "windows": len(state.windows)})
    kept_optimizer = None
    if optimizer is not None:
        kept_optimizer, held = _describe_optimizer(optimizer)
        tensors |= held
    return write_checkpoint(
        folder,
        tensors,
        {
            "step": sum(state.step for state in trained),
            "seed": main.seed if main else 0,
            "lowered_graph_sha256": main.sha256 if main else "",
            "recipe": main.recipe if main else "",
            "machine": main.machine if main else "",
            "graphs": graphs,
            "optimizer": kept_optimizer,
            "extra": dict(extra or {}),
        },
    )


def resume_model(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, Any], list[str]]:
    """Loads model and optimiser in place. Errors (opendojo.Error): as opendojo.resume; a checkpoint
    without the states of the executors; one of another model or optimiser."""
    model = _unwrapped(model)
    (path, tensors, about), damaged = read_newest(folder, lambda p: (p, *read_file(p)))
    where = f"checkpoint {path}"
    if "graphs" not in about:
        raise Error(
            f"{where} is of a step of compile_step and has no states of compiled graphs: resume it "
            "with resume(folder, step), or train anew"
        )
    states = [_graph_state(where, index, tensors, about) for index in range(len(about["graphs"]))]
    leaves, contents = leaves_among(tensors), _contents(model)
    for name in [*contents, *leaves]:
        ours, theirs = contents.get(name), leaves.get(name)
        if ours is None or theirs is None or tuple(ours.shape) != theirs.shape:
            raise Error(f"{where} is of another model: {name!r} is not in both, or has two shapes")
    if (optimizer is None) != (about["optimizer"] is None):
        held = "holds an optimizer" if optimizer is None else "holds no optimizer"
        raise Error(f"{where} {held}: resume with the same arguments as it was saved with")
    with torch.no_grad():
        for name, tensor in contents.items():
            tensor.copy_(torch.from_numpy(leaves[name]))
    if optimizer is not None:
        _restore_optimizer(where, optimizer, about["optimizer"], tensors)
    backend.expect_states(model, states)
    return about["extra"], damaged


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself where torch.compile's wrapper is given."""
    return getattr(model, "_orig_mod", model)


def _contents(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, each once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _array(name: str, tensor: Tensor) -> np.ndarray:
    try:
        return tensor.detach().cpu().contiguous().numpy()
    except TypeError as error:
        raise Error(f"{name!r} is {tensor.dtype}, which a checkpoint cannot hold") from error


_ABOUT_GRAPH = ("sha256", "signature", "recipe", "machine", "trains", "step", "seed")


def _graph_state(
    where: str, index: int, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> GraphState:
    graph = about["graphs"][index]
    windows = windows_among(tensors, f"graph/{index}/")
    if len(windows) != graph["windows"]:
        raise Error(
            f"{where} lacks bias windows ({len(windows)} of {graph['windows']}): training would go "
            "on with other bits; take the checkpoint that opendojo.save wrote, whole"
        )
    return GraphState(**{name: graph[name] for name in _ABOUT_GRAPH}, windows=windows)


def _describe_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What JSON can say of it, and its tensors."""
    state = optimizer.state_dict()
    tensors: dict[str, np.ndarray] = {}
    numbers: dict[str, dict[str, Any]] = {}

    def kept(key: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        tensors[_OPTIMIZER + key] = _array(key, value)
        return {"tensor": key}

    for parameter, values in state["state"].items():
        numbers[str(parameter)] = {k: kept(f"{parameter}/{k}", v) for k, v in values.items()}
    groups = [
        {k: kept(f"group{i}/{k}", v) for k, v in group.items() if k != "params"}
        for i, group in enumerate(state["param_groups"])
    ]
    about = {"class": type(optimizer).__name__, "state": numbers, "groups": groups}
    try:
        json.dumps(about)
    except TypeError as error:
        raise Error(
            f"optimizer {type(optimizer).__name__} holds what a checkpoint cannot: {error}"
        ) from error
    return about, tensors


def _restore_optimizer(
    where: str,
    optimizer: torch.optim.Optimizer,
    about: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
) -> None:
    groups = optimizer.state_dict()["param_groups"]
    if about["class"] != type(optimizer).__name__ or len(about["groups"]) != len(groups):
        raise Error(
            f"{where} holds the state of {about['class']} with {len(about['groups'])} parameter "
            f"groups: build the optimizer as it was, this is {type(optimizer).__name__} with "
            f"{len(groups)}"
        )

    def given(value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"tensor"}:
            return torch.from_numpy(tensors[_OPTIMIZER + value["tensor"]].copy())
        return tuple(value) if isinstance(value, list) else value

    optimizer.load_state_dict(
        {
            "state": {
                int(parameter): {k: given(v) for k, v in values.items()}
                for parameter, values in about["state"].items()
            },
            "param_groups": [
                {**{k: given(v) for k, v in saved.items()}, "params": group["params"]}
                for saved, group in zip(about["groups"], groups, strict=True)
            ],
        }
    )
