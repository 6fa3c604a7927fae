"""compile_step: what trains is what PyTorch trains, and what is timed is what trains."""

import json
import re
from pathlib import Path

import numpy as np
import opendojo
import pytest
import torch
from opendojo import _core
from opendojo.capture import capture
from torch import nn


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, bias=False),  # before a norm its gradient is noise
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, 32),
        nn.GELU(),
        nn.Linear(32, 4),
    )


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 16, 16, generator=random), torch.randint(0, 4, (8,), generator=random)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def compiled(
    model: nn.Module, optimizer: torch.optim.Optimizer, **options
) -> opendojo.TrainingStep:
    return opendojo.compile_step(
        model, nn.functional.cross_entropy, optimizer, batch(0), **{"machine": "d1", **options}
    )


def test_the_profile_names_ops_modules_and_phases() -> None:
    model = network()
    step = compiled(model, adamw(model))
    step(*batch(0))
    tasks = step.profile()
    assert all(0 <= task["kernel_seconds"] <= task["seconds"] for task in tasks)
    assert {task["phase"] for task in tasks} == {"fwd", "bwd", "upd"}
    joined = [task for task in tasks if "aten.convolution" in task["ops"].split("+")]
    assert [task["phase"] for task in joined] == ["fwd", "fwd"]
    assert joined[0]["ops"] == "aten.convolution+aten.relu"
    assert joined[0]["module"] == "1"  # of the last op


@pytest.mark.parametrize(
    "make",
    [
        adamw,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    ],
    ids=["adamw", "sgd"],
)
def test_fp32_follows_pytorch_step_by_step(make) -> None:
    ours, theirs = network(), network()
    our_optimizer, their_optimizer = make(ours), make(theirs)
    step = compiled(ours, our_optimizer, recipe="fp32")
    for number in range(6):
        for optimizer in (our_optimizer, their_optimizer):
            optimizer.param_groups[0]["lr"] *= 0.9  # the step reads it at each call
        x, y = batch(number)
        loss = step(x, y)["loss"]
        their_optimizer.zero_grad()
        expected = nn.functional.cross_entropy(theirs(x), y)
        expected.backward()
        their_optimizer.step()
        np.testing.assert_allclose(loss, expected.detach(), rtol=1e-4)
    step.store()
    for (name, one), other in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-5, msg=name)
    assert step.host_ops == []


def test_after_store_pytorch_goes_on_where_the_step_stopped() -> None:
    model = network()
    optimizer = adamw(model)
    step = compiled(model, optimizer, recipe="fp32")
    reference = network()
    reference_optimizer = adamw(reference)
    for number in range(3):
        step(*batch(number))
        x, y = batch(number)
        reference_optimizer.zero_grad()
        nn.functional.cross_entropy(reference(x), y).backward()
        reference_optimizer.step()
    step.store()
    for each, its_optimizer in ((model, optimizer), (reference, reference_optimizer)):
        x, y = batch(3)
        its_optimizer.zero_grad()
        nn.functional.cross_entropy(each(x), y).backward()
        its_optimizer.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-5)


