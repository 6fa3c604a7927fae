"""Capture: the whole training step of a PyTorch module as the text of a Graph.

    step = capture(model, loss, optimizer, example=(inputs, targets))
    print(step.text)

Nothing is computed: tracing runs on shapes alone, so a model may live on the meta device. What is
captured, how and with which limits: docs/capture.md.
"""

from opendojo.capture.flops import counter_excess, eager_flops, flop_ops, flops
from opendojo.capture.step import CapturedStep, capture, capture_forward

__all__ = [
    "CapturedStep",
    "capture",
    "capture_forward",
    "counter_excess",
    "eager_flops",
    "flop_ops",
    "flops",
]
