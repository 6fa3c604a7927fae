"""What the documents say of the tree must be true of it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)


# Python code in a document, and the comment before it that may say why it is not run here.
CODE = re.compile(
    r"(?:<!-- not run: ([^>]+) -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)
BLOCKS = [
    pytest.param(match[2], match[1], id=f"{document.relative_to(ROOT)}-{number}")
    for document in DOCUMENTS
    for number, match in enumerate(CODE.finditer(document.read_text(encoding="utf-8")))
]


def load_layering():
    path = ROOT / "tests" / "layering" / "layering.py"
    spec = importlib.util.spec_from_file_location("layering", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not broken


@pytest.mark.slow
@pytest.mark.parametrize(("code", "why_not"), BLOCKS)
def test_python_code_in_documents_runs(code, why_not, tmp_path):
    compile(code, "document", "exec")
    if why_not:
        pytest.skip(why_not)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_make_targets_that_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)", document.read_text(), re.M)
    }
    assert named
    assert named <= targets


def test_the_architecture_table_lists_the_declared_dependencies():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)/` \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    layering = load_layering()
    for cmake in sorted((ROOT / "src" / "dojo").glob("*/CMakeLists.txt")):
        name = cmake.parent.name
        assert name in documented, f"docs/architecture.md, section 4: no row for {name}/"
        if name in layering.EDGE:
            assert documented[name] == "all"
            continue
        declared = layering.declared_dependencies(cmake.read_text(encoding="utf-8"))[name]
        uses = [] if documented[name] == "-" else documented[name].split(", ")
        assert sorted(uses) == sorted(declared), f"docs/architecture.md, section 4: {name}/"
