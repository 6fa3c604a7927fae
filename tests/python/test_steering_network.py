"""The demo's network: its shape, the numbers its documentation gives, and its learning rate."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

MODEL = Path(__file__).parents[2] / "examples" / "drive" / "model.py"


@pytest.fixture(scope="module")
def model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("steering_model", MODEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_costs_what_its_documentation_says(model: ModuleType) -> None:
    network = model.SteeringNetwork((0.1, 0.4)).eval()
    with FlopCounterMode(display=False) as counter:
        output = network(torch.zeros(1, 4, 3, 60, 80, dtype=torch.uint8))
    assert output.shape == (1, 2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert f"{counter.get_total_flops() / 1e6:.1f} million floating-point" in model.__doc__
    assert f"{parameters:,} parameters" in model.__doc__


def test_starts_from_the_mean_label(model: ModuleType) -> None:
    network = model.SteeringNetwork((0.1, 0.4))
    torch.testing.assert_close(network.head.bias.detach(), torch.tensor([0.1, 0.4]))


def test_fuses_frames_of_one_window_in_their_order(model: ModuleType) -> None:
    torch.manual_seed(0)
    network = model.SteeringNetwork().eval()
    frames = torch.randint(0, 256, (3, 4, 3, 60, 80), dtype=torch.uint8)
    together = network(frames)
    apart = torch.cat([network(frames[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(network(frames.flip(1)), together)


def test_pixels_are_exact_in_bf16() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).float() * (1 / 128) - 1
    torch.testing.assert_close(pixels.bfloat16().float(), pixels, rtol=0, atol=0)


def test_learning_rate_rises_then_falls_to_almost_zero(model: ModuleType) -> None:
    rates = [model.learning_rate(step) for step in range(model.STEPS)]
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(model.PEAK_RATE / model.WARM_UP_STEPS)
    assert 90 <= top <= 99 and 0.95 * model.PEAK_RATE < rates[top] <= model.PEAK_RATE
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 1e-5 * model.PEAK_RATE
