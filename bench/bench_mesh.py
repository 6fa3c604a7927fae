"""Cycles per second of the cycle-level mesh: against BookSim2's own, and two threads against one.

BookSim2 is not run here: its figures (commit 28f43299, one core of a 2-core x86-64 machine,
fixed-length runs, medians) are constants of the program dojo_mesh_bench, which checks the golden
totals before each case.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "build" / "bin" / "dojo_mesh_bench"


def mesh_cycles() -> dict[str, dict[str, Any]]:
    """Ratio = our cycles per second over BookSim2's (median of nine runs), or over one thread's."""
    run = subprocess.run([PROGRAM], capture_output=True, text=True, check=True)
    return {
        f"mesh {case['case']} {case['isa']}": {
            "ratio": case["ratio"],
            "against": "BookSim2, measured before on another machine"
            if "booksim2_cycles_per_second" in case
            else "one thread, in turns",
            "detail": case,
        }
        for case in json.loads(run.stdout)
    }


BENCHMARKS = [mesh_cycles]
