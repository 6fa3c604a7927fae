"""How a workload scales over the system trays of an ExaPOD, with constant work per tile.

    python examples/workloads/scaling.py resnet-50
    python examples/workloads/scaling.py resnet-50 --samples-per-tile 25 --trays 1 4 20

A step of so many samples is captured for each number of trays, placed anew and timed. Efficiency
is the time on the fewest trays over the time on these.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import opendojo
from registry import WORKLOADS
from rich.console import Console
from rich.table import Table

DOJO = Path(__file__).resolve().parents[2] / "build" / "bin" / "dojo"
TILES_OF_TRAY = 6


@dataclass(frozen=True)
class Row:
    trays: int
    samples: int
    step_seconds: float
    bounds: dict[str, float]
    """Seconds that the network works, by what bounds the transfer."""

    @property
    def takes_most(self) -> str:
        return max(self.bounds, key=lambda bound: self.bounds[bound], default="-")


def dojo(*words: str) -> dict:
    """What a command prints as JSON. Raises opendojo.Error with its line if it fails."""
    done = subprocess.run([DOJO, *words, "--json", "-"], capture_output=True, text=True)
    if done.returncode != 0:
        raise opendojo.Error(done.stderr.strip())
    return json.loads(done.stdout)


def timed(name: str, trays: int, samples: int, recipe: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "step.graph"
        graph.write_text(WORKLOADS[name].capture(name, samples).text)
        step = dojo(
            *("simulate", str(graph), "--machine", "exapod", "--recipe", recipe),
            *("--what-if", f"pod.trays={trays}x1", "--replan"),
        )
    return Row(trays, samples, step["step_seconds"], step["network_seconds_by_bound"])


def scaled(name: str, trays: list[int], samples_per_tile: int, recipe: str) -> list[Row]:
    return [timed(name, count, count * TILES_OF_TRAY * samples_per_tile, recipe) for count in trays]


def arrangement() -> str:
    """How the machine file says that the trays stand."""
    facts = dojo("machine", "show", "exapod", "--facts")["facts"]
    fact = next(fact for fact in facts if fact["path"] == "pod.trays")
    return f"trays stand {fact['value']} ({fact['status']}: {fact['source']})"


def main() -> int:
    parser = argparse.ArgumentParser(description="How a workload scales over system trays.")
    parser.add_argument("name", choices=list(WORKLOADS), metavar="NAME", help="a workload")
    parser.add_argument("--samples-per-tile", type=int, default=25, help="default: 25")
    parser.add_argument("--trays", type=int, nargs="+", default=[1, 2, 4, 8, 12, 16, 20])
    parser.add_argument("--recipe", default="cfloat8")
    options = parser.parse_args()
    table = Table("trays", "samples", "step", "efficiency", "the network waits most for")
    try:
        rows = scaled(options.name, options.trays, options.samples_per_tile, options.recipe)
        stand = arrangement()
    except opendojo.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for row in rows:
        share = row.bounds.get(row.takes_most, 0) / max(sum(row.bounds.values()), 1e-30)
        table.add_row(
            str(row.trays),
            f"{row.samples:,}",
            f"{1e6 * row.step_seconds:,.1f} us",
            f"{100 * rows[0].step_seconds / row.step_seconds:.1f} %",
            f"{row.takes_most} ({100 * share:.0f} % of its time)",
        )
    Console().print(table)
    print(f"As assumed, {stand}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
