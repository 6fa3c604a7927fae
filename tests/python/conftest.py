"""What several test files share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dojo() -> Path:
    """The command-line binary: build/bin/dojo, or what DOJO_BIN names."""
    binary = Path(os.environ.get("DOJO_BIN", ROOT / "build/bin/dojo")).resolve()
    assert binary.exists(), f"{binary} is not built: run make build"
    return binary
