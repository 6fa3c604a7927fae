"""The shipped workloads: their FLOPs are closed forms of the published shapes, small ones of their
own parts replay as eager and train in the executor, and the command writes Graphs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import diffusers
import pytest
import torch
import torch.nn.functional as F
import transformers
from opendojo import _core
from opendojo.capture import capture, counter_excess, eager_flops, flops
from test_capture_families import (
    check_lowered_step,
    first_layer,
    llama_flops,
    nearly,
    trained,
    words,
)
from test_capture_models import network_flops, regnet_y, resnet_50, transformer_flops
from test_capture_replay import adamw, check_replay, sgd
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples/workloads"))

import driving  # noqa: E402
import experts  # noqa: E402
import registry  # noqa: E402
import write  # noqa: E402
from masked_video import MaskedVideo  # noqa: E402

WRITE = ROOT / "examples/workloads/write.py"


# --- closed forms ---
def unet_resnet(inputs: int, outputs: int, area: int) -> int:
    """Two 3x3 convolutions, the time's projection, and a 1x1 where the width changes."""
    shortcut = area * inputs * outputs if inputs != outputs else 0
    return trained(area * 9 * outputs * (inputs + outputs) + 1280 * outputs + shortcut)


def unet_transformer(width: int, area: int) -> int:
    """1x1, attention to itself and to 77 words of 768 (given: no gradient), a gated MLP, 1x1."""
    projections = area * width * width * (1 + 4 + 2 + 12 + 1)
    attention = 2 * area * area * width + 2 * area * 77 * width
    return trained(projections + attention) + first_layer(2 * 77 * 768 * width)


