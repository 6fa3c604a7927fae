"""FLOPs of matrix products and convolutions, 2 per multiply-accumulate.

Two counts that must agree: of a captured step, op by op with the installed torch's own formulas,
and of the eager step, by torch.utils.flop_counter under the same fake tensors and flags. Where
flop_counter is known to be wrong, counter_excess says by how much.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from opendojo.capture.graph_text import Op
from opendojo.capture.step import CapturedStep
from opendojo.capture.trace import (
    Arguments,
    StepModule,
    deterministic_tracing,
    fake_arguments,
    fake_like,
    split_loss,
)


def flops(step: CapturedStep) -> dict[str, int]:
    """FLOPs by op name over the whole step; their sum is the step's."""
    counts: dict[str, int] = {}
    for op in flop_ops(step):
        counts[op.name] = counts.get(op.name, 0) + op.flops
    return counts


def flop_ops(step: CapturedStep) -> list[Op]:
    """The ops that count, in order."""
    return [op for op in step.graph.ops if op.flops]


def counter_excess(step: CapturedStep) -> int:
    """What flop_counter of torch 2.13 counts too much: it takes the weight gradient of a
    convolution with g groups g times (PyTorch pull request 183405)."""
    excess = 0
    for op in step.graph.ops:
        groups = op.attributes.get("groups", 1)
        if op.name == "dojo.conv_weight_grad" and isinstance(groups, int):
            excess += op.flops * (groups - 1)
    return excess


def eager_flops(model: nn.Module, loss: Callable, example: tuple[Any, tuple]) -> int:
    """What FlopCounterMode counts for one eager forward, loss and backward on fake tensors, with
    all parameters that require a gradient. Needs no weights: the model may be meta."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    step = StepModule(model, loss)
    leaves = {
        name: fake_like(fake, p, requires_grad=p.requires_grad)
        for name, p in step.parameters_by_path().items()
    }
    wanted = [p for p in leaves.values() if p.requires_grad]
    leaves |= {name: fake_like(fake, b) for name, b in step.buffers_by_path().items()}
    inputs, targets = fake_arguments(fake, (example[0], tuple(example[1])))
    with deterministic_tracing(fake), FlopCounterMode(display=False) as counter:
        output = step.call(leaves, Arguments.of(inputs))
        value, _ = split_loss(step.call_loss(leaves, output, targets))
        torch.autograd.grad(value, wanted, allow_unused=True)
    return counter.get_total_flops()
