"""What number formats cost in accuracy: the same networks trained in several recipes, paired.

    python examples/numerics/accuracy.py            # every run that is not done yet, in order
    python examples/numerics/accuracy.py --list     # what there is, and what is done
    python examples/numerics/accuracy.py --only language/cfloat8
    python examples/numerics/accuracy.py --table    # the tables of docs/numerics-accuracy.md

Runs of one task and seed begin with the same weights and see the same batches. Each takes minutes
and is appended to --out/results.json when it is done; a script that was killed goes on from there.

Tasks:
    language: a GPT of two layers, 64 wide, predicts the next character of the licence texts that
        Debian ships; the score is the cross entropy on text that it was not trained on.
    steering: examples/drive/train.py as it is; the score is its angle MSE.
    resnet18: ResNet-18 predicts steering angle and throttle from one frame of examples/drive/data;
        the score is the mean squared error on the validation clips.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import opendojo
import torch
from models import Gpt, GptShape, ResNet18
from opendojo.data import driving
from torch import Tensor, nn
from torch.nn import functional

DRIVE = Path(__file__).parent.parent / "drive"
LICENCES = Path("/usr/share/common-licenses")


@dataclass(frozen=True)
class Variant:
    """A recipe and what differs from it."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()


VARIANTS = [
    Variant("fp32", "fp32"),
    Variant("cfloat8", "cfloat8"),
    Variant("bf16", "bf16"),
    Variant("cfloat8_no_master_nearest", "cfloat8_no_master_nearest"),
    Variant("cfloat8_no_master", "cfloat8_no_master"),
    Variant("cfloat8_fixed_bias", "cfloat8_fixed_bias"),
    Variant("ocp_fp8", "ocp_fp8"),
    Variant("cfloat8_shp", "cfloat8_shp"),
    Variant("cfloat8 bias=learnt", "cfloat8", ("bias=learnt",)),
    Variant("cfloat8 sum_order=tile4", "cfloat8", ("sum_order=tile4",)),
    Variant("cfloat8 sum_order=w21", "cfloat8", ("sum_order=w21",)),
    Variant("cfloat8 sum_order=exact", "cfloat8", ("sum_order=exact",)),
]
REFERENCE = "fp32"
PAIRED = ("fp32", "cfloat8")
"""Variants with five seeds; the others have three."""


@dataclass(frozen=True)
class Run:
    """One training run; its name is task/variant/seed."""

    task: str
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}/{self.variant.name}/{self.seed}"


# --- language ---
CONTEXT, TEXTS, LANGUAGE_STEPS = 64, 16, 2400


