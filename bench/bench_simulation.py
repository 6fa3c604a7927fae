"""Capture, lowering, placement and timing of whole models, by configuration alone."""

import json
import subprocess
import tempfile
import time
from pathlib import Path
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

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "build" / "bin"
# ASTRA-sim 2, analytical back end without congestion: a ring all-reduce of 1,024 members, its own
# program on one core of a 2-core x86-64 machine, measured before; it is not run here.
ASTRA_SIM_SECONDS = 11.0
RETIMING_SECONDS = 0.5  # for 10,000 phases: what this project promises


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


def timeline() -> Entries:
    """Re-timing 10,000 phases on one die, a tile and an ExaPOD; a ring of 1,024 members."""
    graph = ROOT / "tests" / "golden" / "place" / "gpt.graph"
    machines = ["d1", "training-tile", "exapod"]
    with tempfile.TemporaryDirectory() as folder:
        arguments: list[str] = []
        for machine in machines:
            program = Path(folder) / f"{machine}.program"
            place = [
                str(BIN / "dojo"),
                "place",
                str(graph),
                "--recipe",
                "cfloat8",
                "--machine",
                machine,
            ]
            subprocess.run([*place, "-o", str(program)], check=True, capture_output=True)
            arguments += [str(program), machine]
        command = [str(BIN / "dojo_timeline_bench"), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout)
    for ring in result["rings"]:
        assert ring["picoseconds"] == ring["formula_picoseconds"], "messages and formula differ"
    die, _, pod = result["retimed"]
    assert [each["machine"] for each in result["retimed"]] == machines
    return {
        "ring_all_reduce_1024": {
            "ratio": ASTRA_SIM_SECONDS / result["rings"][0]["seconds"],
            "against": "ASTRA-sim's analytical mode, measured before on another machine",
            "detail": {"rings": result["rings"]},
        },
        "retime_10000_phases": {
            "ratio": RETIMING_SECONDS / max(pod["stated"], pod["max-min"]),
            "against": "the promised half second; the slower sharing, on an ExaPOD",
            "detail": pod,
        },
        "retime_die_against_exapod": {
            "ratio": pod["nodes"] / die["nodes"] * die["stated"] / pod["stated"],
            "against": "time that grows as nodes do: 3,000 times that of one die",
            "detail": {each["machine"]: each for each in result["retimed"]},
        },
    }


BENCHMARKS = [simulate_resnet50, simulate_gpt2, timeline]
