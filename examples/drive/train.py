"""Trains the steering network on real camera video, on a virtual machine, and reports on it.

    python examples/drive/train.py                      # what `make demo` runs
    python examples/drive/train.py --recipe fp32 --seed 3 --out runs/fp32

Leaves in --out: metrics.json, report.html, trace.json (for Perfetto), drive.graph, checkpoint/,
and the tensors of the first step, which `dojo graph eval` reproduces bit for bit. A run that was
killed goes on with --resume, with the same bits.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import opendojo
import torch
from evaluate import predict
from model import (
    BATCH,
    BETAS,
    FRAMES,
    HEIGHT,
    STEPS,
    WEIGHT_DECAY,
    WIDTH,
    SteeringNetwork,
    learning_rate,
)
from opendojo.data import driving
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

HERE = Path(__file__).parent
console = Console()


def build(options: argparse.Namespace, mean_label: np.ndarray) -> opendojo.TrainingStep:
    """The network with its loss and optimiser, compiled for the machine."""
    torch.manual_seed(options.seed)
    model = SteeringNetwork(mean_label=mean_label.tolist())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate(0), betas=BETAS, weight_decay=WEIGHT_DECAY
    )
    frames = torch.empty(BATCH, FRAMES, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    labels = torch.empty(BATCH, 2)
    return opendojo.compile_step(
        model,
        torch.nn.functional.mse_loss,
        optimizer,
        ((frames,), (labels,)),
        machine=options.machine,
        recipe=options.recipe,
        overrides=options.override,
        seed=options.seed,
        threads=options.threads,
        name="drive.step",
    )


def train(
    step: opendojo.TrainingStep,
    batches: driving.TrainingBatches,
    options: argparse.Namespace,
    losses: list[float],
) -> float:
    """Trains up to options.steps, with checkpoints; returns the seconds it took."""
    checkpoints = options.out / "checkpoint"
    rate = step.optimizer.param_groups[0]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:.0f} frames/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    begin = time.perf_counter()
    with bar:
        first = step.completed_steps
        task = bar.add_task(f"training in {options.recipe}", total=options.steps, loss=0, speed=0)
        for number in range(first, options.steps):
            rate["lr"] = learning_rate(number, options.steps)
            batch = batches.at(number)
            if number == 0:
                outputs = step.record((batch.frames,), (batch.labels,), options.out / "first-step")
            else:
                outputs = step((batch.frames,), (batch.labels,))
            losses.append(float(outputs["loss"]))
            if not np.isfinite(losses[-1]):
                raise opendojo.Error(f"step {number}: the loss is {losses[-1]}; training diverged")
            done = number + 1
            speed = (done - first) * BATCH / (time.perf_counter() - begin)
            bar.update(task, completed=done, loss=np.mean(losses[-20:]), speed=speed)
            if done % options.checkpoint_every == 0 or done == options.steps:
                opendojo.save(checkpoints, step, {"losses": losses, "options": chosen(options)})
            if not console.is_terminal and done % 100 == 0:
                console.print(f"step {done}/{options.steps}  loss {np.mean(losses[-20:]):.4f}")
    return time.perf_counter() - begin


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The options that change values: a resumed run must have the same."""
    return {"seed": options.seed, "steps": options.steps, "data": str(options.data)}


