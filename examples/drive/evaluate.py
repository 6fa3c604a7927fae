"""Scores a trained steering network on a folder of labelled clips.

    python examples/drive/evaluate.py --checkpoint runs/drive/checkpoint --data FOLDER --json -

The forward pass runs in the recipe that the checkpoint was trained with. Every frame of every clip
counts once. Prints a table, or JSON with --json; --predictions writes one line per frame.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import opendojo
import torch
from model import BATCH, FRAMES, HEIGHT, WIDTH, SteeringNetwork
from numpy.typing import NDArray
from opendojo.data import driving
from rich.console import Console
from rich.table import Table


def predict(
    weights: Mapping[str, NDArray],
    windows: driving.Windows,
    *,
    recipe: str,
    machine: str,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Returns f32[N,2], angle and throttle for each window, in the order of the frames."""
    frames = torch.empty(BATCH, FRAMES, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    model = SteeringNetwork().eval()
    forward = opendojo.compile_forward(
        model, (frames,), machine=machine, recipe=recipe, weights=weights, threads=threads
    )
    predictions = []
    for batch, labels in windows.in_order(BATCH):
        # The last batch is filled up with its last window; what that gives is dropped.
        filled = np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), axis=0)])
        predictions.append(forward((filled,))["output"][: len(labels)].copy())
    return np.concatenate(predictions)


def summary(
    predictions: NDArray[np.floating], labels: NDArray[np.floating], skipped: int
) -> dict[str, Any]:
    """What --json prints."""
    score = driving.score(predictions, labels)
    constants = driving.baselines(labels, labels)
    return {
        "frames": len(labels),
        "skipped_clips": skipped,
        "angle_mse": score.angle_mse,
        "angle_rmse": score.angle_rmse,
        "throttle_mse": score.throttle_mse,
        "zero_angle_mse": constants["zero"].angle_mse,
        "best_constant_angle_mse": constants["best constant"].angle_mse,
        "best_constant_throttle_mse": constants["best constant"].throttle_mse,
    }


def write_predictions(
    path: Path, clips: list[driving.Clip], predictions: NDArray[np.floating]
) -> None:
    """One line per frame: clip, frame, label and prediction of angle and throttle."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["clip", "frame", "angle", "throttle", "predicted_angle", "predicted_throttle"]
            )
            for row, (clip, frame) in zip(predictions, _frames(clips), strict=True):
                label = clip.labels[frame]
                writer.writerow([clip.name, frame, *map(str, label), *map(str, row)])
    except OSError as error:
        raise opendojo.Error(f"{path}: cannot write predictions: {error.strerror}") from error


def _frames(clips: list[driving.Clip]) -> Iterator[tuple[driving.Clip, int]]:
    for clip in clips:
        for frame in range(len(clip.labels)):
            yield clip, frame


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Score a trained steering network on a folder of clips with labels."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder or file")
    parser.add_argument("--data", type=Path, required=True, help="folder of clips and CSV files")
    parser.add_argument("--json", metavar="FILE", help="write the scores as JSON; - is the screen")
    parser.add_argument("--predictions", type=Path, default=Path("predictions.csv"))
    parser.add_argument("--skip-bad", action="store_true", help="leave bad clips out, and count")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()

    checkpoint, damaged = opendojo.load(options.checkpoint)
    for sentence in damaged:
        print(f"warning: {sentence}; using {checkpoint.path}", file=sys.stderr)
    loaded = driving.load_clips(options.data, skip_bad=options.skip_bad)
    for skipped in loaded.skipped:
        print(f"skipped: {skipped.reason}", file=sys.stderr)
    windows = driving.Windows(loaded.clips)
    predictions = predict(
        checkpoint.leaves,
        windows,
        recipe=checkpoint.recipe,
        machine=checkpoint.machine,
        threads=options.threads,
    )
    write_predictions(options.predictions, loaded.clips, predictions)
    scores = summary(predictions, windows.labels, len(loaded.skipped))
    if options.json == "-":
        print(json.dumps(scores, indent=2))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    table = Table("measure", "network", "best constant", title=f"{len(windows)} frames")
    table.add_row(
        "angle MSE", f"{scores['angle_mse']:.4f}", f"{scores['best_constant_angle_mse']:.4f}"
    )
    table.add_row(
        "throttle MSE",
        f"{scores['throttle_mse']:.4f}",
        f"{scores['best_constant_throttle_mse']:.4f}",
    )
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except opendojo.Error as error:
        sys.exit(f"evaluate: error: {error}")
