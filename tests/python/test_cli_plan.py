"""`dojo plan` as a user meets it."""

import json
import signal
import subprocess
from pathlib import Path

from command_line import DOJO, ROOT, dojo, error_of, output_of

STEP = str(ROOT / "tests/golden/run/small_step.graph")
TILE = ("--machine", "training-tile")


def planned(*arguments: str) -> dict:
    result = json.loads(output_of("plan", STEP, *TILE, *arguments, "--json", "-"))
    assert result.pop("wall_seconds") > 0
    return result


def test_the_best_plan_is_written_and_timed_as_it_says(tmp_path: Path):
    program, graph = str(tmp_path / "best.program"), str(tmp_path / "best.graph")
    result = planned("-o", program, "--lowered", graph)
    best = result["plans"][result["best"]]
    assert best["on_front"] and best["fits"]
    assert result["search_candidates"] == result["known_candidates"] == len(result["plans"])
    again = json.loads(output_of("simulate", program, *TILE, "--graph", graph, "--json", "-"))
    for key in ("step_seconds", "lower_bound_seconds", "serial_seconds"):
        assert again[key] == best[key]
    assert again["lowered_graph_sha256"] == result["lowered_graph_sha256"]
    assert len(result["splits"]) == best["splits"] > 0 and result["sketches"] > 100
    assert all(split["op"] and split["ops"] > 0 for split in result["splits"])
    by_rule = json.loads(output_of("simulate", STEP, *TILE, "--json", "-"))
    assert by_rule["step_seconds"] == result["plans"][0]["step_seconds"]
    assert best["step_seconds"] < by_rule["step_seconds"]


def test_the_plan_is_said_in_words():
    said = output_of("plan", STEP, *TILE, "--search-candidates", "40")
    assert "kinds of ops split anew" in said
    assert "The quickest splits these otherwise than the rules do" in said
    assert "rank correlation" in said


def test_the_first_few_candidates_are_the_same_every_time():
    few = planned("--search-candidates", "3")
    assert few == planned("--search-candidates", "3")
    assert few["cut_short"] and len(few["plans"]) == 3


def test_simulate_and_place_search_when_they_are_told_to(tmp_path: Path):
    plan = planned("--search-candidates", "5")
    best = plan["plans"][plan["best"]]
    limit = ("--search-candidates", "5")
    step = json.loads(output_of("simulate", STEP, *TILE, *limit, "--json", "-"))
    assert step["search_candidates"] == 5 and step["fits"]
    assert step["step_seconds"] == best["step_seconds"]
    assert step["lowered_graph_sha256"] == plan["lowered_graph_sha256"]
    program, graph = str(tmp_path / "best.program"), str(tmp_path / "best.graph")
    output_of("place", STEP, *TILE, *limit, "-o", program, "--lowered", graph)
    timed = json.loads(output_of("simulate", program, *TILE, "--graph", graph, "--json", "-"))
    assert timed["step_seconds"] == best["step_seconds"]
    # What a search would change is refused: a Program's replica, a lowered Graph's sums.
    assert "nothing to search" in error_of("simulate", program, *TILE, *limit)
    assert "--relower allows that" in error_of("simulate", graph, *TILE, *limit)
    again = json.loads(output_of("simulate", graph, *TILE, *limit, "--relower", "--json", "-"))
    assert again["step_seconds"] == best["step_seconds"]


def test_an_interrupted_search_keeps_the_best_so_far(tmp_path: Path):
    step = tmp_path / "big.graph"
    # A step of many ops, so that the signal comes in the middle.
    layers = 500
    lines = ['%x0 = input f32[64,256] "x"']
    lines += [f'%w{i} = weight f32[256,256] "l{i}.weight"' for i in range(layers)]
    lines += [f'%x{i + 1} = aten.mm(%x{i}, %w{i}) : f32[64,256] @"l{i}" fwd' for i in range(layers)]
    lines.append(f'output %x{layers} "y"')
    step.write_text('graph "big" {\n' + "\n".join(lines) + "\n}\n")
    command = [DOJO, "plan", str(step), "--machine", "exapod", "--json", "-"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        running.communicate(timeout=2)
        raise AssertionError("the search ended before it could be interrupted")
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
    out, said = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "interrupted: this is the best of" in said
    result = json.loads(out)
    assert result["cut_short"] and result["plans"][result["best"]]["fits"]


def test_what_the_rules_place_a_search_places_too(tmp_path: Path):
    machine = tmp_path / "small.toml"
    machine.write_text(
        'include = "d1"\n[machine]\nname = "small"\ntitle = "little SRAM"\n[node]\n'
        'sram = { value = "0.33 MB", status = "assumed", source = "a try", '
        'range = ["0.33 MB", "0.5 MB"] }\n'
    )
    step = str(ROOT / "tests/golden/place/gpt.graph")
    options = (step, "--machine", str(machine), "--json", "-")
    by_rule = json.loads(output_of("simulate", *options))
    found = json.loads(output_of("plan", *options))
    assert found["plans"][found["best"]]["step_seconds"] <= by_rule["step_seconds"]


def test_what_fits_nowhere_is_said(tmp_path: Path):
    step = tmp_path / "wide.graph"
    step.write_text(
        'graph "wide" {\n  %x = input f32[8,20000] "x"\n'
        '  %w = weight f32[20000,30000] "dense.weight"\n'
        '  %y = aten.mm(%x, %w) : f32[8,30000] @"dense" fwd\n  output %y "y"\n}\n'
    )
    assert "no plan fits" in error_of("plan", str(step), "--machine", "d1")
    result = dojo("simulate", str(step), "--machine", "d1", "--json", "-")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    said = json.loads(result.stdout)
    assert said["fits"] is False and said["why"] in result.stderr


def test_half_and_twice_as_many_micro_batches_are_tried():
    table = str(ROOT / "tests/golden/place/rows_of_a_table.graph")
    plans = json.loads(output_of("plan", table, "--machine", "d1", "--json", "-"))["plans"]
    assert {plan["micro_batches"] for plan in plans} >= {1, 2}
    asked = ("--micro-batches", "4", "--search-candidates", "4")
    plans = json.loads(output_of("plan", table, "--machine", "d1", *asked, "--json", "-"))["plans"]
    assert {plan["micro_batches"] for plan in plans if plan["samples_per_replica"] == 8} == {4}