class Language:
    """Characters of the licence texts, the last tenth of each text held out."""

    def __init__(self) -> None:
        files = sorted({p.resolve() for p in LICENCES.glob("*")}) if LICENCES.is_dir() else []
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
        if sum(map(len, texts)) < 100_000:
            raise opendojo.Error(
                f"{LICENCES}: expected the licence texts that Debian's base-files ships, 100 kB or "
                "more of plain text; put some text files there"
            )
        self.characters = sorted(set("".join(texts)))
        number = {character: i for i, character in enumerate(self.characters)}
        codes = [np.array([number[c] for c in text], dtype=np.int64) for text in texts]
        self.train = np.concatenate([c[: len(c) * 9 // 10] for c in codes])
        self.held_out = np.concatenate([c[len(c) * 9 // 10 :] for c in codes])

    def batch(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        starts = random.integers(0, len(self.train) - CONTEXT - 1, TEXTS)
        places = starts[:, None] + np.arange(CONTEXT + 1)
        text = self.train[places]
        return text[:, :-1].copy(), text[:, 1:].reshape(-1)

    def validation(self) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """All of the text held out, in batches; a last short one is left out."""
        size = TEXTS * CONTEXT
        for start in range(0, len(self.held_out) - size, size):
            text = self.held_out[start : start + size + 1]
            yield text[:-1].reshape(TEXTS, CONTEXT), text[1:]


def train_language(run: Run, data: Language) -> float:
    model = Gpt(GptShape(len(data.characters), CONTEXT, layers=2, width=64, heads=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01)
    random = np.random.default_rng(run.seed)
    batches = (data.batch(random) for _ in range(LANGUAGE_STEPS))
    step = train(run, model, optimizer, functional.cross_entropy, batches, LANGUAGE_STEPS)
    forward = forward_of(run, model, step, next(iter(data.validation()))[0])
    losses = [
        functional.cross_entropy(logits(forward, text), torch.from_numpy(target)).item()
        for text, target in data.validation()
    ]
    return statistics.mean(losses)


# --- ResNet-18 ---
FRAMES, RESNET_STEPS, PEAK_FRAMES = 16, 200, 640


class OneFrame(nn.Module):
    """ResNet-18 on frames u8[B,3,60,80]; pixels become k/128, exact in BF16, too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNet18(2)

    def forward(self, frames: Tensor) -> Tensor:
        return self.network(frames.float() * (1 / 128) - 1)


def windows_in(folder: str) -> driving.Windows:
    return driving.Windows(driving.load_clips(DRIVE / "data" / folder).clips)


def train_resnet18(run: Run, data: tuple[driving.Windows, driving.Windows]) -> float:
    train_on, held_out = data
    model = OneFrame()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    drawn = driving.TrainingBatches(train_on, run.seed, FRAMES)
    batches = (
        (np.ascontiguousarray(drawn.at(i).frames[:, -1]), drawn.at(i).labels)
        for i in range(RESNET_STEPS)
    )
    step = train(run, model, optimizer, functional.mse_loss, batches, RESNET_STEPS)
    chosen = np.linspace(0, len(held_out) - 1, PEAK_FRAMES).astype(np.int64).reshape(-1, FRAMES)
    forward = forward_of(run, model, step, held_out.frames[chosen[0]])
    errors = [
        functional.mse_loss(
            logits(forward, held_out.frames[indices]), torch.from_numpy(held_out.labels[indices])
        ).item()
        for indices in chosen
    ]
    return statistics.mean(errors)


# --- both ---
def train(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    steps: int,
) -> opendojo.TrainingStep:
    """All batches at a rate that rises over a twentieth of the steps and falls as half a cosine."""
    peak = optimizer.param_groups[0]["lr"]
    step: opendojo.TrainingStep | None = None
    for number, (inputs, targets) in enumerate(batches):
        if step is None:
            step = opendojo.compile_step(
                model,
                loss,
                optimizer,
                (torch.from_numpy(inputs), torch.from_numpy(targets)),
                machine="d1",
                recipe=run.variant.recipe,
                overrides=run.variant.overrides,
                seed=run.seed,
                threads=1,
            )
        cosine = 0.5 * (1 + math.cos(math.pi * number / steps))
        optimizer.param_groups[0]["lr"] = peak * cosine * min(1.0, (number + 1) / (steps / 20))
        value = float(step((inputs,), (targets,))["loss"])
        if number % 100 == 0:
            print(f"{run.name}: step {number}, loss {value:.4f}", flush=True)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {number}")
    assert step is not None
    return step


def forward_of(
    run: Run, model: nn.Module, step: opendojo.TrainingStep, example: np.ndarray
) -> opendojo.ForwardPass:
    """The trained network in the arithmetic that it was trained in."""
    return opendojo.compile_forward(
        model.eval(),
        torch.from_numpy(example),
        machine="d1",
        recipe=run.variant.recipe,
        overrides=[text for text in run.variant.overrides if ":" not in text],
        threads=1,
        weights={label: step.executor.read(label) for label in step.leaf_labels},
    )


def logits(forward: opendojo.ForwardPass, inputs: np.ndarray) -> Tensor:
    (output,) = forward(inputs).values()
    return torch.from_numpy(output)


def train_steering(run: Run, out: Path) -> float:
    folder = out / "steering" / f"{run.variant.name}-{run.seed}"
    command = [sys.executable, str(DRIVE / "train.py"), "--recipe", run.variant.recipe]
    command += ["--seed", str(run.seed), "--threads", "1", "--out", str(folder)]
    if any((folder / "checkpoint").glob("step-*.safetensors")):
        command.append("--resume")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["angle_mse"])


# --- results ---
def all_runs() -> list[Run]:
    """In the order in which they are made: what is compared most comes first."""
    runs = []
    for task, variants in (
        ("language", VARIANTS),
        ("steering", VARIANTS[:3]),
        ("resnet18", VARIANTS[:3]),
    ):
        for seed in range(5):
            chosen = [v for v in variants if seed < 3 or v.name in PAIRED]
            runs += [Run(task, variant, seed) for variant in chosen]
    return runs


class Results:
    """Scores by name of the run, in a file that is whole after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict] = {}
        if path.exists():
            self.rows = {row["run"]: row for row in json.loads(path.read_text(encoding="utf-8"))}

    def add(self, row: dict) -> None:
        self.rows[row["run"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(list(self.rows.values()), indent=1) + "\n"
        opendojo.checkpoint.write_atomically(self.path, text.encode())

    def score(self, run: Run) -> float | None:
        row = self.rows.get(run.name)
        return None if row is None else row["score"]


def make(run: Run, out: Path, data: dict) -> float:
    """Trains; NaN if training diverges."""
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)
    try:
        if run.task == "language":
            return train_language(run, data.setdefault("language", Language()))
        if run.task == "steering":
            return train_steering(run, out)
        if "frames" not in data:
            data["frames"] = (windows_in("train"), windows_in("val"))
        return train_resnet18(run, data["frames"])
    except FloatingPointError as error:
        print(f"{run.name}: diverged: {error}", flush=True)
        return math.nan


def table(results: Results) -> str:
    """For each task a table: mean score, and the mean of the paired relative differences to FP32
    with its standard error."""
    lines = []
    for task in ("language", "steering", "resnet18"):
        lines += [f"**{task}**", "", "| variant | seeds | score | against fp32 |"]
        lines += ["| --- | --- | --- | --- |"]
        runs = [run for run in all_runs() if run.task == task]
        for variant in {run.variant.name: run.variant for run in runs}.values():
            mine = [run for run in runs if run.variant == variant]
            done = [run for run in mine if results.score(run) is not None]
            lines.append(
                f"| {variant.name} | {len(done)} of {len(mine)} | {_cells(results, done)} |"
            )
        lines.append("")
    return "\n".join(lines)


def _cells(results: Results, done: list[Run]) -> str:
    if not done:
        return "- | -"
    scores = [results.rows[run.name]["score"] for run in done]
    differences = []
    for run in done:
        reference = results.rows.get(f"{run.task}/{REFERENCE}/{run.seed}")
        if reference is not None:
            differences.append(100 * (results.rows[run.name]["score"] / reference["score"] - 1))
    against = "-"
    if differences and done[0].variant.name != REFERENCE:
        against = f"{statistics.mean(differences):+.2f} %"
        if len(differences) > 1:
            error = statistics.stdev(differences) / len(differences) ** 0.5
            against += f" ± {error:.2f} %"
    return f"{statistics.mean(scores):.4f} | {against}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What number formats cost in accuracy.")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--only", metavar="TASK[/VARIANT[/SEED]]", help="runs that begin so")
    parser.add_argument("--list", action="store_true", help="print all runs and their scores")
    parser.add_argument("--table", action="store_true", help="print the tables of what is done")
    options = parser.parse_args()

    results = Results(options.out / "results.json")
    runs = all_runs()
    if options.only:
        wanted = options.only.split("/")
        runs = [run for run in runs if run.name.split("/")[: len(wanted)] == wanted]
        if not runs:
            parser.error(f"--only {options.only}: no run begins so; --list prints all")
    if options.list:
        for run in runs:
            score = results.score(run)
            print(f"{run.name:45} {'-' if score is None else f'{score:.4f}'}")
        return
    if options.table:
        print(table(results))
        return
    data: dict = {}
    for run in runs:
        if results.score(run) is None:
            begin = time.perf_counter()
            score = make(run, options.out, data)
            seconds = time.perf_counter() - begin
            row = {"run": run.name, "score": score, "seconds": round(seconds, 1)}
            results.add({**row, "machine": platform.machine(), "torch": torch.__version__})
            print(f"{run.name}: {score:.4f} in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except opendojo.Error as error:
        sys.exit(f"accuracy: error: {error}")
