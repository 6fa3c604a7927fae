"""Driving clips: what is read, what is refused and how, and that batches repeat bit for bit."""

import csv
import hashlib
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from opendojo import Error
from opendojo.data import driving, video
from opendojo.data.video import Limits

FRAMES = 40
BUNDLED = Path(__file__).parents[2] / "examples" / "drive" / "data"
ENCODERS = {
    "avi": ("-c:v", "mjpeg", "-q:v", "4"),
    "mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
    "mkv": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
}


def ffmpeg(*arguments: str | Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.fail("these tests make their clips with ffmpeg: apt-get install ffmpeg")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def make_clip(path: Path, size: str = "160x120", frames: int = FRAMES) -> Path:
    source = f"testsrc2=size={size}:rate=20"
    encoder = ENCODERS[path.suffix[1:]]
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", str(frames), *encoder, path)
    return path


def write_labels(clip: Path, count: int = FRAMES) -> Path:
    table = clip.with_suffix(".csv")
    with table.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["frame", "record", "t_ms", "angle", "throttle"])
        rows.writerows([i, 100 + i, 50 * i, i / 100, 0.5] for i in range(count))
    return table


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.avi (MJPEG), good.mp4 and good.mkv (H.264), not to be written to."""
    folder = tmp_path_factory.mktemp("clips")
    for suffix in ENCODERS:
        make_clip(folder / f"good.{suffix}")
    return folder


@pytest.fixture
def put(masters: Path, tmp_path: Path):
    """Copies a master clip into tmp_path under a new name, with its labels."""

    def copy(name: str, labels: int = FRAMES) -> Path:
        clip = tmp_path / name
        shutil.copy(masters / f"good{clip.suffix}", clip)
        write_labels(clip, labels)
        return clip

    return copy


def refusal(folder: Path, **arguments: object) -> str:
    """The one sentence with which load_clips refuses."""
    with pytest.raises(Error) as caught:
        driving.load_clips(folder, **arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# --- What is read


@pytest.mark.parametrize("suffix", ENCODERS)
def test_reads_each_container(put, tmp_path: Path, suffix: str) -> None:
    put(f"a.{suffix}")
    (clip,), skipped = driving.load_clips(tmp_path)
    assert (clip.name, skipped) == ("a", [])
    assert clip.frames.shape == (FRAMES, 3, 60, 80) and clip.frames.dtype == np.uint8
    assert clip.labels.shape == (FRAMES, 2) and clip.labels.dtype == np.float32
    np.testing.assert_allclose(clip.labels[:, 0], np.arange(FRAMES) / 100, rtol=1e-6)
    np.testing.assert_array_equal(clip.labels[:, 1], 0.5)
    assert len(np.unique(clip.frames.reshape(FRAMES, -1), axis=0)) == FRAMES


@pytest.mark.parametrize("suffix", ENCODERS)
def test_frames_are_rgb_and_upright(tmp_path: Path, suffix: str) -> None:
    # Left half red; right half blue above and green below.
    rgb = "r='255*lt(X,80)':g='255*gte(X,80)*gte(Y,60)':b='255*gte(X,80)*lt(Y,60)'"
    source = f"color=black:size=160x120:rate=20,format=gbrp,geq={rgb}"
    path = tmp_path / f"colours.{suffix}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "3", *ENCODERS[suffix], path)
    frames = video.decode_clip(path).astype(int)
    for colour, row, column in (
        ([255, 0, 0], 30, 20),
        ([0, 0, 255], 15, 60),
        ([0, 255, 0], 45, 60),
    ):
        assert np.abs(frames[:, :, row, column] - colour).max() <= 24


def test_reads_the_named_clips_in_the_order_asked(put, tmp_path: Path) -> None:
    for name in ("a.avi", "b.mp4", "c.avi"):
        put(name)
    (tmp_path / "notes.txt").write_text("not a clip")
    assert [clip.name for clip in driving.load_clips(tmp_path).clips] == ["a", "b", "c"]
    assert [clip.name for clip in driving.load_clips(tmp_path, ["c", "a"]).clips] == ["c", "a"]


def test_columns_may_stand_in_any_order_and_others_be_absent(put, tmp_path: Path) -> None:
    table = put("a.avi").with_suffix(".csv")
    lines = ["throttle,frame,angle", *(f"0.25,{i},-1" for i in range(FRAMES))]
    table.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    labels = driving.load_clips(tmp_path).clips[0].labels
    np.testing.assert_array_equal(labels, np.tile(np.float32([-1, 0.25]), (FRAMES, 1)))


def test_a_title_that_is_not_utf8_does_no_harm(masters: Path, tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    ffmpeg("-i", masters / "good.mkv", "-c", "copy", "-metadata", "title=Strasse", clip)
    assert b"Strasse" in clip.read_bytes()
    clip.write_bytes(clip.read_bytes().replace(b"Strasse", b"Stra\xdfe!"))
    assert len(video.decode_clip(clip)) == FRAMES


def test_bundled_clips_are_the_files_of_their_origin_list() -> None:
    row = re.compile(r"\| (\S+) \| (train|val) \| (\d+) \| (\d+) \| `(\w{64})` \| `(\w{64})` \|")
    listed = row.findall((BUNDLED / "ORIGIN.md").read_text())
    assert {(split, name) for name, split, *_ in listed} == {
        (path.parent.name, path.stem) for path in BUNDLED.glob("*/*.*")
    }
    frames = {"train": 0, "val": 0}
    for name, split, count, size, *digests in listed:
        data = [(BUNDLED / split / f"{name}.{suffix}").read_bytes() for suffix in ("avi", "csv")]
        assert [hashlib.sha256(each).hexdigest() for each in data] == digests
        assert len(data[0]) == int(size)
        assert len(driving.read_labels(BUNDLED / split / f"{name}.csv")) == int(count)
        frames[split] += int(count)
    assert frames == {"train": 4027, "val": 2346}


def test_a_bundled_clip_decodes_to_the_same_bits_on_every_cpu() -> None:
    # With FFmpeg's usual colour conversion the bits depend on the CPU's vector instructions. If a
    # newer PyAV changes them on all CPUs alike, only the digest is to be renewed.
    (clip,), _ = driving.load_clips(BUNDLED / "val", ["A-22730"])
    assert clip.frames.shape == (176, 3, 60, 80)
    digest = hashlib.sha256(clip.frames.tobytes()).hexdigest()
    assert digest == "03619f9c87e3b6e9626b04b2e8c31d23e15d596915a3f4a91f43ae41638eb383"


# --- What is refused, each in one sentence


@pytest.mark.parametrize("suffix", ENCODERS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_truncated_clip_is_refused(put, tmp_path: Path, suffix: str, share: float) -> None:
    clip = put(f"a.{suffix}")
    data = clip.read_bytes()
    # AVI and Matroska end with an index that decoding can do without: cut what is before it.
    end = {"avi": data.rfind(b"idx1"), "mkv": data.rfind(b"\x1c\x53\xbb\x6b")}.get(
        suffix, len(data)
    )
    assert end > 0
    clip.write_bytes(data[: int(end * share)])
    sentence = refusal(tmp_path)
    assert sentence.startswith(f"{clip}: ")
    assert re.search(r"truncated|ends in the middle of a frame", sentence)
    assert "copy it anew" in sentence


@pytest.mark.parametrize("suffix", ENCODERS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("filler", [0x00, 0xFF])
def test_a_corrupt_clip_is_refused(
    put, tmp_path: Path, suffix: str, share: float, filler: int
) -> None:
    clip = put(f"a.{suffix}")
    data = bytearray(clip.read_bytes())
    start = int(len(data) * share)
    data[start : start + 4000] = bytes([filler]) * 4000
    clip.write_bytes(data)
    sentence = refusal(tmp_path)
    assert sentence.startswith(f"{clip}: ") and "copy it anew" in sentence


def test_damage_that_a_player_would_paint_over_is_refused(put, tmp_path: Path) -> None:
    clip = put("a.avi")
    data = bytearray(clip.read_bytes())
    start = int(len(data) * 0.45)
    data[start : start + 40] = bytes(40)
    clip.write_bytes(data)
    assert "truncated, corrupt" in refusal(tmp_path)


@pytest.mark.parametrize("labels", [FRAMES - 1, FRAMES + 1])
def test_labels_and_frames_must_agree_in_number(put, tmp_path: Path, labels: int) -> None:
    put("a.mp4", labels)
    sentence = refusal(tmp_path)
    assert "a.mp4" in sentence and "a.csv" in sentence
    assert f"{FRAMES} frames" in sentence and f"{labels} labels" in sentence


def test_missing_labels_are_refused(put, tmp_path: Path) -> None:
    table = put("a.avi").with_suffix(".csv")
    table.unlink()
    assert refusal(tmp_path).startswith(f"{table}: no such file; put the clip's labels there")


@pytest.mark.parametrize("column", ["frame", "angle", "throttle"])
def test_a_missing_column_is_refused(put, tmp_path: Path, column: str) -> None:
    table = put("a.avi").with_suffix(".csv")
    table.write_text(table.read_text().replace(column, "speed", 1))
    assert f"a.csv: has no column '{column}'" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("3,103,150,left,0.5", "angle is 'left'"),
        ("3,103,150,,0.5", "angle is ''"),
        ("3,103,150,0.1", "throttle is None"),
        ("3,103,150,nan,0.5", "angle is 'nan'"),
        ("3,103,150,0.1,-inf", "throttle is '-inf'"),
        ("3,103,150,1e300,0.5", "angle is '1e300'"),
        ("4,103,150,0.1,0.5", "frame is '4', expected 3"),
    ],
)
def test_a_bad_label_is_refused_with_its_line(
    put, tmp_path: Path, line: str, complaint: str
) -> None:
    table = put("a.avi").with_suffix(".csv")
    lines = table.read_text().splitlines()
    lines[4] = line  # the header is line 1, so frame 3 is line 5
    table.write_text("\n".join(lines))
    assert refusal(tmp_path).startswith(f"{table}:5: {complaint}")


@pytest.mark.parametrize("content", [b"", b"frame,angle,throttle\n", b"\xff\xfe\x00\x01"])
def test_a_table_without_labels_is_refused(put, tmp_path: Path, content: bytes) -> None:
    table = put("a.avi").with_suffix(".csv")
    table.write_bytes(content)
    assert refusal(tmp_path).startswith(f"{table}: ")


@pytest.mark.parametrize(
    "content",
    [
        b"just text",
        b"ffconcat version 1.0\nfile good.avi\n",
        b"#EXTM3U\n#EXTINF:1,\ngood.avi\n#EXT-X-ENDLIST\n",
    ],
    ids=["text", "concat", "playlist"],
)
def test_only_a_container_of_an_accepted_kind_is_opened(
    put, tmp_path: Path, content: bytes
) -> None:
    put("good.avi")
    for name in ("a.avi", "a.mp4"):
        clip = tmp_path / name
        clip.write_bytes(content)
        write_labels(clip)
        assert f"{clip}: cannot be decoded from its start" in refusal(tmp_path, names=["a"])
        clip.unlink()


def test_another_container_under_an_accepted_name_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "a.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120", "-frames:v", "5", "-f", "mpegts", clip)
    write_labels(clip, 5)
    assert "no AVI, MP4 or Matroska clip" in refusal(tmp_path)


def test_a_clip_without_video_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", clip)
    write_labels(clip)
    assert f"{clip}: has no video stream" in refusal(tmp_path)


def test_a_clip_of_an_unknown_codec_is_refused(put, tmp_path: Path) -> None:
    clip = put("a.avi")
    clip.write_bytes(clip.read_bytes().replace(b"MJPG", b"ZZZZ"))
    assert f"{clip}: FFmpeg knows no decoder for its video" in refusal(tmp_path)


def test_frames_of_a_bad_size_are_refused(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "small.avi", size="78x60", frames=2)
    write_labels(small, 2)
    assert f"{small}: its frames of 78x60 pixels are too small" in refusal(tmp_path)
    with pytest.raises(Error, match="160x120 pixels are too large"):
        video.decode_clip(make_clip(tmp_path / "large.avi", frames=2), Limits(side=159))


def test_frames_that_change_size_are_refused(tmp_path: Path) -> None:
    parts = []
    for size in ("160x120", "320x240"):
        part = tmp_path / f"{size}.mjpeg"
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}", "-frames:v", "3", part)
        parts.append(part.read_bytes())
    joined = tmp_path / "joined.mjpeg"
    joined.write_bytes(b"".join(parts))
    ffmpeg("-f", "mjpeg", "-i", joined, "-c:v", "copy", tmp_path / "a.avi")
    with pytest.raises(Error, match="changes from 160x120 to 320x240 pixels midway"):
        video.decode_clip(tmp_path / "a.avi")


def test_clips_and_tables_that_are_too_long_are_refused(put, tmp_path: Path) -> None:
    clip = put("a.avi")
    assert "a.csv: has more than 39 labels" in refusal(tmp_path, limits=Limits(frames=39))
    with pytest.raises(Error, match="has more than 39 frames"):
        video.decode_clip(clip, Limits(frames=39))
    assert len(video.decode_clip(clip, Limits(side=160, frames=40))) == 40


@pytest.mark.parametrize("folder", ["https://example.org/clips", "/no/such/folder"])
def test_only_a_local_folder_is_read(folder: str) -> None:
    with pytest.raises(Error, match="no such local folder"):
        driving.load_clips(folder)


def test_a_folder_without_the_clip_is_refused(put, tmp_path: Path) -> None:
    assert "has no clip; put video files" in refusal(tmp_path)
    put("a.avi")
    assert "has no clip 'b'; it has a" in refusal(tmp_path, names=["b"])


def test_two_clips_of_one_name_are_refused(put, tmp_path: Path) -> None:
    put("a.avi")
    put("a.mp4")
    assert "a.avi: a.mp4 has the same name" in refusal(tmp_path)


def test_skip_bad_goes_on_and_lists_what_it_left_out(put, tmp_path: Path) -> None:
    put("a.avi", labels=3)
    put("b.avi")
    put("c.mp4").write_bytes(b"")
    put("d.mp4")
    clips, skipped = driving.load_clips(tmp_path, skip_bad=True)
    assert [clip.name for clip in clips] == ["b", "d"]
    assert [each.name for each in skipped] == ["a", "c"]
    assert "3 labels for the 40 frames" in skipped[0].reason
    assert skipped[1].reason.startswith(f"{tmp_path / 'c.mp4'}: cannot be decoded")
    assert "none of its 2 clips is good" in refusal(tmp_path, names=["a", "c"], skip_bad=True)


# --- Shrinking


def exact_mean(image: np.ndarray, row: int, column: int, channel: int) -> int:
    """The mean over the area of an output pixel in exact fractions, halves up."""
    height, width, _ = image.shape
    top, left = Fraction(row * height, 60), Fraction(column * width, 80)
    bottom, right = top + Fraction(height, 60), left + Fraction(width, 80)
    total = Fraction(0)
    for y in range(int(top), -int(-bottom // 1)):
        for x in range(int(left), -int(-right // 1)):
            share = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
            total += share * int(image[y, x, channel])
    return int(total / ((bottom - top) * (right - left)) + Fraction(1, 2))


@pytest.mark.parametrize("size", [(60, 80), (120, 160), (61, 83), (97, 80), (135, 240), (150, 200)])
def test_shrinking_takes_the_exact_mean_over_areas(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    small = video.shrink(image)
    assert small.shape == (3, 60, 80) and small.dtype == np.uint8
    for row, column in ((0, 0), (59, 79), *rng.integers(0, 60, (40, 2)).tolist()):
        for channel in range(3):
            assert small[channel, row, column] == exact_mean(image, row, column, channel)


def test_shrinking_rounds_halves_up() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[0, :2], image[1, 2] = 1, 1  # means 2/4 and 1/4
    assert video.shrink(image)[0, 0, :3].tolist() == [1, 0, 0]
    image = np.zeros((60, 96, 3), np.uint8)
    image[0, 1] = 3  # the first output pixel takes 1/6 of it and 5/6 of a 0: mean 3/6
    assert video.shrink(image)[0, 0, 0] == 1


# --- Windows and batches


def numbered_clips(*lengths: int) -> list[driving.Clip]:
    """Clips whose pixel values, angle and throttle all tell the frame's number over all clips.

    Column 0 of the picture is 10 more, so that flipping shows.
    """
    clips, start = [], 0
    for length in lengths:
        number = np.arange(start, start + length)
        frames = np.tile(number.astype(np.uint8)[:, None, None, None], (1, 3, 60, 80))
        frames[..., 0] += 10
        labels = np.stack([number + 1, number + 0.5], axis=1).astype(np.float32)
        clips.append(driving.Clip(f"clip{start}", frames, labels))
        start += length
    return clips


def test_a_window_holds_the_three_frames_before_and_never_another_clip() -> None:
    windows = driving.Windows(numbered_clips(5, 2, 3))
    assert len(windows) == 10
    frames = windows.at(np.arange(10))
    assert frames.shape == (10, 4, 3, 60, 80)
    assert frames[:, :, 0, 0, 1].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 2],
        [0, 1, 2, 3],
        [1, 2, 3, 4],
        [5, 5, 5, 5],
        [5, 5, 5, 6],
        [7, 7, 7, 7],
        [7, 7, 7, 8],
        [7, 7, 8, 9],
    ]


def test_in_order_gives_every_frame_once() -> None:
    windows = driving.Windows(numbered_clips(5, 6))
    batches = list(windows.in_order(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), windows.labels)
    assert batches[2][0][-1, :, 0, 0, 1].tolist() == [7, 8, 9, 10]


def visited(batch: driving.Batch) -> list[int]:
    """Numbers of the windows in a batch, read from their throttle."""
    return (batch.labels[:, 1] - 0.5).astype(int).tolist()


def test_every_epoch_visits_every_window_once_in_an_order_of_its_own() -> None:
    batches = driving.TrainingBatches(driving.Windows(numbered_clips(10, 11)), seed=3, batch=6)
    visits = [index for step in range(7) for index in visited(batches.at(step))]
    epochs = [visits[:21], visits[21:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(21))] * 2
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])


def test_a_run_resumes_at_any_step_with_the_same_bits() -> None:
    data = driving.Windows(numbered_clips(30, 23))
    whole = driving.TrainingBatches(data, seed=7, batch=8)
    straight = [whole.at(step) for step in range(20)]
    for step in (19, 0, 6, 7, 13):  # 6 reaches from the first epoch into the second
        resumed = driving.TrainingBatches(data, seed=7, batch=8).at(step)
        np.testing.assert_array_equal(resumed.frames, straight[step].frames)
        np.testing.assert_array_equal(resumed.labels, straight[step].labels)
        again = whole.at(step)
        np.testing.assert_array_equal(again.frames, straight[step].frames)


def test_batches_are_the_same_on_every_machine() -> None:
    # The words of epoch 1 were computed from the definition of Philox 4x64-10, not with NumPy.
    data = driving.Windows(numbered_clips(10))
    batch = driving.TrainingBatches(data, seed=1, batch=10).at(1)
    order = [5, 3, 1, 0, 8, 6, 7, 4, 2, 9]
    shifts = [-2, 28, -18, -2, 22, 32, -22, 27, -5, -29]
    assert visited(batch) == order
    assert (batch.labels[:, 0] < 0).astype(int).tolist() == [0, 1, 1, 0, 0, 0, 1, 0, 1, 0]
    assert batch.frames[:, -1, 0, 0, 40].tolist() == [
        max(0, index + shift) for index, shift in zip(order, shifts, strict=True)
    ]
    other = driving.TrainingBatches(data, seed=2, batch=10).at(1)
    assert visited(other) != order


def test_augmentation_flips_and_shifts_a_whole_window() -> None:
    clip = numbered_clips(60)[0]
    grey = driving.Clip(clip.name, clip.frames + np.uint8(100), clip.labels)
    data = driving.Windows([grey])
    batches = driving.TrainingBatches(data, seed=0, batch=60, brightness=5)
    flips, shifts = [], []
    for step in range(20):
        frames, labels = batches.at(step)
        for window, (angle, throttle) in zip(frames, labels, strict=True):
            index = int(throttle)
            plain = data.at(np.array([index]))[0].astype(int)
            flipped = bool(angle < 0)
            assert abs(angle) == index + 1
            shift = int(window[0, 0, 0, 40]) - int(plain[0, 0, 0, 40])
            expected = plain[..., ::-1] if flipped else plain
            np.testing.assert_array_equal(window, expected + shift)
            flips.append(flipped)
            shifts.append(shift)
    # 1,200 draws: five standard deviations of a fair coin are 0.072.
    assert abs(np.mean(flips) - 0.5) < 0.072
    assert sorted(set(shifts)) == list(range(-5, 6))
    assert abs(np.corrcoef(flips, shifts)[0, 1]) < 0.15


def test_brightness_ends_at_black_and_white() -> None:
    def shifted(value: int) -> np.ndarray:
        frames = np.full((99, 3, 60, 80), value, np.uint8)
        data = driving.Windows([driving.Clip("plain", frames, np.zeros((99, 2), np.float32))])
        batch = driving.TrainingBatches(data, seed=0, batch=99, brightness=255).at(0)
        return batch.frames[:, 0, 0, 0, 0].astype(int)

    black, white = shifted(0), shifted(255)  # max(shift, 0) and 255 + min(shift, 0)
    assert np.minimum(black, 255 - white).max() == 0
    assert (black > 0).mean() > 0.3 and (white < 255).mean() > 0.3


def test_without_augmentation_the_windows_come_as_they_are() -> None:
    data = driving.Windows(numbered_clips(20))
    batch = driving.TrainingBatches(data, seed=5, batch=20, flip=False, brightness=0).at(4)
    np.testing.assert_array_equal(batch.frames, data.at(np.array(visited(batch))))
    np.testing.assert_array_equal(batch.labels, data.labels[visited(batch)])


@pytest.mark.parametrize(
    "arguments", [{"seed": -1}, {"seed": 2**64}, {"batch": 0}, {"brightness": 256}]
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    data = driving.Windows(numbered_clips(4))
    (name,) = arguments
    with pytest.raises(Error, match=f"^{name} "):
        driving.TrainingBatches(data, **{"seed": 0, "batch": 2, **arguments})


# --- The metric


def test_the_score_is_the_mean_squared_error_of_each_label() -> None:
    labels = np.array([[0.0, 1.0], [0.5, 1.0]], np.float32)
    predictions = np.array([[0.5, 1.0], [0.5, 3.0]], np.float32)
    score = driving.score(predictions, labels)
    assert (score.angle_mse, score.throttle_mse, score.total) == (0.125, 2.0, 2.125)
    assert score.angle_rmse == pytest.approx(0.125**0.5)


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 1), (0, 2)])
def test_a_score_of_other_shapes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Error):
        driving.score(np.zeros(shape), np.zeros(shape if shape[0] == 0 else (2, 2)))


def test_baselines_of_the_bundled_clips() -> None:
    labels = {
        split: np.concatenate(
            [driving.read_labels(path) for path in sorted((BUNDLED / split).glob("*.csv"))]
        )
        for split in ("train", "val")
    }
    scores = driving.baselines(labels["train"], labels["val"])
    expected = {
        "zero": (0.16083, 0.18143),
        "training mean": (0.16904, 0.00987),
        "best constant": (0.15928, 0.00986),
    }
    assert scores.keys() == expected.keys()
    for name, (angle, throttle) in expected.items():
        assert scores[name].angle_mse == pytest.approx(angle, abs=1e-5)
        assert scores[name].throttle_mse == pytest.approx(throttle, abs=1e-5)
