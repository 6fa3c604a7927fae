"""Holds every folder of src/dojo to its declared dependencies: layering.py src/dojo.

The declaration is the line dojo_library(NAME DEPS a b ...) in a folder's CMakeLists.txt. A file in
src/dojo/NAME may include "dojo/X/..." only if X is NAME or in DEPS, and nobody's internal/ but its
own; the declared dependencies have no cycle. tools/ and bindings/ are the edge: they may use all.
Needs nothing but Python, so that it can run before anything is built.
"""

import argparse
import re
import sys
from pathlib import Path

EDGE = frozenset({"tools", "bindings"})
# Two libraries that must not meet, whatever is declared (docs/architecture.md).
NEVER = frozenset({("place", "system"), ("system", "place"), ("run", "machine")})

_INCLUDE = re.compile(r'^\s*#\s*include\s*["<]dojo/([^/"<>]+)/([^"<>]+)[">]', re.MULTILINE)
_LIBRARY = re.compile(r"^\s*dojo_library\s*\(([^)]*)\)", re.MULTILINE)


def declared_dependencies(cmake: str) -> dict[str, list[str]]:
    """Library -> DEPS of each dojo_library() call in the text of a CMakeLists.txt."""
    libraries = {}
    for call in _LIBRARY.findall(re.sub(r"#.*", "", cmake)):
        words = call.split()
        dependencies, keyword = [], ""
        for word in words[1:]:
            if word.isupper():
                keyword = word
            elif keyword == "DEPS":
                dependencies.append(word)
        libraries[words[0]] = dependencies
    return libraries


def find_cycle(edges: dict[str, list[str]]) -> list[str]:
    """Names along one cycle, the first repeated at the end; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for dependency in edges.get(name, []):
            cycle = visit(dependency, [*path, name])
            if cycle:
                return cycle
        done.add(name)
        return []

    for name in sorted(edges):
        cycle = visit(name, [])
        if cycle:
            return cycle
    return []


def _check_declarations(edges: dict[str, list[str]]) -> list[str]:
    problems = []
    for name, dependencies in sorted(edges.items()):
        for dependency in dependencies:
            if (name, dependency) in NEVER:
                problems.append(f"{name}: DEPS names {dependency}, which {name} must never use")
            elif dependency in EDGE:
                problems.append(f"{name}: DEPS names {dependency}, which only uses others")
            elif dependency not in edges:
                problems.append(f"{name}: DEPS names {dependency}, which is no library")
    cycle = find_cycle(edges)
    if cycle:
        problems.append(f"dependency cycle: {' -> '.join(cycle)}")
    return problems


def _check_file(path: Path, root: Path, library: str, allowed: set[str] | None) -> list[str]:
    problems = []
    text = path.read_text(encoding="utf-8")
    for match in _INCLUDE.finditer(text):
        used, header = match.groups()
        place = f"{path.relative_to(root.parent)}:{text.count(chr(10), 0, match.start(1)) + 1}"
        if used != library and allowed is not None and used not in allowed:
            problems.append(f'{place}: includes "dojo/{used}/{header}", not in DEPS of {library}')
        if used != library and header.startswith("internal/"):
            problems.append(f'{place}: includes "dojo/{used}/{header}", private to {used}')
    return problems


def check_tree(root: Path) -> list[str]:
    """Every breach of the rules under root (the folder src/dojo), one sentence each."""
    edges: dict[str, list[str]] = {}
    problems = []
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    for folder in folders:
        cmake = folder / "CMakeLists.txt"
        declared = (
            declared_dependencies(cmake.read_text(encoding="utf-8")) if cmake.exists() else {}
        )
        if folder.name not in EDGE:
            if set(declared) != {folder.name}:
                problems.append(
                    f"{folder.name}/CMakeLists.txt: must call dojo_library({folder.name} ...) once"
                )
            edges[folder.name] = declared.get(folder.name, [])
    problems += _check_declarations(edges)
    for folder in folders:
        allowed = None if folder.name in EDGE else set(edges[folder.name])
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".h", ".cc"}:
                problems += _check_file(path, root, folder.name, allowed)
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder src/dojo")
    problems = check_tree(parser.parse_args().root)
    for problem in problems:
        print(f"layering: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
