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
from opendojo.capture.step import gradients_of, import_traced
from opendojo.capture.trace import (
    TracedStep,
    TraceRecord,
    deterministic_tracing,
    fake_like,
    plain_errors,
    trace_pure,
)
from opendojo.errors import Error

aten = torch.ops.aten


@dataclass(frozen=True)
class Placeholder:
    """An argument of the graph."""

    kind: Literal["weight", "buffer", "input", "number"]
    label: str
    example: Any  # shape, strides, dtype and requires_grad of the tensor count; or the number


@dataclass(frozen=True)
class Source:
    """Where a result comes from: an output of the Graph, unchanged from what the caller gave, a
    constant leaf, or no tensor at all but a number."""

    kind: Literal["output", "argument", "tangent", "constant", "number"]
    label: str = ""  # of the output or constant
    index: int = 0  # of the argument or tangent
    number: Any = None


@dataclass
class CapturedJoint:
    """Forward and, if anything is differentiated, backward of a graph of torch.compile."""

    graph: GraphText
    placeholders: list[Placeholder]
    leaves: list[Value | None]  # by placeholder; None: nothing reads it
    outputs: list[Source]  # by result
    tangents: list[Value | None]  # by result; None: it has no gradient
    changed: dict[int, Source]  # placeholder -> its contents after the forward pass
    gradients: list[Source | None]  # by placeholder
    constants: dict[str, Tensor] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.graph.render()

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def has_backward(self) -> bool:
        return any(tangent is not None for tangent in self.tangents)


def capture_joint(
    graph: torch.fx.GraphModule,
    placeholders: list[Placeholder],
    *,
    differentiate: bool,
    name: str,
) -> CapturedJoint:
    """The joint Graph of `graph`, whose nodes are torch-level calls as Dynamo makes them.

    Args:
        graph: takes `placeholders`, each with a label of its own, and returns a tuple. Its nodes
            have the path of their module as meta["custom"]["module"].
        differentiate: by all arguments that require a gradient; False: forward only.

    Errors (opendojo.Error): as capture; an argument other than a buffer that is changed in place.
    """
    trace = _JointTrace(graph, placeholders, differentiate)
    traced = trace.run()
    weights = [p.label for p in placeholders if p.kind == "weight"]
    text, importer = import_traced(traced, name, dict.fromkeys(weights, 0) if differentiate else {})

    leaf_of = {leaf.label: leaf for leaf in text.leaves if leaf.kind in ("weight", "buffer")}
    data = iter([leaf for leaf in text.leaves if leaf.kind == "input"])
    inputs = iter([next(data) for p in placeholders if p.kind == "input"])
    leaves = [
        None if p.kind == "number" else next(inputs) if p.kind == "input" else leaf_of[p.label]
        for p in placeholders
    ]
    tangents = [next(data) if i in trace.roots else None for i in range(len(trace.results))]
    given = {id(v): Source("argument", index=i) for i, v in enumerate(leaves)}
    given |= {id(v): Source("tangent", index=i) for i, v in enumerate(tangents)}

    def source(value: Value, label: str) -> Source:
        if value.kind == "op":
            text.outputs.append((value, label))
            return Source("output", label)
        return given.get(id(value)) or Source("constant", value.label)

    values = {label: value for value, label in text.outputs}
    text.outputs = []
    outputs = [
        source(values[f"output.{i}"], f"output.{i}")
        if isinstance(result, Tensor)
        else Source("number", number=result)
        for i, result in enumerate(trace.results)
    ]
    changed = {
        leaves.index(leaf): source(value, f"new.{leaf.label}") for leaf, value in text.updates
    }
    text.updates = []
    gradient_of = gradients_of(traced, importer)
    gradients = [
        source(gradient_of[p.label], f"grad.{p.label}") if p.label in gradient_of else None
        for p in placeholders
    ]
    text.drop_unread()
    kept = {id(leaf) for leaf in text.leaves}
    return CapturedJoint(
        graph=text,
        placeholders=placeholders,
        leaves=[leaf if id(leaf) in kept else None for leaf in leaves],
        outputs=outputs,
        tangents=tangents,
        changed=changed,
        gradients=gradients,
        constants={label: t for label, t in importer.data.items() if label in leaf_labels(text)},
    )


