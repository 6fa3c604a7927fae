"""examples/numerics/accuracy.py: which runs there are, what is kept, what the table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "numerics" / "accuracy.py"


def accuracy(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    scores = {("fp32", 0): 2.0, ("fp32", 1): 4.0, ("cfloat8", 0): 2.02, ("cfloat8", 1): 4.12}
    rows = [{"run": f"language/{name}/{seed}", "score": s} for (name, seed), s in scores.items()]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    return tmp_path


def test_the_table_pairs_runs_of_one_seed(out: Path) -> None:
    table = accuracy(out, "--table").stdout
    assert "| fp32 | 2 of 5 | 3.0000 | - |" in table
    assert "| cfloat8 | 2 of 5 | 3.0700 | +2.00 % ± 1.00 % |" in table  # +1 % and +3 %
    assert "| bf16 | 0 of 3 | - | - |" in table


def test_the_list_says_what_is_done(out: Path) -> None:
    lines = accuracy(out, "--list", "--only", "language/cfloat8").stdout.splitlines()
    scores = {line.split()[0]: line.split()[-1] for line in lines}
    assert scores == {
        "language/cfloat8/0": "2.0200",
        "language/cfloat8/1": "4.1200",
        **{f"language/cfloat8/{seed}": "-" for seed in (2, 3, 4)},
    }


def test_what_is_done_is_not_done_again(out: Path) -> None:
    finished = accuracy(out, "--only", "language/fp32/1")
    assert (finished.returncode, finished.stdout) == (0, "")


def test_an_unknown_run_is_one_sentence(out: Path) -> None:
    failed = accuracy(out, "--only", "langauge")
    assert failed.returncode == 2
    assert "no run begins so; --list prints all" in failed.stderr
