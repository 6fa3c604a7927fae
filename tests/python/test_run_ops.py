"""Values of the executor against PyTorch: every op of tests/golden/graph/every_op.graph, in FP32.

That file has an op of each row of the op table. Each is run here as a lowered Graph of its own, all
in FP32. What differs from PyTorch is the order of sums and the last bit of special functions, hence
the tolerance.
"""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from graph_interpreter import _OP, DTYPES, Op
from opendojo import _core
from test_op_table import GRAPH, TYPES, computed, golden_text
from torch import Tensor

HEAD = 'recipe "fp32" machine "none" {bias="delayed", denormals="paper"}'
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LINES = [line for line in golden_text().splitlines() if _OP.match(line)]
RUNNABLE = [
    (op, line)
    for op, line in zip(GRAPH.ops, LINES, strict=True)
    if op.name != "aten.convolution_backward"  # never in a lowered Graph
]
INDEXING = ("embedding", "gather", "scatter", "index", "nll_loss")
LEAST_INT = {"aten.div": 1, "aten.remainder": 1, "aten.sqrt": 1, "aten.pow": 0, "dojo.adamw": 1}


def one_op(op: Op, line: str) -> str:
    """The text of a lowered Graph of this op alone, on inputs."""
    names = dict.fromkeys(name for name in op.operands if name)
    leaves = [
        f'  %{name} = input {NAMES[TYPES[name][0]]}[{",".join(map(str, TYPES[name][1]))}] "{name}"'
        for name in names
    ]
    outputs = [f'  output %{target} "{target}"' for target in op.targets if target]
    return "\n".join([f'graph "one op" {HEAD} {{', *leaves, line, *outputs, "}"]) + "\n"


def drawn(op: Op, generator: torch.Generator) -> dict[str, Tensor]:
    """Contents for the operands: indices in range, roots and logarithms of what is positive."""
    values = {}
    needs_positive = re.search(r"sqrt|log1?p?$|pow|sgd|adamw|norm_backward", op.name)
    for name in dict.fromkeys(name for name in op.operands if name):
        dtype, shape = TYPES[name]
        if dtype == torch.bool:
            values[name] = torch.rand(shape, generator=generator) < 0.5
        elif not dtype.is_floating_point:
            is_index = any(word in op.name for word in INDEXING)
            low = 0 if is_index or dtype == torch.uint8 else -5
            high = 2 if is_index else 6
            low = LEAST_INT.get(op.name, low)
            values[name] = torch.randint(low, high, shape, generator=generator, dtype=dtype)
        else:
            value = torch.randn(shape, generator=generator)
            values[name] = value.abs() + 0.05 if needs_positive else value
            if op.name == "dojo.adamw" and name == "step":
                values[name] = torch.tensor(3.0)
    if op.name == "aten.max_pool2d_with_indices_backward":  # winners inside of their windows
        pooled = torch.ops.aten.max_pool2d_with_indices(values["x"], **op.attributes)
        values[str(op.operands[2])] = pooled[1]
    return values


def run(op: Op, line: str, values: dict[str, Tensor]) -> list[Tensor | None]:
    executor = _core.Executor(_core.Graph.parse(one_op(op, line), "one op"), 2)
    outputs = executor.step({name: value.numpy() for name, value in values.items()})
    return [torch.from_numpy(outputs[t]) if t else None for t in op.targets]


def expect_close(op: Op, got: list[Tensor | None], wanted: list[Tensor]) -> None:
    for target, mine, theirs in zip(op.targets, got, wanted, strict=True):
        if mine is not None:
            theirs = theirs.detach()
            torch.testing.assert_close(
                mine,
                theirs,
                rtol=2e-5,
                atol=2e-5,
                equal_nan=True,
                msg=f"{op.name} %{target}",
            )


@pytest.mark.parametrize(
    ("op", "line"), RUNNABLE, ids=[f"{op.name} {op.targets}" for op, _ in RUNNABLE]
)
def test_values_are_those_of_pytorch(op: Op, line: str) -> None:
    if op.name.startswith("dojo."):
        pytest.skip("PyTorch has no such op; see the tests below")
    generator = torch.Generator().manual_seed(len(line))
    for _ in range(3):
        values = drawn(op, generator)
        operands = [values[name] if name else None for name in op.operands]
        got = run(op, line, values)
        if "nll_loss" in op.name and len(got) == 2 and op.attributes["reduction"] == 0:
            got[1] = None  # PyTorch leaves total_weight at 0 where nothing is reduced
        expect_close(op, got, computed(op, operands))


