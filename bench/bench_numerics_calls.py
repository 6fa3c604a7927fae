"""What a call of opendojo.numerics costs beside its work: tiny operands, against PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
from opendojo import numerics
from paired import paired_timing

CALLS = 200  # in one timing, for one call is shorter than the clock's own cost


def _repeated(action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(CALLS):
            action()

    return run


def numerics_call() -> dict[str, dict[str, Any]]:
    """Calls on 4 x 4 matrices and 4 x 4 images, one thread; `detail` has microseconds."""
    numerics.set_threads(1)
    torch.set_num_threads(1)
    a, b = torch.eye(4), torch.arange(16.0).view(4, 4)
    qa, qb = numerics.quantize(a, "cf8_1_4_3"), numerics.quantize(b, "cf8_1_4_3", 8)
    image, kernel = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    assert torch.equal(numerics.matmul(a, b), b)
    assert torch.equal(numerics.matmul(qa, qb), qb.dequantize())
    assert torch.equal(numerics.convolution(image, kernel), torch.full((1, 1, 2, 2), 9.0))

    na, nb = a.numpy(), b.numpy()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "matmul": (lambda: numerics.matmul(a, b), lambda: a @ b),
        "matmul_of_codes": (lambda: numerics.matmul(qa, qb), lambda: a @ b),
        "matmul_of_numpy": (lambda: numerics.matmul(na, nb), lambda: na @ nb),
        "quantize": (lambda: numerics.quantize(b, "cf8_1_4_3"), lambda: b.to(torch.bfloat16)),
        "dequantize": (qb.dequantize, lambda: b.to(torch.bfloat16)),
        "convolution": (
            lambda: numerics.convolution(image, kernel),
            lambda: torch.nn.functional.conv2d(image, kernel),
        ),
    }
    timings = {
        name: paired_timing(_repeated(ours), _repeated(theirs))
        for name, (ours, theirs) in pairs.items()
    }
    microseconds = {
        name: {
            "ours": round(timing.ours_seconds / CALLS * 1e6, 2),
            "theirs": round(timing.theirs_seconds / CALLS * 1e6, 2),
        }
        for name, timing in timings.items()
    }
    return {
        "numerics_call": {
            "ratio": timings["matmul"].ratio,
            "against": "torch.matmul of 4 x 4 float32, one call, higher is quicker",
            "detail": {"microseconds": microseconds},
        }
    }


BENCHMARKS = [numerics_call]
