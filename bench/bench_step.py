"""Whole training steps against PyTorch, and the bytes that are saved for the backward part."""

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import opendojo
import torch
from opendojo import _core
from opendojo.capture import capture
from opendojo.step import default_threads
from paired import paired_timing
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "drive"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "numerics"))
from model import BATCH, BETAS, FRAMES, HEIGHT, WEIGHT_DECAY, WIDTH, SteeringNetwork
from models import Gpt, GptShape, ResNet18

Entries = dict[str, dict[str, Any]]
Loss = Callable[[Any, Tensor], Tensor]
LOSS_TOLERANCE = 1e-3
"""Relative: how far losses in recipe fp32 may be from PyTorch's, which sums in other orders."""


@dataclass
class Training:
    """A model with all that a step of its training takes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    inputs: Tensor
    targets: Tensor

    def compiled(self, recipe: str) -> opendojo.TrainingStep:
        """The step of OpenDojo; it has weights of its own from here on."""
        example = ((self.inputs,), (self.targets,))
        return opendojo.compile_step(self.model, self.loss, self.optimizer, example, recipe=recipe)

    def forward_loss(self) -> Tensor:
        return self.loss(self.model(self.inputs), self.targets)

    def step(self, forward_loss: Callable[[], Tensor]) -> float:
        """One step in PyTorch, whose forward part is the function given."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = forward_loss()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def eager_step(self) -> float:
        return self.step(self.forward_loss)

    def autocast_loss(self) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.forward_loss()


def _random(*shape: int, below: int | None = None, dtype: torch.dtype = torch.int64) -> Tensor:
    """The same numbers at each call: from 0 to 1, or integers below the number given."""
    generator = torch.Generator().manual_seed(1)
    if below is None:
        return torch.rand(shape, generator=generator)
    return torch.randint(0, below, shape, dtype=dtype, generator=generator)


def _steering(dropout: float = 0.3) -> Training:
    torch.manual_seed(0)
    model = SteeringNetwork(dropout=dropout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=BETAS, weight_decay=WEIGHT_DECAY
    )
    frames = _random(BATCH, FRAMES, 3, HEIGHT, WIDTH, below=256, dtype=torch.uint8)
    return Training(model, optimizer, functional.mse_loss, frames, _random(BATCH, 2))