def test_cfloat8_learns() -> None:
    model = network()
    step = compiled(model, adamw(model), recipe="cfloat8")
    losses = [float(step(*batch(0))["loss"]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def state_of(step: opendojo.TrainingStep) -> dict[str, bytes]:
    return {label: step.executor.read(label).tobytes() for label in step.leaf_labels}


def test_bits_do_not_depend_on_threads() -> None:
    states = []
    for threads in (1, 2, 5):
        model = network()
        step = compiled(model, adamw(model), threads=threads)
        for number in range(3):
            step(*batch(number))
        states.append(state_of(step))
    assert states[0] == states[1] == states[2]


def test_a_resumed_step_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    model = network()
    step = compiled(model, adamw(model))
    for number in range(4):
        step(*batch(number))
        if number == 1:
            opendojo.save(tmp_path, step, {"note": "two steps"})
    other = network(seed=1)
    resumed = compiled(other, adamw(other))
    extra, damaged = opendojo.resume(tmp_path, resumed)
    assert extra == {"note": "two steps"}
    assert damaged == []
    assert resumed.completed_steps == 2
    for number in range(2, 4):
        resumed(*batch(number))
    assert state_of(resumed) == state_of(step)


def test_only_the_two_newest_checkpoints_stay(tmp_path: Path) -> None:
    model = network()
    step = compiled(model, adamw(model))
    for number in range(4):
        step(*batch(number))
        opendojo.save(tmp_path, step)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000003.safetensors", "step-00000004.safetensors"]


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, cut: int) -> None:
    model = network()
    step = compiled(model, adamw(model))
    for number in range(2):
        step(*batch(number))
        newest = opendojo.save(tmp_path, step)
    newest.write_bytes(newest.read_bytes()[:cut])
    _, damaged = opendojo.resume(tmp_path, step)
    assert len(damaged) == 1
    assert "is damaged" in damaged[0]
    assert step.completed_steps == 1


def test_machines_differ_in_k_parts_alone() -> None:
    model = network()
    captured = capture(
        model, nn.functional.cross_entropy, adamw(model), ((batch(0)[0],), (batch(0)[1],))
    )
    texts = []
    for machine in ("d1", "training-tile"):
        lowered = _core.lower(_core.Graph.parse(captured.text), "cfloat8", [], machine)
        texts.append(str(lowered))
    assert texts[0] != texts[1]
    plain = [re.sub(r' k_parts=\{[^}]*\}|machine "[^"]*"', "", text) for text in texts]
    assert plain[0] == plain[1]


def test_the_simulation_is_of_the_graph_that_trains() -> None:
    model = network()
    step = compiled(model, adamw(model))
    simulation = step.simulate()
    assert simulation["lowered_graph_sha256"] == step.lowered_graph_sha256
    total = simulation["ideal_seconds"] + sum(simulation["seconds_by_cause"].values())
    assert total == pytest.approx(simulation["step_seconds"], rel=1e-9)
    assert simulation["flops"] == json.loads(step.graph.statistics_json())["total"]["matrix_flops"]
    assert simulation["utilisation"] * simulation["step_seconds"] == pytest.approx(
        simulation["ideal_seconds"], rel=1e-9
    )
    assert step.simulate("training-tile")["machine"] == "training-tile"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machine": "trainig-tile"}, "training-tile"),
        ({"recipe": "cfloat"}, "cfloat8"),
        ({"overrides": ["9=matrix_operand:bf16"]}, "matches no tensor"),
        ({"overrides": ["0=matrix:bf16"]}, "matrix_operand"),
        ({"threads": 100_000}, "thread"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(options, message) -> None:
    model = network()
    with pytest.raises(opendojo.Error, match=message):
        compiled(model, adamw(model), **options)


def test_a_batch_of_another_shape_is_refused() -> None:
    model = network()
    step = compiled(model, adamw(model))
    x, y = batch(0)
    with pytest.raises(opendojo.Error, match="drop a last short batch"):
        step(x[:4], y[:4])


def test_a_label_out_of_range_changes_nothing() -> None:
    model = network()
    step = compiled(model, adamw(model))
    before = state_of(step)
    with pytest.raises(opendojo.Error, match="range"):
        step(batch(0)[0], torch.full((8,), 4))
    assert state_of(step) == before
    assert step.completed_steps == 0


def test_a_network_that_does_not_fit_says_what_it_needs() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(8192, 8192) for _ in range(8)))
    captured = capture(
        model,
        lambda out, target: (out - target).square().mean(),
        torch.optim.AdamW(model.parameters()),
        ((torch.empty(16, 8192),), (torch.empty(16, 8192),)),
    )
    graph = _core.Graph.parse(captured.text)
    with pytest.raises(opendojo.Error, match="does not fit") as error:
        _core.simulate(_core.lower(graph, "cfloat8", [], "d1"), "d1")
    assert re.search(r"needs .*has ", str(error.value)), error.value
