"""The training step of the steering network against PyTorch, and what is saved for backward."""

import functools
import json
import sys
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
from transformers import ResNetConfig, ResNetForImageClassification

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "drive"))
from model import BATCH, BETAS, FRAMES, HEIGHT, WEIGHT_DECAY, WIDTH, SteeringNetwork

Entries = dict[str, dict[str, Any]]


def _steering(dropout: float) -> tuple[SteeringNetwork, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = SteeringNetwork(dropout=dropout)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=BETAS, weight_decay=WEIGHT_DECAY
    )
    return model, optimizer


def _batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    shape = (BATCH, FRAMES, 3, HEIGHT, WIDTH)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    return frames, torch.rand(BATCH, 2, generator=random)


def _eager_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> float:
    frames, labels = batch
    optimizer.zero_grad(set_to_none=True)
    loss = nn.functional.mse_loss(model(frames), labels)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _compiled(recipe: str, dropout: float = 0.0) -> opendojo.TrainingStep:
    model, optimizer = _steering(dropout)
    frames, labels = _batch()
    return opendojo.compile_step(
        model, nn.functional.mse_loss, optimizer, ((frames,), (labels,)), recipe=recipe
    )


def train_steering() -> Entries:
    """The whole step in cfloat8 (and fp32) against PyTorch's float32, eager, on all cores."""
    batch = _batch()
    # The answer first: without dropout, five steps in fp32 follow PyTorch's losses.
    model, optimizer = _steering(dropout=0.0)
    fp32 = _compiled("fp32")
    for _ in range(5):
        eager = _eager_step(model, optimizer, batch)
        ours = float(fp32((batch[0],), (batch[1],))["loss"])
        np.testing.assert_allclose(ours, eager, rtol=1e-3)

    entries: Entries = {}
    torch.set_num_threads(default_threads())
    for recipe in ("cfloat8", "fp32"):
        step = _compiled(recipe, dropout=0.3)
        model, optimizer = _steering(dropout=0.3)
        timing = paired_timing(
            functools.partial(step, (batch[0],), (batch[1],)),
            functools.partial(_eager_step, model, optimizer, batch),
            pairs=30,
            warm_up=3,
        )
        name = "train_steering" if recipe == "cfloat8" else f"train_steering_{recipe}"
        entries[name] = {
            "ratio": timing.ratio,
            "against": "PyTorch float32 eager, whole step, higher is quicker",
            "detail": timing.detail() | {"threads": default_threads(), "batch": BATCH},
        }
    return entries


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


def _saved_by_pytorch(model: nn.Module, run: Any) -> int:
    saved = _Saved([*model.parameters(), *model.buffers()])
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        run()
    return saved.bytes


def _saved_by_graph(graph: _core.Graph) -> int:
    return int(json.loads(graph.statistics_json())["saved_bytes"])


def saved_activation_memory() -> Entries:
    """Bytes kept from the forward to the backward part, in cfloat8 against PyTorch's float32."""
    entries: Entries = {}
    step = _compiled("cfloat8", dropout=0.3)
    model, _ = _steering(dropout=0.3)
    frames, labels = _batch()
    theirs = _saved_by_pytorch(model, lambda: nn.functional.mse_loss(model(frames), labels))
    ours = _saved_by_graph(step.graph)
    # The executor keeps that, the codes of weights, and what aligns each tensor.
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert ours <= step.executor.saved_bytes <= ours + 2 * parameters + 64 * step.graph.op_count
    entries["saved_activation_memory"] = _memory(ours, theirs, "steering network, no norms")

    torch.manual_seed(0)
    resnet = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    images, classes = torch.rand(2, 3, 224, 224), torch.zeros(2, dtype=torch.long)

    def loss(output: Any, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output.logits, target)

    optimizer = torch.optim.SGD(resnet.parameters(), lr=0.1, momentum=0.9)
    captured = capture(resnet, loss, optimizer, ((images,), (classes,)))
    lowered = _core.lower(_core.Graph.parse(captured.text), "cfloat8", [], "training-tile")
    theirs = _saved_by_pytorch(resnet, lambda: loss(resnet(images), classes))
    entries["saved_activation_memory_norms"] = _memory(
        _saved_by_graph(lowered), theirs, "ResNet-50, batch norms"
    )
    return entries


def _memory(ours: int, theirs: int, network: str) -> dict[str, Any]:
    return {
        "ratio": ours / theirs,
        "against": f"PyTorch float32, {network}, lower is smaller",
        "detail": {"bytes": ours, "pytorch_bytes": theirs},
    }


BENCHMARKS = [train_steering, saved_activation_memory]
