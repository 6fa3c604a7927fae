"""`dojo place` and `dojo simulate` on Programs, as a user meets them."""

import json
from pathlib import Path

import pytest
from command_line import ROOT, error_of, output_of

STEP = str(ROOT / "tests/golden/run/small_step.graph")


def simulated(*arguments: str) -> dict:
    result = json.loads(output_of("simulate", *arguments, "--json", "-"))
    result.pop("wall_seconds")
    assert result["fits"]
    # What is timed is compared, not how its replica was found.
    assert result.pop("search_candidates") == (0 if arguments[0].endswith(".program") else 1)
    return result


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The step on one die: its Program, and the lowered Graph that it is of."""
    folder = tmp_path_factory.mktemp("placed")
    program, graph = folder / "step.program", folder / "step.graph"
    said = output_of("place", STEP, "--machine", "d1", "-o", str(program), "--lowered", str(graph))
    assert said.startswith(f"{program}: ") and "1 of 1 replicas of 1 die on d1" in said
    return program, graph


def test_a_program_is_timed_as_its_graph_is(placed):
    program, graph = placed
    from_graph = simulated(STEP, "--machine", "d1")
    assert simulated(str(program), "--machine", "d1") == from_graph
    assert simulated(str(program), "--graph", str(graph), "--machine", "d1") == from_graph
    assert from_graph["recipe"] == "cfloat8"


def test_energy_is_the_sum_of_its_parts_within_its_band(placed):
    step = simulated(str(placed[0]), "--machine", "d1")
    low, high = step["energy_range"]
    assert low < step["energy_joules"] < high
    assert sum(step["energy_by_part"].values()) == pytest.approx(step["energy_joules"])
    # One die with its processor and host at full load takes 2.3 kW, without any work 2.06 kW.
    assert 2000 < step["energy_joules"] / step["step_seconds"] < 2300
    assert step["bytes_by_link_class"]["port_in"] > 0


def test_a_program_goes_to_stdout(placed):
    assert output_of("place", STEP, "--machine", "d1") == placed[0].read_text()


def test_what_if_times_the_same_program_and_replan_another(placed):
    program, _ = placed
    wider = ("--what-if", "node.t0=16 cycles", "--machine", "d1")
    slower = simulated(str(program), *wider)
    assert slower["step_seconds"] > simulated(str(program), "--machine", "d1")["step_seconds"]
    assert simulated(STEP, *wider) == slower
    small = ("--what-if", "mesh.die.dead=[]", "--what-if", "node.sram=0.4 MB", "--machine", "d1")
    replanned = simulated(STEP, *small, "--replan")
    assert replanned["sram_bytes_per_node"] == 400_000


def test_transfers_share_the_network_as_asked(placed):
    program = str(placed[0])
    stated = simulated(program, "--machine", "d1")
    shared = simulated(program, "--machine", "d1", "--sharing", "max-min")
    assert stated["step_seconds_by_sharing"] == shared["step_seconds_by_sharing"]
    for step in (stated, shared):
        assert step["step_seconds"] == step["step_seconds_by_sharing"][step["sharing"]]
    assert (stated["sharing"], shared["sharing"]) == ("stated", "max-min")
    path = stated["critical_path"]
    assert sum(part["seconds"] for part in path) <= stated["step_seconds"] * (1 + 1e-9)
    wrong = ("simulate", program, "--machine", "d1", "--sharing", "fair")
    assert "{stated,max-min}" in error_of(*wrong, code=2)


def test_a_program_is_held_to_its_graph_and_machine(placed, tmp_path):
    program, graph = placed
    other = tmp_path / "other.graph"
    output_of(
        "place", STEP, "--machine", "d1", "--recipe", "fp32", "--lowered", str(other), "-o",
        str(tmp_path / "other.program"),
    )  # fmt: skip
    of_other = ("simulate", str(program), "--graph", str(other), "--machine", "d1")
    assert "was placed for another graph than" in error_of(*of_other)
    assert 'placed for machine "d1", not "training-tile"' in error_of(
        "simulate", str(program), "--machine", "training-tile"
    )
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'include = "d1"\n[machine]\nname = "d1"\ntitle = "t"\n[node]\n'
        't0 = { value = "5 cycles", status = "assumed", source = "a try", '
        'range = ["0 cycles", "16 cycles"] }\n'
    )
    assert "other facts than this one" in error_of("simulate", str(program), "--machine", str(mine))
    assert "is a Graph itself" in error_of(
        "simulate", STEP, "--graph", str(graph), "--machine", "d1"
    )


def test_what_is_wrong_with_a_program_has_a_line(placed, tmp_path):
    program, _ = placed
    lines = program.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if line.startswith("  phase 7 "))
    lines[number] = lines[number].replace("after [", "after [900, ")
    broken = tmp_path / "broken.program"
    broken.write_text("".join(lines))
    assert error_of("simulate", str(broken), "--machine", "d1").startswith(
        f"{broken}:{number + 1}:3: program phase 7: it waits for phase 900"
    )
    broken.write_text(program.read_text()[:300])
    assert error_of("simulate", str(broken), "--machine", "d1").startswith(f"{broken}:")


def test_samples_are_worked_on_in_micro_batches(tmp_path):
    table = str(ROOT / "tests/golden/place/rows_of_a_table.graph")
    program = tmp_path / "step.program"
    output_of("place", table, "--machine", "d1", "--micro-batches", "4", "-o", str(program))
    lines = program.read_text().splitlines()
    assert lines[5].startswith("  micro_batches 4 phases 0..")
    assert "split {t0[8]: micro 4x2" in program.read_text()
    of_program = simulated(str(program), "--machine", "d1")
    of_graph = simulated(table, "--machine", "d1", "--micro-batches", "4")
    assert of_program == of_graph and of_graph["micro_batches"] == 4
    whole = simulated(table, "--machine", "d1")
    assert whole["micro_batches"] == 1 and whole["step_seconds"] < of_graph["step_seconds"]
    for key in ("flops", "samples_per_replica"):
        assert whole[key] == of_graph[key]
    causes = sum(of_graph["seconds_by_cause"].values()) + of_graph["ideal_seconds"]
    assert causes == pytest.approx(of_graph["step_seconds"], rel=1e-6)
    more_than_samples = simulated(table, "--machine", "d1", "--micro-batches", "1000")
    assert more_than_samples["micro_batches"] == 8
    assert "in 4 micro-batches" in output_of(
        "simulate", table, "--machine", "d1", "--micro-batches", "4"
    )


def test_what_stands_in_the_way_of_micro_batches_is_said():
    assert error_of("place", STEP, "--machine", "d1", "--micro-batches", "2") == (
        'graph "Net.step" cannot be cut into micro-batches: '
        'aten._native_batch_norm_legit_functional of module "bn" sums over all samples before it '
        "goes through them"
    )


MANY = str(ROOT / "tests/golden/place/without_norm.graph")


def test_a_replica_is_a_pipeline_of_stages(tmp_path):
    program = str(tmp_path / "step.program")
    output_of("place", MANY, "--machine", "training-tile", "--stages", "4", "-o", program)
    lines = Path(program).read_text().splitlines()
    assert lines[5] == "  micro_batches 5 stages 4"
    assert lines[6].startswith("  stage 0 @die[0..0,0..0].logical[18x19] before 0 forward ")
    of_program = simulated(program, "--machine", "training-tile")
    of_graph = simulated(MANY, "--machine", "training-tile", "--stages", "4")
    assert of_program == of_graph
    assert of_graph["stages"] == 4 and of_graph["micro_batches"] == 5
    causes = sum(of_graph["seconds_by_cause"].values()) + of_graph["ideal_seconds"]
    assert causes == pytest.approx(of_graph["step_seconds"], rel=1e-6)
    assert simulated(MANY, "--machine", "training-tile")["stages"] == 1
    words = output_of("simulate", MANY, "--machine", "training-tile", "--stages", "4")
    assert "in 5 micro-batches, 4 stages each" in words


def test_what_stands_in_the_way_of_a_pipeline_is_said():
    for command in ("place", "plan"):
        assert error_of(command, MANY, "--machine", "d1", "--stages", "2") == (
            'graph "without_norm" cannot be cut into 2 stages: machine d1 has no room for so many'
        )


def test_a_pipelines_program_is_verified_line_by_line(tmp_path):
    program = tmp_path / "step.program"
    output_of("place", MANY, "--machine", "training-tile", "--stages", "2", "-o", str(program))
    text = program.read_text()
    stage = next(line for line in text.splitlines() if line.startswith("  stage 1"))
    program.write_text(text.replace(stage, stage.replace("after []", "after [1]")))
    assert error_of("simulate", str(program), "--machine", "training-tile") == (
        f"{program}:6:3: program stages: they wait for each other in a circle"
    )
