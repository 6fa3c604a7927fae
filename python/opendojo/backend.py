"""The backend "opendojo" of torch.compile: an unchanged model in an unchanged loop, trained in the
arithmetic of a recipe on the op table and kernels of compile_step.

    model = torch.compile(model, backend="opendojo", options={"recipe": "cfloat8"})

Each graph that Dynamo finds is captured with its backward pass as one Graph (capture/joint.py),
lowered once and run by one executor, which keeps the saved activations as codes from the forward to
the backward part. Nothing falls back to PyTorch: what cannot be captured, a graph break and a
recompile beyond Dynamo's limit are errors. What runs in PyTorch is what stands outside of the
compiled callable: a loss that is not part of it, and the optimiser. docs/torch-compile.md says why
the pieces are cut this way.
"""

import difflib
import os
import sys
import sysconfig
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.callback import CallbackArgs, callback_handler
from torch._dynamo.eval_frame import innermost_backend
from torch._dynamo.utils import _get_error_on_graph_break, _set_error_on_graph_break

from opendojo import _core
from opendojo.capture.dynamo import describe_placeholders, name_modules
from opendojo.capture.joint import CapturedJoint, Placeholder, Source, capture_joint
from opendojo.errors import Error
from opendojo.step import default_threads


@dataclass(frozen=True)
class Options:
    """What torch.compile(options={...}) takes."""

    recipe: str = "cfloat8"
    machine: str = "training-tile"  # a shipped machine, or the path of a machine file
    overrides: tuple[str, ...] = ()  # "MODULE=ROLE:FORMAT"
    seed: int = 0  # of dropout and stochastic rounding
    threads: int | None = None  # of the executor; None: all cores
    allow_graph_breaks: bool = False  # what Dynamo leaves out then runs in PyTorch, in FP32

    @staticmethod
    def parse(options: dict[str, Any] | None, mode: str | None = None) -> "Options":
        """Errors: an unknown key or recipe, with the nearest; a value of another type."""
        if mode is not None:
            raise Error(f"torch.compile(mode={mode!r}) has no meaning for opendojo: leave mode out")
        known = [field.name for field in fields(Options)]
        given = dict(options or {})
        for key in given:
            if key not in known:
                raise Error(f"unknown option {key!r}{_nearest(key, known)}")
        if "overrides" in given:
            overrides = given["overrides"]
            given["overrides"] = (
                (overrides,) if isinstance(overrides, str) else tuple(map(str, overrides))
            )
        parsed = Options(**given)
        for name, kind, what in _KINDS:
            if not isinstance(getattr(parsed, name), kind):
                raise Error(f"option {name!r} is {getattr(parsed, name)!r}: expected {what}")
        if parsed.seed < 0 or (parsed.threads is not None and not 1 <= parsed.threads <= 256):
            raise Error(
                f"seed is {parsed.seed}, threads is {parsed.threads}: expected a seed of at least "
                "0, and 1 to 256 threads"
            )
        if parsed.recipe not in _core.recipe_names():
            raise Error(
                f"unknown recipe {parsed.recipe!r}{_nearest(parsed.recipe, _core.recipe_names())}"
            )
        if not _core.keeps_parameters_in_fp32(parsed.recipe):
            raise Error(
                f"recipe {parsed.recipe!r} stores weights in a narrow format, but with "
                "torch.compile they belong to PyTorch: use opendojo.compile_step, or a recipe "
                "with FP32 masters"
            )
        return parsed


_KINDS: list[tuple[str, Any, str]] = [
    ("recipe", str, "the name of a recipe"),
    ("machine", str, "the name or path of a machine"),
    ("seed", int, "a number"),
    ("threads", int | None, "a number, or None for all cores"),
    ("allow_graph_breaks", bool, "True or False"),
]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join(known)}"


