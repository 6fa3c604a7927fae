"""Searches the placement of captured workloads and prints what that gains over the rules.

    python examples/workloads/write.py all --out runs/workloads
    python examples/workloads/searched.py runs/workloads/*.graph --seconds 60

Steps are simulated. How far a search comes in the time given depends on the computer it runs on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADINGS = ("workload", "machine", "by rule", "found", "of it", "candidates", "sketches", "kinds")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prints what a search gains over the rules.")
    parser.add_argument("graphs", nargs="+", type=Path, metavar="FILE.graph")
    parser.add_argument("--machine", nargs="+", default=["training-tile"], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60, help="for each (default: 60)")
    parser.add_argument("--recipe", default="cfloat8", help="number formats (default: cfloat8)")
    parser.add_argument("--dojo", type=Path, default=ROOT / "build/bin/dojo")
    return parser.parse_args()


def row(options: argparse.Namespace, graph: Path, machine: str) -> list[str]:
    result = subprocess.run(
        [
            *(options.dojo, "plan", graph, "--machine", machine, "--recipe", options.recipe),
            *("--search-seconds", str(options.seconds), "--json", "-"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "no plan fits" in result.stderr:
        return [f"`{graph.stem}`", machine, "does not fit", "", "", "", "", ""]
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip())
    found = json.loads(result.stdout)
    ruled = found["plans"][0]["step_seconds"]
    best = found["plans"][found["best"]]["step_seconds"]
    return [
        f"`{graph.stem}`",
        machine,
        f"{ruled * 1e3:,.2f} ms",
        f"{best * 1e3:,.2f} ms",
        f"{best / ruled:.0%}",
        f"{found['search_candidates']}{' and more' if found['cut_short'] else ''}",
        f"{found['sketches']:,}",
        str(len(found["splits"])),
    ]


def main() -> int:
    options = arguments()
    print("| " + " | ".join(HEADINGS) + " |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for graph in options.graphs:
        for machine in options.machine:
            try:
                print("| " + " | ".join(row(options, graph, machine)) + " |", flush=True)
            except RuntimeError as error:
                print(f"error: {graph}: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
