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


def test_a_pattern_takes_its_formulas_time():
    # 7 stages of 22 cycles but for the last, L = 72 packets through the busiest port at 0.9.
    measured = json_of("pattern", "all_gather rows bytes=4096", "--size", "8x8")
    assert measured["flits"] == 8 * 7 * 64
    assert measured["busiest_port_flits"] == 72
    assert measured["cycles"] == pytest.approx(6 * 22 + 2 + 72 / 0.9, rel=0.07)
    die = json_of("pattern", "scatter_from_edge west bytes=640", "--machine", "d1")
    assert die["links"]["processor link west-east"]["flits"] == 342 * 10


def test_a_pattern_written_as_a_trace_runs_as_the_same(tmp_path):
    trace = tmp_path / "all_reduce.trace"
    pattern = json_of(
        "pattern",
        "all_reduce both order=chain bytes=512",
        "--size",
        "3x4",
        "--write-trace",
        str(trace),
    )
    assert len(pattern["phase_cycles"]) == 4
    assert json_of("trace", str(trace), "--size", "3x4") == pattern


def test_routers_copy_what_several_nodes_need(tmp_path):
    pattern = "multicast both bytes=1024"
    forwarded = json_of("pattern", pattern, "--size", "8x8", "--unpaced")
    trace = tmp_path / "copied.trace"
    words = ("--multicast", "replicate", "--write-trace", str(trace))
    copied = json_of("pattern", pattern, "--size", "8x8", "--unpaced", *words)
    assert copied["cycles"] == 7 + 7 + 16 and forwarded["cycles"] > 200
    assert copied["messages"] == 1 and copied["flits"] == forwarded["flits"] == 63 * 16
    assert copied["links"] == forwarded["links"] | {"node link": copied["links"]["node link"]}
    assert copied["links"]["node link"]["flits"] == 63 * 16
    assert " -> 0,1+0,2+" in trace.read_text()
    assert json_of("trace", str(trace), "--size", "8x8", "--threads", "2") == copied


def test_a_trace_goes_round_dead_routers_and_links(tmp_path):
    trace = tmp_path / "one.trace"
    trace.write_text("dojo-trace 1\na 1,0 -> 1,3 flits=1\n")

    def cycles(*arguments):
        return json_of("trace", str(trace), "--size", "3x4", *arguments)["cycles"]

    assert cycles() == 4
    assert cycles("--dead-core", "1,1") == 4
    assert cycles("--dead-router", "1,1") == 6
    assert cycles("--dead-link", "1,1e", "--routing", "west-first") == 6
    assert cycles("--torus") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pattern", "all_gather rows bytes=64", "--size", "8"], "expected ROWSxCOLUMNS"),
        (["pattern", "all_gather rows bytes=64", "--size", "0x8"], "sides must be 1..65536"),
        (["pattern", "gather rows", "--size", "2x2"], "gather"),
        (
            ["pattern", "all_gather rows bytes=64", "--size", "3x3", "--dead-router", "0,1",
             "--dead-router", "1,0"],
            "holes cut the mesh in two: 1 node cannot be reached from the other 6 routers (0,0)",
        ),
        (["pattern", "halo north=64", "--torus", "--vcs", "1"], "needs 2"),
        (["pattern", "halo north=64", "--dead-link", "1,1"], "and n, e, s or w"),
        (["trace", "/nowhere.trace"], "/nowhere.trace"),
    ],
)  # fmt: skip
def test_patterns_and_traces_fail_with_one_line(arguments, message):
    result = mesh(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_circular_trace_is_printed(tmp_path):
    trace = tmp_path / "circle.trace"
    trace.write_text("dojo-trace 1\na 0,0 -> 0,1 flits=1 after=b\nb 0,1 -> 0,0 flits=1 after=a\n")
    result = mesh("trace", str(trace))
    assert result.returncode == 1
    assert f"{trace}:2:1: circular dependency: a waits for b waits for a" in result.stderr


def test_holes_are_options_of_every_command():
    holes = ("--dead-router", "3,4", "--dead-link", "1,1e", "--dead-core", "0,0")
    whole = json_of("run", "--size", "8x8", "--rate", "0.05")
    holed = json_of("run", "--size", "8x8", "--rate", "0.05", *holes)
    assert not holed["saturated"] and holed["accepted_minimum_node"] > 0.04
    assert holed["mean_routers_visited"] > whole["mean_routers_visited"]  # ways round the holes
    pattern = ("pattern", "all_gather rows bytes=512", "--size", "8x8", "--dead-link", "1,1e")
    assert json_of(*pattern)["cycles"] > json_of(*pattern[:-2])["cycles"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dead-router", "0,1", "--dead-router", "1,0"), "cannot be reached"),
        (("--dead-link", "9,9e"), "outside of the network"),
        (("--dead-link", "1,1"), "expected ROW,COLUMN and n, e, s or w"),
        (("--dead-router", "1"), "expected ROW,COLUMN"),
    ],
)
def test_bad_holes_are_said(arguments: tuple[str, ...], said: str):
    result = mesh("run", "--size", "4x4", "--rate", "0.1", *arguments)
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1 and said in result.stderr
