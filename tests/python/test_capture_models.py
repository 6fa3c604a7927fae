"""ResNet-50, RegNet-Y, ViT-B/16 and GPT-2, made from their configurations: they capture, their
FLOPs are those of the closed forms and of flop_counter, and small ones replay as eager."""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import transformers
from graph_interpreter import parse
from opendojo import _core
from opendojo.capture import capture, counter_excess, eager_flops, flops
from test_capture_replay import adamw, check_replay, sgd
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]


def image_loss(output: transformers.utils.ModelOutput, target: Tensor) -> Tensor:
    return F.cross_entropy(output.logits, target)


def token_loss(output: transformers.utils.ModelOutput, target: Tensor) -> Tensor:
    return F.cross_entropy(output.logits.flatten(0, 1), target.flatten())


def images(count: int, size: int = 224) -> tuple:
    return (torch.empty(count, 3, size, size),), (torch.zeros(count, dtype=torch.int64),)


def tokens(count: int, length: int) -> tuple:
    ids = torch.zeros(count, length, dtype=torch.int64)
    return (ids,), (ids,)


def resnet(**options: object) -> nn.Module:
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**options))


def regnet(**options: object) -> nn.Module:
    return transformers.RegNetForImageClassification(transformers.RegNetConfig(**options))


def vit(**options: object) -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**options))


def gpt2(**options: object) -> nn.Module:
    config = transformers.GPT2Config(use_cache=False, **options)
    return transformers.GPT2LMHeadModel(config)


# --- closed forms, from the papers' layer shapes ---
class Convolution(NamedTuple):
    size: int  # height and width of the output
    kernel: int
    inputs: int
    outputs: int
    groups: int = 1

    def flops(self, count: int) -> int:
        taps = self.kernel**2 * self.inputs // self.groups
        return 2 * count * self.size**2 * taps * self.outputs


