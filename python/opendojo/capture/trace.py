"""Tracing: a module's training step as an FX graph of pure ATen ops, each with module and phase.

Two passes of make_fx under one FakeTensorMode. The first runs forward, loss and
torch.autograd.grad; the second functionalises the finished graph (no autograd is left in it), which
turns in-place ops and BatchNorm's undeclared updates of its running statistics into values and
`copy_` into placeholders at the end.
"""

import bisect
import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.fx.traceback as fx_traceback
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from opendojo.capture.decompositions import decomposition_table
from opendojo.errors import Error

LOSS_MODULE = "loss"  # module path of what the loss callable does


class StepModule(nn.Module):
    """Model and loss under one root; names of the model's members keep no prefix."""

    def __init__(self, model: nn.Module, loss: Callable | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    @staticmethod
    def path(name: str) -> str:
        return name.removeprefix("model.") if name != "model" else ""

    def modules_by_path(self) -> Iterator[tuple[str, nn.Module]]:
        for name, module in self.named_modules():
            if module is not self:
                yield self.path(name), module

    def parameters_by_path(self) -> dict[str, nn.Parameter]:
        """Each parameter once, under its first name."""
        return {self.path(name): p for name, p in self.named_parameters()}

    def buffers_by_path(self) -> dict[str, Tensor]:
        return {self.path(name): b for name, b in self.named_buffers()}

    def call(self, leaves: dict[str, Tensor], inputs: "Arguments") -> Any:
        """The model's output with parameters and buffers replaced by `leaves` (by path)."""
        own = _under(self.model, self._prefixed(leaves, "model."))
        return torch.func.functional_call(
            self.model, own, inputs.args, inputs.kwargs, tie_weights=True
        )

    def call_loss(self, leaves: dict[str, Tensor], output: Any, targets: tuple) -> Any:
        assert self.loss is not None
        if not isinstance(self.loss, nn.Module):
            return self.loss(output, *targets)
        own = _under(self.loss, self._prefixed(leaves, "loss."))
        return torch.func.functional_call(self.loss, own, (output, *targets), tie_weights=True)

    def _prefixed(self, leaves: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        names = [n for n, _ in self.named_parameters()] + [n for n, _ in self.named_buffers()]
        return {n.removeprefix(prefix): leaves[self.path(n)] for n in names if n.startswith(prefix)}


def _under(module: nn.Module, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    known = {n for n, _ in module.named_parameters(remove_duplicate=False)}
    known |= {n for n, _ in module.named_buffers(remove_duplicate=False)}
    return {n: leaf for n, leaf in leaves.items() if n in known}


@dataclass
class Arguments:
    args: tuple
    kwargs: dict[str, Any]

    @staticmethod
    def of(inputs: Any) -> "Arguments":
        if isinstance(inputs, dict):
            return Arguments((), dict(inputs))
        if isinstance(inputs, tuple | list):
            return Arguments(tuple(inputs), {})
        return Arguments((inputs,), {})


@dataclass
class TracedStep:
    """`graph`'s placeholders are parameters, buffers, inputs, targets in the order of the names."""

    graph: torch.fx.GraphModule
    fake: FakeTensorMode
    parameters: list[str]
    buffers: list[str]
    inputs: list[str]
    targets: list[str]
    trained: list[str]  # parameters, in the order of their gradients among the outputs
    outputs: list[str]  # names of the graph's first outputs; the gradients follow
    tied: dict[str, str] = field(default_factory=dict)  # further name -> path of the leaf


@dataclass
class TraceRecord:
    """What a traced function leaves behind beside its graph."""

    outputs: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    last_sequence_number: int = -1


@contextlib.contextmanager
def deterministic_tracing(fake: FakeTensorMode) -> Iterator[None]:
    """The flags under which a step is captured, and under which its FLOPs must be counted: math
    attention, no oneDNN, all Python decompositions, autograd in this thread."""
    onednn = torch._C._get_mkldnn_enabled()
    with (
        fake,
        tracing(TracingContext(fake)),
        sdpa_kernel(SDPBackend.MATH),
        enable_python_dispatcher(),
        whole_resizing(),
        torch.autograd.set_multithreading_enabled(False),
    ):
        torch._C._set_mkldnn_enabled(False)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(onednn)


# Their Python kernels take them apart above autograd, where no decomposition table is asked.
_RESIZING = [
    getattr(packet, overload)
    for packet in (torch.ops.aten.upsample_bilinear2d, torch.ops.aten.upsample_nearest2d)
    for overload in ("default", "vec")
]


@contextlib.contextmanager
def whole_resizing() -> Iterator[None]:
    """While this lasts, F.interpolate of images traces as one op that has one gradient op, not as
    gathers of the corners whose gradients scatter."""
    kernels = [dict(op.py_kernels) for op in _RESIZING]
    try:
        for op in _RESIZING:
            op.py_kernels.clear()
            op._dispatch_cache.clear()
        yield
    finally:
        for op, own in zip(_RESIZING, kernels, strict=True):
            op.py_kernels.update(own)
            op._dispatch_cache.clear()


@contextlib.contextmanager
def _module_paths(step: StepModule) -> Iterator[None]:
    """While this lasts, each traced node carries the path of the innermost running module."""
    entered: list[contextlib.AbstractContextManager] = []
    handles = []

    def enter(path: str) -> Callable:
        def hook(module: nn.Module, args: Any) -> None:
            entered.append(fx_traceback.annotate({"module": path}))
            entered[-1].__enter__()

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        entered.pop().__exit__(None, None, None)

    try:
        for path, module in step.modules_by_path():
            handles.append(module.register_forward_pre_hook(enter(path), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def fake_like(fake: FakeTensorMode, tensor: Tensor, *, requires_grad: bool = False) -> Tensor:
    """A CPU fake of the tensor's shape, strides and dtype; the tensor may be meta or fake."""
    with fake:
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return made.requires_grad_(requires_grad)


def fake_arguments(fake: FakeTensorMode, tree: Any) -> Any:
    leaves, spec = tree_flatten(tree)
    return tree_unflatten(
        [fake_like(fake, leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec
    )


def trace_step(
    step: StepModule, inputs: Any, targets: tuple, trained: set[str] | None
) -> TracedStep:
    """`trained`: paths of the parameters to differentiate by; None: forward only, no loss."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    parameters = step.parameters_by_path()
    buffers = step.buffers_by_path()
    leaves = [
        fake_like(fake, p, requires_grad=trained is not None and name in trained)
        for name, p in parameters.items()
    ] + [fake_like(fake, b) for b in buffers.values()]
    names = [*parameters, *buffers]

    arguments, input_spec = tree_flatten(fake_arguments(fake, Arguments.of(inputs).__dict__))
    goals, target_spec = tree_flatten(fake_arguments(fake, tuple(targets)))
    in_slots = [i for i, a in enumerate(arguments) if isinstance(a, Tensor)]
    goal_slots = [i for i, a in enumerate(goals) if isinstance(a, Tensor)]
    record = TraceRecord()

    def run(leaves: list[Tensor], ins: list[Tensor], outs: list[Tensor]) -> list[Tensor | None]:
        state = dict(zip(names, leaves, strict=True))
        given = list(arguments)
        for slot, tensor in zip(in_slots, ins, strict=True):
            given[slot] = tensor
        wanted = list(goals)
        for slot, tensor in zip(goal_slots, outs, strict=True):
            wanted[slot] = tensor
        output = step.call(state, Arguments(**tree_unflatten(given, input_spec)))
        if trained is None:
            record.outputs, results = named_outputs(output)
            return results
        with fx_traceback.annotate({"module": LOSS_MODULE}):
            returned = step.call_loss(state, output, tree_unflatten(wanted, target_spec))
            loss, extra = split_loss(returned)
            # The last op with a gradient: nodes without a forward op of their own carry its number.
            loss = loss.view(())
        record.outputs = ["loss", *extra]
        record.trained = [n for n in parameters if n in trained]
        record.last_sequence_number = torch.autograd._get_sequence_nr() - 1
        with fx_traceback.annotate({"phase": "bwd"}):
            gradients = torch.autograd.grad(
                loss, [state[n] for n in record.trained], allow_unused=True
            )
        return [loss, *(e.detach() for e in extra.values()), *gradients]

    fakes = (leaves, [arguments[i] for i in in_slots], [goals[i] for i in goal_slots])
    with _module_paths(step):
        graph = trace_pure(run, fakes, fake, record)

    return TracedStep(
        graph=graph,
        fake=fake,
        parameters=list(parameters),
        buffers=list(buffers),
        inputs=_leaf_names(step.model.forward, Arguments.of(inputs), skip=0),
        targets=_leaf_names(
            step.loss.forward if isinstance(step.loss, nn.Module) else step.loss,
            Arguments(tuple(targets), {}),
            skip=1,
        )
        if trained is not None
        else [],
        trained=record.trained,
        outputs=record.outputs,
        tied=_tied_names(step),
    )


def trace_pure(
    run: Callable, fakes: tuple, fake: FakeTensorMode, record: TraceRecord
) -> torch.fx.GraphModule:
    """The two passes over `run`, a function of lists of fake tensors that returns the tensors named
    in `record.outputs` and then the gradients of `record.trained`."""
    table = decomposition_table()
    with plain_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            deterministic_tracing(fake),
            fx_traceback.preserve_node_meta(),
            torch.compiler._non_strict_tracing_context(),
            torch.compiler._patch_engine_backward(),
        ):
            first = make_fx(run, table, record_stack_traces=False)(*fakes)
        _spread_modules(first.graph, record)

        def replay(*arguments: Any) -> Any:
            return torch.fx.Interpreter(first).run(*tree_leaves(arguments))

        pure = torch.func.functionalize(replay, remove="mutations")
        with (
            deterministic_tracing(fake),
            torch.no_grad(),
            fx_traceback.preserve_node_meta(),
        ):
            return make_fx(pure, table, record_stack_traces=False)(*fakes)


def split_loss(returned: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss callable returns the scalar, or the scalar and a dict of tensors to hand out."""
    extra: dict[str, Tensor] = {}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict):
        returned, extra = returned
    if not isinstance(returned, Tensor) or returned.numel() != 1:
        what = f"shape {list(returned.shape)}" if isinstance(returned, Tensor) else type(returned)
        raise Error(
            f"loss: expected a scalar tensor (or a scalar and a dict of tensors), got {what}; "
            "reduce it, for example with .mean()"
        )
    return returned.reshape(()), extra


def named_outputs(output: Any) -> tuple[list[str], list[Tensor]]:
    """The tensors of a model's output and a name for each."""
    found = [
        (".".join(_key(k) for k in path) or "output", leaf)
        for path, leaf in torch.utils._pytree.tree_leaves_with_path(output)
        if isinstance(leaf, Tensor)
    ]
    if not found:
        raise Error("the model's output holds no tensor: return a tensor or a structure of tensors")
    return [name for name, _ in found], [leaf for _, leaf in found]


def _key(entry: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _leaf_names(function: Any, arguments: Arguments, skip: int) -> list[str]:
    """A name for each tensor among the arguments: the parameter's, plus the path inside it."""
    try:
        known = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ][skip:]
    except (TypeError, ValueError):
        known = []
    prefix = "input" if skip == 0 else "target"
    trees = {
        (known[i] if i < len(known) else f"{prefix}.{i}"): tree
        for i, tree in enumerate(arguments.args)
    } | arguments.kwargs
    return [
        ".".join([name, *(_key(k) for k in path)])
        for name, tree in trees.items()
        for path, leaf in torch.utils._pytree.tree_leaves_with_path(tree)
        if isinstance(leaf, Tensor)
    ]


def _tied_names(step: StepModule) -> dict[str, str]:
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in [
        *step.named_parameters(remove_duplicate=False),
        *step.named_buffers(remove_duplicate=False),
    ]:
        path = step.path(name)
        kept = first.setdefault(id(tensor), path)
        if kept != path:
            tied[path] = kept
    return tied


def module_of_leaf(path: str) -> str:
    """`trunk.0` of the parameter `trunk.0.weight`."""
    return path.rpartition(".")[0]


def _spread_modules(graph: torch.fx.Graph, record: TraceRecord) -> None:
    """Gives every node `meta["custom"]` with module and phase. Once the backward part has begun,
    nothing is forward: what is computed again there is part of it. A backward node has the module
    of the forward node with its autograd sequence number. A sum of gradients belongs to no forward
    node: it has the module of the parameter, or else of the node that reads it."""
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output")]
    module_of: dict[int, str] = {}
    for node in nodes:
        custom = node.meta.get("custom") or {}
        if "phase" not in custom and "module" in custom:
            module_of.setdefault(node.meta.get("seq_nr", -1), custom["module"])
    numbers = sorted(module_of)

    gradients = next(n for n in graph.nodes if n.op == "output").args[0][len(record.outputs) :]
    owner = dict(zip(gradients, map(module_of_leaf, record.trained), strict=True))
    phase = "fwd"
    for node in nodes:
        custom = dict(node.meta.get("custom") or {})
        phase = custom.get("phase", phase)
        custom["phase"] = phase
        number = node.meta.get("seq_nr", -1)
        is_sum = number == record.last_sequence_number and node.target == torch.ops.aten.add.Tensor
        if custom["phase"] == "bwd" and "module" not in custom and not is_sum and numbers:
            # An in-place op may take a number before it is traced: then the next one is its own.
            at = bisect.bisect_left(numbers, number)
            if at < len(numbers):
                custom["module"] = module_of[numbers[at]]
        node.meta["custom"] = custom
    for node in reversed(nodes):
        custom = node.meta["custom"]
        if "module" not in custom:
            readers = [u.meta["custom"]["module"] for u in node.users if u.op == "call_function"]
            custom["module"] = owner.get(node, readers[0] if readers else LOSS_MODULE)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What cannot be traced because it depends on data, as an Error."""
    try:
        yield
    except DataDependentOutputException as error:
        raise Error(
            f"the model reads a tensor's value in Python ({error.func}): a captured step must not "
            "branch on data; use torch.where, or pass the value as a Python number"
        ) from error
    except DynamicOutputShapeException as error:
        raise Error(
            f"the shape of a result depends on data ({error.func}): a captured step has fixed "
            "shapes; use a mask, or gather with a fixed count"
        ) from error
