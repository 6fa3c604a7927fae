"""The `dojo` command as tests call it.

DOJO_BIN names another binary than build/bin/dojo.
"""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOJO = Path(os.environ.get("DOJO_BIN", ROOT / "build/bin/dojo")).resolve()


def dojo(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command did."""
    return subprocess.run([DOJO, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def output_of(*arguments: str) -> str:
    """What it prints, silent on stderr, exit code 0."""
    result = dojo(*arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def error_of(*arguments: str, code: int = 1, cwd: Path | None = None) -> str:
    """Its one line of error, without the words that all begin with."""
    result = dojo(*arguments, cwd=cwd)
    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr.startswith("dojo: error: ") and result.stderr.count("\n") == 1
    return result.stderr.removeprefix("dojo: error: ").rstrip("\n")
