"""Which FP32 tensors a step in recipe cfloat8 stores whole, beside the gradients of its leaves and
what has one number per channel or row. Each has a reason here; a new one fails."""

import importlib.util
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import opendojo
import pytest
import torch
from torch.nn import functional

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def loaded(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


drive = loaded("drive/model.py")
models = loaded("numerics/models.py")


@dataclass(frozen=True)
class Kept:
    """So many FP32 tensors that tasks of these ops store, and why."""

    ops: str
    tensors: int
    why: str


def steering() -> opendojo.TrainingStep:
    model = drive.SteeringNetwork(dropout=0.3)
    frames = torch.randint(
        0, 256, (2, drive.FRAMES, 3, drive.HEIGHT, drive.WIDTH), dtype=torch.uint8
    )
    optimizer = torch.optim.AdamW(model.parameters())
    example = ((frames,), (torch.rand(2, 2),))
    return opendojo.compile_step(model, functional.mse_loss, optimizer, example, recipe="cfloat8")


def resnet18() -> opendojo.TrainingStep:
    model = models.ResNet18(10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    example = ((torch.rand(2, 3, 64, 64),), (torch.arange(2),))
    return opendojo.compile_step(
        model, functional.cross_entropy, optimizer, example, recipe="cfloat8"
    )


def gpt() -> opendojo.TrainingStep:
    model = models.Gpt(models.GptShape(characters=40, context=16, layers=2, width=24, heads=3))
    text = torch.arange(34) % 40
    example = ((text[:32].view(2, 16),), (text[1:33],))
    optimizer = torch.optim.AdamW(model.parameters())
    return opendojo.compile_step(
        model, functional.cross_entropy, optimizer, example, recipe="cfloat8"
    )


GATHERED = "rows of a table come and go by index; what gathers them writes FP32, then it is rounded"
LOSS = "the recipe leaves the last layer's result, the loss and its gradient in FP32"

CASES = [
    # A vector of 64 numbers per channel is the longest that is none of an activation.
    (steering, 64, []),
    (
        resnet18,
        512,
        [
            Kept("bwd dojo.conv_input_grad value", 3, "added to the other branch, not yet made"),
            Kept("bwd aten.max_pool2d_with_indices_backward", 1, "scattered by index, in FP32"),
            Kept(
                "bwd aten.max_pool2d_with_indices_backward value",
                1,
                "the gradient of a norm's result, which two passes read",
            ),
            Kept("fwd aten.mean", 1, "a sum, divided and rounded when it is complete"),
        ],
    ),
    (
        gpt,
        100,
        [
            Kept("bwd aten.cat", 4 * 2, "gradients of heads, each moved into its columns"),
            Kept("fwd aten.addmm value", 1, LOSS),
            Kept("fwd aten._log_softmax value saved", 1, LOSS),
            Kept("bwd aten.nll_loss_backward value", 1, LOSS),
            Kept("fwd aten.embedding", 2, GATHERED),
            Kept("bwd aten.embedding_dense_backward", 2, GATHERED),
            Kept("bwd aten.sum", 1, "of the gradient of positions over texts, then rounded"),
        ],
    ),
]


def stored_activations(step: opendojo.TrainingStep, per_channel: int) -> Counter[str]:
    """Phase and ops, of values of the Graph "value", read by the backward part "saved"."""
    found: Counter[str] = Counter()
    for tensor in step.executor.stored_tensors():
        is_gradient_of_leaf = tensor["value"].startswith("d.")
        if tensor["format"] != "f32" or tensor["is_piece"] or is_gradient_of_leaf:
            continue
        if tensor["elements"] > per_channel:
            words = [tensor["phase"], tensor["ops"]]
            words += ["value"] if tensor["value"] else []
            words += ["saved"] if tensor["is_saved"] else []
            found[" ".join(words)] += 1
    return found


@pytest.mark.parametrize(("network", "per_channel", "kept"), CASES)
def test_a_step_stores_no_other_activation_in_fp32(network, per_channel, kept):
    torch.manual_seed(0)
    found = stored_activations(network(), per_channel)
    assert found == {each.ops: each.tensors for each in kept}


def test_pieces_are_bounded_and_what_is_stored_is_named():
    step = steering()
    stored = step.executor.stored_tensors()
    assert all(tensor["elements"] <= 2**18 for tensor in stored if tensor["is_piece"])
    assert any(tensor["is_piece"] for tensor in stored)
    # The arena is no smaller than its largest tensor, and saved bytes are those said to be saved.
    saved = [t for t in stored if t["is_saved"]]
    bits = {"cf8_1_4_3": 8, "cf8_1_5_2": 8, "bool": 8, "u8": 8, "bf16": 16, "shp": 16, "f32": 32}
    assert step.executor.saved_bytes == sum(t["elements"] * bits[t["format"]] // 8 for t in saved)