def opendojo_backend(
    graph: torch.fx.GraphModule,
    example_inputs: list[Any],
    *,
    options: dict[str, Any] | None = None,
    mode: str | None = None,
) -> Callable:
    """The backend as torch.compile calls it, once per graph. An error is raised when the compiled
    graph is called, as an opendojo.Error of its own: Dynamo would wrap it into one of its errors,
    or fall back to eager mode if told to suppress errors."""
    try:
        parsed = Options.parse(options, mode)
        _watch_compiles()
        _check_no_graph_break(graph, parsed)
        return CompiledGraph(graph, example_inputs, parsed)
    except Error as error:
        return _refusal(error)
    except Exception as error:
        message = str(error).strip().splitlines() or [""]
        return _refusal(
            Error(f"this graph cannot be captured: {type(error).__name__}: {message[0]}"), error
        )


def compile(model: Callable, **options: Any) -> Callable:
    """torch.compile(model, backend="opendojo", options=options), whole (fullgraph=True) and for
    fixed shapes (dynamic=False). The options are those of `Options`; a wrong one is an error at
    once."""
    Options.parse(options)
    _watch_compiles()
    return torch.compile(
        model, backend=opendojo_backend, fullgraph=True, dynamic=False, options=options
    )


def _refusal(error: Error, cause: Exception | None = None) -> Callable:
    def refuse(*arguments: Any) -> Any:
        raise Error(str(error)) from cause

    return refuse


# --- one graph ---
@dataclass(frozen=True)
class GraphState:
    """What a compiled graph carries from step to step for one model, and what it is of."""

    sha256: str  # of the lowered Graph
    signature: str  # of its arguments
    recipe: str
    machine: str
    trains: bool
    step: int  # completed forward passes
    seed: int
    windows: dict[int, tuple]  # what biases follow, as Executor.snapshot() says


class CompiledGraph:
    """A graph of torch.compile, lowered for a machine. Dynamo calls it with the graph's arguments,
    for any model of the same code: each gets an executor of its own."""

    def __init__(
        self, graph: torch.fx.GraphModule, example_inputs: list[Any], options: Options
    ) -> None:
        self.options = options
        placeholders = describe_placeholders(graph, example_inputs)
        for placeholder in placeholders:
            _check_device(placeholder)
        name_modules(graph)
        self.captured: CapturedJoint = capture_joint(
            graph,
            placeholders,
            differentiate=torch.is_grad_enabled(),
            name="compiled",
        )
        text = self.captured.text
        self.graph = _core.lower(
            _core.Graph.parse(text, self.captured.name),
            options.recipe,
            list(options.overrides),
            options.machine,
        )
        self.state_slots = [i for i, p in enumerate(placeholders) if p.kind in ("weight", "buffer")]
        self.instances: list[Instance] = []
        _graphs.add(self)

    @property
    def trains(self) -> bool:
        """Whether it has a backward part."""
        return self.captured.has_backward

    @property
    def signature(self) -> str:
        """What a call must look like: kind, label and shape of each argument."""
        parts = ["train" if self.trains else "forward"]
        for placeholder in self.captured.placeholders:
            example = placeholder.example
            shape = list(map(int, example.shape)) if isinstance(example, Tensor) else int(example)
            parts.append(f"{placeholder.kind} {placeholder.label} {shape}")
        return "; ".join(parts)

    def __call__(self, *arguments: Any) -> tuple:
        instance = self._instance_for([arguments[i] for i in self.state_slots])
        if self.trains:
            results = _Differentiable.apply(instance, *arguments)
        else:
            with torch.no_grad():
                results = instance.forward(arguments)
        instance.write_back(arguments)
        return results

    def _instance_for(self, state: list[Tensor]) -> "Instance":
        """The instance of the model whose parameters and buffers these are. A parameter that was
        exchanged for another is no new model, as long as one is left."""
        self.instances = [i for i in self.instances if i.is_alive]
        for instance in self.instances:
            if instance.is_of(state):
                return instance
        instance = Instance(self, state)
        _give_expected_state(instance)
        self.instances.append(instance)
        return instance