def resnet_50() -> Iterator[Convolution]:
    """He et al. 2015, table 1; the stride is at the 3x3 convolution."""
    yield Convolution(112, 7, 3, 64)
    width = 64
    for size, depth, out in [(56, 3, 256), (28, 4, 512), (14, 6, 1024), (7, 3, 2048)]:
        for block in range(depth):
            before = size * 2 if block == 0 and size < 56 else size
            if block == 0:
                yield Convolution(size, 1, width, out)
            yield Convolution(before, 1, width, out // 4)
            yield Convolution(size, 3, out // 4, out // 4)
            yield Convolution(size, 1, out // 4, out)
            width = out


REGNET_Y_4GF = {
    "depths": [2, 6, 12, 2],
    "hidden_sizes": [128, 192, 512, 1088],
    "groups_width": 64,
    "num_labels": 1000,
}


def regnet_y(
    depths: Sequence[int], widths: Sequence[int], group_width: int
) -> Iterator[Convolution]:
    """Radosavovic et al. 2020, table 4: blocks of 1x1, grouped 3x3, squeeze-excitation, 1x1."""
    yield Convolution(112, 3, 3, 32)
    width = 32
    for size, depth, out in zip((56, 28, 14, 7), depths, widths, strict=True):
        for block in range(depth):
            if block == 0:
                yield Convolution(size, 1, width, out)
            yield Convolution(size * 2 if block == 0 else size, 1, width, out)
            yield Convolution(size, 3, out, out, groups=out // group_width)
            squeezed = round(width / 4)
            yield Convolution(1, 1, out, squeezed)
            yield Convolution(1, 1, squeezed, out)
            yield Convolution(size, 1, out, out)
            width = out


def network_flops(count: int, layers: list[Convolution], width: int, classes: int) -> int:
    """Forward, both gradients of each convolution but the first (frames need none), the head."""
    forward = sum(layer.flops(count) for layer in layers)
    return 3 * forward - layers[0].flops(count) + 3 * 2 * count * width * classes


def transformer_flops(count: int, length: int, width: int, heads: int, layers: int) -> int:
    """Blocks alone: q, k, v, output and a fourfold MLP; attention without discount for masks."""
    linear = 2 * count * length * 12 * width * width
    attention = 2 * (2 * count * heads * length * length * (width // heads))
    return 3 * layers * (linear + attention)


def vit_b_16(count: int) -> int:
    patches = 2 * count * 196 * (3 * 16 * 16) * 768  # and the gradient of its weight alone
    head = 2 * count * 768 * 1000
    return transformer_flops(count, 197, 768, 12, 12) + 2 * patches + 3 * head


def gpt2_124m(count: int, length: int) -> int:
    head = 2 * count * length * 768 * 50257
    return transformer_flops(count, length, 768, 12, 12) + 3 * head


def documented_ops(column: str) -> dict[str, int]:
    """A column of the last table of docs/capture.md."""
    text = (ROOT / "docs/capture.md").read_text().split("## Ops of five networks")[1]
    header, _, *rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    at = header.index(column)
    return {row[0]: int(row[at]) for row in rows if row[at]}


class Case(NamedTuple):
    title: str
    make: Callable[[], nn.Module]
    loss: Callable
    optimizer: Callable
    example: tuple
    flops: int
    parameters: int  # as published: 25.6 M, 20.6 M, 86.6 M, 124 M


CASES = {
    "resnet-50": Case(
        "ResNet-50",
        lambda: resnet(num_labels=1000),
        image_loss,
        sgd(momentum=0.9, weight_decay=1e-4),
        images(2),
        network_flops(2, list(resnet_50()), 2048, 1000),
        25_557_032,
    ),
    "regnet-y-4gf": Case(
        "RegNet-Y",
        lambda: regnet(**REGNET_Y_4GF),
        image_loss,
        sgd(momentum=0.9),
        images(2),
        network_flops(2, list(regnet_y((2, 6, 12, 2), (128, 192, 512, 1088), 64)), 1088, 1000),
        20_646_656,
    ),
    "vit-b-16": Case(
        "ViT-B/16",
        lambda: vit(num_labels=1000),
        image_loss,
        adamw(),
        images(2),
        vit_b_16(2),
        86_567_656,
    ),
    "gpt-2": Case(
        "GPT-2", gpt2, token_loss, adamw(), tokens(1, 1024), gpt2_124m(1, 1024), 124_439_808
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_whole_step_captures_with_the_flops_of_the_closed_form(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    case = CASES[name]
    with torch.device("meta"):
        model = case.make()
    assert sum(p.numel() for p in model.parameters()) == case.parameters
    step = capture(model, case.loss, case.optimizer(model), case.example, name=name)
    graph = parse(step.text)

    names = [n for n, _ in model.named_parameters()]
    assert graph.labels("weight") == names and step.without_gradient == step.frozen == []
    updates = [op for op in graph.ops if op.phase == "upd"]
    assert [op.operands[:2] for op in updates] == [[f"p.{n}", f"d.{n}"] for n in names]

    total = sum(flops(step).values())
    assert total == case.flops
    assert total + counter_excess(step) == eager_flops(model, case.loss, case.example)
    # The parser takes the text, and the loop nests of the op table count the same.
    statistics = json.loads(_core.Graph.parse(step.text, name).statistics_json())
    assert statistics["total"]["matrix_flops"] == total
    assert statistics["parameters"] == case.parameters
    counts = Counter(op.name for op in graph.ops)
    assert statistics["ops"] == counts == documented_ops(case.title)
    with capsys.disabled():
        print(f"\n{name}: {len(graph.ops)} ops of {len(counts)} kinds, {total:,} FLOPs")


def test_the_steering_network_captures_with_the_ops_documented() -> None:
    spec = importlib.util.spec_from_file_location("model", ROOT / "examples/drive/model.py")
    assert spec is not None and spec.loader is not None
    steering = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steering)
    model = steering.SteeringNetwork((0.0, 0.0)).train()
    example = (torch.empty(32, 4, 3, 60, 80, dtype=torch.uint8),), (torch.empty(32, 2),)
    step = capture(model, F.mse_loss, adamw()(model), example)
    assert Counter(op.name for op in step.ops) == documented_ops("steering")
    assert sum(flops(step).values()) == eager_flops(model, F.mse_loss, example)


# --- replays ---
def batches(size: int, classes: int) -> Callable:
    generator = torch.Generator().manual_seed(7)
    return lambda: (
        (torch.randn(2, 3, size, size, generator=generator),),
        (torch.randint(classes, (2,), generator=generator),),
    )


def test_a_small_resnet_replays_as_eager() -> None:
    torch.manual_seed(0)
    model = resnet(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], num_labels=5)
    check_replay(model.train(), image_loss, sgd(momentum=0.9), batches(32, 5), steps=3)


def test_a_small_regnet_replays_as_eager() -> None:
    torch.manual_seed(0)
    model = regnet(
        embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], groups_width=8, num_labels=5
    )
    check_replay(model.train(), image_loss, sgd(momentum=0.9), batches(32, 5), steps=3)


def test_a_small_vit_replays_as_eager() -> None:
    torch.manual_seed(0)
    model = vit(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        num_labels=5,
    )
    check_replay(model.train(), image_loss, adamw(), batches(32, 5), steps=3)


def test_a_small_gpt2_replays_as_eager() -> None:
    torch.manual_seed(0)
    model = gpt2(
        n_embd=16,
        n_layer=2,
        n_head=2,
        vocab_size=11,
        n_positions=16,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    generator = torch.Generator().manual_seed(8)

    def batch() -> tuple:
        ids = torch.randint(11, (2, 9), generator=generator)
        return (ids,), (ids,)

    check_replay(model.train(), token_loss, adamw(), batch, steps=3)


def test_dropout_of_gpt2_is_one_mask_for_each_site() -> None:
    model = gpt2(n_embd=16, n_layer=2, n_head=2, vocab_size=11, n_positions=16).train()
    step = capture(model, token_loss, adamw()(model), tokens(2, 9))
    masks = parse(step.text).named("dojo.mask")
    assert len(masks) == 1 + 2 * 3  # embeddings; attention, its projection and the MLP of a block
    assert {op.phase for op in masks} == {"fwd"}
