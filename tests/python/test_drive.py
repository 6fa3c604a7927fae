"""The demo end to end on a few real clips: it trains, resumes with the same bits after being killed
at random moments, and says clearly what is wrong."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
DRIVE = ROOT / "examples" / "drive"
CLIPS = DRIVE / "data" / "train"
STEPS = 8


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two shortest training clips."""
    folder = tmp_path_factory.mktemp("clips")
    for video in sorted(CLIPS.glob("*.avi"), key=lambda path: path.stat().st_size)[:2]:
        shutil.copy(video, folder)
        shutil.copy(video.with_suffix(".csv"), folder)
    return folder


def command(clips: Path, out: Path, *extra: str) -> list[str]:
    data = ["--data", str(clips), "--validation", str(clips)]
    sizes = ["--steps", str(STEPS), "--checkpoint-every", "1", "--out", str(out)]
    return [sys.executable, str(DRIVE / "train.py"), *data, *sizes, *extra]


def train(clips: Path, out: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(clips, out, *extra), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("run")
    done = train(clips, out)
    assert done.returncode == 0, done.stderr
    return out


def newest(out: Path) -> Path:
    return max((out / "checkpoint").glob("step-*.safetensors"))


def same_bits(one: Path, other: Path) -> None:
    first, second = load_file(newest(one)), load_file(newest(other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.tobytes() == second[name].tobytes(), name


def test_a_run_leaves_what_the_readme_promises(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["host_ops"] == []
    assert metrics["frame_visits"] == STEPS * 32
    assert metrics["recipe"] == "cfloat8"
    graph = (finished / "drive.graph").read_text()
    assert "cf8_1_4_3" in graph
    assert "cf8_1_5_2" in graph
    assert (finished / "report.html").stat().st_size > 100_000
    events = json.loads((finished / "trace.json").read_text())["traceEvents"]
    assert any(event.get("ph") == "X" for event in events)


def test_training_and_simulation_carry_the_same_graph(finished: Path, dojo: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    simulated = subprocess.run(
        [dojo, "simulate", finished / "drive.graph", "--machine", "training-tile", "--json", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    simulation = json.loads(simulated.stdout)
    assert simulation["lowered_graph_sha256"] == metrics["lowered_graph_sha256"]
    assert simulation["step_seconds"] == metrics["simulated_step_seconds"]
    total = sum(simulation["seconds_by_cause"].values())
    ideal = simulation["step_seconds"] * simulation["utilisation"]
    assert ideal + total == pytest.approx(simulation["step_seconds"], rel=1e-6)


@pytest.mark.slow
def test_the_interpreter_reproduces_the_first_step_bit_for_bit(finished: Path, dojo: Path) -> None:
    files = {name: finished / f"first-step.{name}.safetensors" for name in ("inputs", "expected")}
    arguments = ["--inputs", files["inputs"], "--check", files["expected"]]
    done = subprocess.run(
        [dojo, "graph", "eval", finished / "drive.graph", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_same_seed_gives_the_same_bits_on_one_thread_and_on_two(
    clips: Path, finished: Path, tmp_path: Path
) -> None:
    assert train(clips, tmp_path, "--threads", "1").returncode == 0
    same_bits(finished, tmp_path)


def test_another_seed_gives_other_bits(clips: Path, finished: Path, tmp_path: Path) -> None:
    assert train(clips, tmp_path, "--seed", "1").returncode == 0
    with pytest.raises(AssertionError):
        same_bits(finished, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_moments_resumes_with_the_same_bits(
    clips: Path, finished: Path, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    kills = 0
    for _ in range(20):
        has_checkpoint = any((tmp_path / "checkpoint").glob("step-*.safetensors"))
        run = subprocess.Popen(
            command(clips, tmp_path, *(["--resume"] if has_checkpoint else [])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # Wait for a checkpoint later than those there, then a random while into the next steps.
        before = {path.name for path in (tmp_path / "checkpoint").glob("step-*.safetensors")}
        while run.poll() is None:
            now = {path.name for path in (tmp_path / "checkpoint").glob("step-*.safetensors")}
            if now - before:
                break
            time.sleep(0.005)
        if run.poll() is None and kills < 3:
            time.sleep(moments.uniform(0, 0.3))
            run.send_signal(signal.SIGKILL)
            kills += run.wait() == -signal.SIGKILL
            continue
        assert run.wait() == 0, run.stderr.read() if run.stderr else ""
        break
    assert kills > 0
    same_bits(finished, tmp_path)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    clips: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    last = newest(tmp_path / "run")
    content = bytearray(last.read_bytes())
    content[-100] ^= 1
    last.write_bytes(content)
    done = train(clips, tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "is damaged" in done.stdout
    assert f"resumed after step {STEPS - 1}" in done.stdout
    same_bits(finished, tmp_path / "run")


def test_resuming_with_other_options_is_refused(
    clips: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    done = train(clips, tmp_path / "run", "--resume", "--recipe", "bf16")
    assert done.returncode != 0
    assert "is of another step" in done.stderr
    done = train(clips, tmp_path / "run", "--resume", "--seed", "5")
    assert done.returncode != 0
    assert "resume with the same options" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--machine", "trainig-tile"], "training-tile"),
        (["--recipe", "cfloat"], "cfloat8"),
        (["--override", "trunk.0=weight:bf16"], "weight_operand"),
        (["--resume"], "train first"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_nearest_names(
    clips: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = train(clips, tmp_path, *arguments)
    assert done.returncode != 0
    assert done.stderr.startswith("train: error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr


def test_a_folder_that_cannot_be_written_is_said(clips: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = train(clips, blocked / "run")
    assert done.returncode != 0
    assert "cannot make the folder" in done.stderr


def test_evaluate_scores_any_folder_in_the_format(
    clips: Path, finished: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.csv"
    done = subprocess.run(
        [
            sys.executable,
            DRIVE / "evaluate.py",
            *("--checkpoint", finished / "checkpoint", "--data", clips, "--json", "-"),
            *("--predictions", predictions),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert scores["angle_mse"] == metrics["angle_mse"]
    assert len(predictions.read_text().splitlines()) == scores["frames"] + 1