class Instance:
    """A CompiledGraph at work on one model: the executor with the saved activations of at most one
    forward pass."""

    def __init__(self, compiled: CompiledGraph, state: list[Tensor]) -> None:
        options = compiled.options
        self.compiled = compiled
        self.captured = compiled.captured
        self.executor = _core.Executor(
            compiled.graph, options.threads or default_threads(), options.seed
        )
        for label, contents in self.captured.constants.items():
            self.executor.write(label, _array(contents))
        self.token = 0  # of the last forward
        self.is_open = False  # its saved activations are there
        self._state = [weakref.ref(tensor) for tensor in state]
        self._changed: dict[int, Tensor] = {}

    @property
    def is_alive(self) -> bool:
        return not self._state or any(reference() is not None for reference in self._state)

    @property
    def state(self) -> list[Tensor]:
        """Parameters and buffers of the last call."""
        return [tensor for tensor in (r() for r in self._state) if tensor is not None]

    def is_of(self, state: list[Tensor]) -> bool:
        is_same = [r() is tensor for r, tensor in zip(self._state, state, strict=True)]
        if any(is_same) and not all(is_same):
            self._state = [weakref.ref(tensor) for tensor in state]
        return any(is_same) or not is_same

    def forward(self, arguments: tuple) -> tuple:
        """Runs the forward part on the present contents of all arguments."""
        self.is_open = False
        self._write_leaves(arguments)
        inputs = self.inputs(arguments)
        made = self.executor.forward(inputs) if self.compiled.trains else self.executor.step(inputs)
        self.token += 1
        self.is_open = True
        self._changed = {
            i: self._result(source, made, arguments, ())
            for i, source in self.captured.changed.items()
        }
        return tuple(
            source.number if source.kind == "number" else self._result(source, made, arguments, ())
            for source in self.captured.outputs
        )

    def backward(self, token: int, arguments: tuple, tangents: tuple) -> list[Tensor | None]:
        """Runs the backward part for the forward pass with that token: the gradient of each
        argument. `arguments` need to hold the inputs only."""
        if token != self.token:
            raise Error(
                f"backward through a forward pass after which {self.token - token} more have run: "
                "an executor keeps the saved activations of one; call backward before the next "
                "forward (gradient accumulation: forward, backward, forward, backward), or put "
                "both forward passes into one compiled function"
            )
        if not self.is_open:
            raise Error(
                "backward a second time through one forward pass (retain_graph=True): its saved "
                "activations are gone; call forward again, or add the losses and call backward once"
            )
        self.is_open = False
        inputs = self.inputs(arguments)
        for value, tangent in zip(self.captured.tangents, tangents, strict=True):
            if value is not None:
                inputs[value.label] = _array(tangent)
        made = self.executor.backward(inputs)
        return [
            None if source is None else self._result(source, made, arguments, tangents)
            for source in self.captured.gradients
        ]

    def write_back(self, arguments: tuple) -> None:
        """Gives buffers that the forward pass changed their new contents."""
        with torch.no_grad():
            for i, contents in self._changed.items():
                arguments[i].copy_(contents)
        self._changed = {}

    def inputs(self, arguments: tuple) -> dict[str, np.ndarray]:
        return {
            leaf.label: _array(arguments[i])
            for i, leaf in enumerate(self.captured.leaves)
            if leaf is not None and leaf.kind == "input"
        }

    def graph_state(self) -> GraphState:
        compiled, snapshot = self.compiled, self.executor.snapshot()
        return GraphState(
            sha256=compiled.graph.sha256,
            signature=compiled.signature,
            recipe=compiled.options.recipe,
            machine=compiled.options.machine,
            trains=compiled.trains,
            **snapshot,
        )

    def restore(self, state: GraphState) -> None:
        self.is_open = False
        self.executor.restore({"step": state.step, "seed": state.seed, "windows": state.windows})

    def _write_leaves(self, arguments: tuple) -> None:
        # All of them each time: a write through `.data` leaves no trace in a tensor's version.
        for i in self.compiled.state_slots:
            leaf = self.captured.leaves[i]
            if leaf is not None:
                self.executor.write(leaf.label, _array(arguments[i]))

    def _result(self, source: Source, made: dict, arguments: tuple, tangents: tuple) -> Tensor:
        if source.kind == "output":
            return torch.from_numpy(made[source.label])
        if source.kind == "constant":
            return self.captured.constants[source.label].clone()
        given = arguments if source.kind == "argument" else tangents
        return given[source.index].detach().clone()


