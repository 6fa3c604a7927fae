"""Convolutions on CFloat8 codes in their stated order, against PyTorch's in float32."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from opendojo import numerics
from paired import PairedTiming, paired_timing
from torch import Tensor

FORMAT = "cf8_1_4_3"
TOLERANCE = 1e-5  # of the largest value
"""Largest difference to PyTorch, which sums in other orders, relative to the largest result."""
PAIRS = 7
PASSES = ("forward", "input_gradient", "weight_gradient")


@dataclass(frozen=True)
class Shape:
    """A square 2-D convolution of one network."""

    name: str
    batch: int
    channels_in: int
    channels_out: int
    size: tuple[int, int]
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def out_size(self) -> tuple[int, int]:
        y, x = ((s + 2 * self.padding - self.kernel) // self.stride + 1 for s in self.size)
        return y, x

    @property
    def flops(self) -> int:
        """Of one pass; a multiply-add counts as two."""
        taps = self.channels_in * self.kernel**2
        return 2 * self.batch * self.channels_out * math.prod(self.out_size) * taps

    def points(self, name: str) -> int:
        """Products that each output of the pass sums."""
        sums = {
            "forward": self.channels_in * self.kernel**2,
            "input_gradient": self.channels_out * self.kernel**2,
            "weight_gradient": self.batch * math.prod(self.out_size),
        }
        return sums[name]


def resnet18(name: str, batch: int, size: tuple[int, int]) -> Iterator[Shape]:
    """All distinct convolutions of ResNet-18 on images of that size."""
    stem = Shape(f"{name}.stem", batch, 3, 64, size, 7, 2, 3)
    yield stem
    pooled = Shape("", batch, 64, 64, stem.out_size, 3, 2, 1)  # as the max pooling after it
    size = pooled.out_size
    yield Shape(f"{name}.stage1", batch, 64, 64, size, 3, 1, 1)
    for stage, channels in ((2, 64), (3, 128), (4, 256)):
        wide = 2 * channels
        first = Shape(f"{name}.stage{stage}.first", batch, channels, wide, size, 3, 2, 1)
        yield first
        yield Shape(f"{name}.stage{stage}.shortcut", batch, channels, wide, size, 1, 2)
        size = first.out_size
        yield Shape(f"{name}.stage{stage}", batch, wide, wide, size, 3, 1, 1)


STEERING = (  # examples/drive/model.py: four frames in each of 32 windows
    Shape("steering.1", 128, 3, 16, (60, 80), 5, 2),
    Shape("steering.2", 128, 16, 32, (28, 38), 5, 2),
    Shape("steering.3", 128, 32, 32, (12, 17), 3, 2),
    Shape("steering.4", 128, 32, 64, (5, 8), 3),
)


def _random_codes(*shape: int) -> numerics.Quantized[Tensor]:
    """The same numbers at each call, about a normal distribution."""
    generator = torch.Generator().manual_seed(1)
    return numerics.quantize(torch.randn(shape, generator=generator), FORMAT)


def _passes(shape: Shape) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Ours and PyTorch's, by pass."""
    x = _random_codes(shape.batch, shape.channels_in, *shape.size)
    w = _random_codes(shape.channels_out, shape.channels_in, shape.kernel, shape.kernel)
    g = _random_codes(shape.batch, shape.channels_out, *shape.out_size)
    fx, fw, fg = x.dequantize(), w.dequantize(), g.dequantize()
    stride, padding = shape.stride, shape.padding

    def gradient(which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        gradients = torch.ops.aten.convolution_backward(
            fg, fx, fw, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
        )
        result: Tensor = gradients[which]
        return result

    return {
        "forward": (
            lambda: numerics.convolution(x, w, stride=stride, padding=padding),
            lambda: torch.nn.functional.conv2d(fx, fw, stride=stride, padding=padding),
        ),
        "input_gradient": (
            lambda: numerics.convolution_input_gradient(
                g, w, shape.size, stride=stride, padding=padding
            ),
            lambda: gradient(0),
        ),
        "weight_gradient": (
            lambda: numerics.convolution_weight_gradient(
                g, x, (shape.kernel,) * 2, stride=stride, padding=padding
            ),
            lambda: gradient(1),
        ),
    }


def _check(shape: Shape, name: str, points: int, ours: Tensor, theirs: Tensor) -> None:
    """`points` is the length of each sum: its roundings are a random walk of that many steps of
    at most 2^-24, of which four standard deviations are allowed where that is more."""
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    if error > max(TOLERANCE, 4 * math.sqrt(points) * 2.0**-24):
        raise ValueError(f"{shape.name}, {name}: {error:.2e} away from PyTorch")


def _matmul_rate(threads: int) -> float:
    """GFLOP/s of torch.matmul on float32 matrices in the cache: what FMA units give at best."""
    n = 768
    a, b = torch.randn(n, n), torch.randn(n, n)
    timing = paired_timing(lambda: a @ b, lambda: None, pairs=15)
    return float(2 * n**3 / timing.ours_seconds / 1e9)


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _measure(shapes: list[Shape], threads: int) -> dict[str, Any]:
    numerics.set_threads(threads)
    torch.set_num_threads(threads)
    rate = _matmul_rate(threads)
    rows: dict[str, dict[str, Any]] = {}
    ratios: dict[str, list[float]] = {name: [] for name in PASSES}
    for shape in shapes:
        rows[shape.name] = {}
        for name, (ours, theirs) in _passes(shape).items():
            _check(shape, name, shape.points(name), ours(), theirs())
            timing: PairedTiming = paired_timing(ours, theirs, pairs=PAIRS, warm_up=1)
            ratios[name].append(timing.ratio)
            gflops = shape.flops / timing.ours_seconds / 1e9
            rows[shape.name][name] = {
                "ratio": round(timing.ratio, 3),
                "milliseconds": round(timing.ours_seconds * 1e3, 3),
                "share_of_matmul_rate": round(gflops / rate, 3),
            }
    return {
        "ratio": _mean([ratio for each in ratios.values() for ratio in each]),
        "against": f"PyTorch float32 convolution, {threads} thread(s), geometric mean",
        "detail": {
            "passes": {name: round(_mean(each), 3) for name, each in ratios.items()},
            "matmul_gflops": round(rate, 1),
            "shapes": rows,
        },
    }


def conv_exact() -> dict[str, dict[str, Any]]:
    """CFloat8 codes in, FP32 out: ResNet-18 on 8 images of 224 x 224 and on 32 frames of 60 x 80,
    and the steering network; three passes each; on one thread and on two."""
    shapes = [*resnet18("resnet18", 8, (224, 224)), *resnet18("frames", 32, (60, 80)), *STEERING]
    return {
        "conv_exact": _measure(shapes, 2),
        "conv_exact_one_thread": _measure(shapes, 1),
    }


BENCHMARKS = [conv_exact]