def stable_diffusion() -> int:
    """Rombach et al. 2022, as released: widths 320, 640, 1280, 1280 at 64, 32, 16, 8; two blocks a
    level down, three up; attention at all levels but the lowest."""
    levels = [(320, 64 * 64), (640, 32 * 32), (1280, 16 * 16), (1280, 8 * 8)]
    total = first_layer(64 * 64 * 9 * 4 * 320) + first_layer(320 * 1280) + trained(1280 * 1280)
    skips = [320]
    width = 320
    for level, (out, area) in enumerate(levels):
        for _ in range(2):
            total += unet_resnet(width, out, area)
            total += unet_transformer(out, area) if level < 3 else 0
            skips.append(out)
            width = out
        if level < 3:
            total += trained(area // 4 * 9 * out * out)
            skips.append(out)
    total += 2 * unet_resnet(1280, 1280, 64) + unet_transformer(1280, 64)
    for level, (out, area) in reversed(list(enumerate(levels))):
        for _ in range(3):
            total += unet_resnet(width + skips.pop(), out, area)
            total += unet_transformer(out, area) if level < 3 else 0
            width = out
        if level > 0:
            total += trained(4 * area * 9 * out * out)
    return total + trained(64 * 64 * 9 * 320 * 4)


def masked_video() -> int:
    """Tong et al. 2022: 160 of 1568 patches are encoded by ViT-L, all are decoded."""
    patch = 3 * 2 * 16 * 16
    encoder = transformer_flops(1, 160, 1024, 16, 24) + trained(160 * 1024 * 512)
    decoder = transformer_flops(1, 1568, 512, 8, 12) + trained((1568 - 160) * 512 * patch)
    return first_layer(1568 * patch * 1024) + encoder + decoder


def attention(queries: int, keys: int, width: int) -> int:
    return 2 * (queries + keys) * width * width + 2 * queries * keys * width


def driving_network() -> int:
    """One sample: 32 frames through the backbone, then each part of driving.py in turn."""
    layers = list(regnet_y((2, 6, 12, 2), (128, 192, 512, 1088), 64))
    backbone = 0
    for number, layer in enumerate(layers):
        once = layer.flops(32) * (3 if number else 2)
        # 1280 x 960 instead of 224 x 224, but squeezed planes are 1 x 1 at any size.
        backbone += once if layer.size == 1 else once * 1280 * 960 // 224**2
    fine, coarse, width, grid = 60 * 80, 30 * 40, 256, 25 * 25
    pyramid = 32 * width * (fine * 512 + coarse * 1088 + (fine + coarse) * 9 * width)
    mlp = 2 * width * 2 * width
    views = sum(4 * (attention(grid, 8 * n, width) + grid * mlp) for n in (coarse, fine))
    given = 8 * (fine + coarse) * 3 * width + 4 * 6 * width  # rays and motion
    video = 2 * 4 * grid * width * width * 2 * 9
    voxels = sum(side * side * 9 * width * width for side in (50, 100, 200))
    voxels += 200 * 200 * width * 18 * 16
    lane = attention(1000, 1000, width) + attention(1000, grid, width) + 1000 * mlp
    lanes = 6 * lane + 50 * width * 4 + 1000 * width * 2
    return backbone + trained(pyramid + views + video + voxels + lanes) + first_layer(given)


def mixtral_flops(length: int, layers: int) -> int:
    """Jiang et al. 2024; 8 experts, each with room for 5/4 of its share of 2 choices a token."""
    width, hidden, room = 4096, 14336, length * 2 // 8 * 5 // 4
    shared = llama_flops(length, layers, width, 1024, 0)
    return shared + trained(layers * (length * width * 8 + 8 * room * 3 * width * hidden))


class Published(NamedTuple):
    parameters: int
    flops: int  # of a step with one sample
    make: Callable[[], nn.Module] | None = None  # fewer layers, where they are all alike


REGNET_Y_16GF = regnet_y((2, 4, 11, 1), (224, 448, 1232, 3024), 112)
PUBLISHED = {
    "resnet-50": Published(25_557_032, network_flops(1, list(resnet_50()), 2048, 1000)),
    "regnet-y-16gf": Published(83_590_140, network_flops(1, list(REGNET_Y_16GF), 3024, 1000)),
    "driving": Published(31_336_510, driving_network()),
    "videomae-l": Published(342_994_944, masked_video()),
    "stable-diffusion-unet": Published(859_520_964, stable_diffusion()),
    "gpt2-xl": Published(
        1_557_611_200,
        transformer_flops(1, 1024, 1600, 25, 2) + trained(1024 * 1600 * 50257),
        lambda: registry.gpt2_xl(layers=2),
    ),
    "llama-70b": Published(
        68_976_648_192,
        llama_flops(4096, 2, 8192, 1024, 28672),
        lambda: registry.llama_70b(layers=2),
    ),
    "mixtral-8x7b": Published(
        46_702_792_704, mixtral_flops(4096, 2), lambda: registry.mixtral_8x7b(layers=2)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_workload_is_the_published_one(name: str) -> None:
    workload, published = registry.WORKLOADS[name], PUBLISHED[name]
    assert sum(p.numel() for p in workload.model().parameters()) == published.parameters
    with torch.device("meta"):
        model = (published.make or workload.make)().train()
    example = workload.batch(1)
    step = capture(model, workload.loss, workload.optimizer(model), example, name=name)
    assert step.without_gradient == []
    total = sum(flops(step).values())
    assert total == published.flops
    assert total + counter_excess(step) == eager_flops(model, workload.loss, example)
    statistics = json.loads(_core.Graph.parse(step.text, name).statistics_json())
    assert statistics["total"]["matrix_flops"] == total


def test_every_workload_is_held_to_its_shape() -> None:
    assert registry.WORKLOADS.keys() == PUBLISHED.keys() | {"gpt3-175b"}


@pytest.mark.slow
def test_gpt3_is_captured_in_a_few_gibibytes(tmp_path: Path, dojo: Path) -> None:
    child = subprocess.Popen([sys.executable, WRITE, "gpt3-175b", "--out", tmp_path])
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    assert usage.ru_maxrss < 3 << 20  # KiB; without weights: they would be 650 GiB
    assert usage.ru_utime < 150
    stats = subprocess.run(
        [dojo, "graph", "stats", tmp_path / "gpt3-175b.graph", "--json", "-"],
        capture_output=True,
        check=True,
    )
    counted = json.loads(stats.stdout)
    whole = transformer_flops(1, 2048, 12288, 96, 96) + trained(2048 * 12288 * 50257)
    assert counted["total"]["matrix_flops"] == whole
    assert counted["parameters"] == 174_604_259_328


# --- small ones ---
def check_small(
    model: nn.Module,
    loss: Callable,
    batch: Callable[[torch.Generator], tuple],
    *,
    strided: bool = False,
) -> None:
    """`strided`: eager differentiates tensors of other strides, whose kernels sum in another
    order; AdamW would make whole steps of gradients that are noise."""
    generator = torch.Generator().manual_seed(9)
    check_replay(
        model.train(),
        loss,
        sgd() if strided else adamw(),
        lambda: batch(generator),
        equal=nearly if strided else torch.equal,
        steps=2,
    )
    check_lowered_step(model, loss, [batch(generator) for _ in range(2)])


SMALL_EXPERTS = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 8,
}


@pytest.mark.parametrize("factor", [2.0, 0.5], ids=["room for all", "some skip"])
def test_a_small_mixture_of_experts(factor: float) -> None:
    torch.manual_seed(0)
    check_small(
        experts.mixtral(factor, **SMALL_EXPERTS),
        registry.token_loss,
        lambda g: ((words(g),), (words(g),)),
    )


def test_experts_with_room_for_all_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    ours = experts.mixtral(2.0, **SMALL_EXPERTS)
    theirs = transformers.MixtralForCausalLM(
        transformers.MixtralConfig(experts_implementation="eager", **SMALL_EXPERTS)
    )
    theirs.load_state_dict(ours.state_dict())
    ids = words(torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-6)
        few = experts.mixtral(0.5, **SMALL_EXPERTS)
        few.load_state_dict(ours.state_dict())
        assert not torch.allclose(few(ids).logits, theirs(ids).logits, atol=1e-3)


def test_tokens_find_room_first_come_first_served() -> None:
    choices = torch.tensor([1, 0, 1, 1, 0, 2])
    assert experts.places(choices, 3, 2).tolist() == [2, 0, 3, 6, 1, 4]


SMALL_VIDEO = {
    "image_size": 32,
    "num_frames": 4,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}


def small_clips(generator: torch.Generator) -> tuple:
    order = torch.stack([torch.randperm(8, generator=generator) for _ in range(2)])
    video = torch.randn(2, 4, 3, 32, 32, generator=generator)
    target = torch.randn(2, 5, 2 * 16 * 16 * 3, generator=generator)
    return (video, order[:, :3].sort().values, order[:, 3:].sort().values), (target,)


def test_a_small_masked_video() -> None:
    torch.manual_seed(0)
    model = MaskedVideo(transformers.VideoMAEConfig(**SMALL_VIDEO))
    check_small(model, F.mse_loss, small_clips)
    (video, visible, masked), _ = small_clips(torch.Generator().manual_seed(1))
    hidden = torch.ones(2, 8, dtype=torch.bool).scatter(1, visible, value=False)
    with torch.no_grad():
        wanted = model.model(video, hidden).logits
        assert torch.allclose(model(video, visible, masked), wanted, atol=1e-6)


@pytest.mark.slow
def test_a_small_unet() -> None:
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
        layers_per_block=1,
        block_out_channels=(4, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )

    def batch(g: torch.Generator) -> tuple:
        inputs = {
            "sample": torch.randn(2, 4, 8, 8, generator=g),
            "timestep": torch.randint(1000, (2,), generator=g),
            "encoder_hidden_states": torch.randn(2, 5, 8, generator=g),
        }
        return inputs, (torch.randn(2, 4, 8, 8, generator=g),)

    check_small(model, registry.noise_loss, batch, strided=True)


def small_driving() -> driving.Shape:
    return driving.Shape(
        cameras=2,
        instants=2,
        image=(32, 64),
        depths=(1, 1, 1, 1),
        widths=(8, 8, 16, 16),
        group_width=8,
        width=8,
        heads=2,
        grid=3,
        doublings=1,
        levels=2,
        kinds=3,
        lanes=2,
        points=3,
        lane_kinds=2,
        lane_layers=1,
    )


def filled(like: Tensor, generator: torch.Generator) -> Tensor:
    if like.dtype == torch.float32:
        return torch.rand(like.shape, generator=generator)
    high = 256 if like.dtype == torch.uint8 else 3
    return torch.randint(high, like.shape, generator=generator, dtype=like.dtype)


@pytest.mark.slow
def test_a_small_driving_network() -> None:
    torch.manual_seed(0)
    shape = small_driving()
    model = driving.DrivingNetwork(shape)
    model.rays.normal_()

    def batch(g: torch.Generator) -> tuple:
        inputs, targets = driving.driving_batch(2, shape)
        return tuple(filled(x, g) for x in inputs), tuple(filled(t, g) for t in targets)

    check_small(model, driving.driving_loss, batch, strided=True)


# --- the command ---
def test_the_command_writes_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, dojo: Path
) -> None:
    workload = registry.Workload(
        "Small",
        lambda: nn.Linear(8, 4),
        F.mse_loss,
        registry.sgd,
        lambda count: ((registry.floats(count, 8),), (registry.floats(count, 4),)),
        2,
    )
    monkeypatch.setitem(registry.WORKLOADS, "small", workload)
    monkeypatch.setattr(
        sys, "argv", ["write.py", "small", "--samples", "16", "--out", str(tmp_path)]
    )
    assert write.main() == 0
    assert "Small, 16 samples, 0.0 M parameters" in capsys.readouterr().out
    stats = subprocess.run(
        [dojo, "graph", "stats", tmp_path / "small.graph", "--json", "-"],
        capture_output=True,
        check=True,
    )
    assert json.loads(stats.stdout)["total"]["matrix_flops"] == 2 * 2 * 16 * 8 * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a workload, or ask for --list"),
        (["resnet-51"], "unknown workload 'resnet-51': expected one of resnet-50, "),
        (["resnet-50", "--samples", "0"], "--samples 0: expected 1 or more"),
    ],
)
def test_the_command_refuses_by_name(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "argv", ["write.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        write.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_list_names_every_workload(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["write.py", "--list"])
    assert write.main() == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(registry.WORKLOADS)
    documented = (ROOT / "docs/workloads.md").read_text()
    assert all(f"`{name}`" in documented for name in registry.WORKLOADS)
