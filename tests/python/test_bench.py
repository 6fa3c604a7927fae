"""The frame of `make bench` itself: wrong entries and failed checks must not pass unseen."""

import importlib.util
import io
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

BENCH = Path(__file__).resolve().parents[2] / "bench"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"bench_frame_{name}", BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


paired = load("paired")
run = load("run")


def entry(ratio: float) -> dict:
    return {"ratio": ratio, "against": "nothing", "detail": {}}


def test_the_ratio_says_how_many_times_quicker_ours_is():
    timing = paired.paired_timing(
        lambda: time.sleep(0.001), lambda: time.sleep(0.01), pairs=5, warm_up=0
    )
    assert 3 < timing.ratio < 11
    assert timing.ratio_quartiles[0] <= timing.ratio <= timing.ratio_quartiles[1]


def test_ours_and_theirs_alternate_who_goes_first(monkeypatch):
    monkeypatch.setattr(paired, "SETTLING_SECONDS", 0)
    calls: list[str] = []
    paired.paired_timing(
        lambda: calls.append("ours"), lambda: calls.append("theirs"), pairs=4, warm_up=0
    )
    assert calls == ["ours", "theirs", "theirs", "ours"] * 2


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf"), "2"])
def test_a_ratio_that_is_no_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio"):
        run.check_entries({"a": entry(ratio)})


def test_missing_keys_are_refused():
    with pytest.raises(ValueError, match="expected ratio, against, detail"):
        run.check_entries({"a": {"ratio": 1.0}})


def test_a_benchmark_with_a_wrong_answer_fails_and_the_others_still_run():
    def wrong():
        raise AssertionError("answers differ")

    results, failed = run.run_benchmarks(
        {"wrong": wrong, "right": lambda: {"speed": entry(2.0)}}, Console(file=io.StringIO())
    )
    assert failed == ["wrong"]
    assert results == {"speed": entry(2.0)}


def test_two_benchmarks_cannot_give_one_name():
    _, failed = run.run_benchmarks(
        {"a": lambda: {"x": entry(1.0)}, "b": lambda: {"x": entry(2.0)}},
        Console(file=io.StringIO()),
    )
    assert failed == ["b"]
