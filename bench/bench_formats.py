"""Speed of the array encoders against moving the same bytes, on one thread.

build/bin/dojo_encode_bench checks the codes against the plain path, then times, in turn, the
encoders and kernels that read f32 and write one or two bytes per element, and nothing else. The
bound is the quickest of those. Times are CPU seconds of the thread, so other work counts little.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "build" / "bin" / "dojo_encode_bench"
BYTES = {
    "cf8_1_4_3": 1,
    "cf8_1_5_2": 1,
    "e4m3": 1,
    "e5m2": 1,
    "bf16": 2,
    "f16": 2,
    "shp": 2,
    "uhp": 2,
}


def encode() -> dict[str, dict[str, Any]]:
    """encode_nearest and encode_stochastic: the slower CFloat8; the detail has all formats."""
    printed = subprocess.run([PROGRAM, *BYTES], check=True, capture_output=True, text=True).stdout
    measured = json.loads(printed)
    quickest = {name: min(seconds) for name, seconds in measured["seconds"].items()}
    bound = {
        width: min(s for name, s in quickest.items() if name.startswith(f"move to {word}"))
        for width, word in [(1, "bytes"), (2, "halves")]
    }
    entries = {}
    for mode in ("nearest", "stochastic"):
        ratios = {name: bound[width] / quickest[f"{name} {mode}"] for name, width in BYTES.items()}
        entries[f"encode_{mode}"] = {
            "ratio": min(ratios["cf8_1_4_3"], ratios["cf8_1_5_2"]),
            "against": "streaming bound of the same bytes",
            "detail": {
                "elements": measured["elements"],
                "ratio": ratios,
                "giga_elements_per_second": {
                    name: measured["elements"] / quickest[f"{name} {mode}"] / 1e9 for name in BYTES
                },
                "bound_seconds": bound,
                "cpu_seconds": measured["seconds"],
            },
        }
    return entries


BENCHMARKS = [encode]
