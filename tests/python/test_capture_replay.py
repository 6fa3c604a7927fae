"""A captured step, replayed from its text on real tensors, is the eager step: bit for bit in FP32,
over several steps, weights, buffers and losses."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from graph_interpreter import Interpreter
from opendojo import _core
from opendojo.capture import CapturedStep, capture, capture_forward
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

LR = 2.0**-6  # exact in FP32, so that eager's double and the Graph's f32 are the same number


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Eager PyTorch with the kernels that capture traces: no oneDNN, math attention."""
    onednn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)


def leaves_of(step: CapturedStep, model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers from the model, states as zeros, constants from the capture."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    leaves = {leaf.label: named[leaf.label] for leaf in step.weights}
    for leaf in step.buffers:
        leaves[leaf.label] = step.constants.get(leaf.label, named.get(leaf.label))
    leaves |= {
        leaf.label: torch.zeros(leaf.shape) for leaf in step.graph.leaves if leaf.kind == "state"
    }
    return {label: tensor.detach().clone() for label, tensor in leaves.items()}


def hyper_inputs(step: CapturedStep, optimizer: torch.optim.Optimizer, number: int) -> dict:
    return {
        h.label: torch.tensor(number)
        if h.key == "step"
        else torch.tensor(float(optimizer.param_groups[h.group][h.key]))
        for h in step.hyper
    }


def run_eager(
    model: nn.Module, loss: Callable, optimizer: torch.optim.Optimizer, batch: tuple
) -> Tensor:
    """One step of PyTorch; returns the loss."""
    inputs, targets = batch
    optimizer.zero_grad()
    output = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    value = loss(output, *targets)
    value.backward()
    optimizer.step()
    return value.detach()


def nearly(got: Tensor, wanted: Tensor) -> bool:
    """Equal but for rounding."""
    return torch.allclose(got, wanted, rtol=1e-4, atol=1e-6)


def check_replay(
    model: nn.Module,
    loss: Callable,
    make_optimizer: Callable,
    batch: Callable[[], tuple[tuple | dict, tuple]],
    draw: Callable | None = None,
    equal: Callable[[Tensor, Tensor], bool] = torch.equal,
    steps: int = 5,
) -> CapturedStep:
    """Trains a copy of the model in eager mode and the captured text side by side."""
    inputs, targets = batch()
    step = capture(model, loss, make_optimizer(model), (inputs, targets))
    _core.Graph.parse(step.text, step.name)  # the text is a valid Graph
    eager = copy.deepcopy(model)
    optimizer = make_optimizer(eager)
    replay = Interpreter(step.text, leaves_of(step, model), draw)
    names = [value.label for value in step.data_inputs]
    for number in range(1, steps + 1):
        inputs, targets = batch()
        values = inputs.values() if isinstance(inputs, dict) else inputs
        data = dict(zip(names, [*values, *targets], strict=True))
        with plain_kernels():
            got = replay.step(data | hyper_inputs(step, optimizer, number))
            value = run_eager(eager, loss, optimizer, (inputs, targets))
        assert equal(got["loss"], value), number
        for name, tensor in [*eager.named_parameters(), *eager.named_buffers()]:
            if name in replay.leaves:
                assert equal(replay.leaves[name], tensor), (number, name)
    return step


def sgd(**options: Any) -> Callable:
    return lambda model: torch.optim.SGD(model.parameters(), lr=LR, foreach=False, **options)


def adamw(cls: type = torch.optim.AdamW, **options: Any) -> Callable:
    return lambda model: cls(model.parameters(), lr=LR, foreach=False, **options)


def images(count: int = 4, size: int = 12, channels: int = 3, classes: int = 5) -> Callable:
    generator = torch.Generator().manual_seed(1)
    return lambda: (
        (torch.randn(count, channels, size, size, generator=generator),),
        (torch.randint(classes, (count,), generator=generator),),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 16), nn.Tanh(), nn.Linear(16, 5))


