"""Where the time of a training step goes: profile_step.py [--recipe R] [--tasks N] NETWORK.

Prints seconds by kind of work beside PyTorch's for the same step in float32, and with --tasks the N
slowest tasks (opendojo: TrainingStep.profile). Networks: those of the whole-step benchmarks.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import torch
from opendojo.step import default_threads
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_step import NETWORKS, Training

KINDS = {
    "convolutions": ("convolution", "conv_input_grad", "conv_weight_grad"),
    "products": ("mm", "bmm", "addmm", "baddbmm", "linear", "matmul"),
    "attention": ("attention", "softmax"),
    "norms": ("norm",),
    "pooling": ("pool",),
    "loss": ("loss",),
    "embedding": ("embedding",),
    "update": ("adamw", "sgd", "optimizer"),
    "conversion of weights": ("convert",),
}
"""Kind of work: parts of names of ops, ours and PyTorch's; what fits none is "element-wise"."""


def kind_of(names: list[str]) -> str:
    """The first kind that one of the ops is of."""
    for kind, parts in KINDS.items():
        if any(part in name for name in names for part in parts):
            return kind
    return "element-wise, sums, copies"


def our_seconds(training: Training, recipe: str, steps: int) -> tuple[dict[str, float], list[dict]]:
    """Median seconds by kind, and the tasks with their medians."""
    step = training.compiled(recipe)
    runs = []
    for _ in range(steps + 1):
        step((training.inputs,), (training.targets,))
        runs.append(step.profile())
    tasks = [
        each[0]
        | {
            key: statistics.median(run[key] for run in each)
            for key in ("seconds", "kernel_seconds")
        }
        for each in zip(*runs[1:], strict=True)
    ]
    kinds: dict[str, float] = defaultdict(float)
    for task in tasks:
        kind = kind_of([name.split(".")[-1] for name in task["ops"].split("+")])
        kinds[kind] += task["kernel_seconds"]
        rest = "of these, element-wise in one pass"
        kinds[f"{kind}: {rest}" if task["kernel_seconds"] else kind] += (
            task["seconds"] - task["kernel_seconds"]
        )
    return dict(kinds), tasks


def their_seconds(training: Training, steps: int) -> dict[str, float]:
    """Seconds by kind of one step in PyTorch, eager, float32."""
    training.eager_step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            training.eager_step()
    kinds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        name = event.key.lower()
        kinds[kind_of([name])] += event.self_cpu_time_total / 1e6 / steps
    return dict(kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--recipe", default="cfloat8")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=0, metavar="N", help="list the slowest N")
    options = parser.parse_args()
    torch.set_num_threads(default_threads())
    training = NETWORKS[options.network]()
    theirs = their_seconds(training, options.steps)
    ours, tasks = our_seconds(training, options.recipe, options.steps)
    table = Table("work", "ours, ms", "PyTorch, ms", title=f"{options.network}, {options.recipe}")
    for kind in sorted(set(ours) | set(theirs)):
        table.add_row(kind, f"{1e3 * ours.get(kind, 0):.2f}", f"{1e3 * theirs.get(kind, 0):.2f}")
    table.add_row("all", f"{1e3 * sum(ours.values()):.2f}", f"{1e3 * sum(theirs.values()):.2f}")
    console = Console()
    console.print(table)
    slowest = sorted(tasks, key=lambda task: -task["seconds"])[: options.tasks]
    for task in slowest:
        console.print(
            f"{1e3 * task['seconds']:8.2f} ms ({1e3 * task['kernel_seconds']:.2f} kernel) "
            f"{task['phase']} {task['ops']} @{task['module']}",
            highlight=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
