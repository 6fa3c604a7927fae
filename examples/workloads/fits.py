"""Places captured workloads on machines and prints which fits where, as a table.

    python examples/workloads/write.py all --out runs/workloads
    python examples/workloads/fits.py runs/workloads/*.graph --machine training-tile exapod

A cell has the replicas that work, the dies of each, and the fullest node's memory; or what a node
would have to have. Seconds are those of the whole command, reading and lowering included.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACED = re.compile(r"([\d,]+) of [\d,]+ replicas of ([\d,]+ dies?) on \S+, (\S+ \S+) a node")
TURNS = re.compile(r"^ *micro_batches (\d+) ", re.MULTILINE)
REFUSED = re.compile(r"it needs (\d+) KB per node .*?\((\d+) KB of weights and states[;)]")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prints which workload fits which machine.")
    parser.add_argument("graphs", nargs="+", type=Path, metavar="FILE.graph")
    parser.add_argument("--machine", nargs="+", default=["training-tile", "exapod"], metavar="NAME")
    parser.add_argument("--recipe", default="cfloat8", help="number formats (default: cfloat8)")
    parser.add_argument("--dojo", type=Path, default=ROOT / "build/bin/dojo")
    return parser.parse_args()


def cell(options: argparse.Namespace, graph: Path, machine: str, program: Path) -> str:
    begin = time.perf_counter()
    result = subprocess.run(
        [
            *(options.dojo, "place", graph, "--machine", machine),
            *("--recipe", options.recipe, "-o", program),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = f"{time.perf_counter() - begin:.1f} s"
    placed = PLACED.search(result.stdout)
    if placed:
        text = program.read_text()
        memory = " and DRAM" if 'remedy "hbm"' in text else ""
        turns = TURNS.search(text)
        in_turns = f" in {turns[1]} turns" if turns else ""
        return f"{placed[1]} x {placed[2]}{in_turns}, {placed[3]}{memory}, {seconds}"
    refused = REFUSED.search(result.stderr)
    if not refused:
        raise RuntimeError(result.stderr.strip())
    needs, states = (int(number) / 1000 for number in refused.groups())
    return f"no: {needs:,.1f} MB a node, states {states:,.1f}; {seconds}"


def main() -> int:
    options = arguments()
    print("| workload | " + " | ".join(options.machine) + " |")
    print("| --- |" + " --- |" * len(options.machine))
    with tempfile.TemporaryDirectory() as folder:
        for graph in options.graphs:
            program = Path(folder) / "step.program"
            try:
                cells = [cell(options, graph, machine, program) for machine in options.machine]
            except RuntimeError as error:
                print(f"error: {graph}: {error}", file=sys.stderr)
                return 1
            print(f"| `{graph.stem}` | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