@pytest.mark.parametrize(
    "optimizer",
    [
        sgd(),
        sgd(momentum=0.9),
        sgd(momentum=0.9, nesterov=True, weight_decay=0.01),
        sgd(weight_decay=0.1, maximize=True),
        adamw(),
        adamw(weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6),
        adamw(torch.optim.Adam, weight_decay=0.1),
        adamw(torch.optim.Adam, maximize=True),
    ],
    ids="sgd momentum nesterov-decay maximize adamw adamw-options adam-l2 adam-maximize".split(),
)
def test_optimisers_update_as_in_torch(optimizer: Callable) -> None:
    torch.manual_seed(0)
    check_replay(mlp(), F.cross_entropy, optimizer, images())


def test_each_parameter_group_has_its_own_options_and_rate() -> None:
    torch.manual_seed(0)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        first, last = model[1], model[3]  # type: ignore[index]
        groups = [
            {"params": first.parameters(), "momentum": 0.5},
            {"params": last.parameters(), "lr": 4 * LR, "weight_decay": 0.125},
        ]
        return torch.optim.SGD(groups, lr=LR, momentum=0.9, foreach=False)

    step = check_replay(mlp(), F.cross_entropy, optimizer, images())
    assert [h.label for h in step.hyper] == ["lr", "lr.1"]


class Residual(nn.Module):
    """BatchNorm with running statistics, in-place ReLU, groups, stride, a shortcut, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.tail = nn.Conv2d(8, 6, 3, stride=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.body(h)
        h += 1
        return self.head(self.tail(h).mean((-2, -1)))


def test_convolutions_and_running_statistics() -> None:
    torch.manual_seed(0)
    step = check_replay(Residual(), F.cross_entropy, sgd(momentum=0.9), images())
    assert "update %b.stem.1.running_mean" in step.text
    assert "update %b.body.1.num_batches_tracked" in step.text


def test_batch_norm_in_eval_mode_trains_with_its_running_statistics() -> None:
    torch.manual_seed(0)
    model = Residual()
    model.stem[1].eval()
    model.stem[1].running_mean.normal_()  # type: ignore[operator, union-attr]
    step = check_replay(model, F.cross_entropy, sgd(), images())
    assert "update %b.stem.1." not in step.text
    assert "update %b.body.1.running_mean" in step.text


class Steering(nn.Module):
    """Frames of bytes, a shared trunk, fusion over time, other norms and activations."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, 1, 1, bias=False),
            nn.GroupNorm(2, 8),
            nn.Hardswish(inplace=True),
            nn.AvgPool2d(2),
            nn.AdaptiveAvgPool2d((1, 2)),
        )
        self.fuse = nn.Conv1d(16, 8, 4)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(), nn.Linear(8, 2))

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.flatten(0, 1).float() / 255 - 0.5
        h = self.trunk(x).flatten(1).unflatten(0, frames.shape[:2])
        return self.head(self.norm(self.fuse(h.transpose(1, 2)).squeeze(-1)))