class _Differentiable(torch.autograd.Function):
    """An instance's forward and backward parts as one node of autograd."""

    @staticmethod
    def forward(ctx: Any, instance: Instance, *arguments: Any) -> tuple:
        results = instance.forward(arguments)
        slots = [i for i, p in enumerate(instance.captured.placeholders) if p.kind == "input"]
        ctx.save_for_backward(*(arguments[i] for i in slots))
        ctx.instance, ctx.token = instance, instance.token
        ctx.slots, ctx.count = slots, len(arguments)
        tangents = instance.captured.tangents
        ctx.mark_non_differentiable(
            *(r for r, t in zip(results, tangents, strict=True) if t is None and r is not None)
        )
        return results

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor) -> tuple:
        if torch.is_grad_enabled():
            raise Error(
                "double backward (create_graph=True) through a compiled graph: there is no "
                "derivative of the backward part; leave the model uncompiled for this"
            )
        arguments: list[Any] = [None] * ctx.count
        for i, tensor in zip(ctx.slots, ctx.saved_tensors, strict=True):
            arguments[i] = tensor
        gradients = ctx.instance.backward(ctx.token, tuple(arguments), tangents)
        return (
            None,
            *(g if n else None for g, n in zip(gradients, ctx.needs_input_grad[1:], strict=True)),
        )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _check_device(placeholder: Placeholder) -> None:
    example = placeholder.example
    if isinstance(example, Tensor) and example.device.type != "cpu":
        raise Error(
            f"{placeholder.kind} {placeholder.label!r} is on {example.device}: opendojo computes "
            "on the CPU; move the model and its inputs there"
        )


# --- graph breaks ---
# A function that Dynamo gives up runs in eager mode, and a backend that got no part of it does not
# even hear of it. So graph breaks are made errors for the time of a compile for this backend, as
# fullgraph=True does; the checks of a graph itself are for what has slipped through.
def _watch_compiles() -> None:
    if _begin_compile not in callback_handler.start_callbacks:  # torch._dynamo.reset() forgets it
        callback_handler.register_start_callback(_begin_compile)
        callback_handler.register_end_callback(_end_compile)


def _begin_compile(arguments: CallbackArgs) -> None:
    options = _options_of_compile()
    if options is not None and options.get("allow_graph_breaks") is not True:
        _replaced_settings.append(_get_error_on_graph_break())
        _set_error_on_graph_break(True)


def _end_compile(arguments: CallbackArgs) -> None:
    if _replaced_settings:
        _set_error_on_graph_break(_replaced_settings.pop())


def _options_of_compile() -> dict[str, Any] | None:
    """The options of the compile that is running, if it is for this backend."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_compile" and "compiler_fn" in frame.f_locals:
            backend = innermost_backend(frame.f_locals["compiler_fn"])
            if getattr(backend, "compiler_fn", backend) is not opendojo_backend:
                return None
            return getattr(backend, "kwargs", {}).get("options") or {}
        frame = frame.f_back
    return None


def _check_no_graph_break(graph: torch.fx.GraphModule, options: Options) -> None:
    """Refuses a part of a broken function, or lists it if that is allowed."""
    found = _graph_break(graph)
    if options.allow_graph_breaks:
        if found is not None and found not in _graph_breaks:
            _graph_breaks.append(found)
        return
    if torch._dynamo.config.suppress_errors:
        raise Error(
            "torch._dynamo.config.suppress_errors would run in PyTorch, in FP32, what cannot be "
            "compiled: set it to False"
        )
    # Without this, Dynamo would run a function in eager mode after too many recompiles.
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if found is not None:
        raise Error(
            f"graph break: {found}; what is left out would run in PyTorch, in FP32: change the "
            "model so that it compiles whole, or allow it with options={'allow_graph_breaks': True}"
        )


def _graph_break(graph: torch.fx.GraphModule) -> str | None:
    """Why this graph is only a part of what was to be compiled, if it is."""
    reason = getattr(graph, "compile_subgraph_reason", None)
    if reason is not None and reason.graph_break:
        where = [f"{Path(f.filename).name}:{f.lineno}" for f in reason.user_stack[-1:]]
        return " at ".join([reason.reason.strip().splitlines()[0], *where])
    outer = _running_frame()
    if outer is None:
        return None
    return (
        f"{outer.co_name} ({Path(outer.co_filename).name}:{outer.co_firstlineno}) runs outside of "
        "the graph that it calls (TORCH_LOGS=graph_breaks says why)"
    )


def _running_frame() -> CodeType | None:
    """The code of a function of the user that runs uncompiled between torch.compile's wrapper and
    the function being compiled now: there is one only after a graph break."""
    torch_folder = os.path.dirname(torch.__file__)
    library = sysconfig.get_path("stdlib")
    packages = sysconfig.get_path("purelib")
    frame: FrameType | None = sys._getframe()
    is_past_dynamo = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(torch_folder):
            is_past_dynamo = is_past_dynamo or file.endswith("convert_frame.py")
            if is_past_dynamo and file.endswith(os.path.join("_dynamo", "eval_frame.py")):
                return None
        elif is_past_dynamo and (not file.startswith(library) or file.startswith(packages)):
            return frame.f_code
        frame = frame.f_back
    return None


# --- what there is ---
_graphs: "weakref.WeakSet[CompiledGraph]" = weakref.WeakSet()
_graph_breaks: list[str] = []
_replaced_settings: list[bool] = []
_expected: list[tuple["weakref.ref[nn.Module]", list[GraphState]]] = []


def instances_of(model: nn.Module) -> list[Instance]:
    """The compiled graphs at work on this model's parameters or buffers."""
    own = {id(t) for t in [*model.parameters(), *model.buffers()]}
    found = [i for compiled in _graphs for i in compiled.instances]
    return sorted(
        (i for i in found if any(id(t) in own for t in i.state)),
        key=lambda i: (i.compiled.signature, i.compiled.graph.sha256),
    )


