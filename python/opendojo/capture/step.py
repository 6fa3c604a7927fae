"""capture: a module, a loss and an optimiser become a CapturedStep.

Invariants of a CapturedStep: its text is a valid Graph; the inputs stand in the order in which
`inputs` lists them; each weight, buffer and state label is unique and says where its contents live
in PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from opendojo import optim
from opendojo.capture.graph_text import Attribute, GraphText, Op, Value
from opendojo.capture.handlers import HANDLERS
from opendojo.capture.importer import DTYPES, Importer, live_nodes
from opendojo.capture.trace import StepModule, TracedStep, module_of_leaf, trace_step
from opendojo.errors import Error

aten = torch.ops.aten


@dataclass(frozen=True)
class State:
    """A tensor of the optimiser; it begins as zeros, or as optimizer.state[parameter][key]."""

    label: str
    parameter: str
    key: str


@dataclass(frozen=True)
class Hyper:
    """A scalar input of each step that is no data.

    `key` "step": the number of this step, 1 for the first; anything else is a key of
    optimizer.param_groups[group].
    """

    label: str
    key: str
    group: int = 0


@dataclass
class CapturedStep:
    """One training step (or a forward pass) as a Graph, and what is needed to run it."""

    graph: GraphText
    data_inputs: list[Value]  # the model's inputs, then the targets
    hyper: list[Hyper]  # inputs after those
    states: list[State]
    constants: dict[str, Tensor]  # buffers that belong to the capture, not to the model
    tied: dict[str, str]  # further names of a parameter or buffer -> its label
    frozen: list[str] = field(default_factory=list)  # parameters that are read and not trained
    without_gradient: list[str] = field(default_factory=list)  # trained ones the loss cannot see

    @property
    def name(self) -> str:
        return self.graph.name

    @cached_property
    def text(self) -> str:
        return self.graph.render()

    @property
    def inputs(self) -> list[Value]:
        """All inputs in order, the hyper inputs last."""
        return self._leaves("input")

    @property
    def weights(self) -> list[Value]:
        """Trained parameters; the label is the parameter's path."""
        return self._leaves("weight")

    @property
    def buffers(self) -> list[Value]:
        """Buffers, frozen parameters and constants that the step reads or updates."""
        return self._leaves("buffer")

    @property
    def outputs(self) -> list[str]:
        return [label for _, label in self.graph.outputs]

    @property
    def ops(self) -> list[Op]:
        return self.graph.ops

    def _leaves(self, kind: str) -> list[Value]:
        return [leaf for leaf in self.graph.leaves if leaf.kind == kind]


def capture(
    model: nn.Module,
    loss: Callable,
    optimizer: torch.optim.Optimizer,
    example: tuple[Any, tuple],
    *,
    name: str | None = None,
) -> CapturedStep:
    """The whole training step of `model` in its present mode (train or eval).

    `example` is (inputs, targets). `inputs` is a tuple or dict for model(*inputs) or
    model(**inputs), `targets` a tuple for loss(output, *targets). Of tensors only shape and dtype
    are used. `loss` returns a scalar, or a scalar and a dict of tensors to hand out as outputs.

    Errors (opendojo.Error): an op, optimiser or random form that a Graph cannot say, with its
    module; a step that depends on data.
    """
    inputs, targets = _checked(example)
    step = StepModule(model, loss)
    groups = _parameter_groups(step, optimizer)
    traced = trace_step(step, inputs, targets, set(groups))
    text, importer = import_traced(traced, name or f"{type(model).__name__}.step", set(groups))
    gradients = gradients_of(traced, importer)
    captured = CapturedStep(
        graph=text,
        data_inputs=list(text.leaves[: len(traced.inputs) + len(traced.targets)]),
        hyper=[],
        states=[],
        constants=importer.data,
        tied=traced.tied,
        without_gradient=[n for n in traced.trained if n not in gradients],
    )
    _add_updates(captured, optimizer, groups, gradients)
    text.drop_unread()
    parameters = set(traced.parameters)
    captured.frozen = [b.label for b in captured.buffers if b.label in parameters]
    return captured


def capture_forward(model: nn.Module, inputs: Any, *, name: str | None = None) -> CapturedStep:
    """The forward pass of `model` in its present mode alone: for evaluation. The outputs have the
    names under which they stand in the model's output; nothing is trained."""
    step = StepModule(model, None)
    with torch.no_grad():
        traced = trace_step(step, inputs, (), None)
    weights = {n for n, p in step.parameters_by_path().items() if p.requires_grad}
    text, importer = import_traced(traced, name or f"{type(model).__name__}.forward", weights)
    captured = CapturedStep(
        graph=text,
        data_inputs=list(text.leaves[: len(traced.inputs)]),
        hyper=[],
        states=[],
        constants=importer.data,
        tied=traced.tied,
    )
    text.drop_unread()
    parameters = set(traced.parameters)
    captured.frozen = [b.label for b in captured.buffers if b.label in parameters]
    return captured


def _checked(example: Any) -> tuple[Any, tuple]:
    if not isinstance(example, tuple | list) or len(example) != 2:
        raise Error(
            "example: expected (inputs, targets), inputs a tuple or dict for the model and "
            "targets a tuple for the loss"
        )
    inputs, targets = example
    return inputs, targets if isinstance(targets, tuple | list) else (targets,)


