"""examples/workloads/scaling.py: a workload on more and more trays, with a network of this test."""

import sys
from itertools import pairwise
from pathlib import Path

import opendojo
import pytest
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples/workloads"))

import registry  # noqa: E402
import scaling  # noqa: E402


def batch(samples: int):
    images = registry.floats(samples, 3, 16, 16)
    return images, (registry.numbers(samples),)


def network() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 14 * 14, 10)]
    return nn.Sequential(*layers)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    workload = registry.Workload(
        "a small network", network, F.cross_entropy, registry.sgd, batch, samples=2
    )
    monkeypatch.setitem(scaling.WORKLOADS, "small", workload)


def test_efficiency_falls_smoothly_and_the_bound_is_named():
    rows = scaling.scaled("small", [1, 2, 4], 25, "cfloat8")
    assert [row.samples for row in rows] == [150, 300, 600]
    times = [row.step_seconds for row in rows]
    assert times == sorted(times)
    # Twice as many trays never cost more than twice the time: nothing jumps.
    assert all(later < 2 * earlier for earlier, later in pairwise(times))
    for row in rows:
        assert row.takes_most in row.bounds
        assert 0 < sum(row.bounds.values())


def test_the_arrangement_is_what_the_machine_file_says():
    stand = scaling.arrangement()
    assert stand.startswith("trays stand 20x1 (inferred: ") and "not public" in stand


def test_what_does_not_work_is_one_line():
    with pytest.raises(opendojo.Error, match=r"pod\.trays"):
        scaling.scaled("small", [0], 25, "cfloat8")