def leaf_labels(text: GraphText) -> set[str]:
    return {leaf.label for leaf in text.leaves}


class _JointTrace:
    """Traces a graph and, after it, the gradients of what it returns."""

    def __init__(
        self, graph: torch.fx.GraphModule, placeholders: list[Placeholder], differentiate: bool
    ) -> None:
        self.graph = graph
        self.placeholders = placeholders
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        # Weights, then buffers, then inputs: the order of a TracedStep.
        self.order = [
            i
            for kind in ("weight", "buffer", "input")
            for i, placeholder in enumerate(placeholders)
            if placeholder.kind == kind
        ]
        fakes = self._fakes(differentiate)
        with (
            plain_errors(),
            deterministic_tracing(self.fake),
            torch.set_grad_enabled(differentiate),
        ):
            self.results: list[Any] = self._call(fakes)
        self.roots = [
            i for i, r in enumerate(self.results) if isinstance(r, Tensor) and r.requires_grad
        ]

    def run(self) -> TracedStep:
        labels = [p.label for p in self.placeholders]
        state = [i for i in self.order if self.placeholders[i].kind != "input"]
        fakes = self._fakes(bool(self.roots))
        wanted = [at for at, fake in enumerate(fakes) if fake.requires_grad]
        record = TraceRecord(
            outputs=[f"output.{i}" for i, r in enumerate(self.results) if isinstance(r, Tensor)],
            trained=[labels[self.order[at]] for at in wanted],
        )

        def joint(arguments: list[Tensor], tangents: list[Tensor]) -> list[Tensor | None]:
            found = self._call(arguments)
            # A view is the last op with a gradient: nodes without a forward op carry its number.
            ends = [found[i].view(found[i].shape) for i in self.roots]
            record.last_sequence_number = torch.autograd._get_sequence_nr() - 1
            given = [r.detach() for r in found if isinstance(r, Tensor)]
            gradients: tuple = ()
            if ends:
                with fx_traceback.annotate({"phase": "bwd"}):
                    gradients = torch.autograd.grad(
                        ends, [arguments[at] for at in wanted], tangents, allow_unused=True
                    )
            return [*given, *gradients]

        tangents = [fake_like(self.fake, self.results[i]) for i in self.roots]
        with torch.set_grad_enabled(bool(self.roots)):
            graph = trace_pure(joint, (fakes, tangents), self.fake, record)
        self._refuse_changed_inputs(graph, len(state))
        return TracedStep(
            graph=graph,
            fake=self.fake,
            parameters=[labels[i] for i in state if self.placeholders[i].kind == "weight"],
            buffers=[labels[i] for i in state if self.placeholders[i].kind == "buffer"],
            inputs=[labels[i] for i in self.order[len(state) :]],
            targets=[f"tangent.{i}" for i in self.roots],
            trained=record.trained,
            outputs=record.outputs,
        )

    def _fakes(self, differentiate: bool) -> list[Tensor]:
        examples = [self.placeholders[i].example for i in self.order]
        return [
            fake_like(self.fake, e, requires_grad=differentiate and e.requires_grad)
            for e in examples
        ]

    def _call(self, arguments: list[Tensor]) -> list[Any]:
        tensors = dict(zip(self.order, arguments, strict=True))
        mode = torch.is_grad_enabled()
        try:
            return list(
                torch.fx.Interpreter(self.graph).run(
                    *(tensors.get(i, p.example) for i, p in enumerate(self.placeholders))
                )
            )
        finally:
            torch.set_grad_enabled(mode)  # the graph may leave it changed

    def _refuse_changed_inputs(self, graph: torch.fx.GraphModule, state_count: int) -> None:
        placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        for node in graph.graph.nodes:
            if node.target == aten.copy_.default and node.args[0] in placeholders[state_count:]:
                at = placeholders.index(node.args[0])
                raise Error(
                    f"input {self.placeholders[self.order[at]].label!r} is changed in place: only "
                    "buffers of a module may be; change a clone of it"
                )