def _parameter_groups(step: StepModule, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Path of each parameter to train -> its group in the optimiser."""
    path_of = {id(p): name for name, p in step.parameters_by_path().items()}
    groups = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in path_of:
                raise Error(
                    f"optimizer group {index} holds a parameter of shape "
                    f"{list(parameter.shape)} that is not the model's: build the optimizer from "
                    "this model's parameters"
                )
            if parameter.requires_grad:
                groups[path_of[id(parameter)]] = index
    if not groups:
        raise Error("optimizer: none of its parameters requires a gradient; nothing would train")
    return groups


def import_traced(traced: TracedStep, name: str, trained: set[str]) -> tuple[GraphText, Importer]:
    """Leaves and ops of forward and backward, updates of buffers, outputs. Inputs come first, and
    parameters are weights if `trained`, else buffers."""
    graph = traced.graph.graph
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    state_count = len(traced.parameters) + len(traced.buffers)
    data = placeholders[state_count:]
    results = next(n for n in graph.nodes if n.op == "output").args[0]
    mutations = {
        n.args[0]: n.args[1]
        for n in graph.nodes
        if n.target == aten.copy_.default and n.args[0].op == "placeholder"
    }
    leaf_of = dict(zip(placeholders, [*traced.parameters, *traced.buffers], strict=False))
    for target in mutations:
        if leaf_of.get(target) in traced.parameters:
            raise Error(
                f"parameter {leaf_of[target]!r} is changed in place by the forward pass: only "
                "buffers may be; register it as a buffer"
            )
    changed = {t: v for t, v in mutations.items() if t in leaf_of}
    roots = [r for r in [*results, *changed.values()] if r is not None]

    text = GraphText(name)
    importer = Importer(text, traced.graph, live_nodes(graph, roots), HANDLERS)
    for node, label in zip(data, _unique(traced.inputs + traced.targets), strict=True):
        importer.values[node] = _leaf(text, "input", label, label, node)
    for node, label in leaf_of.items():
        kind, prefix = ("weight", "p") if label in trained else ("buffer", "b")
        importer.values[node] = _leaf(text, kind, f"{prefix}.{label}", label, node)
    importer.run()

    for node, label in zip(results, traced.outputs, strict=False):
        value = importer.value(node)
        text.outputs.append((value, label))
    for node, source in changed.items():
        value = importer.value(source)
        if value is not importer.values[node]:
            text.updates.append((importer.values[node], value))
    for value, label in text.outputs:
        if value.kind == "op" and label == "loss":
            text.rename(value, "loss")
    return text, importer


def _leaf(text: GraphText, kind: str, name: str, label: str, node: torch.fx.Node) -> Value:
    tensor = node.meta["val"]
    if tensor.dtype not in DTYPES:
        raise Error(
            f"{kind} {label!r} is {str(tensor.dtype).removeprefix('torch.')}: a step is captured "
            f"in {', '.join(DTYPES.values())}; the recipe chooses narrower formats"
        )
    return text.leaf(kind, name, DTYPES[tensor.dtype], tuple(tensor.shape), label)


def _unique(names: list[str]) -> list[str]:
    """Hyper inputs keep their names; a clash gets a number."""
    taken = {"lr", "step"}
    unique = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            candidate, count = f"{name}.{count}", count + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique


def gradients_of(traced: TracedStep, importer: Importer) -> dict[str, Value]:
    """The gradient of each of `traced.trained` that has one."""
    results = next(n for n in traced.graph.graph.nodes if n.op == "output").args[0]
    nodes = results[len(traced.outputs) :]
    gradients: dict[str, Value] = {}
    for name, node in zip(traced.trained, nodes, strict=True):
        if node is not None:
            gradients[name] = importer.value(node)
    named: set[int] = {id(value) for value, _ in importer.text.outputs}
    for name, value in gradients.items():
        if value.kind == "op" and id(value) not in named:
            named.add(id(value))
            importer.text.rename(value, f"d.{name}")
    return gradients


def _add_updates(
    captured: CapturedStep,
    optimizer: torch.optim.Optimizer,
    groups: dict[str, int],
    gradients: dict[str, Value],
) -> None:
    """One op per parameter with a gradient, in the order of the parameters."""
    text = captured.graph
    weights = {leaf.label: leaf for leaf in text.leaves if leaf.kind == "weight"}
    rule_for_group = optim.rule_for(optimizer)
    rules = [rule_for_group(group) for group in optimizer.param_groups]
    hyper: dict[tuple[str, int], Value] = {}

    def hyper_input(key: str, group: int) -> Value:
        slot = (key, 0 if key == "step" else group)
        if slot not in hyper:
            label = key if slot[1] == 0 else f"{key}.{slot[1]}"
            dtype = "i64" if key == "step" else "f32"
            hyper[slot] = text.leaf("input", label, dtype, (), label)
            captured.hyper.append(Hyper(label, *slot))
        return hyper[slot]

    for label, gradient in gradients.items():
        rule = rules[groups[label]]
        weight = weights[label]
        states: list[Value | None] = []
        for state in rule.states:
            if state is None:
                states.append(None)
                continue
            name = f"{label}.{state.name}"
            states.append(text.leaf("state", f"s.{name}", "f32", weight.shape, name))
            captured.states.append(State(name, label, state.key))
        targets = [weight, *states]
        results = [t and text.value(f"{t.name}.next", t.dtype, t.shape) for t in targets]
        inputs = [weight, gradient, *states, *(hyper_input(k, groups[label]) for k in rule.hyper)]
        attributes: dict[str, Attribute] = {**rule.attributes}
        text.ops.append(Op(rule.name, inputs, attributes, results, module_of_leaf(label), "upd"))
        text.updates += [(t, r) for t, r in zip(targets, results, strict=True) if t and r]
