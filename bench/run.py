"""Runs the benchmarks of bench/bench_*.py: run.py [--list] [--output FILE] [NAME...].

A module bench_*.py names its benchmarks in a list BENCHMARKS of functions without arguments. Each
checks its answers first (an exception is a failed benchmark), then measures, and returns
{"name": {"ratio": x, "against": "what x compares with", "detail": {...}}}, one entry or several.
All entries go to build/bench/results.json, and a table to the terminal.
"""

import argparse
import importlib
import json
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Entries = dict[str, dict[str, Any]]
Benchmark = Callable[[], Entries]

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH.parent / "build" / "bench" / "results.json"


def load_benchmarks(folder: Path = BENCH) -> dict[str, Benchmark]:
    """Function name -> function, of every module bench_*.py in the folder."""
    benchmarks: dict[str, Benchmark] = {}
    for path in sorted(folder.glob("bench_*.py")):
        module = importlib.import_module(path.stem)
        for function in module.BENCHMARKS:
            if function.__name__ in benchmarks:
                raise ValueError(f"{path.name}: a second benchmark named {function.__name__}")
            benchmarks[function.__name__] = function
    return benchmarks


def check_entries(entries: Entries) -> None:
    """Raises ValueError unless every entry has the promised keys and a usable ratio."""
    if not entries:
        raise ValueError("the benchmark returned no entry")
    for name, entry in entries.items():
        if set(entry) != {"ratio", "against", "detail"}:
            raise ValueError(f"{name}: keys {sorted(entry)}, expected ratio, against, detail")
        ratio = entry["ratio"]
        if not isinstance(ratio, (int, float)) or not math.isfinite(ratio) or ratio <= 0:
            raise ValueError(f"{name}: ratio {ratio!r}, expected a finite number above 0")


def run_benchmarks(benchmarks: dict[str, Benchmark], console: Console) -> tuple[Entries, list[str]]:
    """Entries of all that succeeded, and the names of the functions that failed."""
    results: Entries = {}
    failed = []
    for name, benchmark in benchmarks.items():
        try:
            with console.status(name):
                entries = benchmark()
            check_entries(entries)
            doubled = sorted(set(entries) & set(results))
            if doubled:
                raise ValueError(f"another benchmark already gave {', '.join(doubled)}")
        except Exception:
            failed.append(name)
            console.print(f"[red]{name}: failed[/red]")
            traceback.print_exc()
        else:
            results |= entries
    return results, failed


def results_table(results: Entries) -> Table:
    table = Table("benchmark", "ratio", "against", title="make bench")
    for name, entry in results.items():
        table.add_row(name, f"{entry['ratio']:.3g}", entry["against"])
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (all)")
    parser.add_argument("--list", action="store_true", help="list the names and stop")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help=f"({RESULTS})")
    options = parser.parse_args(arguments)

    sys.path.insert(0, str(BENCH))
    benchmarks = load_benchmarks()
    if options.list:
        print("\n".join(benchmarks))
        return 0
    unknown = sorted(set(options.names) - set(benchmarks))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(benchmarks)}")
    chosen = {name: benchmarks[name] for name in options.names or benchmarks}

    console = Console()
    results, failed = run_benchmarks(chosen, console)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(results_table(results))
    console.print(f"{options.output}: {len(results)} entries", highlight=False)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}[/red]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
