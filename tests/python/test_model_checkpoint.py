"""Checkpoints of a model that torch.compile trains."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opendojo
import pytest
import torch
import torch.nn.functional as F
from opendojo import backend, checkpoint
from opendojo.backend import instances_of, opendojo_backend
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    backend._watch_compiles()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=False):
        yield
    torch._dynamo.reset()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.head(self.drop(F.relu(self.body(x)).mean((2, 3))))


def build(seed: int, recipe: str = "cfloat8", **options: Any) -> tuple:
    """As a process that has just started: model, its compiled form, optimiser."""
    torch._dynamo.reset()
    torch.manual_seed(seed)
    model = Net()
    call = torch.compile(
        model, backend=opendojo_backend, options={"recipe": recipe, "seed": 7, **options}
    )
    return model, call, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def train(call: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Batches are a function of the step; each third step also evaluates."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, 3, 10, 10, generator=generator)
        y = torch.randint(5, (4,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(call(x), y).backward()
        optimizer.step()
        if step % 3 == 0:
            call.eval()
            with torch.no_grad():
                call(x)
            call.train()


def assert_equal(model: nn.Module, other: nn.Module) -> None:
    state = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_resumed_training_has_the_bits_of_one_that_never_stopped(tmp_path: Path) -> None:
    whole, call, optimizer = build(1)
    train(call, optimizer, range(12))

    model, call, optimizer = build(1)
    train(call, optimizer, range(5))
    opendojo.save(tmp_path, model=call, optimizer=optimizer, extra={"next": 5})

    model, call, optimizer = build(2)
    extra, damaged = opendojo.resume(tmp_path, model=call, optimizer=optimizer)
    assert extra == {"next": 5} and damaged == []
    # Saved again before any graph has run, nothing is lost.
    opendojo.save(tmp_path / "again", model=model, optimizer=optimizer)
    model, call, optimizer = build(3)
    opendojo.resume(tmp_path / "again", model=model, optimizer=optimizer)
    train(call, optimizer, range(5, 12))
    assert_equal(model, whole)
    assert {i.executor.completed_steps for i in instances_of(model)} == {12, 4}


def test_a_model_resumes_in_the_process_that_has_trained_it(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(3))
    opendojo.save(tmp_path, model=model, optimizer=optimizer)
    train(call, optimizer, range(3, 8))
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    opendojo.resume(tmp_path, model=model, optimizer=optimizer)
    train(call, optimizer, range(3, 8))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, first[name]), name


def test_a_state_dict_alone_is_not_enough(tmp_path: Path) -> None:
    """Bias windows and the step matter: without them the bits are others."""
    whole, call, optimizer = build(1)
    train(call, optimizer, range(5))
    weights, states = whole.state_dict(), optimizer.state_dict()
    kept = [{n: t.clone() for n, t in weights.items()}, states]
    train(call, optimizer, range(5, 8))
    model, call, optimizer = build(2)
    model.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    train(call, optimizer, range(5, 8))
    assert not torch.equal(model.head.weight, whole.head.weight)


def test_without_its_bias_windows_nothing_resumes(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(2))
    path = opendojo.save(tmp_path, model=model, optimizer=optimizer)
    tensors, about = checkpoint.read_file(path)
    lacking = {n: t for n, t in tensors.items() if "bias_" not in n}
    checkpoint.write_checkpoint(tmp_path / "lacking", lacking, about)
    model, call, optimizer = build(2)
    before = model.head.weight.clone()
    with pytest.raises(opendojo.Error, match=r"lacks bias windows \(0 of \d+\)"):
        opendojo.resume(tmp_path / "lacking", model=model, optimizer=optimizer)
    assert torch.equal(model.head.weight, before)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(2))
    opendojo.save(tmp_path, model=model, optimizer=optimizer)
    for options, message in (
        ({"recipe": "bf16"}, "trained with recipe cfloat8 on training-tile"),
        ({"machine": "d1"}, "compiled with cfloat8 for d1"),
        ({"overrides": ["body=weight_operand:bf16"]}, "another graph with the same inputs"),
    ):
        model, call, optimizer = build(2, **options)
        opendojo.resume(tmp_path, model=model, optimizer=optimizer)
        with pytest.raises(opendojo.Error, match=message):
            train(call, optimizer, range(2, 3))


def test_the_two_kinds_of_checkpoint_are_not_mixed_up(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(1))
    opendojo.save(tmp_path / "model", model=model, optimizer=optimizer)
    data = torch.randn(4, 3, 10, 10), torch.randint(5, (4,))
    step = opendojo.compile_step(model, F.cross_entropy, optimizer, data)
    step(*data)
    opendojo.save(tmp_path / "step", step)
    with pytest.raises(opendojo.Error, match="is of another step"):
        opendojo.resume(tmp_path / "model", step)
    with pytest.raises(opendojo.Error, match=r"no states of compiled graphs.*resume\(folder, step"):
        opendojo.resume(tmp_path / "step", model=model, optimizer=optimizer)
    with pytest.raises(opendojo.Error, match="expected a step, or a model"):
        opendojo.save(tmp_path / "none")


def test_another_model_or_optimizer_does_not_resume(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(1))
    opendojo.save(tmp_path, model=model, optimizer=optimizer)
    with pytest.raises(opendojo.Error, match="is of another model: 'weight' is not in both"):
        opendojo.resume(tmp_path, model=nn.Linear(2, 2), optimizer=optimizer)
    with pytest.raises(opendojo.Error, match=r"AdamW with 1 parameter gr.*this is SGD"):
        other = torch.optim.SGD(model.parameters(), lr=0.1)
        opendojo.resume(tmp_path, model=model, optimizer=other)
    with pytest.raises(opendojo.Error, match="holds an optimizer"):
        opendojo.resume(tmp_path, model=model)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    model, call, optimizer = build(1)
    train(call, optimizer, range(1))
    opendojo.save(tmp_path, model=model, optimizer=optimizer, extra={"at": 1})
    train(call, optimizer, range(1, 2))
    newest = opendojo.save(tmp_path, model=model, optimizer=optimizer, extra={"at": 2})
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    extra, damaged = opendojo.resume(tmp_path, model=model, optimizer=optimizer)
    assert extra == {"at": 1} and len(damaged) == 1 and newest.name in damaged[0]


def test_optimizer_states_and_hyper_parameters_come_back(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(
        [{"params": [model.weight], "lr": torch.tensor(0.5)}, {"params": [model.bias]}],
        lr=0.25,
        betas=(0.5, 0.75),
    )
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    opendojo.save(tmp_path, model=model, optimizer=optimizer)
    other = nn.Linear(4, 4)
    fresh = torch.optim.Adam([{"params": [other.weight]}, {"params": [other.bias]}])
    opendojo.resume(tmp_path, model=other, optimizer=fresh)
    assert fresh.param_groups[0]["lr"] == torch.tensor(0.5) and fresh.param_groups[1]["lr"] == 0.25
    assert fresh.param_groups[1]["betas"] == (0.5, 0.75)
    for key, value in optimizer.state[model.weight].items():
        assert torch.equal(fresh.state[other.weight][key], value), key


_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
import opendojo
from test_model_checkpoint import build, train
model, call, optimizer = build(1)
for step in range(1000):
    train(call, optimizer, range(step, step + 1))
    opendojo.save(sys.argv[1], model=model, optimizer=optimizer, extra={"next": step + 1})
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path), str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    deadline = time.monotonic() + 120
    while not any(tmp_path.glob("step-*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    model, call, optimizer = build(2)
    extra, _ = opendojo.resume(tmp_path, model=model, optimizer=optimizer)
    train(call, optimizer, range(extra["next"], extra["next"] + 3))
    whole, call, optimizer = build(1)
    train(call, optimizer, range(extra["next"] + 3))
    assert_equal(model, whole)


def test_leaves_of_such_a_checkpoint_are_named_as_in_the_model(tmp_path: Path) -> None:
    """So that what reads the checkpoints of compile_step reads these."""
    model, call, optimizer = build(1)
    train(call, optimizer, range(1))
    opendojo.save(tmp_path, model=model, optimizer=optimizer)
    loaded, _ = opendojo.load(tmp_path)
    assert loaded.recipe == "cfloat8" and loaded.machine == "training-tile" and loaded.step == 1
    assert set(loaded.leaves) == set(model.state_dict())
    assert np.array_equal(loaded.leaves["head.bias"], model.head.bias.detach().numpy())
