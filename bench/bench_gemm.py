"""GEMM on CFloat8 codes in the stated order, against PyTorch's float32 and bfloat16.

PyTorch's operands are the same values, already in its format; ours are codes, decoded within the
timing. Run as a program it prints one measurement, which lets a child process measure under another
environment.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opendojo import numerics
from paired import paired_timing

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "bin" / "dojo_gemm_bench"
SQUARES = [(n, n, n) for n in (512, 1024, 2048, 4096)]
# m, n, k as the examples have them: a small GPT's products and their gradients, the heads of
# ResNet-18 and of the steering network, and what is tall, flat or a single row.
SHAPES = {
    "gpt qkv": (1024, 768, 256),
    "gpt up": (1024, 1024, 256),
    "gpt down": (1024, 256, 1024),
    "gpt weight gradient": (256, 1024, 1024),
    "gpt head": (1024, 65, 256),
    "resnet head": (32, 1000, 512),
    "steering dense": (64, 100, 1152),
    "steering weight gradient": (100, 1152, 64),
    "tall": (16384, 64, 64),
    "flat": (64, 16384, 64),
    "one row": (1, 4096, 4096),
}
BIAS = 11


def _check(threads: int) -> None:
    """A sample of outputs is the plain fold, bit by bit. Products are multiples of 2^-28 and sums
    stay below 2^20, so FP64 adds without rounding and each step is rounded once, to FP32."""
    generator = torch.Generator().manual_seed(1)
    a = numerics.quantize(torch.randn(300, 700, generator=generator), "cf8_1_4_3", BIAS)
    b = numerics.quantize(torch.randn(700, 200, generator=generator), "cf8_1_4_3", BIAS)
    rows, columns = slice(0, 300, 37), slice(0, 200, 23)
    left = a.dequantize().numpy().astype(np.float64)[rows]
    right = b.dequantize().numpy().astype(np.float64)[:, columns]
    acc = np.zeros((left.shape[0], right.shape[1]), np.float32)
    for k in range(left.shape[1]):
        acc = (acc.astype(np.float64) + np.outer(left[:, k], right[k])).astype(np.float32)
    for count in {1, threads}:
        numerics.set_threads(count)
        got = numerics.matmul(a, b).numpy()[rows, columns]
        assert np.array_equal(got.view(np.uint32), acc.view(np.uint32))


def _measure(shape: tuple[int, int, int], dtype: torch.dtype, pairs: int) -> dict[str, float]:
    m, n, k = shape
    generator = torch.Generator().manual_seed(2)
    a = numerics.quantize(torch.randn(m, k, generator=generator), "cf8_1_4_3", BIAS)
    b = numerics.quantize(torch.randn(k, n, generator=generator), "cf8_1_4_3", BIAS)
    left, right = a.dequantize().to(dtype), b.dequantize().to(dtype)
    repeats = max(1, round(1e8 / (2 * m * n * k)))

    def repeated(action: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(repeats):
                action()

        return run

    timing = paired_timing(
        repeated(lambda: numerics.matmul(a, b)),
        repeated(lambda: torch.matmul(left, right)),
        pairs=pairs,
        warm_up=1,
    )
    operations = 2e-9 * m * n * k * repeats
    return {
        "ratio": round(timing.ratio, 3),
        "ours_gflops": round(operations / timing.ours_seconds, 1),
        "theirs_gflops": round(operations / timing.theirs_seconds, 1),
    }


def _all_shapes(dtype: torch.dtype) -> dict[str, dict[str, float]]:
    threads = numerics.threads()
    torch.set_num_threads(threads)
    out = {
        f"square {shape[0]}": _measure(shape, dtype, 3 if shape[0] >= 2048 else 7)
        for shape in SQUARES
    }
    return out | {name: _measure(shape, dtype, 7) for name, shape in SHAPES.items()}


def _geometric_mean(measured: dict[str, dict[str, float]]) -> float:
    ratios = [measured[f"square {shape[0]}"]["ratio"] for shape in SQUARES]
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


def _program_lines(threads: int) -> list[dict[str, Any]]:
    if not PROGRAM.exists():
        raise FileNotFoundError(f"{PROGRAM}: make build-benches makes it")
    done = subprocess.run([PROGRAM, str(threads)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def gemm_exact_vs_fp32() -> dict[str, dict[str, Any]]:
    """torch.matmul float32 time / ours, geometric mean of squares 512..4096; `detail` has every
    shape, and our share of the instruction peaks of this CPU, one thread."""
    threads = numerics.threads()
    _check(threads)
    measured = _all_shapes(torch.float32)
    return {
        "gemm_exact_vs_fp32": {
            "ratio": _geometric_mean(measured),
            "against": "torch.matmul float32, geometric mean of squares 512..4096",
            "detail": {"threads": threads, "shapes": measured, "peaks": _program_lines(1)},
        }
    }


def gemm_exact_vs_bf16() -> dict[str, dict[str, Any]]:
    """The same against bfloat16; and against bfloat16 without AMX, whose tiles sum in an order of
    their own, at 16 times the rate of FMA."""
    threads = numerics.threads()
    _check(threads)
    measured = _all_shapes(torch.bfloat16)
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
    child = subprocess.run(
        [sys.executable, __file__, "bfloat16"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    without_amx = json.loads(child.stdout)
    return {
        "gemm_exact_vs_bf16": {
            "ratio": _geometric_mean(measured),
            "against": "torch.matmul bfloat16, geometric mean of squares 512..4096",
            "detail": {
                "threads": threads,
                "shapes": measured,
                "without_amx_ratio": _geometric_mean(without_amx),
                "without_amx": without_amx,
            },
        }
    }


BENCHMARKS = [gemm_exact_vs_bf16, gemm_exact_vs_fp32]

if __name__ == "__main__":
    print(json.dumps(_all_shapes(getattr(torch, sys.argv[1]))))
