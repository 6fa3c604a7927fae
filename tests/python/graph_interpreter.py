"""Executes the text of a captured Graph with torch ops, to prove that the text says it all.

For tests only, and not how OpenDojo computes: ATen ops run in ATen, so a replay can equal eager
PyTorch bit for bit. It knows nothing of the capture but the grammar in docs/graph.md.
"""

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "f32": torch.float32,
    "i64": torch.int64,
    "i32": torch.int32,
    "bool": torch.bool,
    "u8": torch.uint8,
}
_LEAF = re.compile(r'  %(\S+) = (input|weight|buffer|state) (\w+)\[([\d,]*)\] "(.*)"$')
_OP = re.compile(
    r"  (?P<targets>[%\w., ]+) = (?P<name>\w+\.\w+)\((?P<operands>[^)]*)\)"
    r"(?: \{(?P<attributes>.*?)\})? : (?P<types>.*?) @\"(?P<module>.*?)\" (?P<phase>fwd|bwd|upd)$"
)
_TYPE = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclass
class Leaf:
    name: str
    kind: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    label: str


@dataclass
class Op:
    targets: list[str | None]
    name: str
    operands: list[str | None]
    attributes: dict[str, Any]
    types: list[tuple[str, tuple[int, ...]]]  # of the targets that are there
    module: str
    phase: str


@dataclass
class ParsedGraph:
    leaves: list[Leaf]
    ops: list[Op]
    updates: list[tuple[str, str]]
    outputs: list[tuple[str, str]]

    def named(self, name: str) -> list[Op]:
        return [op for op in self.ops if op.name == name]

    def labels(self, kind: str) -> list[str]:
        return [leaf.label for leaf in self.leaves if leaf.kind == kind]


def parse(text: str) -> ParsedGraph:
    graph = ParsedGraph([], [], [], [])
    lines = text.splitlines()
    assert re.fullmatch(r'graph ".*" \{', lines[0]) and lines[-1] == "}", lines[0]
    defined: set[str] = set()

    def define(name: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_.]+", name) and name not in defined, name
        defined.add(name)

    for line in lines[1:-1]:
        if found := _LEAF.match(line):
            name, kind, dtype, shape, label = found.groups()
            define(name)
            graph.leaves.append(Leaf(name, kind, DTYPES[dtype], _numbers(shape), label))
        elif found := re.fullmatch(r"  update %(\S+) = %(\S+)", line):
            assert {*found.groups()} <= defined, line
            graph.updates.append((found[1], found[2]))
        elif found := re.fullmatch(r'  output %(\S+) "(.*)"', line):
            assert found[1] in defined, line
            graph.outputs.append((found[1], found[2]))
        else:
            op = _parse_op(line)
            assert {o for o in op.operands if o} <= defined, line
            for target in op.targets:
                if target:
                    define(target)
            graph.ops.append(op)
    return graph


