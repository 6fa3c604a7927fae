"""Decodes a video file on this machine into small RGB frames, and shrinks frames.

Only AVI, MP4/MOV and Matroska/WebM containers are opened, and the container itself decides, not the
file's name. FFmpeg may read this one local file and nothing else. A frame is shrunk as soon as it
is decoded, so a long clip of large frames takes no more memory than its small frames do.

The same file gives the same frames on every CPU: FFmpeg decodes and converts colours with its
bit-exact variants, and shrinking is integer arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from opendojo.errors import Error

HEIGHT, WIDTH = 60, 80
"""Size of a shrunk frame in pixels."""

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""What the name of a clip may end in; other files in a folder are not taken for clips."""

_DEMUXERS = ("avi", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # FFmpeg's names of containers
_COLOURS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True)
class Limits:
    """The largest clip that is read, so that a wrong file cannot take all memory."""

    side: int = 4096  # pixels, the width and the height of a frame as stored
    frames: int = 20_000  # in a clip: 288 MB when shrunk to 80x60


def decode_clip(path: Path, limits: Limits | None = None) -> NDArray[np.uint8]:
    """Returns the frames of the first video stream of `path`, shrunk (see `shrink`).

    Returns:
        u8[N,3,60,80], RGB, in the order in which they are shown; N is at least 1.

    Raises:
        Error: the file is missing, is not a clip of an accepted kind, has no frames, has frames
            that are too large, too small or of differing sizes, has too many frames, or is
            truncated or corrupt. Damage inside a frame that still decodes cannot be seen here;
            a caller who knows the number of frames must compare it.
    """
    limits = limits or Limits()
    if not path.is_file():
        raise Error(f"{path}: no such local file; a clip must be a file on this machine")
    frames: list[NDArray[np.uint8]] = []
    try:
        with _open(path) as container:
            for image in _decode(path, container, limits):
                frames.append(shrink(image))
                if len(frames) > limits.frames:
                    raise Error(
                        f"{path}: has more than {limits.frames} frames; cut it into shorter clips"
                        " or raise Limits.frames"
                    )
    except av.FFmpegError as error:
        where = f"after {len(frames)} frames" if frames else "from its start"
        raise Error(
            f"{path}: cannot be decoded {where} ({error.strerror}): the file is truncated,"
            " corrupt or no AVI, MP4 or Matroska clip; copy it anew or leave it out"
        ) from error
    if not frames:
        raise Error(
            f"{path}: has no frames: it is truncated or empty; copy it anew or leave it out"
        )
    return np.stack(frames)


def _open(path: Path) -> av.container.InputContainer:
    """Opens `path` with one of the three demuxers, allowed to read local files only."""
    return av.open(
        # The prefix keeps a name such as "concat:a.avi" from being taken for a protocol.
        f"file:{path.resolve()}",
        container_options={
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(_DEMUXERS),
        },
        metadata_errors="replace",  # a title that is not UTF-8 does no harm
    )


def _decode(
    path: Path, container: av.container.InputContainer, limits: Limits
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of the first video stream as u8[H,W,3], or raises at the first damage."""
    if container.format.name not in _DEMUXERS:
        raise Error(f"{path}: is a {container.format.name} file; convert it to AVI, MP4 or MKV")
    if not container.streams.video:
        raise Error(f"{path}: has no video stream; leave it out")
    stream = container.streams.video[0]
    decoder = stream.codec_context
    if decoder is None:
        raise Error(f"{path}: FFmpeg knows no decoder for its video; convert it to H.264 or MJPEG")
    decoder.thread_count = 1  # the cores belong to training; the frames are the same
    decoder.flags |= Flags.bitexact
    decoder.options = {"err_detect": "explode", "max_pixels": str(limits.side**2)}
    size = (decoder.width, decoder.height)
    _check_size(path, size, limits)
    for packet in container.demux(stream):
        if packet.size and packet.is_corrupt:
            raise Error(f"{path}: ends in the middle of a frame; copy it anew or leave it out")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise Error(f"{path}: has a damaged frame; copy it anew or leave it out")
            if (frame.width, frame.height) != size:
                raise Error(
                    f"{path}: changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    " pixels midway; convert it to one size"
                )
            image = frame.to_ndarray(format="rgb24", interpolation=_COLOURS, threads=1)
            yield np.asarray(image, dtype=np.uint8)


def _check_size(path: Path, size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < WIDTH or height < HEIGHT:
        raise Error(
            f"{path}: its frames of {width}x{height} pixels are too small; at least"
            f" {WIDTH}x{HEIGHT} is needed"
        )
    if max(size) > limits.side:
        raise Error(
            f"{path}: its frames of {width}x{height} pixels are too large; scale it down to at"
            f" most {limits.side} pixels a side or raise Limits.side"
        )


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns u8[3,60,80]: `image` u8[H,W,3] (H >= 60, W >= 80) as the mean over areas.

    An output pixel covers H/60 x W/80 input pixels; one that it covers in part counts in
    proportion, so the whole image is used and a picture that is not 4:3 is squeezed. The mean is
    exact and then rounded to the nearest integer, halves up: for 160x120, (a + b + c + d + 2) // 4
    of each 2x2 square.
    """
    height, width, _ = image.shape
    if height % HEIGHT == 0 and width % WIDTH == 0:
        rows, columns = height // HEIGHT, width // WIDTH
        squares = image.reshape(HEIGHT, rows, WIDTH, columns, 3)
        total = squares.sum(axis=(1, 3), dtype=np.int64)
        area = rows * columns
    else:
        # Float64 holds these integers exactly: they stay below 255 * 4096^2 < 2^53.
        planes = image.transpose(2, 0, 1).astype(np.float64)
        products = _overlaps(height, HEIGHT) @ planes @ _overlaps(width, WIDTH).T
        total = products.astype(np.int64).transpose(1, 2, 0)
        area = height * width
    mean = (2 * total + area) // (2 * area)
    return np.ascontiguousarray(mean.transpose(2, 0, 1).astype(np.uint8))


def _overlaps(before: int, after: int) -> NDArray[np.float64]:
    """Returns f64[after,before]: by how much the pixels of two rulers overlap.

    Both rulers are before*after units long. Each row sums to `before`.
    """
    old = np.arange(before) * after
    new = np.arange(after) * before
    start = np.maximum(new[:, None], old[None, :])
    end = np.minimum(new[:, None] + before, old[None, :] + after)
    return np.maximum(end - start, 0).astype(np.float64)
