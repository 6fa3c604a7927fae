"""The files of a report: a page that opens offline, and a trace for Perfetto."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opendojo import _core
from opendojo.checkpoint import write_atomically
from opendojo.errors import Error
from opendojo.step import TrainingStep


def write_report(
    step: TrainingStep,
    folder: str | Path,
    *,
    samples_per_step: int | None = None,
    sample_name: str = "samples",
    training: Mapping[str, Any] | None = None,
) -> None:
    """Writes `report.html` and `trace.json` about one step of `step` on its machine.

    Args:
        folder: is made if need be.
        samples_per_step: how many samples a step trains on, for samples a second.
        training: what the page says about a training run: "tiles" [[label, text], ...], "steps" and
            "losses" of equal length.

    Errors (opendojo.Error): no write access.
    """
    folder = Path(folder)
    simulation = step.simulation()
    data: dict[str, Any] = {
        "version": _core.__version__,
        "simulation": json.loads(simulation.json(phases=True)),
    }
    if samples_per_step is not None:
        data |= {"samples_per_step": samples_per_step, "sample_name": sample_name}
    if training is not None:
        data["training"] = dict(training)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "report.html", _core.report_html(json.dumps(data)).encode())
        write_atomically(folder / "trace.json", simulation.trace().encode())
    except OSError as error:
        raise Error(f"report in {folder}: cannot write: {error.strerror}") from error