def _parse_op(line: str) -> Op:
    found = _OP.match(line)
    assert found, f"not a statement: {line}"
    types = [(dtype, _numbers(shape)) for dtype, shape in _TYPE.findall(found["types"])]
    targets = [None if t == "_" else t[1:] for t in found["targets"].split(", ")]
    assert len(types) == sum(t is not None for t in targets), line
    names = [o for o in found["operands"].split(", ") if o]
    return Op(
        targets,
        found["name"],
        [None if o == "none" else o[1:] for o in names],
        _attributes(found["attributes"] or ""),
        types,
        found["module"],
        found["phase"],
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _attributes(text: str) -> dict[str, Any]:
    values = {"true": True, "false": False, "inf": math.inf, "-inf": -math.inf, "nan": math.nan}
    pairs = re.findall(r'(\w+)=(\[[^\]]*\]|"[^"]*"|[^,\s]+)', text)
    return {k: values[v] if v in values else ast.literal_eval(v) for k, v in pairs}


class Interpreter:
    """One captured step over real tensors. `leaves` holds weights, buffers and states by label and
    is updated by each step; `draw(op)` gives the value of a dojo.mask."""

    def __init__(self, text: str, leaves: dict[str, Tensor], draw: Callable | None = None) -> None:
        self.graph = parse(text)
        self.leaves = leaves
        self.draw = draw

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by label."""
        values: dict[str, Tensor] = {}
        for leaf in self.graph.leaves:
            source = inputs if leaf.kind == "input" else self.leaves
            tensor = source[leaf.label]
            assert (tensor.dtype, tuple(tensor.shape)) == (leaf.dtype, leaf.shape), leaf
            values[leaf.name] = tensor.detach()
        for op in self.graph.ops:
            operands = [None if o is None else values[o] for o in op.operands]
            results = self._run(op, operands)
            types = iter(op.types)
            for target, result in zip(op.targets, results, strict=True):
                if target is not None:
                    dtype, shape = next(types)
                    assert (result.dtype, tuple(result.shape)) == (DTYPES[dtype], shape), op
                    values[target] = result
        label_of = {leaf.name: leaf.label for leaf in self.graph.leaves}
        # All updates take effect at the end of the step.
        self.leaves.update({label_of[t]: values[v].clone() for t, v in self.graph.updates})
        return {label: values[name] for name, label in self.graph.outputs}

    def _run(self, op: Op, operands: list[Tensor | None]) -> list[Tensor]:
        namespace, name = op.name.split(".")
        if namespace == "dojo":
            if name == "mask":
                assert self.draw is not None, "the step has a mask and no draw was given"
                return [self.draw(op)]
            return _DOJO[name](*operands, **op.attributes)
        if name == "view":  # a Graph has no strides
            return [operands[0].reshape(op.attributes["size"])]  # type: ignore[union-attr]
        if name == "index_put":  # the values before the index tensors, of which there may be many
            x, values, *indices = operands
            result = torch.ops.aten.index_put(x, indices, values, **op.attributes)
            return [result]
        if name == "native_group_norm_backward":  # the kernel takes its operands for contiguous
            operands = [None if o is None else o.contiguous() for o in operands]
        result = call_aten(getattr(torch.ops.aten, name), operands, op.attributes)
        return list(result) if isinstance(result, tuple | list) else [result]


def call_aten(packet: Any, operands: list[Tensor | None], attributes: dict[str, Any]) -> Any:
    """The overload whose schema these operands and attributes fill."""
    for overload in packet.overloads():
        function = getattr(packet, overload)
        bound = _bind(function._schema, operands, attributes)
        if bound is not None:
            return function(*bound[0], **bound[1])
    raise AssertionError(f"{packet}: no overload takes {len(operands)} operands and {attributes}")


def _bind(schema: Any, operands: list, attributes: dict) -> tuple[list, dict] | None:
    if schema.is_mutable:
        return None
    left, unused = list(operands), dict(attributes)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    tensors = [a for a in schema.arguments if "Tensor" in str(a.type)]
    for argument in schema.arguments:
        kind = str(argument.type)
        if "Tensor" in kind and "List" in kind:
            later = len(tensors) - tensors.index(argument) - 1
            value: Any = left[: len(left) - later]
            left = left[len(left) - later :]
        elif "Tensor" in kind:
            if not left or (left[0] is None and "Optional" not in kind):
                return None
            value = left.pop(0)
        elif argument.name in unused:
            value = unused.pop(argument.name)
            if isinstance(value, str) and value in DTYPES:
                value = DTYPES[value]
            if kind == "List[bool]":
                value = [bool(v) for v in value]
        elif argument.has_default_value():
            value = argument.default_value
        elif "Optional" in kind:
            value = None
        else:
            return None
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    return None if left or unused else (positional, keywords)


# --- dojo.*: their meaning, in torch's words ---
def conv_input_grad(gradient, weight, *, input_size, stride, padding, dilation, groups):
    x = torch.empty(input_size)
    return [_convolution_backward(gradient, x, weight, stride, padding, dilation, groups, 0)]


def conv_weight_grad(gradient, x, *, weight_size, stride, padding, dilation, groups):
    weight = torch.empty(weight_size)
    return [_convolution_backward(gradient, x, weight, stride, padding, dilation, groups, 1)]


def _convolution_backward(gradient, x, weight, stride, padding, dilation, groups, which):
    return torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        groups,
        [which == 0, which == 1, False],
    )[which]


def sgd(
    weight, gradient, momentum_buffer, lr, *, momentum=0.0, nesterov=False, weight_decay=0.0,
    maximize=False,
):  # fmt: skip
    gradient = -gradient if maximize else gradient
    if weight_decay:
        gradient = gradient.add(weight, alpha=weight_decay)
    buffer = None
    if momentum_buffer is not None:
        buffer = momentum_buffer.mul(momentum).add(gradient)
        gradient = gradient.add(buffer, alpha=momentum) if nesterov else buffer
    return [weight.add(gradient, alpha=-lr.item()), buffer]


def adamw(
    weight, gradient, mean, square, lr, step, *, beta1, beta2, eps, weight_decay, decoupled,
    maximize=False,
):  # fmt: skip
    lr, step = lr.item(), step.item()
    gradient = -gradient if maximize else gradient
    if decoupled:
        weight = weight.mul(1 - lr * weight_decay)
    elif weight_decay:
        gradient = gradient.add(weight, alpha=weight_decay)
    mean = mean.lerp(gradient, 1 - beta1)
    square = square.mul(beta2).addcmul(gradient, gradient, value=1 - beta2)
    size = lr / (1 - beta1**step)
    root = (square.sqrt() / math.sqrt(1 - beta2**step)).add(eps)
    return [weight.addcdiv(mean, root, value=-size), mean, square]


_DOJO = {
    "adamw": adamw,
    "conv_input_grad": conv_input_grad,
    "conv_weight_grad": conv_weight_grad,
    "sgd": sgd,
}