def named(name: str) -> tuple[Op, str]:
    return next((op, line) for op, line in RUNNABLE if op.name == name)


def drawn_for(name: str) -> tuple[Op, str, dict[str, Tensor]]:
    op, line = named(name)
    return op, line, drawn(op, torch.Generator().manual_seed(5))


def test_gradients_of_a_convolution_are_those_of_pytorch() -> None:
    convolution, _ = named("aten.convolution")
    arguments = {k: v for k, v in convolution.attributes.items() if k != "transposed"}
    for name, first in (("dojo.conv_input_grad", False), ("dojo.conv_weight_grad", True)):
        op, line, values = drawn_for(name)
        dy, other = (values[operand] for operand in op.operands)
        size = op.attributes["weight_size" if first else "input_size"]
        wanted = torch.zeros(size, requires_grad=True)
        x, w = (other, wanted) if first else (wanted, other)
        torch.nn.functional.conv2d(x, w, **arguments).backward(dy)
        assert wanted.grad is not None
        expect_close(op, run(op, line, values), [wanted.grad])


def expect_optimiser(op: Op, line: str, make: Callable, state: dict[str, str]) -> None:
    """make(parameter, lr) gives PyTorch's optimiser; `state` maps its state's keys to operands."""
    values = drawn(op, torch.Generator().manual_seed(3))
    parameter = torch.nn.Parameter(values[str(op.operands[0])].clone())
    parameter.grad = values[str(op.operands[1])].clone()
    optimizer = make(parameter, float(values["lr"]))
    for key, operand in state.items():
        value = values[operand].clone()
        optimizer.state[parameter][key] = value - 1 if key == "step" else value  # completed before
    optimizer.step()
    kept = [optimizer.state[parameter][key] for key in state if key != "step"]
    got = [value for value in run(op, line, values) if value is not None]
    assert len(got) == 1 + len(kept)
    for mine, theirs in zip(got, [parameter.detach(), *kept], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=2e-6)


def test_optimisers_are_those_of_pytorch() -> None:
    for op, line in RUNNABLE:
        given = dict(op.attributes)
        if op.name == "dojo.sgd":
            expect_optimiser(
                op,
                line,
                lambda p, lr, given=given: torch.optim.SGD([p], lr=lr, foreach=False, **given),
                {"momentum_buffer": op.operands[2]} if op.operands[2] else {},
            )
        elif op.name == "dojo.adamw":
            betas = (given.pop("beta1", 0.9), given.pop("beta2", 0.999))
            given.setdefault("weight_decay", 0.0)
            kind = torch.optim.AdamW if given.pop("decoupled", True) else torch.optim.Adam
            names = ("exp_avg", "exp_avg_sq", "step")
            expect_optimiser(
                op,
                line,
                lambda p, lr, kind=kind, betas=betas, given=given: kind(
                    [p], lr=lr, betas=betas, foreach=False, **given
                ),
                dict(zip(names, map(str, [*op.operands[2:4], op.operands[5]]), strict=True)),
            )


def test_conversion_to_the_same_format_changes_nothing() -> None:
    op, line, values = drawn_for("dojo.convert")
    (mine,) = run(op, line, values)
    assert mine is not None
    assert torch.equal(mine, values[op.operands[0]])  # type: ignore[index]


def test_a_mask_drops_the_stated_share_and_scales_the_rest() -> None:
    line = '  %mask = dojo.mask() {p=0.25, size=[100000]} : f32[100000] @"drop" fwd'
    text = f'graph "mask" {HEAD} {{\n{line}\n  output %mask "mask"\n}}\n'
    executor = _core.Executor(_core.Graph.parse(text, "mask"), 1, 9)
    first = executor.step({})["mask"]
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(float((first == 0).mean()) - 0.25) < 0.01
    assert not np.array_equal(first, executor.step({})["mask"])  # another step, other bits
    again = _core.Executor(_core.Graph.parse(text, "mask"), 2, 9)
    assert np.array_equal(first, again.step({})["mask"])