# --- states of a model's graphs ---
def states_of(model: nn.Module) -> list[GraphState]:
    """Of the graphs at work on the model, and of those that are still expected."""
    waiting = [state for owner, states in _expected if owner() is model for state in states]
    return [instance.graph_state() for instance in instances_of(model)] + waiting


def expect_states(model: nn.Module, states: list[GraphState]) -> None:
    """From now on a graph that meets this model begins with its state among these; graphs that have
    met it begin anew."""
    for instance in instances_of(model):
        instance.compiled.instances.remove(instance)
    _expected[:] = [(o, s) for o, s in _expected if o() is not None and o() is not model]
    _expected.append((weakref.ref(model), list(states)))


def _give_expected_state(instance: Instance) -> None:
    """Errors (opendojo.Error): training goes on with another recipe, machine or graph."""
    own = {id(tensor) for tensor in instance.state}
    for owner, states in _expected:
        model = owner()
        if model is None or not any(id(t) in own for t in [*model.parameters(), *model.buffers()]):
            continue
        ours = instance.graph_state()
        for state in states:
            if state.sha256 == ours.sha256:
                states.remove(state)
                instance.restore(state)
                return
        for state in states:
            is_same_kind = (state.recipe, state.machine) == (ours.recipe, ours.machine)
            if state.trains and ours.trains and not is_same_kind:
                raise Error(
                    f"the checkpoint was trained with recipe {state.recipe} on {state.machine}, "
                    f"this model is compiled with {ours.recipe} for {ours.machine}: compile with "
                    "the same options, or do not resume"
                )
            if state.trains and state.signature == ours.signature:
                raise Error(
                    "the checkpoint is of another graph with the same inputs: resume with the "
                    "same model code, overrides and version of OpenDojo that it was made with"
                )


def report() -> dict[str, Any]:
    """What the backend has compiled in this process and still holds: a dict per graph and model,
    and the graph breaks that were allowed. Ops of a graph never run in PyTorch: `host_ops` is
    empty."""
    return {
        "graphs": [
            {
                "trains": compiled.trains,
                "signature": compiled.signature,
                "recipe": compiled.options.recipe,
                "machine": compiled.options.machine,
                "ops": compiled.graph.op_count,
                "lowered_graph_sha256": compiled.graph.sha256,
                "completed_forwards": instance.executor.completed_steps,
                "saved_bytes": instance.executor.saved_bytes,
                "arena_bytes": instance.executor.arena_bytes,
                "host_ops": [],
            }
            for compiled in _graphs
            for instance in compiled.instances
            if instance.is_alive
        ],
        "graph_breaks": list(_graph_breaks),
    }


_watch_compiles()
