"""Captures a workload's whole training step and writes it as NAME.graph.

    python examples/workloads/write.py --list
    python examples/workloads/write.py resnet-50 driving --out runs/workloads
    python examples/workloads/write.py gpt2-xl --samples 8

`dojo graph stats`, `dojo place` and `dojo simulate` read the file.
"""

import argparse
import sys
import time
from pathlib import Path

import opendojo
from opendojo.capture import flops
from registry import WORKLOADS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Captures workloads' training steps as NAME.graph."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a workload, or several; `all` for every one"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument(
        "--samples", type=int, help="of a step: images, clips, sequences (--list shows the usual)"
    )
    parser.add_argument("--out", type=Path, default=Path("."), help="folder (default: here)")
    options = parser.parse_args()
    if "all" in options.names:
        options.names = list(WORKLOADS)
    unknown = [name for name in options.names if name not in WORKLOADS]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}: expected one of {', '.join(WORKLOADS)}")
    if options.samples is not None and options.samples < 1:
        parser.error(f"--samples {options.samples}: expected 1 or more")
    if not options.names and not options.list:
        parser.error("name a workload, or ask for --list")
    return options


def write(name: str, samples: int | None, folder: Path) -> None:
    workload = WORKLOADS[name]
    begin = time.perf_counter()
    step = workload.capture(name, samples)
    path = folder / f"{name}.graph"
    path.write_text(step.text)
    parameters = sum(p.numel() for p in workload.model().parameters())
    print(
        f"{path}: {workload.title}, {samples or workload.samples} samples, "
        f"{parameters / 1e6:,.1f} M parameters, {len(step.ops):,} ops, "
        f"{sum(flops(step).values()):.4g} FLOPs, {time.perf_counter() - begin:.1f} s"
    )


def main() -> int:
    options = arguments()
    if options.list:
        for name, workload in WORKLOADS.items():
            print(f"{name:24}{workload.title}, {workload.samples} samples")
    else:
        options.out.mkdir(parents=True, exist_ok=True)
    try:
        for name in options.names:
            write(name, options.samples, options.out)
    except opendojo.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