def resume(step: opendojo.TrainingStep, options: argparse.Namespace, losses: list[float]) -> None:
    extra, damaged = opendojo.resume(options.out / "checkpoint", step)
    for sentence in damaged:
        console.print(f"warning: {sentence}; going on from the one before", markup=False)
    if extra["options"] != chosen(options):
        raise opendojo.Error(
            f"checkpoint in {options.out} was made with {extra['options']}, this run has "
            f"{chosen(options)}: resume with the same options, or choose another --out"
        )
    losses.extend(extra["losses"])
    console.print(f"resumed after step {step.completed_steps}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train the steering network on a virtual machine; report on it."
    )
    parser.add_argument("--data", type=Path, default=HERE / "data" / "train", help="clips + CSV")
    parser.add_argument("--validation", type=Path, default=HERE / "data" / "val")
    parser.add_argument("--machine", default="training-tile", help="name or .toml file")
    parser.add_argument("--recipe", default="cfloat8", help="fp32, bf16 or cfloat8")
    parser.add_argument("--override", action="append", default=[], metavar="MODULE=ROLE:FORMAT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/drive"))
    parser.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS")
    parser.add_argument("--resume", action="store_true", help="go on from --out's checkpoint")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad clips out, and count")
    options = parser.parse_args()

    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise opendojo.Error(f"{options.out}: cannot make the folder: {error.strerror}") from error
    loaded = driving.load_clips(options.data, skip_bad=options.skip_bad)
    held_out = driving.load_clips(options.validation, skip_bad=options.skip_bad)
    for skipped in [*loaded.skipped, *held_out.skipped]:
        console.print(f"skipped: {skipped.reason}", markup=False)
    windows, validation = driving.Windows(loaded.clips), driving.Windows(held_out.clips)
    console.print(
        f"{len(loaded.clips)} clips, {len(windows)} frames to train on; "
        f"{len(held_out.clips)} clips, {len(validation)} frames to score on"
    )
    step = build(options, windows.labels.mean(axis=0, dtype=np.float64))
    step.graph.save(str(options.out / "drive.graph"))
    losses: list[float] = []
    if options.resume:
        resume(step, options, losses)
    began_at = step.completed_steps
    seconds = train(step, driving.TrainingBatches(windows, options.seed, BATCH), options, losses)

    weights = {label: step.executor.read(label) for label in step.leaf_labels}
    predictions = predict(
        weights,
        validation,
        recipe=options.recipe,
        machine=options.machine,
        threads=options.threads,
    )
    score = driving.score(predictions, validation.labels)
    constants = driving.baselines(windows.labels, validation.labels)
    simulation = step.simulate()
    metrics = {
        "angle_mse": score.angle_mse,
        "throttle_mse": score.throttle_mse,
        "best_constant_angle_mse": constants["best constant"].angle_mse,
        "best_constant_throttle_mse": constants["best constant"].throttle_mse,
        "zero_angle_mse": constants["zero"].angle_mse,
        "training_mean_angle_mse": constants["training mean"].angle_mse,
        "final_loss": float(np.mean(losses[-20:])) if losses else None,
        "frame_visits": step.completed_steps * BATCH,
        "frames_per_second": (step.completed_steps - began_at) * BATCH / max(seconds, 1e-9),
        "seconds": seconds,
        "recipe": options.recipe,
        "machine": options.machine,
        "seed": options.seed,
        "host_ops": step.host_ops,
        "skipped_clips": len(loaded.skipped) + len(held_out.skipped),
        "lowered_graph_sha256": step.lowered_graph_sha256,
        "simulated_step_seconds": simulation["step_seconds"],
        "simulated_utilisation": simulation["utilisation"],
    }
    write_json(options.out / "metrics.json", metrics)
    opendojo.write_report(
        step,
        options.out,
        samples_per_step=BATCH,
        sample_name="frames",
        training=training_section(metrics, losses),
    )
    show(metrics, simulation, options.out)


def training_section(metrics: dict[str, Any], losses: list[float]) -> dict[str, Any]:
    """What the report says about the training run."""
    stride = max(1, len(losses) // 400)
    return {
        "tiles": [
            ["angle MSE", f"{metrics['angle_mse']:.4f}"],
            ["of the best constant", f"{metrics['best_constant_angle_mse']:.4f}"],
            ["throttle MSE", f"{metrics['throttle_mse']:.4f}"],
            ["frame visits", f"{metrics['frame_visits']:,}"],
        ],
        "steps": list(range(1, len(losses) + 1, stride)),
        "losses": [round(float(loss), 6) for loss in losses[::stride]],
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        opendojo.checkpoint.write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise opendojo.Error(f"{path}: cannot write: {error.strerror}") from error


def show(metrics: dict[str, Any], simulation: dict[str, Any], out: Path) -> None:
    table = Table("prediction", "angle MSE", "throttle MSE")
    table.add_row("zero", f"{metrics['zero_angle_mse']:.4f}", "")
    table.add_row("training mean", f"{metrics['training_mean_angle_mse']:.4f}", "")
    table.add_row(
        "best constant",
        f"{metrics['best_constant_angle_mse']:.4f}",
        f"{metrics['best_constant_throttle_mse']:.4f}",
    )
    table.add_row(
        f"network, {metrics['recipe']}",
        f"{metrics['angle_mse']:.4f}",
        f"{metrics['throttle_mse']:.4f}",
    )
    console.print(table)
    console.print(
        f"{metrics['frame_visits']:,} frame visits, "
        f"{metrics['frames_per_second']:.0f} frames/s on this computer"
    )
    worst = max(simulation["seconds_by_cause"].items(), key=lambda cause: cause[1])
    console.print(
        f"On {metrics['machine']} one step would take "
        f"{simulation['step_seconds'] * 1e6:.1f} microseconds "
        f"({BATCH / simulation['step_seconds']:,.0f} frames/s) at "
        f"{100 * simulation['utilisation']:.3f} % of its peak; most is lost to {worst[0]}."
    )
    console.print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    try:
        main()
    except opendojo.Error as error:
        sys.exit(f"train: error: {error}")
    except KeyboardInterrupt:
        sys.exit("train: interrupted; go on with --resume")
