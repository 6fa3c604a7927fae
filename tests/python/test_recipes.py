"""Recipes without FP32 masters, bias rules and the log of tensors, end to end."""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import opendojo
import pytest
import torch
from torch import nn


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(number)
    return torch.randn(16, 24, generator=random), torch.randint(0, 4, (16,), generator=random)


def compiled(recipe: str, overrides: Sequence[str] = (), threads: int = 1) -> opendojo.TrainingStep:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(24, 32),
        nn.LayerNorm(32),
        nn.GELU(),
        nn.Linear(32, 32),
        nn.GELU(),
        nn.Linear(32, 4),
    )
    return opendojo.compile_step(
        model,
        nn.functional.cross_entropy,
        torch.optim.AdamW(model.parameters(), lr=5e-3),
        batch(0),
        machine="d1",
        recipe=recipe,
        overrides=overrides,
        threads=threads,
    )


def train_until_killed(folder: Path, recipe: str, overrides: Sequence[str]) -> None:
    step = compiled(recipe, overrides)
    if any(folder.glob("step-*.safetensors")):
        opendojo.resume(folder, step)
    while True:
        step(*batch(step.completed_steps))
        opendojo.save(folder, step)
        print(step.completed_steps, flush=True)


WEIGHT = "3.weight"
"""Of the layer that is neither the first nor the last."""

UNUSUAL = [
    ("cfloat8_no_master", ()),
    ("cfloat8_shp", ()),
    ("cfloat8_no_master", ("*=first_moment:cf8_1_5_2:stochastic", "bias=learnt")),
    ("cfloat8", ("*=master_weight:bf16:stochastic", "bias_grid=8")),
]


def state_of(step: opendojo.TrainingStep) -> dict[str, tuple]:
    read = step.executor
    return {k: (read.leaf_bias(k), read.read(k).tobytes()) for k in step.leaf_labels}


def formats_of(step: opendojo.TrainingStep) -> dict[str, str]:
    return {leaf["label"]: leaf["format"] for leaf in step.graph.leaves()}


