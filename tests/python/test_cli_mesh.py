"""`dojo mesh` as a user meets it: the JSON that is promised, and how it fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOJO = Path(os.environ.get("DOJO_BIN", ROOT / "build/bin/dojo")).resolve()


@pytest.fixture(autouse=True)
def _binary():
    if not DOJO.exists():
        pytest.skip(f"{DOJO} is not built")


def mesh(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([DOJO, "mesh", *arguments], capture_output=True, text=True, check=False)


def json_of(*arguments: str) -> dict:
    result = mesh(*arguments, "--json", "-")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_run_prints_what_is_promised():
    words = "run --size 8x8 --router booksim-v4 --traffic uniform --packet-flits 4 --rate 0.3"
    measured = json_of(*words.split(), "--seed", "1")
    assert measured["saturated"] is False
    assert measured["mean_packet_latency"] == pytest.approx(40.4, rel=0.02)
    assert measured["accepted_flits_per_node_cycle"] == pytest.approx(0.3, rel=0.02)
    for key in (
        "max_packet_latency",
        "mean_flit_latency",
        "mean_routers_visited",
        "accepted_minimum_node",
        "cycles",
        "traversals",
        "wall_seconds",
    ):
        assert measured[key] > 0, key


def test_threads_and_order_change_nothing():
    words = "run --size 10x12 --router d1 --traffic hotspot --rate 0.2 --period 500".split()
    one, three = (json_of(*words, "--threads", threads) for threads in ("1", "3"))
    del one["wall_seconds"], three["wall_seconds"]
    assert one == three


def test_throughput_runs_the_stated_cycles():
    words = "run --size 8x8 --router booksim-v1 --traffic neighbor --rate 1 --mode throughput"
    measured = json_of(*words.split(), "--cycles", "8000")
    assert measured["cycles"] == 8000
    assert measured["accepted_flits_per_node_cycle"] == pytest.approx(0.5, abs=0.001)


def test_sweep_draws_its_curve(tmp_path):
    plot = tmp_path / "curve.svg"
    words = "sweep --size 4x4 --rates 0.1,0.2,0.99 --period 500 --router booksim-v1"
    points = json_of(*words.split(), "--plot", str(plot))
    assert [point["rate"] for point in points] == [0.1, 0.2, 0.99]
    assert points[2]["saturated"] and points[2]["mean_packet_latency"] is None
    assert plot.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--size 0x8", "sides must be 1..65536"),
        ("--size 8", "expected ROWSxCOLUMNS"),
        ("--size 999x999", "at most 65536 routers"),
        ("--rate 1.5", "must be 0..1"),
        ("--rate -0.1", "must be 0..1"),
        ("--traffic bitcomp --size 5x8", "needs a power of two"),
        ("--traffic transpose --size 4x8", "needs an even power of two"),
        ("--router booksim-v3", "nearest: booksim-v"),
        ("--traffic unifrom", "nearest: uniform"),
    ],
)
def test_bad_input_is_one_clear_error(words, message):
    result = mesh("run", *words.split())
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("dojo: error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
