"""The backend of torch.compile: unchanged models in unchanged loops, in a recipe's arithmetic."""

import copy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import opendojo
import pytest
import torch
import torch.nn.functional as F
from opendojo import backend
from opendojo.backend import CompiledGraph, instances_of, opendojo_backend, report
from torch import Tensor, nn
from torch._dynamo.callback import callback_handler
from torch.utils.checkpoint import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    backend._watch_compiles()
    torch.manual_seed(0)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=False):
        yield
    torch._dynamo.reset()


def compiled(model: Callable, recipe: str = "fp32", **options: Any) -> Callable:
    return torch.compile(model, backend=opendojo_backend, options={"recipe": recipe, **options})


class ConvNet(nn.Module):
    """Without norms."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).flatten(1))


class NormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, groups=2)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.head(self.drop(F.relu(self.body(x)).mean((2, 3))))


class Block(nn.Module):
    """A block of a transformer before norms, with causal attention."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def images(size: int = 12) -> Callable:
    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(5, (8,), generator=generator)
        x = torch.randn(8, 3, size, size, generator=generator)
        return x + labels.view(8, 1, 1, 1) - 2, labels

    return draw


def sentences(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randint(20, (4, 1), generator=generator) + torch.arange(7)
    return x % 20, (x + 1) % 20


def train(
    model: nn.Module, call: Callable, draw: Callable, steps: int = 6, lr: float = 0.05
) -> list[float]:
    """The loop of a user, with the loss outside of what is compiled."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        x, y = draw(generator)
        optimizer.zero_grad()
        out = call(x)
        loss = F.cross_entropy(out.flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- values ---
@pytest.mark.parametrize(
    "make, draw",
    [(ConvNet, images()), (NormNet, images()), (Language, sentences)],
    ids="conv norm language".split(),
)
def test_in_fp32_it_trains_as_eager_does(make: Callable, draw: Callable) -> None:
    eager = make()
    for module in eager.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model = copy.deepcopy(eager)
    expected = train(eager, eager, draw)
    assert train(model, compiled(model), draw) == pytest.approx(expected, rel=1e-4)
    state = model.state_dict()
    for name, tensor in eager.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-5)
    for name, parameter in eager.named_parameters():
        gradient = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "make, draw",
    [(ConvNet, images()), (NormNet, images()), (Language, sentences)],
    ids="conv norm language".split(),
)
def test_in_cfloat8_the_loss_falls(make: Callable, draw: Callable) -> None:
    model = make()
    losses = train(model, compiled(model, "cfloat8"), draw, steps=60, lr=0.01)
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


@pytest.mark.parametrize("recipe", ["fp32", "bf16", "cfloat8"])
@pytest.mark.parametrize(
    "make, draw",
    [(ConvNet, images()), (NormNet, images()), (Language, sentences)],
    ids="conv norm language".split(),
)
def test_it_has_the_bits_of_compile_step(make: Callable, draw: Callable, recipe: str) -> None:
    """Weights, buffers and outputs over several steps, dropout and bias windows included. The loss
    is such that its gradient in PyTorch is exact, and the rate a power of two."""
    lr = 2.0**-4
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(5):
        x, y = draw(generator)
        batches.append((x, F.one_hot(y).to(torch.float32)))
    width = max(t.shape[-1] for _, t in batches)
    batches = [(x, F.pad(t, (0, width - t.shape[-1]))) for x, t in batches]

    def loss(out: Tensor, target: Tensor) -> tuple[Tensor, dict]:
        return (out * target).sum(), {"out": out}

    model = make()
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    step = opendojo.compile_step(
        model, loss, optimizer, batches[0], recipe=recipe, seed=3, threads=1
    )
    call = compiled(other, recipe, seed=3)
    optimizer = torch.optim.SGD(other.parameters(), lr=lr, foreach=False)
    for x, target in batches:
        made = step(x, target)
        optimizer.zero_grad()
        out = call(x)
        loss(out, target)[0].backward()
        optimizer.step()
        assert torch.equal(out.detach(), torch.from_numpy(made["out"]))
    step.store()
    state = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_a_loss_inside_of_the_compiled_function_is_part_of_the_graph() -> None:
    eager, draw = ConvNet(), images()
    model = copy.deepcopy(eager)

    @compiled
    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    x, y = draw(torch.Generator().manual_seed(2))
    loss = loss_of(x, y)
    loss.backward()
    expected = F.cross_entropy(eager(x), y)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    (instance,) = instances_of(model)
    assert {op.module for op in instance.captured.graph.ops if "loss" in op.name} == {"loss"}


def test_dropout_draws_by_seed_and_step() -> None:
    class Drop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 4)
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.drop(self.first(x).relu() + 1)
            return self.second(hidden), hidden

    model, x = Drop(), torch.randn(8, 16)
    call = compiled(model, seed=1)
    out, hidden = call(x)
    out.sum().backward()
    mask = (hidden != 0) * 2.0
    assert 0.3 < (mask == 0).float().mean() < 0.7
    # The backward part drops what the forward part dropped.
    first = F.linear(x, model.first.weight, model.first.bias)
    expected = F.linear((first.relu() + 1) * mask, model.second.weight, model.second.bias).sum()
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    assert not torch.equal(call(x)[1], hidden)  # the next step
    again = copy.deepcopy(model)
    assert torch.equal(compiled(again, seed=1)(x)[1], hidden)
    assert not torch.equal(compiled(copy.deepcopy(model), seed=2)(x)[1], hidden)


def test_threads_change_no_bit() -> None:
    models = [NormNet()]
    models.append(copy.deepcopy(models[0]))
    torch_threads = torch.get_num_threads()
    for model, threads in zip(models, (1, 2), strict=True):
        train(model, compiled(model, "cfloat8", threads=threads), images())
    assert torch.get_num_threads() == torch_threads
    for first, second in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(first, second)


def test_two_models_of_one_class_share_no_state() -> None:
    """Dynamo hands both to one compiled graph."""
    first = NormNet()
    second, alone = copy.deepcopy(first), copy.deepcopy(first)
    train(first, compiled(first, "cfloat8"), images())
    train(second, compiled(second, "cfloat8"), images())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    torch._dynamo.reset()
    train(alone, compiled(alone, "cfloat8"), images())
    for a, b in zip(first.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def deep(norm: Callable[[], nn.Module]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Conv2d(16, 16, 3, padding=1), norm(), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize(
    "norm, most", [(nn.Identity, 0.3), (lambda: nn.BatchNorm2d(16), 0.4)], ids="plain norm".split()
)
def test_what_is_saved_for_backward_are_codes(norm: Callable, most: float) -> None:
    saved = {}
    for recipe in ("fp32", "cfloat8"):
        torch._dynamo.reset()
        model = deep(norm)
        train(model, compiled(model, recipe), images(24), steps=1)
        (instance,) = instances_of(model)
        saved[recipe] = instance.executor.saved_bytes
    assert 0 < saved["cfloat8"] <= most * saved["fp32"]


def test_a_model_may_be_evaluated_between_steps() -> None:
    model = NormNet()
    eager = copy.deepcopy(model)
    call = compiled(model)
    for one in (model, eager):
        one.drop.p = 0.0
    x, _ = images()(torch.Generator().manual_seed(3))
    for m, c in ((model, call), (eager, eager)):
        train(m, c, images(), steps=2)
        m.eval()
        with torch.no_grad():
            m.seen = c(x)
        m.train()
        train(m, c, images(), steps=1)
    torch.testing.assert_close(model.seen, eager.seen, rtol=1e-4, atol=1e-5)
    for a, b in zip(model.state_dict().values(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert sorted(i.compiled.trains for i in instances_of(model)) == [False, True]
    assert model.norm.num_batches_tracked == 3


def test_a_last_short_batch_is_one_more_graph() -> None:
    model = ConvNet()
    eager = copy.deepcopy(model)
    call = compiled(model)
    for count in (8, 3, 8, 5):
        x = torch.randn(count, 3, 12, 12)
        call(x).square().sum().backward()
        eager(x).square().sum().backward()
    for a, b in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_inputs_and_frozen_parameters() -> None:
    """A gradient for an input that wants one, none for a frozen parameter."""
    model = ConvNet()
    model.trunk[2].weight.requires_grad_(False)
    eager = copy.deepcopy(model)
    x = torch.randn(2, 3, 12, 12, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    compiled(model)(x).square().sum().backward()
    eager(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    assert model.trunk[2].weight.grad is None
    (instance,) = instances_of(model)
    kinds = {p.label: p.kind for p in instance.captured.placeholders}
    assert kinds["trunk.2.weight"] == "buffer" and kinds["trunk.0.weight"] == "weight"


def test_a_write_that_leaves_no_trace_is_seen() -> None:
    model = nn.Linear(4, 4)
    call = compiled(model)
    x = torch.randn(2, 4)
    before = call(x)
    model.weight.data.mul_(2)  # no new version of the parameter
    torch.testing.assert_close(
        call(x) - model.bias, 2 * (before - model.bias), rtol=1e-5, atol=1e-6
    )


class Form(nn.Module):
    """Two linear layers and a buffer, put together by a function."""

    def __init__(self, form: Callable) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.form = form
        self.register_buffer("mean", torch.ones(4), persistent=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, *arguments: Any) -> Any:
        return self.form(self, *arguments)


def without_gradient(m: Form, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = m.b(x)
    return m.a(x) * h


def running_mean(m: Form, x: Tensor) -> Tensor:
    y = m.b(x) + m.mean
    m.mean.mul_(0.9).add_(x.mean(0))
    return y * m.a(x) * m.mean


def recomputed(m: Form, x: Tensor) -> Tensor:
    return m.b(checkpoint(lambda z: torch.tanh(m.a(z)), x, use_reentrant=False))


FORMS: dict[str, tuple[Callable, Callable]] = {
    "dict": (lambda m, x: {"h": m.a(x), "none": None, "k": 3}, lambda o: o["h"].sum() * o["k"]),
    "same twice": (lambda m, x: (m.a(x),) * 2, lambda o: o[0].sum() + o[1].exp().sum()),
    "views": (lambda m, x: (x, x.t(), m.a.weight.t(), m.mean), lambda o: o[2].exp().sum()),
    "indices": (lambda m, x: (m.a(x), m.a(x).argmax(1)), lambda o: o[0].sum() + o[1].sum()),
    "detached": (lambda m, x: (m.a(x), m.b(x).detach()), lambda o: (o[0] * o[1]).sum()),
    "no_grad": (without_gradient, torch.sum),
    "buffer": (running_mean, torch.sum),
    "checkpoint": (recomputed, torch.sum),
    "scalar": (lambda m, x: m.a(x).sum(), lambda o: o),
    "constant": (lambda m, x: m.a(x) + torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.sum),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_model_may_do_and_return(form: str) -> None:
    function, loss = FORMS[form]
    model = Form(function)
    eager = copy.deepcopy(model)
    call = compiled(model)
    for _ in range(3):
        x = torch.randn(3, 4)
        ours, theirs = call(x), eager(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        loss(ours).backward()
        loss(theirs).backward()
    for a, b in zip(model.parameters(), eager.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.mean, eager.mean)


def test_a_number_that_changes_is_one_more_graph_or_refused() -> None:
    model = Form(lambda m, x, k: m.a(x) * k)
    call = compiled(model)
    x = torch.randn(3, 4)
    for k in (1, 2, 3):
        torch.testing.assert_close(call(x, k), model(x, k), rtol=1e-5, atol=1e-5)
    with pytest.raises(opendojo.Error, match=r"'arguments\.1' is a Python number that"):
        for k in (0.5, 0.75):
            call(x, k)


# --- one forward, one backward ---
def test_gradients_accumulate_over_micro_batches() -> None:
    model = ConvNet()
    eager = copy.deepcopy(model)
    call = compiled(model)
    for _ in range(3):
        x = torch.randn(4, 3, 12, 12)
        call(x).square().sum().backward()
        eager(x).square().sum().backward()
    for a, b in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_backward_after_another_forward_is_refused() -> None:
    model = ConvNet()
    call = compiled(model)
    first, second = call(torch.randn(4, 3, 12, 12)), call(torch.randn(4, 3, 12, 12))
    with pytest.raises(opendojo.Error, match=r"after which 1 more have run.*before the next forw"):
        (first.sum() + second.sum()).backward()
    call(torch.randn(4, 3, 12, 12)).sum().backward()  # and it goes on


def test_backward_a_second_time_is_refused() -> None:
    call = compiled(ConvNet())
    loss = call(torch.randn(4, 3, 12, 12)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(opendojo.Error, match=r"second time.*retain_graph=True"):
        loss.backward()


def test_double_backward_is_refused() -> None:
    model = ConvNet()
    out = compiled(model)(torch.randn(4, 3, 12, 12))
    with pytest.raises(opendojo.Error, match="double backward"):
        torch.autograd.grad(out.sum(), model.head.weight, create_graph=True)


# --- nothing runs elsewhere ---
class Broken(nn.Module):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "start":
            torch._dynamo.graph_break()
        x = self.first(x)
        if self.where == "middle":
            torch._dynamo.graph_break()
        if self.where == "loop":
            for _ in range(2):
                torch._dynamo.graph_break()
                x = self.first(x)
        return self.second(x)


@pytest.mark.parametrize("where", ["start", "middle", "loop"])
def test_a_graph_break_is_an_error(where: str) -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match="graph_break"):
        compiled(Broken(where))(torch.randn(2, 4))


@pytest.mark.parametrize("where", ["start", "middle"])
def test_a_part_of_a_broken_function_is_refused(where: str, monkeypatch: Any) -> None:
    """Should Dynamo hand one over all the same."""
    monkeypatch.setattr(backend, "_watch_compiles", lambda: None)
    callback_handler.start_callbacks.clear()
    with pytest.raises(opendojo.Error, match=r"graph break.*allow_graph_breaks"):
        compiled(Broken(where))(torch.randn(2, 4))


def test_other_backends_may_break_graphs() -> None:
    compiled(nn.Linear(4, 4))(torch.randn(2, 4))
    torch.compile(Broken("middle"), backend="eager")(torch.randn(2, 4))


def test_allowed_graph_breaks_are_listed() -> None:
    model = Broken("middle")
    eager = copy.deepcopy(model)
    x = torch.randn(2, 4)
    compiled(model, allow_graph_breaks=True)(x).sum().backward()
    eager(x).sum().backward()
    for a, b in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
    assert any(
        "graph_break" in line and "test_backend.py" in line for line in report()["graph_breaks"]
    )
    assert len(instances_of(model)) == 2


def test_recompiles_beyond_the_limit_are_an_error() -> None:
    call = compiled(nn.Linear(4, 4))
    with pytest.raises(Exception, match="recompile_limit"):
        for count in range(2, 30):
            call(torch.randn(count, 4))


def test_an_op_without_a_row_is_refused_with_op_and_module() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(self.inner(x))

    with pytest.raises(opendojo.Error, match=r"bessel_j0 in module ''"):
        compiled(Strange())(torch.randn(2, 4))


def test_suppressed_errors_are_refused() -> None:
    with (
        torch._dynamo.config.patch(suppress_errors=True),
        pytest.raises(opendojo.Error, match="suppress_errors"),
    ):
        compiled(nn.Linear(4, 4))(torch.randn(2, 4))


def test_an_input_changed_in_place_is_refused() -> None:
    def double(x: Tensor) -> Tensor:
        return x.mul_(2) + 1

    with pytest.raises(opendojo.Error, match=r"input 'x' is changed in place.*clone"):
        compiled(double)(torch.ones(3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"recipes": "fp32"}, r"unknown option 'recipes'; nearest: recipe"),
        ({"recipe": "cfloat"}, r"unknown recipe 'cfloat'; nearest: cfloat8"),
        ({"recipe": "cfloat8_shp"}, r"stores weights in a narrow format"),
        ({"recipe": 8}, r"option 'recipe' is 8: expected the name of a recipe"),
        ({"machine": "training-tyle"}, r"training-tyle.*training-tile"),
        ({"seed": "a"}, r"option 'seed' is 'a': expected a number"),
        ({"threads": 0}, r"threads is 0.*1 to 256"),
        ({"overrides": ["nowhere=weight_operand:bf16"]}, r"nowhere.*matches no tensor"),
        ({"overrides": "x"}, r"x"),
    ],
)
def test_a_wrong_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(opendojo.Error, match=message):
        torch.compile(nn.Linear(4, 4), backend=opendojo_backend, options=options)(torch.ones(2, 4))


def test_a_mode_is_refused() -> None:
    call = torch.compile(nn.Linear(4, 4), backend=opendojo_backend, mode="max-autotune")
    with pytest.raises(opendojo.Error, match=r"mode='max-autotune'\) has no meaning"):
        call(torch.ones(2, 4))


def test_an_override_reaches_its_module() -> None:
    model = ConvNet()
    train(model, compiled(model, "cfloat8", overrides=["trunk.2=weight_operand:bf16"]), images(), 1)
    (instance,) = instances_of(model)
    lines = [line for line in str(instance.compiled.graph).splitlines() if "dojo.convert" in line]
    assert any("bf16[16,16,3,3]" in line for line in lines)


# --- names ---
def labels_of(compiled_graph: CompiledGraph) -> list[str]:
    return [p.label for p in compiled_graph.captured.placeholders]


def test_labels_are_the_paths_of_the_model() -> None:
    model = Language()
    compiled(model)(torch.zeros(1, 3, dtype=torch.int64)).sum().backward()
    (instance,) = instances_of(model)
    named = {name for name, _ in model.named_parameters()}
    assert set(labels_of(instance.compiled)) == named | {"x"}
    modules = {op.module for op in instance.captured.graph.ops}
    assert {"blocks.0.qkv", "blocks.1.mlp.1", "tokens"} <= modules
    assert modules <= {name for name, _ in model.named_modules()}


def test_labels_of_several_modules_do_not_clash() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)

    def both(x: Tensor) -> Tensor:
        return second(first(x))

    compiled(both)(torch.ones(2, 4)).sum().backward()
    (instance,) = instances_of(second)
    assert sorted(labels_of(instance.compiled)) == [
        "bias",
        "second.bias",
        "second.weight",
        "weight",
        "x",
    ]


# --- how it is reached ---
def test_compile_is_whole_and_checks_its_options_at_once() -> None:
    with pytest.raises(opendojo.Error, match="unknown option 'recipy'"):
        opendojo.compile(nn.Linear(4, 4), recipy="fp32")
    model = opendojo.compile(ConvNet(), recipe="fp32")
    model(torch.randn(2, 3, 12, 12)).sum().backward()
    with pytest.raises(Exception, match="graph_break"):
        opendojo.compile(Broken("middle"))(torch.randn(2, 4))


def test_torch_finds_the_backend_by_name(tmp_path: Path) -> None:
    """As installed: the entry point of pyproject.toml, without an import of opendojo."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["torch_dynamo_backends"]
    about = tmp_path / "opendojo-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: opendojo\nVersion: 0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (about / "entry_points.txt").write_text(f"[torch_dynamo_backends]\n{lines}")
    program = (
        "import torch\n"
        "model = torch.compile(torch.nn.Linear(4, 4), backend='opendojo')\n"
        "model(torch.ones(2, 4)).sum().backward()\n"
        "print(model.weight.grad.shape)\n"
    )
    path = ":".join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "torch.Size([4, 4])", done.stderr