@pytest.mark.parametrize(("recipe", "overrides"), UNUSUAL)
def test_a_run_that_is_killed_goes_on_with_the_same_bits(
    tmp_path: Path, recipe: str, overrides: tuple[str, ...]
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = 0
    for wanted in (2, 5):
        command = [sys.executable, __file__, str(tmp_path), recipe, *overrides]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        while done < wanted:
            done = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    resumed, whole = compiled(recipe, overrides, threads=2), compiled(recipe, overrides)
    opendojo.resume(tmp_path, resumed)
    assert resumed.completed_steps >= 5
    for number in range(resumed.completed_steps + 3):
        if number >= resumed.completed_steps:
            resumed(*batch(number))
        whole(*batch(number))
    assert state_of(resumed) == state_of(whole)
    assert any(format.startswith(("cf8", "bf16", "shp")) for format in formats_of(whole).values())


@pytest.mark.parametrize(
    "recipe",
    [
        "cfloat8_shp",
        "cfloat8_no_master",
        "cfloat8_no_master_nearest",
        "cfloat8_fixed_bias",
        "ocp_fp8",
    ],
)
def test_learns_and_the_slow_interpreter_agrees(tmp_path: Path, recipe: str, dojo: Path) -> None:
    step = compiled(recipe, ["*=first_moment:cf8_1_5_2:stochastic", "sum_order=tile4"])
    first = float(step(*batch(0))["loss"])
    for _ in range(60):
        step(*batch(0))
    step.record(*batch(0), tmp_path / "step")
    step.graph.save(str(tmp_path / "step.graph"))
    subprocess.run(
        [
            dojo,
            "graph",
            "eval",
            tmp_path / "step.graph",
            "--inputs",
            tmp_path / "step.inputs.safetensors",
            "--check",
            tmp_path / "step.expected.safetensors",
        ],
        check=True,
    )
    assert float(step(*batch(0))["loss"]) < 0.5 * first
    assert step.simulate()["step_seconds"] > 0


def test_weights_without_masters_come_back_as_values() -> None:
    step = compiled("cfloat8_no_master")
    step(*batch(0))
    assert formats_of(step)[WEIGHT] == "cf8_1_4_3"
    step.store()
    stored = step.model.get_parameter(WEIGHT).detach().numpy()
    np.testing.assert_array_equal(stored, step.executor.read(WEIGHT))
    bias = step.executor.leaf_bias(WEIGHT)
    assert len(np.unique(np.abs(stored))) <= 128
    step.executor.write(WEIGHT, stored, bias)
    np.testing.assert_array_equal(stored, step.executor.read(WEIGHT))
    step.executor.write(WEIGHT, stored * 2.0**8)  # the rule chooses a bias that holds them
    np.testing.assert_allclose(step.executor.read(WEIGHT), stored * 2.0**8, rtol=0, atol=2**-6)
    with pytest.raises(opendojo.Error, match=r"bias 64 is outside of 0\.\.63"):
        step.executor.write(WEIGHT, stored, 64)


def test_v_in_uhp_is_scaled_and_handed_out_unscaled() -> None:
    """The optimiser's own state is v, whatever the step multiplies it by."""
    plain = compiled("fp32")
    plain(*batch(0))
    plain.store()
    expected = plain.optimizer.state[plain.model.get_parameter(WEIGHT)]["exp_avg_sq"]
    step = compiled("fp32", ["*=second_moment:uhp"])
    step(*batch(0))
    step.store()
    assert np.median(step.executor.read(f"{WEIGHT}.exp_avg_sq")) > 2.0**-30 * 2**20
    got = step.optimizer.state[step.model.get_parameter(WEIGHT)]["exp_avg_sq"]
    torch.testing.assert_close(got, expected, rtol=2**-11, atol=0)
    again = opendojo.compile_step(
        step.model,
        nn.functional.cross_entropy,
        step.optimizer,
        batch(0),
        machine="d1",
        recipe="fp32",
        overrides=["*=second_moment:uhp"],
    )
    label = f"{WEIGHT}.exp_avg_sq"
    np.testing.assert_array_equal(again.executor.read(label), step.executor.read(label))


def test_few_different_biases_if_a_grid_says_so() -> None:
    logs = {}
    for grid in (1, 32):
        step = compiled("cfloat8", [f"bias_grid={grid}"])
        logs[grid] = opendojo.TensorLog(step)
        for number in range(8):
            step(*batch(number))
            logs[grid].record()
    assert max(logs[32].distinct_biases) <= 2 < max(logs[1].distinct_biases)
    assert {bias % 32 for tensor in logs[32].tensors.values() for bias in tensor.bias} == {0}


def test_a_log_of_tensors_is_json_and_a_picture(tmp_path: Path) -> None:
    step = compiled("cfloat8", ["bias=learnt"])
    log = opendojo.TensorLog(step, every=3)
    with pytest.raises(opendojo.Error, match="nothing was recorded"):
        log.plot(tmp_path / "log.svg")
    recorded = []
    for number in range(10):
        step(*batch(number))
        recorded.append(log.record())
    assert not log.record()  # this step again
    assert log.steps == [3, 6, 9]
    assert recorded == [False, False, True] * 3 + [False]
    log.save(tmp_path / "log.json")
    content = json.loads((tmp_path / "log.json").read_text())
    assert content["distinct_biases"] == log.distinct_biases
    rows = {row["name"]: row for row in step.executor.tensor_log()}
    for tensor in content["tensors"]:
        assert len(tensor["amax"]) == len(tensor["saturated"]) == len(tensor["zeroed"]) == 3
        assert len(tensor["bias"]) == (3 if tensor["format"].startswith("cf8") else 0)
        assert tensor["format"] == rows[tensor["name"]]["format"]
    log.plot(tmp_path / "log.svg")
    picture = ET.parse(tmp_path / "log.svg").getroot()
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    with_bias = sum(1 for tensor in content["tensors"] if tensor["bias"])
    assert len(lines) == 2 * min(len(content["tensors"]), 8) + min(with_bias, 8) + 1
    assert all(len(line.attrib["points"].split()) == 3 for line in lines)
    with pytest.raises(opendojo.Error, match="cannot write"):
        log.plot(tmp_path / "none" / "log.svg")
    with pytest.raises(opendojo.Error, match="expected 1 or more"):
        opendojo.TensorLog(step, every=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": ["bias=lernt"]}, "nearest: learnt"),
        ({"overrides": ["bias_gird=2"]}, "nearest: bias_grid"),
        ({"overrides": ["*=master_wieght:bf16"]}, "master_weight"),
        ({"sum_order": "tile"}, "nearest: tile4"),
        ({"recipe": "cfloat8_nomaster"}, "nearest: cfloat8_no_master"),
    ],
)
def test_a_wrong_name_gets_the_nearest(options: dict, message: str) -> None:
    model = nn.Linear(4, 4)
    with pytest.raises(opendojo.Error, match=message):
        opendojo.compile_step(
            model,
            nn.functional.mse_loss,
            torch.optim.SGD(model.parameters()),
            (torch.zeros(2, 4), torch.zeros(2, 4)),
            machine="d1",
            **options,
        )


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
