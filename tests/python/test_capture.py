"""What a captured step says, and what capture refuses."""

from collections.abc import Callable
from typing import Any

import opendojo.optim
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from graph_interpreter import Op, ParsedGraph, parse
from opendojo.capture import capture, capture_forward, counter_excess, eager_flops, flops
from opendojo.errors import Error
from torch import Tensor, nn


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


def parsed(model: nn.Module, loss: Callable, inputs: Any, *targets: Tensor) -> ParsedGraph:
    return parse(capture(model, loss, sgd(model), (inputs, targets)).text)


def mean_square(output: Tensor) -> Tensor:
    return output.square().mean()


class Wrapped(nn.Module):
    """A linear layer and any function of its output."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def wrapped(function: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (4, 8)) -> ParsedGraph:
    return parsed(Wrapped(function, shape[-1]), mean_square, (torch.empty(shape),))


# --- modules and phases ---
class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.head((h + self.second(h)).mean((2, 3)))


def shortcut() -> ParsedGraph:
    labels = torch.zeros(2, dtype=torch.int64)
    return parsed(Shortcut(), F.cross_entropy, (torch.empty(2, 3, 6, 6),), labels)


def test_forward_and_backward_ops_carry_the_path_of_their_module() -> None:
    graph = shortcut()
    where = {
        "aten.convolution": ["first.0", "second.0"],
        "aten.relu": ["first.1"],
        "aten.threshold_backward": ["first.1"],
        "dojo.conv_weight_grad": ["second.0", "first.0"],
        "dojo.conv_input_grad": ["second.0"],
        "aten._native_batch_norm_legit_functional": ["second.1"],
        "aten.native_batch_norm_backward": ["second.1"],
        "aten.tanh": ["second.2"],
        "aten.tanh_backward": ["second.2"],
        "aten.addmm": ["head"],
        "aten.mm": ["head", "head"],
        "aten.nll_loss_backward": ["loss"],
        "aten._log_softmax": ["loss"],
    }
    assert {name: [op.module for op in graph.named(name)] for name in where} == where


def test_a_sum_of_gradients_belongs_to_the_module_that_reads_it() -> None:
    (total,) = [op for op in shortcut().named("aten.add") if op.phase == "bwd"]
    assert total.module == "first.1"


def test_phases_come_in_order_and_the_update_is_last() -> None:
    phases = [op.phase for op in shortcut().ops]
    assert phases == sorted(phases, key=["fwd", "bwd", "upd"].index)
    assert set(phases) == {"fwd", "bwd", "upd"}


def test_each_parameter_has_one_gradient_and_one_update() -> None:
    graph = shortcut()
    labels = [name for name, _ in Shortcut().named_parameters()]
    assert graph.labels("weight") == labels
    assert [op.operands[:2] for op in graph.named("dojo.sgd")] == [
        [f"p.{name}", f"d.{name}"] for name in labels
    ]
    updated = [target for target, _ in graph.updates if target.startswith("p.")]
    assert updated == [f"p.{name}" for name in labels]


def test_the_gradient_of_a_parameter_carries_its_module() -> None:
    graph = shortcut()
    for op in graph.ops:
        for target in op.targets:
            if target and target.startswith("d."):
                assert op.module == target.removeprefix("d.").rpartition(".")[0]


def test_recomputed_forward_ops_are_backward_ops() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=False)

    assert [op.phase for op in wrapped(function).named("aten.tanh")] == ["fwd", "bwd"]


# --- leaves ---
def test_tied_weights_are_one_leaf_with_one_gradient() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.tokens(ids)).flatten(0, 1)

    model, ids = Tied(), torch.zeros(2, 3, dtype=torch.int64)
    step = capture(model, F.cross_entropy, sgd(model), ((ids,), (ids.flatten(),)))
    graph = parse(step.text)
    assert graph.labels("weight") == ["tokens.weight"]
    assert step.tied == {"head.weight": "tokens.weight"}
    (total,) = [op for op in graph.ops if "d.tokens.weight" in op.targets]
    assert (total.name, total.module) == ("aten.add", "tokens")


def test_labels_are_argument_names_and_hyper_inputs_come_last() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, frames: Tensor, *, speed: Tensor) -> Tensor:
            return self.linear(frames) + speed

    model = Named()
    step = capture(
        model,
        F.mse_loss,
        torch.optim.AdamW(model.parameters()),
        ({"frames": torch.empty(2, 3), "speed": torch.empty(2, 1)}, (torch.empty(2, 1),)),
    )
    assert [v.label for v in step.inputs] == ["frames", "speed", "target", "lr", "step"]
    assert [v.label for v in step.data_inputs] == ["frames", "speed", "target"]
    assert [(h.label, h.key, h.group) for h in step.hyper] == [("lr", "lr", 0), ("step", "step", 0)]
    assert [(s.label, s.parameter, s.key) for s in step.states][:2] == [
        ("linear.weight.exp_avg", "linear.weight", "exp_avg"),
        ("linear.weight.exp_avg_sq", "linear.weight", "exp_avg_sq"),
    ]


def test_a_frozen_parameter_is_a_buffer_without_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    step = capture(model, mean_square, sgd(model), ((torch.empty(3, 4),), ()))
    assert step.frozen == ["0.weight"]
    assert [w.label for w in step.weights] == ["0.bias", "1.weight", "1.bias"]
    # Only the head in the optimiser: the rest is frozen, and no gradient reaches below it.
    step = capture(model, mean_square, sgd(model[1]), ((torch.empty(3, 4),), ()))
    assert step.frozen == ["0.weight", "0.bias"]
    assert len(parse(step.text).named("aten.mm")) == 1


def test_a_parameter_that_the_loss_cannot_see_is_reported_and_not_updated() -> None:
    class Idle(Wrapped):
        def __init__(self) -> None:
            super().__init__(torch.tanh)
            self.idle = nn.Linear(2, 2)

    model = Idle()
    step = capture(model, mean_square, sgd(model), ((torch.empty(4, 8),), ()))
    assert step.without_gradient == ["idle.weight", "idle.bias"]
    assert [w.label for w in step.weights] == ["linear.weight", "linear.bias"]


def test_the_loss_may_hand_out_more_tensors() -> None:
    def loss(output: Tensor, target: Tensor) -> tuple[Tensor, dict]:
        return F.mse_loss(output, target), {"angle": output[:, 0], "error": output - target}

    model = nn.Linear(3, 2)
    step = capture(model, loss, sgd(model), ((torch.empty(4, 3),), (torch.empty(4, 2),)))
    assert step.outputs == ["loss", "angle", "error"]


def test_a_loss_module_brings_its_buffers() -> None:
    model = nn.Linear(3, 4)
    loss = nn.CrossEntropyLoss(weight=torch.arange(4.0))
    target = torch.zeros(5, dtype=torch.int64)
    step = capture(model, loss, sgd(model), ((torch.empty(5, 3),), (target,)))
    assert [b.label for b in step.buffers] == ["loss.weight"]


def test_the_model_is_left_as_it_was() -> None:
    model = Shortcut()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    capture(model, mean_square, sgd(model, momentum=0.9), ((torch.randn(2, 3, 6, 6),), ()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_without_memory_gives_the_same_text() -> None:
    example = ((torch.empty(2, 3, 6, 6),), (torch.zeros(2, dtype=torch.int64),))
    texts = []
    for device in ("cpu", "meta", "cpu"):
        with torch.device(device):
            model = Shortcut()
        texts.append(capture(model, F.cross_entropy, sgd(model), example).text)
    assert texts[0] == texts[1] == texts[2]


# --- mutation ---
def test_running_statistics_are_updated() -> None:
    graph = shortcut()
    (norm,) = graph.named("aten._native_batch_norm_legit_functional")
    (count,) = [op for op in graph.named("aten.add") if op.attributes.get("other") == 1]
    assert dict(graph.updates) | {
        "b.second.1.running_mean": norm.targets[3],
        "b.second.1.running_var": norm.targets[4],
        "b.second.1.num_batches_tracked": count.targets[0],
    } == dict(graph.updates)


def test_a_buffer_changed_in_place_is_updated() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += x.sum(0)
            return self.linear(x)

    graph = parsed(Counting(), mean_square, (torch.empty(3, 2),))
    assert graph.updates[0][0] == "b.seen"


def test_a_parameter_changed_in_place_by_forward_is_refused() -> None:
    class Clipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.scale.clamp_(max=1.0)
            return x * self.scale

    with pytest.raises(Error, match=r"'scale' is changed in place"):
        parsed(Clipped(), mean_square, (torch.empty(3, 2),))


def test_batch_norm_without_running_statistics_has_none_to_update() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    graph = parsed(model, mean_square, (torch.empty(2, 3, 4, 4),))
    assert {target for target, _ in graph.updates} == {
        f"p.{name}" for name, _ in model.named_parameters()
    }
    (norm,) = graph.named("aten._native_batch_norm_legit_functional")
    assert norm.targets[3:] == [None, None]


# --- random ---
def masks_of(graph: ParsedGraph) -> list[dict]:
    return [op.attributes for op in graph.named("dojo.mask")]


def test_dropout_is_a_mask_that_backward_reads_again() -> None:
    graph = wrapped(nn.Dropout(0.2))
    (mask,) = graph.named("dojo.mask")
    assert mask.attributes == {"p": 0.2, "size": [4, 8]} and mask.module == "function"
    readers = [op for op in graph.ops if mask.targets[0] in op.operands]
    assert [(op.name, op.phase) for op in readers] == [("aten.mul", "fwd"), ("aten.mul", "bwd")]


def test_dropout_of_channels_draws_one_number_for_each() -> None:
    graph = wrapped(nn.Dropout1d(0.3), (4, 2, 8))
    assert masks_of(graph) == [{"p": 0.3, "size": [4, 2, 1]}]


def drop_path(x: Tensor) -> Tensor:
    bits = 0.9 + torch.rand(x.shape[0], 1)
    return x.div(0.9) * bits.floor_()


@pytest.mark.parametrize(
    ("function", "p"),
    [
        (drop_path, 0.1),
        (lambda x: x * (torch.rand(4, 1) < 0.75), 0.25),
        (lambda x: x * torch.bernoulli(torch.full((4, 1), 0.5)), 0.5),
        (lambda x: x * x.new_empty(4, 1).bernoulli_(0.5).div_(0.5), 0.5),
    ],
    ids=["drop-path", "rand-below", "bernoulli", "bernoulli-divided"],
)
def test_other_forms_of_dropping_are_masks_too(function: Callable, p: float) -> None:
    assert masks_of(wrapped(function)) == [{"p": p, "size": [4, 1]}]


def test_dropout_of_nothing_and_of_everything_need_no_random_numbers() -> None:
    assert len(wrapped(nn.Dropout(0.0)).ops) == len(wrapped(nn.Identity()).ops)
    assert masks_of(wrapped(nn.Dropout(1.0))) == []
    assert masks_of(wrapped(nn.Dropout(0.5).eval())) == []


def test_other_random_numbers_are_refused() -> None:
    with pytest.raises(Error, match=r"aten.randn in module '': has no op of its own"):
        wrapped(lambda x: x + torch.randn(4, 8))
    with pytest.raises(Error, match=r"random numbers: only the dropout and drop-path forms"):
        wrapped(lambda x: x + torch.rand(4, 8))


# --- constants ---
def test_a_causal_mask_is_made_from_two_ranges() -> None:
    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    graph = wrapped(attend, (2, 6, 8))
    assert not any("flash" in op.name for op in graph.ops)
    assert {"aten.arange", "aten.le", "aten.where"} <= {op.name for op in graph.ops}
    assert graph.labels("buffer") == []


def test_what_uniform_constants_arrive_at_is_one_full() -> None:
    def function(x: Tensor) -> Tensor:
        return x * (torch.ones(4, 8).cumsum(0)[:1] * 2 + torch.zeros(1, 8))

    graph = wrapped(function)
    (made,) = [op for op in graph.named("aten.full") if op.attributes["size"] == [1, 8]]
    assert made.attributes["fill_value"] == 2.0
    assert not graph.named("aten.cumsum")


def test_equal_constants_are_made_once() -> None:
    graph = wrapped(lambda x: (x * torch.arange(8)).tanh() * torch.arange(8))
    assert len(graph.named("aten.arange")) == 1


def test_a_constant_with_data_is_a_buffer_that_capture_keeps() -> None:
    table = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    model = Wrapped(lambda x: x * table + torch.tensor(table.tolist()))
    step = capture(model, mean_square, sgd(model), ((torch.empty(4, 8),), ()))
    assert list(step.constants) == ["constant.0"] == [b.label for b in step.buffers]
    assert torch.equal(step.constants["constant.0"], table)


def test_a_constant_scalar_is_an_attribute() -> None:
    graph = wrapped(lambda x: x / torch.tensor(4.0))
    (op,) = [op for op in graph.named("aten.div") if op.phase == "fwd"]
    assert op.attributes == {"other": 4.0} and len(op.operands) == 1


# --- types ---
def test_operands_of_mixed_types_are_converted_first() -> None:
    def function(x: Tensor) -> Tensor:
        return x * torch.tensor([2, 7, 1, 8, 2, 8, 1, 8]) + (x > 0)

    casts = [op for op in wrapped(function).named("aten._to_copy") if op.phase == "fwd"]
    assert [op.attributes["dtype"] for op in casts] == ["f32"] * len(casts) and casts


def test_float64_is_refused_unless_it_folds_away() -> None:
    wrapped(lambda x: x * torch.tensor(0.1, dtype=torch.float64).sqrt().float())
    with pytest.raises(Error, match=r"aten._to_copy in module '': its result is float64"):
        wrapped(lambda x: (x.double() * 2).float())
    model = Wrapped(lambda x: x.float())
    model.linear.bfloat16()
    with pytest.raises(Error, match=r"weight 'linear.weight' is bfloat16"):
        parsed(model, mean_square, (torch.empty(4, 8),))


# --- how ops are written ---
def only(graph: ParsedGraph, name: str, phase: str = "fwd") -> Op:
    (op,) = [op for op in graph.named(name) if op.phase == phase]
    return op


def test_dimensions_are_counted_from_the_front_and_sizes_are_numbers() -> None:
    graph = wrapped(lambda x: x.softmax(-1).view(2, -1).unsqueeze(-1).sum((-1, 0)))
    assert only(graph, "aten._softmax").attributes["dim"] == 1
    assert only(graph, "aten.view").attributes == {"size": [2, 16, 1]}
    assert only(graph, "aten.sum").attributes == {"dim": [0, 2]}


def test_what_only_concerns_memory_disappears() -> None:
    def function(x: Tensor) -> Tensor:
        return x.t().contiguous().t().clone().view_as(x).detach() + x.to(torch.float32)

    names = {op.name for op in wrapped(function).ops if op.phase == "fwd"}
    assert names == {"aten.permute", "aten.addmm", "aten.add", "aten.pow", "aten.mean"}


def test_views_of_views_and_permutations_of_permutations_are_one() -> None:
    graph = wrapped(lambda x: x.view(2, 16).view(2, 2, 8).permute(2, 0, 1).permute(1, 2, 0))
    assert only(graph, "aten.view").attributes == {"size": [2, 2, 8]}
    forward = [op for op in graph.named("aten.permute") if op.phase == "fwd"]
    assert [op.module for op in forward] == ["linear"]  # only the weight


def test_gradients_of_slices_are_padding() -> None:
    graph = wrapped(lambda x: x[1:3, -2])
    assert [op.attributes["pad"] for op in graph.named("aten.constant_pad_nd")] == [
        [6, 1],
        [0, 0, 1, 1],
    ]


def test_pooling_and_convolution_windows_have_one_number_per_dimension() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.MaxPool2d(2))
    graph = parsed(model, mean_square, (torch.empty(1, 3, 9, 9),))
    assert only(graph, "aten.max_pool2d_with_indices").attributes == {
        "kernel_size": [2, 2],
        "stride": [2, 2],
    }
    assert only(graph, "dojo.conv_weight_grad", "bwd").attributes == {
        "weight_size": [4, 3, 3, 3],
        "stride": [2, 2],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
    }


# --- what capture refuses ---
def test_an_unknown_op_is_named_with_its_module_and_the_row_to_add() -> None:
    message = r'op aten.erfinv in module \'function\' is not in the op table: add a row "aten.erf'

    class Inverse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erfinv(x)

    with pytest.raises(Error, match=message):
        wrapped(Inverse())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, "reads a tensor's value in Python"),
        (lambda x: x * x.sum().item(), "reads a tensor's value in Python"),
        (lambda x: x[x > 0], "the shape of a result depends on data"),
        (lambda x: x + torch.empty(4, 8), "read before anything is written"),
    ],
    ids=["branch", "item", "boolean index", "empty"],
)
def test_steps_that_depend_on_data_are_refused(function: Callable, message: str) -> None:
    with pytest.raises(Error, match=message):
        wrapped(function)


class Chosen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Grouped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([2, 4], dtype=torch.int32)
        return torch._grouped_mm(x, x.new_zeros(2, 8, 8), ends)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Chosen(), r"shape of a result depends on data \(.*\) in module 'function.0': a captured"),
        (Grouped(), "op aten._grouped_mm in module 'function.0' is not in the op table"),
    ],
)
def test_what_depends_on_data_is_named_with_its_module(module: nn.Module, message: str) -> None:
    with pytest.raises(Error, match=message):
        wrapped(nn.Sequential(module))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: torch.optim.RMSprop(p), r"RMSprop has no update op \(known: Adam, AdamW, SGD\)"),
        (lambda p: torch.optim.Adam(p, amsgrad=True), r"Adam\(amsgrad=True\) has no update op"),
        (lambda p: torch.optim.SGD(p, momentum=0.9, dampening=0.1), r"SGD\(dampening\)"),
        (lambda p: torch.optim.SGD([torch.zeros(3, requires_grad=True)]), "is not the model's"),
    ],
    ids=["unknown", "amsgrad", "dampening", "foreign"],
)
def test_optimisers_without_an_update_op_are_refused(optimizer: Callable, message: str) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(Error, match=message):
        capture(model, mean_square, optimizer(model.parameters()), ((torch.empty(1, 2),), ()))


def test_another_optimiser_joins_by_registering_a_rule() -> None:
    class Plain(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            raise NotImplementedError

    model = nn.Linear(2, 2)
    optimizer = Plain(model.parameters(), lr=0.1)
    example = ((torch.empty(1, 2),), ())
    with pytest.raises(Error, match="Plain has no update op"):
        capture(model, mean_square, optimizer, example)
    opendojo.optim.register(
        Plain, lambda group: opendojo.optim.UpdateRule("dojo.sgd", (None,), ("lr",), {})
    )
    step = capture(model, mean_square, optimizer, example)
    assert [op.targets[1] for op in parse(step.text).named("dojo.sgd")] == [None, None]


@pytest.mark.parametrize(
    ("loss", "example", "message"),
    [
        (lambda o: o, ((torch.empty(1, 2),), ()), r"loss: expected a scalar tensor .* \[1, 2\]"),
        (lambda o: 1.0, ((torch.empty(1, 2),), ()), "loss: expected a scalar tensor"),
        (mean_square, torch.empty(1, 2), r"example: expected \(inputs, targets\)"),
    ],
    ids=["vector", "number", "example"],
)
def test_a_wrong_loss_or_example_is_explained(loss: Callable, example: Any, message: str) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(Error, match=message):
        capture(model, loss, sgd(model), example)


def test_a_forward_pass_names_what_the_model_returns() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> dict:
            y = self.linear(x)
            return {"angle": y[:, 0], "rest": (y, y.tanh())}

    step = capture_forward(Two(), (torch.empty(4, 3),))
    assert step.outputs == ["angle", "rest.0", "rest.1"]
    assert {op.phase for op in parse(step.text).ops} == {"fwd"}


# --- FLOPs ---
def test_flops_are_those_of_the_matrix_products_and_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    example = ((torch.empty(2, 3, 6, 6),), (torch.zeros(2, dtype=torch.int64),))
    step = capture(model, F.cross_entropy, sgd(model), example)
    convolution, linear = 2 * 2 * 16 * 9 * 3 * 4, 2 * 2 * 64 * 5
    assert flops(step) == {
        "aten.convolution": convolution,
        "aten.addmm": linear,
        "aten.mm": 2 * linear,
        "dojo.conv_weight_grad": convolution,  # and no gradient of the frames
    }
    assert sum(flops(step).values()) == eager_flops(model, F.cross_entropy, example)


def test_flop_counter_counts_the_weight_gradient_of_g_groups_g_times() -> None:
    """PyTorch pull request 183405; not in 2.13. When this fails, drop counter_excess."""
    model = nn.Conv2d(8, 8, 3, groups=4, bias=False)
    example = ((torch.empty(1, 8, 5, 5),), ())
    step = capture(model, mean_square, sgd(model), example)
    product = 2 * 9 * 9 * 2 * 8
    assert flops(step) == {"aten.convolution": product, "dojo.conv_weight_grad": product}
    assert eager_flops(model, mean_square, example) == product + 4 * product
    assert counter_excess(step) == 3 * product


# --- what torch must still offer (capture rests on it) ---
def test_torch_has_the_hooks_that_capture_uses() -> None:
    assert callable(torch.compiler._patch_engine_backward)
    assert callable(torch.compiler._non_strict_tracing_context)
    assert callable(torch.fx.traceback.annotate)
    assert callable(torch._C._set_mkldnn_enabled)
