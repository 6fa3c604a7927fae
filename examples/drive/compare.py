"""Compares two recipes over paired seeds: same initial weights, same order of frames.

    python examples/drive/compare.py                     # cfloat8 against fp32, seeds 0 to 4

Each run is train.py with its defaults, into runs/compare/RECIPE-SEED; one that is there already is
not repeated, and one that was interrupted goes on. Prints the table of the README.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

TRAIN = Path(__file__).parent / "train.py"


def angle_mse(out: Path, recipe: str, seed: int) -> float:
    """Trains unless that was done, and returns the score."""
    metrics = out / f"{recipe}-{seed}" / "metrics.json"
    if not metrics.exists():
        command = [sys.executable, str(TRAIN), "--recipe", recipe, "--seed", str(seed)]
        command += ["--out", str(metrics.parent)]
        if any((metrics.parent / "checkpoint").glob("step-*.safetensors")):
            command.append("--resume")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads(metrics.read_text(encoding="utf-8"))["angle_mse"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two recipes over paired seeds.")
    parser.add_argument("--recipe", default="cfloat8")
    parser.add_argument("--against", default="fp32")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: a standard error takes at least 2")

    print(f"| seed | {options.recipe} | {options.against} | difference |")
    print("| --- | --- | --- | --- |")
    differences = []
    for seed in range(options.seeds):
        one = angle_mse(options.out, options.recipe, seed)
        other = angle_mse(options.out, options.against, seed)
        differences.append(100 * (one / other - 1))
        print(f"| {seed} | {one:.4f} | {other:.4f} | {differences[-1]:+.2f} % |", flush=True)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    print(f"| mean, standard error | | | {statistics.mean(differences):+.2f} %, {error:.2f} % |")


if __name__ == "__main__":
    main()
