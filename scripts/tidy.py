"""Runs clang-tidy on the C++ sources that changed since they last were clean: tidy.py [-j N].

A source counts as changed if it, a header of this project that it includes (directly or not), its
compile command or .clang-tidy is not what it was. Takes the compile commands of build/.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
CLEAN = BUILD / "tidy.json"  # source -> key under which it last was clean
CLANG_TIDY = "clang-tidy-19"

_INCLUDE = re.compile(r'^\s*#\s*include\s*"(dojo/[^"]+)"', re.MULTILINE)


@functools.cache
def included_headers(path: Path) -> frozenset[Path]:
    """Headers of this project that the file includes itself."""
    names = _INCLUDE.findall(path.read_text(encoding="utf-8"))
    return frozenset(header for name in names if (header := ROOT / "src" / name).exists())


def all_headers(source: Path) -> set[Path]:
    found: set[Path] = set()
    pending = [source]
    while pending:
        new = included_headers(pending.pop()) - found
        found |= new
        pending += new
    return found


def key_of(source: Path, command: str) -> str:
    digest = hashlib.sha256(command.encode())
    for path in [ROOT / ".clang-tidy", source, *sorted(all_headers(source))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sources_and_keys() -> dict[str, str]:
    """Source (relative to the root) -> key, for all of this project in the compile commands."""
    keys = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        source = Path(entry["file"])
        if source.is_relative_to(ROOT) and not source.is_relative_to(ROOT / ".venv"):
            keys[str(source.relative_to(ROOT))] = key_of(source, entry["command"])
    return keys


def findings(source: str) -> str:
    """What clang-tidy says; empty if the source is clean."""
    result = subprocess.run(
        [CLANG_TIDY, "--quiet", "-p", str(BUILD), source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return (result.stdout or result.stderr) if result.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-j", type=int, default=os.cpu_count(), help="how many at a time")
    jobs = parser.parse_args().j

    keys = sources_and_keys()
    clean = json.loads(CLEAN.read_text(encoding="utf-8")) if CLEAN.exists() else {}
    changed = [source for source, key in keys.items() if clean.get(source) != key]
    clean = {source: key for source, key in clean.items() if keys.get(source) == key}
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for source, said in zip(changed, pool.map(findings, changed), strict=True):
            if said:
                bad += 1
                print(said, end="")
            else:
                clean[source] = keys[source]
    CLEAN.write_text(json.dumps(clean, indent=1), encoding="utf-8")
    print(f"clang-tidy: {len(keys)} sources, {len(changed)} looked at, {bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
