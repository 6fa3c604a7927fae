"""GraphText: leaves, ops, updates and outputs in execution order, written as the text of a Graph.

The text is what docs/graph.md describes; its parser is the one place that checks ops and shapes.
Values have unique names of letters, digits, `_` and `.`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Attribute = int | float | bool | str | list[int] | list[float]

LEAF_KINDS = ("input", "weight", "buffer", "state")


@dataclass(eq=False)
class Value:
    name: str  # without the %
    dtype: str  # "f32"
    shape: tuple[int, ...]
    kind: str = "op"  # "op" or one of LEAF_KINDS
    label: str = ""  # of a leaf

    @property
    def type(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(eq=False)
class Op:
    name: str  # "aten.add"
    inputs: list[Value | None]
    attributes: dict[str, Attribute]
    outputs: list[Value | None]
    module: str
    phase: str  # "fwd", "bwd" or "upd"
    flops: int = 0  # of matrix products and convolutions, as torch.utils.flop_counter counts


@dataclass
class GraphText:
    name: str
    leaves: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    updates: list[tuple[Value, Value]] = field(default_factory=list)
    outputs: list[tuple[Value, str]] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)
    _next: dict[str, int] = field(default_factory=dict)

    def unused_name(self, wanted: str) -> str:
        wanted = re.sub(r"[^A-Za-z0-9_.]", "_", wanted)
        name = wanted
        while name in self._taken:
            self._next[wanted] = self._next.get(wanted, 0) + 1
            name = f"{wanted}.{self._next[wanted]}"
        self._taken.add(name)
        return name

    def leaf(self, kind: str, name: str, dtype: str, shape: tuple[int, ...], label: str) -> Value:
        assert kind in LEAF_KINDS
        value = Value(self.unused_name(name), dtype, tuple(shape), kind, label)
        self.leaves.append(value)
        return value

    def value(self, name: str, dtype: str, shape: tuple[int, ...]) -> Value:
        return Value(self.unused_name(name), dtype, tuple(shape))

    def rename(self, value: Value, name: str) -> None:
        self._taken.discard(value.name)
        value.name = self.unused_name(name)

    def drop_unread(self) -> None:
        """Removes ops nobody reads, and weights, buffers and states nobody reads or updates.
        Outputs nobody reads become `_`. Inputs stay: the caller gives them anyway. Then sorts the
        leaves by kind."""
        live = {id(v) for v, _ in self.outputs}
        for target, value in self.updates:
            live |= {id(target), id(value)}
        kept = []
        for op in reversed(self.ops):
            op.outputs = [v if v is not None and id(v) in live else None for v in op.outputs]
            if any(v is not None for v in op.outputs):
                live |= {id(v) for v in op.inputs if v is not None}
                kept.append(op)
        self.ops = kept[::-1]
        self.leaves = [v for v in self.leaves if v.kind == "input" or id(v) in live]
        self.leaves.sort(key=lambda v: LEAF_KINDS.index(v.kind))

    def render(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"graph {quoted(self.name)} {{"
        for leaf in self.leaves:
            yield f"  %{leaf.name} = {leaf.kind} {leaf.type} {quoted(leaf.label)}"
        for op in self.ops:
            yield "  " + self._op_line(op)
        for target, value in self.updates:
            yield f"  update %{target.name} = %{value.name}"
        for value, label in self.outputs:
            yield f"  output %{value.name} {quoted(label)}"
        yield "}"

    @staticmethod
    def _op_line(op: Op) -> str:
        targets = ", ".join("_" if v is None else f"%{v.name}" for v in op.outputs)
        operands = ", ".join("none" if v is None else f"%{v.name}" for v in op.inputs)
        attributes = ", ".join(f"{k}={attribute(v)}" for k, v in sorted(op.attributes.items()))
        types = ", ".join(v.type for v in op.outputs if v is not None)
        braces = f" {{{attributes}}}" if attributes else ""
        return (
            f"{targets} = {op.name}({operands}){braces} : {types} @{quoted(op.module)} {op.phase}"
        )


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def attribute(value: Attribute) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isinf(value) or math.isnan(value):
            return repr(value)
        text = repr(value)
        return text if "." in text or "e" in text else text + ".0"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(attribute(v) for v in value) + "]"
    return str(value)
