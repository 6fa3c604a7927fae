"""Driving clips with steering labels: from a folder to training batches and to the metric.

A folder holds clips and, for each, a CSV file of the same name with one line per frame:

    from opendojo.data import driving

    loaded = driving.load_clips("examples/drive/data/train")
    train = driving.Windows(loaded.clips)
    batches = driving.TrainingBatches(train, seed=1, batch=32)
    frames, labels = batches.at(step)

Batch number `step` is a function of (data, seed, batch, step) alone, so a run can stop and go on at
any step with the same bits. All random choices come from Philox, a generator that counts.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opendojo.data import video
from opendojo.data.video import Limits
from opendojo.errors import Error

LABELS = ("angle", "throttle")
"""Columns of a label array: steering, -1 (full left) to 1 (full right), and throttle, -1 to 1."""

FRAMES = 4
"""Frames in a window: the labelled one and the three before it, oldest first."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Clip:
    """A clip: its frames u8[N,3,60,80], RGB, and its labels f32[N,2], columns as in LABELS."""

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out, and the sentence that says why."""

    name: str
    reason: str


class LoadedClips(NamedTuple):
    """What a folder gave: clips in the order of their names, or of the names asked for."""

    clips: list[Clip]
    skipped: list[Skipped]


def load_clips(
    folder: Path | str,
    names: Sequence[str] | None = None,
    skip_bad: bool = False,
    limits: Limits | None = None,
) -> LoadedClips:
    """Reads clips and their labels from a folder on this machine.

    Args:
        folder: holds NAME.avi (or .mp4, .m4v, .mov, .mkv, .webm) and NAME.csv; other files in it
            are ignored.
        names: the clips to read, without suffix; None means all.
        skip_bad: go on after a bad clip and list it in `skipped`, instead of raising.
        limits: the largest clip to accept.

    Raises:
        Error: the folder is missing or has no clip, a name is not in it, or, unless `skip_bad`, a
            clip or its labels are bad. With `skip_bad`, only if no clip is left.
    """
    limits = limits or Limits()
    clips: list[Clip] = []
    skipped: list[Skipped] = []
    for name, paths in _find_clips(Path(folder), names).items():
        try:
            clips.append(_load_clip(name, paths, limits))
        except Error as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(name, str(error)))
    if not clips:
        raise Error(f"{folder}: none of its {len(skipped)} clips is good: {skipped[0].reason}")
    return LoadedClips(clips, skipped)


def _find_clips(folder: Path, names: Sequence[str] | None) -> dict[str, list[Path]]:
    """Returns the files of each clip: one, unless two containers share a name."""
    if not folder.is_dir():
        raise Error(f"{folder}: no such local folder; clips are read from this machine only")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in video.SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    if not found:
        kinds = ", ".join(video.SUFFIXES)
        raise Error(f"{folder}: has no clip; put video files ({kinds}) with their CSV files there")
    if names is None:
        return found
    for name in names:
        if name not in found:
            raise Error(f"{folder}: has no clip {name!r}; it has {', '.join(found)}")
    return {name: found[name] for name in names}


def _load_clip(name: str, paths: Sequence[Path], limits: Limits) -> Clip:
    path = paths[0]
    if len(paths) > 1:
        raise Error(f"{path}: {paths[1].name} has the same name; rename or remove one of them")
    table = path.with_suffix(".csv")
    labels = read_labels(table, limits)
    frames = video.decode_clip(path, limits)
    if len(frames) < len(labels):
        raise Error(
            f"{path}: has {len(frames)} frames for the {len(labels)} labels of {table.name}, so it"
            " is truncated or the labels are not its own; copy it anew or remove the extra lines"
        )
    if len(frames) > len(labels):
        raise Error(
            f"{table}: has {len(labels)} labels for the {len(frames)} frames of {path.name}; give"
            " each frame one line"
        )
    return Clip(name, frames, labels)


def read_labels(path: Path, limits: Limits | None = None) -> NDArray[np.float32]:
    """Returns f32[N,2], columns as in LABELS, from a CSV file with a header line.

    The columns `frame` (0, 1, 2, ... in order), `angle` and `throttle` are read, others ignored.

    Raises:
        Error: the file is missing or no CSV text, a column is missing, a label is not a finite
            number, the frames are not numbered in order, or there are no or too many labels.
    """
    limits = limits or Limits()
    if not path.is_file():
        raise Error(f"{path}: no such file; put the clip's labels there, one line per frame")
    labels: list[tuple[float, ...]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            rows = csv.DictReader(text)
            _check_columns(path, rows.fieldnames or ())
            for row in rows:
                place = f"{path}:{rows.line_num}"
                _check_frame(place, row["frame"], len(labels))
                labels.append(tuple(_number(place, row, column) for column in LABELS))
                if len(labels) > limits.frames:
                    raise Error(
                        f"{path}: has more than {limits.frames} labels; cut the clip into shorter"
                        " ones or raise Limits.frames"
                    )
    except (csv.Error, UnicodeDecodeError) as error:
        raise Error(f"{path}: is no CSV text ({error}); export the labels anew") from error
    except OSError as error:
        raise Error(f"{path}: cannot be read ({error.strerror}); see to its permissions") from error
    if not labels:
        raise Error(f"{path}: has no labels; give each frame one line")
    return np.array(labels, dtype=np.float32)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for column in ("frame", *LABELS):
        if column not in columns:
            raise Error(
                f"{path}: has no column {column!r}; its first line must name the columns frame,"
                " angle and throttle"
            )


def _check_frame(place: str, text: str | None, expected: int) -> None:
    if text is None or text.strip() != str(expected):
        raise Error(
            f"{place}: frame is {text!r}, expected {expected}; number the frames from 0, one line"
            " each, in order"
        )


def _number(place: str, row: dict[str, str | None], column: str) -> float:
    text = row[column]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # false for NaN as well
        raise Error(f"{place}: {column} is {text!r}; write a finite number")
    return value


class Windows:
    """All labelled frames of some clips, numbered from 0, each with the frames before it.

    At the start of a clip its first frame stands in for the frames that are missing, so every frame
    has a window and no window reaches into another clip.

    Attributes:
        frames: u8[N,3,60,80], the clips one after the other.
        labels: f32[N,2], columns as in LABELS.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.frames = np.concatenate([clip.frames for clip in clips])
        self.labels = np.concatenate([clip.labels for clip in clips])
        starts = np.cumsum([0] + [len(clip.frames) for clip in clips[:-1]])
        first = np.repeat(starts, [len(clip.frames) for clip in clips])  # i64[N]: of the same clip
        back = np.arange(FRAMES - 1, -1, -1)
        self._members = np.maximum(np.arange(len(first))[:, None] - back, first[:, None])  # [N,4]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns u8[B,4,3,60,80], the windows of the frames `indices` i64[B]."""
        return self.frames[self._members[indices]]

    def in_order(self, batch: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Yields (u8[B,4,3,60,80], f32[B,2]) for every frame once; the last B may be smaller."""
        for start in range(0, len(self), batch):
            indices = np.arange(start, min(start + batch, len(self)))
            yield self.at(indices), self.labels[indices]


class Batch(NamedTuple):
    """Windows u8[B,4,3,60,80] and the labels f32[B,2] of their last frames."""

    frames: NDArray[np.uint8]
    labels: NDArray[np.float32]


class TrainingBatches:
    """Shuffled and varied training batches, each a pure function of its number.

    Visits are numbered through: visit v belongs to epoch v // N, which visits each of the N windows
    once in an order of its own; a batch may reach from one epoch into the next. A visit is flipped
    left to right, with its angle negated, with probability 1/2, and made brighter or darker by a
    whole number of grey levels, equally likely from -brightness to brightness; values end at 0 and
    255. Both choices depend on (seed, epoch, window) alone, and hold for all frames of the window.

    Args:
        data: the windows.
        seed: 0 or more, below 2^64.
        batch: windows in a batch.
        flip: whether to flip.
        brightness: the largest change in grey levels, 0 to 255; 0 leaves the pixels as they are.

    Raises:
        Error: an argument is out of its range.
    """

    def __init__(
        self, data: Windows, seed: int, batch: int, flip: bool = True, brightness: int = 32
    ) -> None:
        if not 0 <= seed < 2**64:
            raise Error(f"seed {seed}: must be from 0 to 2^64 - 1")
        if batch < 1:
            raise Error(f"batch {batch}: must be 1 or more")
        if not 0 <= brightness <= 255:
            raise Error(f"brightness {brightness}: must be from 0 to 255")
        self._data = data
        self._seed = seed
        self._batch = batch
        self._flip = flip
        self._brightness = brightness
        self._drawn: dict[int, _Epoch] = {}  # the epochs of the last batch

    def at(self, step: int) -> Batch:
        """Returns batch number `step`, counted from 0."""
        if step < 0:
            raise Error(f"step {step}: must be 0 or more")
        visits = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs, places = np.divmod(visits, len(self._data))
        self._drawn = {epoch: self._epoch(epoch) for epoch in np.unique(epochs).tolist()}
        pairs = list(zip(epochs.tolist(), places.tolist(), strict=True))
        indices = np.array([self._drawn[epoch].order[place] for epoch, place in pairs])
        flips = np.array([self._drawn[epoch].flips[place] for epoch, place in pairs])
        shifts = np.array([self._drawn[epoch].shifts[place] for epoch, place in pairs])
        frames, labels = self._data.at(indices), self._data.labels[indices]
        frames[flips] = frames[flips, ..., ::-1]
        labels[flips, LABELS.index("angle")] *= -1
        shifted = frames.astype(np.int16) + shifts.astype(np.int16)[:, None, None, None, None]
        return Batch(np.clip(shifted, 0, 255).astype(np.uint8), labels)

    def _epoch(self, epoch: int) -> "_Epoch":
        if epoch in self._drawn:
            return self._drawn[epoch]
        # Only raw 64-bit words are used: NumPy keeps them the same across its versions, which it
        # does not promise for permutation() or integers(). The low word of the counter counts on.
        words = np.random.Philox(key=self._seed, counter=[0, epoch, 0, 0])
        count = len(self._data)
        order = np.argsort(words.random_raw(count), kind="stable")
        choices = words.random_raw(count)[order]  # one per window, put in the order of the visits
        flips = (choices & np.uint64(1)).astype(bool) & self._flip
        levels = np.uint64(2 * self._brightness + 1)
        # The upper 32 bits times the number of levels, shifted down: uniform to within 2^-23.
        shifts = ((choices >> np.uint64(32)) * levels) >> np.uint64(32)
        return _Epoch(order, flips, shifts.astype(np.int64) - self._brightness)


class _Epoch(NamedTuple):
    """The random choices of an epoch, in the order of its visits."""

    order: NDArray[np.int64]  # i64[N], a permutation of the windows
    flips: NDArray[np.bool_]  # bool[N]
    shifts: NDArray[np.int64]  # i64[N], in grey levels


@dataclass(frozen=True)
class Score:
    """Mean squared errors over frames, each in the square of its label's unit; lower is better."""

    angle_mse: float
    throttle_mse: float

    @property
    def total(self) -> float:
        """The sum of the two, as the source's own training tool reports it."""
        return self.angle_mse + self.throttle_mse

    @property
    def angle_rmse(self) -> float:
        """Root of angle_mse."""
        return math.sqrt(self.angle_mse)


def score(predictions: NDArray[np.floating], labels: NDArray[np.floating]) -> Score:
    """Returns the score of predictions [N,2] against labels [N,2], summed in float64.

    Raises:
        Error: the two shapes differ or are not [N,2] with N of at least 1.
    """
    if predictions.shape != labels.shape or labels.ndim != 2 or labels.shape[1:] != (2,):
        raise Error(f"predictions {predictions.shape}, labels {labels.shape}: both must be [N,2]")
    if not len(labels):
        raise Error("no labels: a score needs at least one frame")
    errors = predictions.astype(np.float64) - labels.astype(np.float64)
    angle_mse, throttle_mse = np.mean(errors**2, axis=0).tolist()
    return Score(angle_mse, throttle_mse)


def baselines(train_labels: NDArray[np.floating], labels: NDArray[np.floating]) -> dict[str, Score]:
    """Returns what predicting a constant scores on labels [N,2].

    "zero" predicts 0 and 0; "training mean" the means of train_labels [M,2]; "best constant" the
    means of `labels` themselves, which is cheating: no constant scores lower.
    """
    constants = {
        "zero": np.zeros(2),
        "training mean": train_labels.mean(axis=0, dtype=np.float64),
        "best constant": labels.mean(axis=0, dtype=np.float64),
    }
    return {
        name: score(np.broadcast_to(constant, labels.shape), labels)
        for name, constant in constants.items()
    }
