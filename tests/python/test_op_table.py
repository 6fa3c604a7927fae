"""Shapes and formats of the op table are those that PyTorch computes.

tests/golden/graph/every_op.graph has an op of each row; the C++ tests hold that the parser accepts
its types, this file that PyTorch computes the same ones.
"""

import re
from pathlib import Path

import pytest
import torch
from graph_interpreter import DTYPES, Op, _attributes, call_aten, parse

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/graph/every_op.graph"


def golden_text() -> str:
    lines = [line.split("//")[0].rstrip() for line in GOLDEN.read_text().splitlines()]
    return "\n".join(line for line in lines if line)


def row_defaults() -> dict[str, dict]:
    """The defaults of each row, as docs/ops.md prints them: ATen requires some of them."""
    rows = {}
    for line in (ROOT / "docs/ops.md").read_text().splitlines():
        if found := re.match(r"\| `([\w.]+)` \| .*? \| (.*?) \|", line):
            rows[found[1]] = {k: v for k, v in _attributes(found[2]).items() if v != []}
    return rows


LIST_OVERLOADS = {"aten.any": "dims", "aten.all": "dims", "aten.squeeze": "dims"}
MAY_LACK_OPERANDS = {"aten.binary_cross_entropy_with_logits": 4, "aten.nll_loss2d_forward": 3}

GRAPH = parse(golden_text())
DEFAULTS = row_defaults()
TYPES = {leaf.name: (leaf.dtype, leaf.shape) for leaf in GRAPH.leaves}
for _op in GRAPH.ops:
    _types = iter(_op.types)
    for _target in _op.targets:
        if _target is not None:
            _dtype, _shape = next(_types)
            TYPES[_target] = (DTYPES[_dtype], _shape)


def test_every_row_has_an_op() -> None:
    assert {op.name for op in GRAPH.ops} == set(DEFAULTS)


def ones(op: Op) -> list:
    """Operands of its types, full of ones (indices of any row)."""
    types = [None if name is None else TYPES[name] for name in op.operands]
    return [None if t is None else torch.ones(t[1], dtype=t[0]) for t in types]


def computed(op: Op, operands: list) -> list:
    """What PyTorch gives for these operands."""
    if op.name == "aten.index_put":  # a list of tensors comes last in a Graph
        x, values, *indices = operands
        return [torch.ops.aten.index_put(x, indices, values, **op.attributes)]
    packet = getattr(torch.ops.aten, op.name.removeprefix("aten."))
    if op.name in LIST_OVERLOADS and "dim" in op.attributes:  # others take one number
        return [getattr(packet, LIST_OVERLOADS[op.name])(*operands, **op.attributes)]
    names = {a.name for o in packet.overloads() for a in getattr(packet, o)._schema.arguments}
    attributes = {k: v for k, v in DEFAULTS[op.name].items() if k in names} | op.attributes
    if op.name in ("aten.where", "aten.pow"):  # a number stands in the place of its tensor
        operands = [o for o in operands if o is not None]
    spatial = len(TYPES[op.operands[0]][1]) - 2 if op.operands and "convolution" in op.name else 2
    for name in ("stride", "padding", "dilation", "output_padding"):
        if name in attributes and len(attributes[name]) == 1:
            attributes[name] = attributes[name] * spatial
    if op.name in MAY_LACK_OPERANDS:
        operands += [None] * (MAY_LACK_OPERANDS[op.name] - len(operands))
    result = call_aten(packet, operands, attributes)
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize("op", GRAPH.ops, ids=lambda op: f"{op.name} {op.targets[0]}")
def test_types_are_those_of_pytorch(op: Op) -> None:
    if op.name.startswith("dojo."):
        pytest.skip("PyTorch has no such op")
    types = iter(op.types)
    for target, result in zip(op.targets, computed(op, ones(op)), strict=True):
        if target is not None:
            dtype, shape = next(types)
            assert (result.dtype, tuple(result.shape)) == (DTYPES[dtype], shape)