def _resnet18() -> Training:
    torch.manual_seed(0)
    batch, classes = 16, 100
    model = ResNet18(classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    images = _random(batch, 3, 128, 128)
    return Training(
        model, optimizer, functional.cross_entropy, images, _random(batch, below=classes)
    )


def _gpt_small() -> Training:
    torch.manual_seed(0)
    batch, shape = 8, GptShape()
    model = Gpt(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    text = _random(batch, shape.context + 1, below=shape.characters)
    return Training(model, optimizer, functional.cross_entropy, text[:, :-1], text[:, 1:].flatten())


def _check_losses(training: Training) -> None:
    """The answer first: five steps in recipe fp32 follow PyTorch's losses."""
    ours = training.compiled("fp32")
    for _ in range(5):
        loss = ours((training.inputs,), (training.targets,))["loss"]
        np.testing.assert_allclose(loss, training.eager_step(), rtol=LOSS_TOLERANCE)


def _timed_step(name: str, make: Callable[[], Training], pairs: int) -> Entries:
    """The whole step in cfloat8 on all cores against PyTorch's: eager, autocast, inductor."""
    torch.set_num_threads(default_threads())
    training = make()
    batch = ((training.inputs,), (training.targets,))
    ours = functools.partial(training.compiled("cfloat8"), *batch)
    inductor = torch.compile(training.forward_loss)
    rivals: list[tuple[str, str, Callable[[], object]]] = [
        ("", "PyTorch float32 eager", training.eager_step),
        (
            "_vs_autocast",
            "PyTorch bfloat16 autocast",
            functools.partial(training.step, training.autocast_loss),
        ),
        (
            "_vs_inductor",
            "PyTorch float32, torch.compile (inductor)",
            functools.partial(training.step, inductor),
        ),
    ]
    entries: Entries = {}
    for suffix, against, theirs in rivals:
        timing = paired_timing(ours, theirs, pairs=pairs, warm_up=3)
        entries[f"{name}{suffix}"] = {
            "ratio": timing.ratio,
            "against": f"{against}, whole step, higher is quicker",
            "detail": timing.detail()
            | {"threads": default_threads(), "batch": len(training.inputs)},
        }
    return entries


def train_steering() -> Entries:
    """The steering network of examples/drive."""
    _check_losses(_steering(dropout=0.0))
    return _timed_step("train_steering", _steering, pairs=30)


def train_resnet18() -> Entries:
    """ResNet-18 on frames of 128x128, SGD with momentum."""
    _check_losses(_resnet18())
    return _timed_step("train_resnet18", _resnet18, pairs=10)


def train_gpt_small() -> Entries:
    """A GPT of 10.8 million parameters on 256 characters, AdamW."""
    _check_losses(_gpt_small())
    return _timed_step("train_gpt_small", _gpt_small, pairs=10)


class _Saved:
    """Bytes of the distinct float activations that PyTorch keeps for its backward part."""

    def __init__(self, leaves: list[Tensor]) -> None:
        self._leaves = {leaf.untyped_storage().data_ptr() for leaf in leaves}
        self._seen: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._leaves:
            self._seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self._seen.values())


def _saved_by_pytorch(training: Training) -> int:
    model = training.model
    saved = _Saved([*model.parameters(), *model.buffers()])
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        training.forward_loss()
    return saved.bytes


def _saved_by_graph(graph: _core.Graph) -> int:
    return int(json.loads(graph.statistics_json())["saved_bytes"])


def _resnet50() -> Training:
    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(num_labels=1000))

    def loss(output: Any, target: Tensor) -> Tensor:
        return functional.cross_entropy(output.logits, target)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Training(model, optimizer, loss, torch.rand(2, 3, 224, 224), torch.zeros(2).long())


def saved_activation_memory() -> Entries:
    """Bytes kept from the forward to the backward part, in cfloat8 against PyTorch's float32."""
    training = _steering()
    theirs = _saved_by_pytorch(training)
    step = training.compiled("cfloat8")
    ours = _saved_by_graph(step.graph)
    # The executor keeps that, the codes of weights, and what aligns each tensor.
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    assert ours <= step.executor.saved_bytes <= ours + 2 * parameters + 64 * step.graph.op_count
    entries = {"saved_activation_memory": _memory(ours, theirs, "steering network, no norms")}
    for suffix, make, network in (
        ("norms", _resnet50, "ResNet-50, batch norms"),
        ("resnet18", _resnet18, "ResNet-18, batch norms"),
        ("gpt_small", _gpt_small, "small GPT, layer norms, attention"),
    ):
        training = make()
        example = ((training.inputs,), (training.targets,))
        captured = capture(training.model, training.loss, training.optimizer, example)
        lowered = _core.lower(_core.Graph.parse(captured.text), "cfloat8", [], "training-tile")
        entries[f"saved_activation_memory_{suffix}"] = _memory(
            _saved_by_graph(lowered), _saved_by_pytorch(training), network
        )
    return entries


def _memory(ours: int, theirs: int, network: str) -> dict[str, Any]:
    return {
        "ratio": ours / theirs,
        "against": f"PyTorch float32, {network}, lower is smaller",
        "detail": {"bytes": ours, "pytorch_bytes": theirs},
    }


NETWORKS: dict[str, Callable[[], Training]] = {
    "steering": _steering,
    "resnet18": _resnet18,
    "gpt_small": _gpt_small,
}
BENCHMARKS = [train_steering, train_resnet18, train_gpt_small, saved_activation_memory]
