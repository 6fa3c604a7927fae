"""Capture, lowering, placement and timing of whole models, by configuration alone."""

import json
import time
from typing import Any

import torch
from opendojo import _core
from opendojo.capture import capture, eager_flops
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
)

Entries = dict[str, dict[str, Any]]


def _resnet50() -> tuple[nn.Module, Any, Any]:
    with torch.device("meta"):
        model = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    inputs = {"pixel_values": torch.empty(32, 3, 224, 224, device="meta")}
    return model, inputs, torch.empty(32, dtype=torch.long, device="meta")


def _gpt2() -> tuple[nn.Module, Any, Any]:
    model = GPT2LMHeadModel(GPT2Config(use_cache=False))
    tokens = torch.empty(1, 1024, dtype=torch.long, device="meta")
    return model, {"input_ids": tokens}, tokens


def _loss(output: Any, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.logits.flatten(0, -2), target.flatten())


def _simulate(name: str, model: nn.Module, inputs: Any, target: Tensor, machine: str) -> Entries:
    optimizer = torch.optim.AdamW(model.parameters())
    begin = time.perf_counter()
    captured = capture(model, _loss, optimizer, (inputs, (target,)), name=name)
    capture_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    lowered = _core.lower(_core.Graph.parse(captured.text), "cfloat8", [], machine)
    lower_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    simulation = json.loads(_core.simulate(lowered, machine).json())
    simulate_seconds = time.perf_counter() - begin

    flops = simulation["flops"]
    expected = eager_flops(model, _loss, (inputs, (target,)))
    assert flops == expected, f"{name}: {flops} FLOPs, torch counts {expected}"
    total = simulation["ideal_seconds"] + sum(simulation["seconds_by_cause"].values())
    assert abs(total - simulation["step_seconds"]) <= 1e-6 * simulation["step_seconds"]
    return {
        f"simulate_{name}": {
            "ratio": capture_seconds / (lower_seconds + simulate_seconds),
            "against": "capture of the same step: how often its time lowering and simulation fit",
            "detail": {
                "capture_seconds": capture_seconds,
                "lower_seconds": lower_seconds,
                "simulate_seconds": simulate_seconds,
                "ops": lowered.op_count,
                "phases": simulation["phases_in_program"],
                "machine": machine,
                "simulated_step_seconds": simulation["step_seconds"],
                "simulated_utilisation": simulation["utilisation"],
            },
        }
    }


def simulate_resnet50() -> Entries:
    """ResNet-50, batch 32, on a training tile."""
    return _simulate("resnet50", *_resnet50(), "training-tile")


def simulate_gpt2() -> Entries:
    """GPT-2 (124 M), one sequence of 1,024 tokens, on a training tile."""
    return _simulate("gpt2", *_gpt2(), "training-tile")


BENCHMARKS = [simulate_resnet50, simulate_gpt2]
