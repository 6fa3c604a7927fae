"""compile_step: a PyTorch model's whole training step, executed and timed from one lowered Graph.

    step = opendojo.compile_step(model, loss, optimizer, example, machine="training-tile")
    for frames, labels in batches:
        outputs = step(frames, labels)
    print(outputs["loss"], step.simulate()["step_seconds"])

While a step trains, weights, buffers and optimiser states live in its executor, not in the model;
`step.store()` copies them back.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as format_tensors
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opendojo import _core
from opendojo.capture import CapturedStep, capture, capture_forward
from opendojo.errors import Error


def default_threads() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


class _Executed:
    """A captured Graph lowered for a machine, with its executor."""

    def __init__(
        self,
        model: nn.Module,
        captured: CapturedStep,
        *,
        machine: str,
        recipe: str,
        overrides: Iterable[str],
        seed: int,
        threads: int | None,
    ) -> None:
        self.model = model
        self.captured = captured
        self.machine = machine
        self.recipe = recipe
        self.overrides = list(overrides)
        self.graph = _core.lower(
            _core.Graph.parse(captured.text, captured.name), recipe, self.overrides, machine
        )
        self.executor = _core.Executor(self.graph, threads or default_threads(), seed)
        self.host_ops: list[str] = []
        """Ops that ran in PyTorch instead: none, a step with an unknown op does not compile."""

    @property
    def lowered_graph_sha256(self) -> str:
        """SHA-256 of the lowered Graph's text; a simulation of it carries the same."""
        return self.graph.sha256

    def _data(self, values: Any) -> dict[str, np.ndarray]:
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor | np.ndarray)]
        wanted = self.captured.data_inputs
        if len(tensors) != len(wanted):
            raise Error(
                f"{self.captured.name} was captured with {len(wanted)} tensors as inputs and "
                f"targets, and got {len(tensors)}"
            )
        arrays = {}
        for value, tensor in zip(wanted, tensors, strict=True):
            array = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor
            if array.shape != tuple(value.shape):
                raise Error(
                    f"input {value.label!r} has shape {list(array.shape)}, captured was "
                    f"{list(value.shape)}: capture again for another shape, or drop a last short "
                    "batch (DataLoader(drop_last=True))"
                )
            arrays[value.label] = np.asarray(array, order="C")
        return arrays

    def _leaf_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers of the model that are leaves of the Graph, by label."""
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        tensors.update(self.model.named_buffers())
        labels = {leaf.label for leaf in [*self.captured.weights, *self.captured.buffers]}
        return {label: tensor for label, tensor in tensors.items() if label in labels}

    @property
    def leaf_labels(self) -> list[str]:
        """Labels of all leaves that live from step to step: weights, buffers, states."""
        captured = self.captured
        leaves = [*captured.weights, *captured.buffers]
        return [leaf.label for leaf in leaves] + [state.label for state in captured.states]

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of the last step went: its tasks in the order they run. A task is one
        pass over memory: an op, a part of one, or several that need not store in between.

        Returns:
            For each task `ops` ("aten.convolution+aten.relu"), `module`, `phase` ("fwd", "bwd",
            "upd"), `seconds`, and `kernel_seconds`: of these, outside element-wise work.
        """
        return self.executor.profile()

    def load_from_model(self) -> None:
        """Takes parameters and buffers from the model."""
        tensors = self._leaf_tensors() | self.captured.constants
        for leaf in [*self.captured.weights, *self.captured.buffers]:
            if leaf.label not in tensors:
                raise Error(f"{leaf.label!r} is a leaf of the step and not in the model")
            value = tensors[leaf.label].detach()
            if value.is_meta:
                raise Error(
                    f"parameter {leaf.label!r} is on the meta device and has no contents: only "
                    "capture and simulate, or load weights first"
                )
            self.executor.write(leaf.label, np.asarray(value.cpu().numpy(), order="C"))


