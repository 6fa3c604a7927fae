"""TensorLog: how the rounded tensors of a training step fare, over many steps.

    log = opendojo.TensorLog(step, every=10)
    for inputs, targets in batches:
        step(inputs, targets)
        log.record()
    log.save("tensors.json")
    log.plot("tensors.svg")

A run that is about to diverge shows here first: saturated elements (beyond the range), zeroed ones
(nonzero before rounding, zero after), biases that move at every step. docs/bias.md says how to
read it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from opendojo.errors import Error
from opendojo.step import TrainingStep


@dataclass
class TensorHistory:
    """One tensor; the lists have an entry for each recorded step."""

    name: str
    """Of the value in the lowered Graph, without %."""
    module: str
    format: str
    elements: int
    amax: list[float] = field(default_factory=list)
    """Largest finite magnitude before rounding."""
    saturated: list[int] = field(default_factory=list)
    """Elements beyond the range, or not finite."""
    zeroed: list[int] = field(default_factory=list)
    """Elements that were not zero and became zero."""
    not_finite: list[int] = field(default_factory=list)
    bias: list[int] = field(default_factory=list)
    """Empty if the format has none."""
    bias_changes: list[int] = field(default_factory=list)
    """Steps so far, since the step was compiled, whose bias differed from the one before."""


class TensorLog:
    """Records `step.executor.tensor_log()` after every `every`-th step."""

    def __init__(self, step: TrainingStep, every: int = 1) -> None:
        if every < 1:
            raise Error(f"TensorLog(every={every}): expected 1 or more")
        self.every = every
        self.steps: list[int] = []
        """Completed steps at each record."""
        self.tensors: dict[str, TensorHistory] = {}
        """By name."""
        self._step = step
        self._with_bias = {f.name for f in _formats() if f.has_bias}

    def record(self) -> bool:
        """To be called after each step; whether this one was recorded."""
        completed = self._step.completed_steps
        if completed == 0 or completed % self.every or completed in self.steps[-1:]:
            return False
        self.steps.append(completed)
        for row in self._step.executor.tensor_log():
            name = row["name"]
            history = self.tensors.setdefault(
                name, TensorHistory(name, row["module"], row["format"], row["elements"])
            )
            history.amax.append(row["amax"])
            history.saturated.append(row["saturated"])
            history.zeroed.append(row["zeroed"])
            history.not_finite.append(row["not_finite"])
            if row["format"] in self._with_bias:
                history.bias.append(row["bias"])
                history.bias_changes.append(row["bias_changes"])
        return True

    @property
    def distinct_biases(self) -> list[int]:
        """How many different biases each recorded step used."""
        with_bias = [tensor.bias for tensor in self.tensors.values() if tensor.bias]
        return [len(set(biases)) for biases in zip(*with_bias, strict=True)]

    def to_json(self) -> str:
        """All of it as one JSON object: every, steps, distinct_biases, tensors."""
        return json.dumps(
            {
                "every": self.every,
                "steps": self.steps,
                "distinct_biases": self.distinct_biases,
                "tensors": [asdict(tensor) for tensor in self.tensors.values()],
            }
        )

    def save(self, path: str | Path) -> None:
        """to_json() into a file. Errors (opendojo.Error): it cannot be written."""
        _write(path, self.to_json() + "\n")

    def plot(self, path: str | Path, tensors: int = 8) -> None:
        """An SVG that any browser shows: over the steps, the share of saturated and of zeroed
        elements and the bias of the tensors that stand out most, and the number of different
        biases.

        Args:
            tensors: lines in each panel.

        Errors (opendojo.Error): nothing was recorded; the file cannot be written.
        """
        if not self.steps:
            raise Error("TensorLog.plot: nothing was recorded yet; call record() after a step")
        rows = list(self.tensors.values())

        def share(counts: Sequence[int], elements: int) -> list[float]:
            return [100 * count / elements for count in counts]

        panels = [
            ("saturated, % of elements", [(t.name, share(t.saturated, t.elements)) for t in rows]),
            ("zeroed, % of elements", [(t.name, share(t.zeroed, t.elements)) for t in rows]),
            ("bias", [(t.name, [float(b) for b in t.bias]) for t in rows if t.bias]),
            ("different biases", [("all tensors", [float(n) for n in self.distinct_biases])]),
        ]
        drawn = [(title, _standing_out(lines, tensors)) for title, lines in panels]
        _write(path, _svg(self.steps, drawn))


_Line = tuple[str, list[float]]
_WIDTH, _HEIGHT, _LEFT, _LEGEND, _GAP = 640, 150, 60, 260, 46
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")


def _formats() -> list:
    from opendojo import _core

    return _core.formats()


def _write(path: str | Path, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Error(f"{path}: cannot write: {error.strerror}") from error


def _standing_out(lines: list[_Line], count: int) -> list[_Line]:
    """Those that move most, then those that are highest."""
    lines = [line for line in lines if line[1]]
    return sorted(lines, key=lambda line: (min(line[1]) - max(line[1]), -max(line[1])))[:count]


def _svg(steps: list[int], panels: list[tuple[str, list[_Line]]]) -> str:
    height = len(panels) * (_HEIGHT + _GAP) + _GAP
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + _LEGEND}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (title, lines) in enumerate(panels):
        body += _panel(steps, title, lines, _GAP + index * (_HEIGHT + _GAP))
    return "\n".join([*body, "</svg>\n"])


def _panel(steps: list[int], title: str, lines: list[_Line], top: int) -> list[str]:
    values = [value for _, line in lines for value in line] or [0.0]
    low, high = min(0.0, *values), max(*values, 0.0) or 1.0
    bottom = top + _HEIGHT

    def point(step: int, value: float) -> str:
        x = _LEFT + _WIDTH * (step - steps[0]) / max(steps[-1] - steps[0], 1)
        y = bottom - _HEIGHT * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<text x="{_LEFT}" y="{top - 6}" font-size="13">{escape(title)}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#999"/>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{_LEFT}" y="{bottom + 14}">step {steps[0]}</text>',
        f'<text x="{_LEFT + _WIDTH}" y="{bottom + 14}" text-anchor="end">{steps[-1]}</text>',
    ]
    for i, (name, line) in enumerate(lines):
        colour = _COLOURS[i % len(_COLOURS)]
        points = " ".join(point(step, value) for step, value in zip(steps, line, strict=True))
        y = top + 12 + 16 * i
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{_LEFT + _WIDTH + 10}" y="{y}" fill="{colour}">{escape(name)}</text>',
        ]
    return parts