def test_frames_of_bytes_through_a_steering_network() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)

    def batch() -> tuple:
        frames = torch.randint(256, (3, 4, 3, 20, 24), generator=generator, dtype=torch.uint8)
        return (frames,), (torch.randn(3, 2, generator=generator),)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, target) + 0.25 * F.smooth_l1_loss(output, target, beta=0.5)

    step = check_replay(Steering(), loss, adamw(), batch)
    assert '%frames = input u8[3,4,3,20,24] "frames"' in step.text


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class Language(nn.Module):
    """A causal transformer with a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 16)
        self.places = nn.Parameter(torch.randn(1, 16, 16) * 0.1)
        self.blocks = nn.ModuleList([Block(16, 2), Block(16, 4)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def words() -> Callable:
    generator = torch.Generator().manual_seed(3)
    return lambda: (
        (torch.randint(11, (2, 7), generator=generator),),
        (torch.randint(11, (2, 7), generator=generator),),
    )


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def test_a_transformer_with_tied_weights() -> None:
    torch.manual_seed(0)
    step = check_replay(Language(), token_loss, adamw(), words())
    assert step.tied == {"head.weight": "tokens.weight"}


class Wrapped(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2] = 1.0
    y[y < -0.5] = 0.25
    return y * x


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        name: getattr(F, name)
        for name in (
            "relu gelu silu mish softplus elu celu selu hardtanh hardswish hardsigmoid relu6 "
            "leaky_relu logsigmoid tanhshrink softsign"
        ).split()
    },
    **{
        name: getattr(torch, name)
        for name in "exp abs sin cos sigmoid tanh erf square neg floor sign expm1".split()
    },
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "log, sqrt, rsqrt": lambda x: x.exp().log() + x.square().add(1).sqrt().rsqrt(),
    "1 - x, 1 / x": lambda x: (1 - x) / (2 + x.abs()) + 1 / (1 + x.abs()),
    "softmax": lambda x: x.softmax(-1).log_softmax(0),
    "extrema": lambda x: x - x.amax(-1, keepdim=True) + torch.maximum(x, x.flip(0)),
    "variance": lambda x: x / x.std(-1, keepdim=True),
    "norms": lambda x: F.rms_norm(F.normalize(x, dim=-1), (8,)),
    "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1),
    "assignment": assigned,
    "masks": lambda x: torch.where(x > 0, x, -1.0).masked_fill(x > 1, 0.5).tril(),
    "slices": lambda x: torch.cat([x[:, ::2], x[1:3].repeat(2, 1)[:, 4:], x[:, -4:-2]], 1),
    "gather": lambda x: x.gather(1, torch.arange(8).flip(0).expand(4, 8)),
    "index": lambda x: x[torch.tensor([3, 1, 1, 0])].roll(1, 0),
    "topk": lambda x: torch.cat([x.topk(3)[0], x.topk(2, 0)[0].repeat(2, 1)], 1),
    "cumsum": lambda x: x.cumsum(0).logsumexp(1),
    "einsum": lambda x: torch.einsum("ab,cb->ac", x, x) @ x,
    "baddbmm": lambda x: torch.baddbmm(torch.ones(4, 1, 1), x[:, None], x[..., None]),
    "mixed types": lambda x: x * torch.arange(8) + (x > 0),
    "pad": lambda x: F.pad(x, (1, -1), value=0.5),
    "stack": lambda x: torch.stack([x, x.sin()]).movedim(0, 1).flatten(1),
    "bilinear": lambda x: F.interpolate(x.view(1, 4, 2, 4), scale_factor=2, mode="bilinear"),
    "corners": lambda x: F.interpolate(
        x.view(1, 4, 2, 4), size=(3, 7), mode="bilinear", align_corners=True
    ),
    "nearest": lambda x: F.interpolate(x.view(1, 4, 2, 4), size=(5, 8)),
    "pixel shuffle": lambda x: F.pixel_shuffle(x.view(2, 4, 2, 2), 2).flatten(1),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x.view(1, 2, 4, 4), (3, 2)),
    "instance norm": lambda x: F.instance_norm(x.view(2, 2, 8)),
}


def vectors() -> Callable:
    generator = torch.Generator().manual_seed(4)
    return lambda: ((torch.randn(4, 8, generator=generator),), ())


# Taken apart into ops that round in another order than the fused kernel does.
DECOMPOSED = {"logsigmoid", "variance"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients(name: str) -> None:
    torch.manual_seed(0)
    equal = torch.allclose if name in DECOMPOSED else torch.equal
    check_replay(
        Wrapped(FUNCTIONS[name]),
        lambda x: x.square().mean(),
        sgd(),
        vectors(),
        equal=equal,
        steps=2,
    )


@pytest.mark.parametrize("name", ["bilinear", "corners", "nearest"])
def test_resizing_is_one_op_and_one_gradient(name: str) -> None:
    model = Wrapped(FUNCTIONS[name])
    step = capture(model, lambda x: x.square().mean(), sgd()(model), vectors()())
    mode = "nearest" if name == "nearest" else "bilinear"
    counts = Counter(op.name for op in step.ops)
    assert counts[f"aten.upsample_{mode}2d"] == counts[f"aten.upsample_{mode}2d_backward"] == 1
    assert not counts.keys() & {"aten.index", "aten.index_put"}


LOSSES: dict[str, Callable] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "bce": lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid()),
    "kl": lambda x, t: F.kl_div(x.log_softmax(-1), t.softmax(-1), reduction="batchmean"),
    "soft labels": lambda x, t: F.cross_entropy(x, t.softmax(-1)),
    "weighted": lambda x, t: F.cross_entropy(
        x, t.argmax(-1), weight=torch.arange(1.0, 9.0), label_smoothing=0.125
    ),
}


def logarithms_differ() -> bool:
    """PyTorch's kernels of log and xlogy round otherwise on some CPUs (AMD's, with MKL)."""
    x = torch.rand(1000, generator=torch.Generator().manual_seed(1))
    return not torch.equal(torch.xlogy(x, x), x * x.log())


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    # Eager kl_div has a kernel for x log x, the captured text its parts.
    equal = nearly if name == "kl" and logarithms_differ() else torch.equal
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)

    def batch() -> tuple:
        x, t = torch.randn(2, 4, 8, generator=generator)
        return (x,), (t,)

    check_replay(Wrapped(torch.tanh), LOSSES[name], sgd(), batch, equal=equal, steps=2)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_unrolled(cell: type) -> None:
    torch.manual_seed(0)
    model = Wrapped(lambda x: x.view(2, 2, 8))
    generator = torch.Generator().manual_seed(6)
    check_replay(
        nn.Sequential(model, cell(8, 4, batch_first=True)),
        lambda output: output[0].square().mean(),
        sgd(),
        lambda: ((torch.randn(4, 8, generator=generator),), ()),
    )


class GivenDropout(nn.Module):
    """Multiplies by a mask that the test puts in."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def test_dropout_multiplies_by_one_mask_in_both_directions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(432, 16), nn.Dropout(0.25), nn.Tanh(), nn.Dropout(0.5),
        nn.Linear(16, 5),
    )  # fmt: skip
    step = capture(model, F.cross_entropy, sgd()(model), images()())
    masks: dict[str, Tensor] = {}

    def draw(op: Any) -> Tensor:
        keep = torch.rand(op.attributes["size"]) >= op.attributes["p"]
        masks[op.module] = keep / (1 - op.attributes["p"])
        return masks[op.module]

    eager = copy.deepcopy(model)
    eager[2], eager[4] = GivenDropout(), GivenDropout()
    optimizer = sgd()(eager)
    replay = Interpreter(step.text, leaves_of(step, model), draw)
    batch = images()
    for number in range(1, 4):
        (x,), (t,) = batch()
        got = replay.step({"input": x, "target": t, **hyper_inputs(step, optimizer, number)})
        eager[2].mask, eager[4].mask = masks["2"], masks["4"]  # type: ignore[assignment]
        optimizer.zero_grad()
        value = F.cross_entropy(eager(x), t)
        value.backward()
        optimizer.step()
        assert torch.equal(got["loss"], value.detach())
    assert torch.equal(replay.leaves["1.weight"], eager[1].weight)  # type: ignore[arg-type]
    # One mask op per dropout: backward reads the forward's value.
    assert len(replay.graph.named("dojo.mask")) == 2


def test_a_captured_forward_pass_predicts_as_eager() -> None:
    torch.manual_seed(0)
    model = Residual().eval()
    (x,), _ = images()()
    step = capture_forward(model, (x,))
    with torch.no_grad(), plain_kernels():
        got = Interpreter(step.text, leaves_of(step, model)).step({"x": x})
        assert torch.equal(got["output"], model(x))
    assert [w.label for w in step.weights] == [name for name, _ in model.named_parameters()]
    assert "update" not in step.text