class TrainingStep(_Executed):
    """Forward, backward and update as one executor, and the same Graph on a machine."""

    def __init__(self, optimizer: torch.optim.Optimizer, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = optimizer
        self.load_from_model()
        self._scales = {leaf["label"]: leaf["scale"] for leaf in self.graph.leaves()}
        self._load_optimizer_states()

    def __call__(self, inputs: Any, targets: Any = ()) -> dict[str, np.ndarray]:
        """One step on these inputs and targets, of the shapes captured. Hyper-parameters such as
        the learning rate are read from the optimiser's parameter groups.

        Returns:
            The step's outputs by name: "loss", a scalar, and whatever the loss hands out.
        """
        return self.executor.step(self._arrays(inputs, targets))

    def _arrays(self, inputs: Any, targets: Any) -> dict[str, np.ndarray]:
        """All inputs of the Graph by label, the hyper-parameters among them."""
        arrays = self._data((inputs, targets))
        for hyper in self.captured.hyper:
            if hyper.key == "step":
                arrays[hyper.label] = np.array(self.completed_steps + 1, dtype=np.int64)
            else:
                value = self.optimizer.param_groups[hyper.group][hyper.key]
                arrays[hyper.label] = np.array(float(value), dtype=np.float32)
        return arrays

    def record(self, inputs: Any, targets: Any, path: str | Path) -> dict[str, np.ndarray]:
        """One step as a call makes it, with all that went in and came out written beside it:
        `<path>.inputs.safetensors` and `<path>.expected.safetensors`, for
        `dojo graph eval GRAPH --inputs ... --check ...`.

        Returns:
            The step's outputs.
        """
        from opendojo.checkpoint import state_tensors, write_atomically

        state = self.executor.snapshot()
        about = {"step": str(state["step"]), "seed": str(state["seed"])}
        before = state_tensors(self, state)
        arrays = self._arrays(inputs, targets)
        before |= {f"input/{label}": array for label, array in arrays.items()}
        outputs = self.executor.step(arrays)
        after = state_tensors(self, self.executor.snapshot())
        after |= {f"output/{label}": array for label, array in outputs.items()}
        try:
            for what, tensors in (("inputs", before), ("expected", after)):
                file = Path(f"{path}.{what}.safetensors")
                write_atomically(file, format_tensors(tensors, about))
        except OSError as error:
            raise Error(f"{path}: cannot write: {error.strerror}") from error
        return outputs

    @property
    def completed_steps(self) -> int:
        """Optimiser steps done, those before a resume included."""
        return self.executor.completed_steps

    def simulate(self, machine: str | None = None) -> dict[str, Any]:
        """One step on the machine, as `dojo simulate --json` prints it (docs/simulate.md).

        Args:
            machine: another machine than the one that the step was lowered for; its Graph is then
                lowered anew, and `lowered_graph_sha256` differs.
        """
        return json.loads(self.simulation(machine).json())

    def simulation(self, machine: str | None = None) -> "_core.Simulation":
        """The same with its phases, trace and Program."""
        graph = self.graph
        if machine is not None and machine != self.machine:
            captured = _core.Graph.parse(self.captured.text, self.captured.name)
            graph = _core.lower(captured, self.recipe, self.overrides, machine)
        return _core.simulate(graph, machine or self.machine)

    def store(self) -> None:
        """Copies weights, buffers and optimiser states from the executor into the model and the
        optimiser."""
        with torch.no_grad():
            for label, tensor in self._leaf_tensors().items():
                tensor.copy_(torch.from_numpy(self.executor.read(label).copy()))
            parameters = dict(self.model.named_parameters())
            for state in self.captured.states:
                parameter = parameters[state.parameter]
                held = self.executor.read(state.label) / np.float32(self._scales[state.label])
                contents = torch.from_numpy(held)
                self.optimizer.state[parameter][state.key] = contents
                if "step" not in self.optimizer.state[parameter] and state.key.startswith("exp"):
                    self.optimizer.state[parameter]["step"] = torch.tensor(0.0)
            for parameter in parameters.values():
                if "step" in self.optimizer.state.get(parameter, {}):
                    self.optimizer.state[parameter]["step"] = torch.tensor(
                        float(self.completed_steps)
                    )

    def _load_optimizer_states(self) -> None:
        parameters = dict(self.model.named_parameters())
        for state in self.captured.states:
            held = self.optimizer.state.get(parameters[state.parameter], {}).get(state.key)
            if held is not None:
                scaled = held.cpu().numpy() * np.float32(self._scales[state.label])
                self.executor.write(state.label, np.asarray(scaled, order="C"))


class ForwardPass(_Executed):
    """The forward pass alone, in a recipe's arithmetic: for evaluation."""

    def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
        """The model's outputs by name for inputs of the captured shapes."""
        return self.executor.step(self._data(inputs))


def compile_step(
    model: nn.Module,
    loss: Callable,
    optimizer: torch.optim.Optimizer,
    example: tuple[Any, Any],
    *,
    machine: str = "training-tile",
    recipe: str = "cfloat8",
    overrides: Iterable[str] = (),
    sum_order: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    name: str | None = None,
) -> TrainingStep:
    """The whole training step as one lowered Graph: executed in the machine's stated arithmetic
    and timed on the machine.

    Args:
        model: its parameters and buffers are copied into the step.
        loss: loss(output, *targets) -> a scalar, or a scalar and a dict of tensors to hand out.
        optimizer: torch.optim.SGD, Adam or AdamW over the model's parameters.
        example: (inputs, targets) as later calls have them; only shapes and dtypes count.
        machine: a shipped machine ("d1", "training-tile", ...) or the path of a machine file.
        recipe: "fp32", "bf16", "cfloat8" or another one of docs/recipes.md.
        overrides: "MODULE=ROLE:FORMAT", for example "trunk.0=matrix_operand:bf16", or a setting
            such as "bias=learnt" (docs/recipes.md).
        sum_order: of the products in matrix products and convolutions: "sequential" (what recipes
            say), "tile4", "w21" or "exact".
        seed: of all random bits (dropout, stochastic rounding).
        threads: of the executor; results do not depend on it. Default: all cores.

    Errors (opendojo.Error): what cannot be captured, unknown machine or recipe, a network that
    does not fit.
    """
    captured = capture(model, loss, optimizer, _as_example(example), name=name)
    return TrainingStep(
        optimizer,
        model,
        captured,
        machine=machine,
        recipe=recipe,
        overrides=[*overrides, *([f"sum_order={sum_order}"] if sum_order else [])],
        seed=seed,
        threads=threads,
    )


def compile_forward(
    model: nn.Module,
    example: Any,
    *,
    machine: str = "training-tile",
    recipe: str = "cfloat8",
    overrides: Iterable[str] = (),
    threads: int | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    name: str | None = None,
) -> ForwardPass:
    """The forward pass of `model` in its present mode, in the recipe's arithmetic.

    Args:
        example: the model's inputs, of the shapes that calls will have.
        weights: contents of parameters and buffers by label, such as a checkpoint's leaves (more
            than the forward pass reads is fine); default: those of the model.
    """
    captured = capture_forward(model, example, name=name)
    forward = ForwardPass(
        model,
        captured,
        machine=machine,
        recipe=recipe,
        overrides=overrides,
        seed=0,
        threads=threads,
    )
    if weights is None:
        forward.load_from_model()
        return forward
    constants = {label: tensor.numpy() for label, tensor in captured.constants.items()}
    contents = constants | dict(weights)
    for label in forward.leaf_labels:
        if label not in contents:
            raise Error(f"weights lack {label!r}, which the forward pass reads")
        forward.executor.write(label, np.asarray(contents[label], order="C"))
    return forward


def _as_example(example: tuple[Any, Any]) -> tuple[Any, tuple]:
    inputs, targets = example
    inputs = inputs if isinstance(inputs, tuple | dict) else (inputs,)
    return inputs, targets if isinstance(targets, tuple) else (targets,)
