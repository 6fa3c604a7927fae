"""`dojo machine` as a user meets it: what it prints, how it fails."""

import json
import subprocess
from pathlib import Path

import pytest
from command_line import DOJO, ROOT, error_of, output_of


@pytest.fixture(autouse=True)
def _binary():
    if not DOJO.exists():
        pytest.skip(f"{DOJO} is not built")


def machine_file(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(f'include = "training-tile"\n[machine]\nname = "mine"\ntitle = "t"\n{text}\n')
    return file


def test_version_and_help_need_no_command():
    assert output_of("--version").startswith("dojo ")
    assert "machine" in output_of("--help")


def test_list_goes_from_small_to_large():
    lines = output_of("machine", "list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "tenstorrent-n150",
        "tenstorrent-p150",
        "d1",
        "training-tile",
        "system-tray",
        "exapod",
    ]
    assert "362.5 TFLOPS" in lines[3]
    assert "9.062 PFLOPS" in lines[4]
    assert "1,062,000" in lines[6] and "1.087 EFLOPS" in lines[6]


def test_show_prints_totals_of_every_level():
    text = output_of("machine", "show", "training-tile")
    assert text.startswith("training-tile: ")
    for expected in ("362.5 TFLOPS", "9.062 PFLOPS", "10.08 TB/s", "18x19 = 342 of 354"):
        assert expected in text


def test_show_facts_gives_status_and_source():
    text = output_of("machine", "show", "d1", "--facts")
    (row,) = [line for line in text.splitlines() if line.startswith("die.edge_latency")]
    assert row.split() == ["die.edge_latency", "100", "ns", "published", "NOTES,", "ROM"]


def test_show_json_has_every_fact_and_total():
    machine = json.loads(output_of("machine", "show", "system-tray", "--json", "-"))
    assert machine["name"] == "system-tray"
    assert [level["level"] for level in machine["levels"]] == ["die", "tile", "tray"]
    assert machine["levels"][-1]["hbm_bytes"] == 640_000_000_000
    assert machine["links"]["die_edge"]["bytes_per_cycle"] == pytest.approx(1008)
    facts = {fact["path"]: fact for fact in machine["facts"]}
    assert facts["node.t0"]["status"] == "assumed"
    assert facts["node.t0"]["range"] == ["0 cycles", "16 cycles"]
    assert machine["cautions"] == []


def test_show_json_goes_to_a_file(tmp_path):
    file = tmp_path / "machine.json"
    assert output_of("machine", "show", "d1", "--json", str(file)) == ""
    assert json.loads(file.read_text())["name"] == "d1"


@pytest.mark.parametrize("sites", ["2,3 4,15", '["2,3", "4,15"]', "[]", '["2,3" "x"]'])
def test_dead_sites_are_a_list_as_in_a_file_or_words(sites):
    change = ("machine", "show", "d1", "--what-if", f"mesh.die.dead={sites}")
    if "x" in sites:
        assert "expected sites" in error_of(*change)
        return
    live = json.loads(output_of(*change, "--json", "-"))["levels"][0]["live_nodes"]
    assert live == 360 - sites.count("2,3") - sites.count("4,15")


def test_what_if_changes_a_fact():
    changed = json.loads(
        output_of("machine", "show", "d1", "--what-if", "die.edge=4 TB/s", "--json", "-")
    )
    assert changed["links"]["die_edge"]["bytes_per_cycle"] == pytest.approx(2000)
    plain = json.loads(output_of("machine", "show", "d1", "--json", "-"))
    assert changed["digest"] != plain["digest"]


def test_check_accepts_the_shipped_files_and_a_derived_one(tmp_path):
    for file in (ROOT / "machines").glob("*.toml"):
        assert ": ok. " in output_of("machine", "check", str(file))
    file = machine_file(tmp_path, "")
    assert output_of("machine", "check", str(file)).startswith(f"{file}: ok. mine: 25 dies")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[node]\nclok = 1", "6: node.clok: unknown key (nearest: node.clock"),
        ('[node]\nsram = { value = "2 GHz", status = "assumed", source = "me" }', '6: node.sram: '
         'found "2 GHz", expected a size such as "1.25 MB"'),
        ('[mesh.die]\ndead = { value = ["99,1"], status = "inferred", source = "me" }',
         "6: mesh.die.dead: site 99,1 is outside of the die, expected rows 0..17"),
        ("[node", "5:6: not TOML: "),
    ],
)  # fmt: skip
def test_check_names_file_line_and_what_was_expected(tmp_path, text, expected):
    file = machine_file(tmp_path, text)
    assert error_of("machine", "check", str(file)).startswith(f"{file}:{expected}")


def test_an_error_names_the_file_as_it_was_given(tmp_path):
    machine_file(tmp_path, "[tyle]")
    assert error_of("machine", "check", "mine.toml", cwd=tmp_path) == (
        "mine.toml:5: tyle: unknown section (nearest: tile)"
    )


def test_unknown_names_give_the_nearest():
    assert 'unknown machine "traning-tile" (nearest: training-tile)' in error_of(
        "machine", "show", "traning-tile"
    )
    assert 'no fact "node.t" (nearest: node.t0' in error_of(
        "machine", "show", "d1", "--what-if", "node.t=1"
    )
    assert error_of("machine", "lst", code=2) == (
        'unknown command "lst" (nearest: list); see dojo machine --help'
    )


def test_wrong_usage_exits_with_2():
    error_of(code=2)
    error_of("machine", "show", code=2)
    assert "see dojo machine show --help" in error_of("machine", "show", "d1", "--fact", code=2)


def test_output_that_cannot_be_written_is_an_error(tmp_path):
    assert "cannot write" in error_of("machine", "show", "d1", "--json", str(tmp_path / "a" / "b"))
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [DOJO, "machine", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert "cannot write to stdout" in result.stderr
