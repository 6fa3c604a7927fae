"""capture_joint: a graph of torch.compile, forward and backward, becomes one Graph.

Unlike a captured step it has no loss and no update: what the loss says of the outputs comes in as
one more input per output (its tangent, "tangent.0"), and the gradients go out as outputs
("grad.trunk.0.weight"). Buffers that the forward pass changes go out as outputs too
("new.trunk.1.running_mean"), so that the backward part still reads the contents before the change.

Invariant: the ops of the forward part stand before those of the backward part, and read no tangent.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.fx.traceback as fx_traceback
from torch import Tensor
from torch._subclasses import FakeTensorMode

from opendojo.capture.graph_text import GraphText, Value
from opendojo.capture.step import _gradients, _import
from opendojo.capture.trace import TracedStep, TraceRecord, fake_like, trace_pure
from opendojo.errors import Error

aten = torch.ops.aten


@dataclass(frozen=True)
class Placeholder:
    """An argument of the graph."""

    kind: Literal["weight", "buffer", "input", "constant"]  # constant: a Python number
    label: str
    example: Any  # a tensor, of which shape, strides, dtype and requires_grad count; or the number


@dataclass(frozen=True)
class Source:
    """Where the contents of a result come from: an output of the Graph, or unchanged from what the
    caller gave."""

    kind: Literal["output", "argument", "tangent", "constant"]
    label: str = ""  # of the output or constant
    index: int = 0  # of the argument or tangent


@dataclass
class CapturedJoint:
    """Forward and, if anything is differentiated, backward of a graph of torch.compile."""

    graph: GraphText
    placeholders: list[Placeholder]
    leaves: list[Value | None]  # by placeholder; None: nothing reads it
    outputs: list[Source | None]  # by output; None: the graph returns None there
    tangents: list[Value | None]  # by output; None: it has no gradient
    changed: dict[int, Source]  # placeholder -> its contents after the forward pass
    gradients: list[Source | None]  # by placeholder
    constants: dict[str, Tensor] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.graph.render()

    @property
    def has_backward(self) -> bool:
        return any(tangent is not None for tangent in self.tangents)


def capture_joint(
    graph: torch.fx.GraphModule,
    placeholders: list[Placeholder],
    modules: dict[torch.fx.Node, str],
    *,
    differentiate: bool,
    name: str,
) -> CapturedJoint:
    """The joint Graph of `graph`, a graph of torch-level ops as Dynamo makes it.

    Args:
        graph: its placeholders are `placeholders`, in that order; it returns a tuple.
        modules: the module path of each of its nodes.
        differentiate: by all arguments that require a gradient; False: forward only.

    Errors (opendojo.Error): as capture; an argument other than a buffer is changed in place.
    """
    _name_modules(graph, modules)
    traced, results, tangent_of = _trace(graph, placeholders, differentiate)
    trained = {p.label: 0 for p in placeholders if p.kind == "weight"} if differentiate else {}
    text, importer = _import(traced, name, trained)

    leaf_of = {leaf.label: leaf for leaf in text.leaves if leaf.kind in ("weight", "buffer")}
    data = iter(leaf for leaf in text.leaves if leaf.kind == "input")
    inputs = [next(data) for p in placeholders if p.kind == "input"]
    tangents = [next(data) if at is not None else None for at in tangent_of]
    given = iter(inputs)
    leaves = [
        None if p.kind == "constant" else next(given) if p.kind == "input" else leaf_of[p.label]
        for p in placeholders
    ]
    source_of = {
        id(leaf): Source("argument", index=i) for i, leaf in enumerate(leaves) if leaf is not None
    } | {
        id(leaf): Source("tangent", index=i) for i, leaf in enumerate(tangents) if leaf is not None
    }

    def source(value: Value, label: str) -> Source:
        if value.kind == "op":
            text.outputs.append((value, label))
            return Source("output", label)
        return source_of.get(id(value)) or Source("constant", value.label)

    values = dict(zip(traced.outputs, (v for v, _ in text.outputs), strict=True))
    text.outputs.clear()
    outputs = [None if r is None else source(values[r], r) for r in results]
    changed = {}
    for target, value in text.updates:
        index = next(i for i, leaf in enumerate(leaves) if leaf is target)
        changed[index] = source(value, f"new.{target.label}")
    text.updates.clear()
    gradients = {label: v for label, v in _gradients(traced, importer).items()}
    joint = CapturedJoint(
        graph=text,
        placeholders=placeholders,
        leaves=leaves,
        outputs=outputs,
        tangents=tangents,
        changed=changed,
        gradients=[
            source(gradients[p.label], f"grad.{p.label}") if p.label in gradients else None
            for p in placeholders
        ],
        constants=importer.data,
    )
    text.drop_unread()
    kept = {id(leaf) for leaf in text.leaves}
    joint.leaves = [leaf if leaf is not None and id(leaf) in kept else None for leaf in leaves]
    return joint


def _name_modules(graph: torch.fx.GraphModule, modules: dict[torch.fx.Node, str]) -> None:
    for node in graph.graph.nodes:
        if node.op not in ("placeholder", "output"):
            node.meta["custom"] = {"module": modules.get(node, "")}


def _trace(
    graph: torch.fx.GraphModule, placeholders: list[Placeholder], differentiate: bool
) -> tuple[TracedStep, list[str | None], list[int | None]]:
    """The traced joint graph; the name of each result of `graph` (None where that is no tensor);
    the number of each result's tangent among the targets (None where it has none)."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    groups: dict[str, list[int]] = {"weight": [], "buffer": [], "input": [], "constant": []}
    for index, placeholder in enumerate(placeholders):
        groups[placeholder.kind].append(index)
    tensors = {
        i: fake_like(
            fake,
            placeholders[i].example,
            requires_grad=differentiate and placeholders[i].example.requires_grad,
        )
        for kind in ("weight", "buffer", "input")
        for i in groups[kind]
    }
    wanted = [i for i, tensor in tensors.items() if tensor.requires_grad]

    def call(leaves: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
        state = dict(zip([*groups["weight"], *groups["buffer"]], leaves, strict=True))
        state |= dict(zip(groups["input"], inputs, strict=True))
        arguments = [
            state[i] if i in state else placeholder.example
            for i, placeholder in enumerate(placeholders)
        ]
        mode = torch.is_grad_enabled()
        try:
            return list(torch.fx.Interpreter(graph).run(*arguments))
        finally:
            torch.set_grad_enabled(mode)

    leaves = [tensors[i] for i in [*groups["weight"], *groups["buffer"]]]
    inputs = [tensors[i] for i in groups["input"]]
    shapes = _results(call, leaves, inputs, fake, differentiate)
    results = [f"output.{i}" if s is not None else None for i, s in enumerate(shapes)]
    roots = [i for i, s in enumerate(shapes) if s is not None and s.requires_grad]
    tangents = [fake_like(fake, shapes[i]) for i in roots]
    record = TraceRecord()

    def run(
        leaves: list[Tensor], inputs: list[Tensor], tangents: list[Tensor]
    ) -> list[Tensor | None]:
        found = call(leaves, inputs)
        given = [o for o in found if o is not None]
        record.outputs = [name for name in results if name is not None]
        if not roots:
            return given
        # A view is the last op with a gradient: nodes without a forward op carry its number.
        ends = [found[i].view(found[i].shape) for i in roots]  # type: ignore[union-attr]
        record.trained = [placeholders[i].label for i in wanted]
        record.last_sequence_number = torch.autograd._get_sequence_nr() - 1
        with fx_traceback.annotate({"phase": "bwd"}):
            gradients = torch.autograd.grad(
                ends, [tensors[i] for i in wanted], tangents, allow_unused=True
            )
        return [*(o.detach() for o in given), *gradients]

    with torch.set_grad_enabled(bool(roots)):
        traced = trace_pure(run, (leaves, inputs, tangents), fake, record)
    _refuse_changed_inputs(traced, len(leaves), [placeholders[i].label for i in groups["input"]])
    step = TracedStep(
        graph=traced,
        fake=fake,
        parameters=[placeholders[i].label for i in groups["weight"]],
        buffers=[placeholders[i].label for i in groups["buffer"]],
        inputs=[placeholders[i].label for i in groups["input"]],
        targets=[f"tangent.{i}" for i in roots],
        trained=record.trained,
        outputs=record.outputs,
    )
    return step, results, [roots.index(i) if i in roots else None for i in range(len(results))]


def _results(call: Any, leaves: Any, inputs: Any, fake: FakeTensorMode, differentiate: bool) -> Any:
    """What the graph returns, as fakes."""
    from opendojo.capture.trace import deterministic_tracing, plain_errors

    with plain_errors(), deterministic_tracing(fake), torch.set_grad_enabled(differentiate):
        copies = [[t.detach().clone().requires_grad_(t.requires_grad) for t in ts] for ts in (leaves, inputs)]
        return call(*copies)
