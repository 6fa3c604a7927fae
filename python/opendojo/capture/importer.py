"""From the FX graph of a traced step to a GraphText.

An ATen op is written by its schema: tensor arguments are operands, all others attributes. Ops that
need more have a handler (handlers.py). What only concerns memory (detach, clone, layouts, devices)
disappears, and constants are made once (constants.py).
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from opendojo.capture import constants
from opendojo.capture.graph_text import Attribute, GraphText, Op, Value
from opendojo.capture.ops import op_names
from opendojo.errors import Error

aten = torch.ops.aten
Node = torch.fx.Node

DTYPES = {
    torch.float32: "f32",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.bool: "bool",
    torch.uint8: "u8",
}
_TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}

# Constants up to this size become a leaf with data if no few ops can make them.
MAX_LEAF_ELEMENTS = 1 << 24

# Names of the further results of ops with several.
_RESULTS = {
    "_native_batch_norm_legit_functional": ["", "mean", "invstd", "new_mean", "new_var"],
    "max_pool2d_with_indices": ["", "indices"],
    "native_batch_norm_backward": ["", "dweight", "dbias"],
    "native_group_norm": ["", "mean", "rstd"],
    "native_group_norm_backward": ["", "dweight", "dbias"],
    "native_layer_norm": ["", "mean", "rstd"],
    "native_layer_norm_backward": ["", "dweight", "dbias"],
    "nll_loss2d_forward": ["", "weight"],
    "nll_loss_forward": ["", "weight"],
    "topk": ["", "indices"],
}

# Shorter names for values than their ops have.
_SHORT = {
    "_native_batch_norm_legit_functional": "batch_norm",
    "_to_copy": "cast",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool2d_with_indices_backward": "max_pool2d_backward",
    "native_batch_norm_backward": "batch_norm_backward",
    "native_group_norm": "group_norm",
    "native_group_norm_backward": "group_norm_backward",
    "native_layer_norm": "layer_norm",
    "native_layer_norm_backward": "layer_norm_backward",
}

# Arguments that say where or how a tensor lies, not what it holds.
_MEMORY_ARGUMENTS = {"device", "layout", "pin_memory", "memory_format", "generator", "implicit"}

_COMPARISONS = {aten.eq, aten.ne, aten.lt, aten.le, aten.gt, aten.ge}
# Operands of these are converted to the type that the op computes in, before the op.
_PROMOTING = _COMPARISONS | {
    aten.add,
    aten.atan2,
    aten.bitwise_and,
    aten.bitwise_or,
    aten.bitwise_xor,
    aten.cat,
    aten.cos,
    aten.cumsum,
    aten.div,
    aten.erf,
    aten.exp,
    aten.fmod,
    aten.log,
    aten.maximum,
    aten.minimum,
    aten.mul,
    aten.pow,
    aten.prod,
    aten.reciprocal,
    aten.remainder,
    aten.rsqrt,
    aten.sigmoid,
    aten.sin,
    aten.sqrt,
    aten.sub,
    aten.tanh,
}
# A constant scalar tensor as `other` of these is written as an attribute.
_SCALAR_SECOND = _COMPARISONS | {aten.add, aten.sub, aten.mul, aten.div}

# Cheap enough to make a constant again each step, over `full` and `arange`.
_SIMPLE = _COMPARISONS | {
    aten._to_copy,
    aten.add,
    aten.alias,
    aten.bitwise_not,
    aten.clone,
    aten.expand,
    aten.logical_not,
    aten.permute,
    aten.squeeze,
    aten.sub,
    aten.unsqueeze,
    aten.view,
    aten.where,
}
_MAX_SIMPLE_DEPTH = 12

# Returns NotImplemented where the schema says it all.
Handler = Callable[["Importer", Node], Any]


class DropMask:
    """The mask of a dropout: the FP32 value of dojo.mask (0 or 1/(1-p)), or None if nothing is
    dropped. torch's own mask is boolean, and its gradient scales by 1/(1-p)."""

    def __init__(self, value: Value | None) -> None:
        self.value = value


class Random:
    """A random tensor that no op has consumed yet; only known patterns become a dojo.mask."""

    def __init__(self, keep: float | None = None) -> None:
        self.keep = keep  # probability of 1; None: uniform numbers of torch.rand


class Undefined:
    """Memory that nothing has written yet; only `bernoulli` may take its shape."""


def live_nodes(graph: torch.fx.Graph, roots: list[Node]) -> list[Node]:
    """The nodes that `roots` need, in order."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(node.all_input_nodes)
    return [n for n in graph.nodes if n in seen]


class Importer:
    """Imports `nodes` in order; `values` maps a node to its Value, a list of them (several
    results), a DropMask, a Random or an Undefined. The caller fills in the placeholders."""

    def __init__(
        self,
        text: GraphText,
        graph: torch.fx.GraphModule,
        nodes: list[Node],
        handlers: dict[Any, Handler],
    ) -> None:
        self.text = text
        self.nodes = nodes
        self.values: dict[Node, Any] = {}
        self.constants = constants.find_constants(graph, nodes)
        self.data: dict[str, Tensor] = {}  # label of a constant leaf -> its contents
        self._handlers = handlers
        self._made: dict[tuple, Value] = {}  # constants by contents
        self._maker: dict[Value, Op] = {}  # the op that makes a value
        self._known = op_names()

    def run(self) -> None:
        for node in self.nodes:
            if node.op == "call_function" and node not in self.constants:
                self.values[node] = self._import(node)

    def value(self, node: Any) -> Value:
        """The Value of a node that holds one tensor."""
        if node in self.constants:
            return self._constant(node)
        found = self.values[node]
        if isinstance(found, Random):
            raise error_at(
                node,
                "random numbers: only the dropout and drop-path forms are captured, as dojo.mask; "
                "pass other random numbers as inputs",
            )
        if isinstance(found, Undefined):
            raise error_at(node, "is read before anything is written to it")
        if not isinstance(found, Value):
            raise error_at(node, "this use of its result is not captured")
        return found

    def maker(self, value: Value, name: str) -> Op | None:
        """The op `name` if that is what makes the value."""
        op = self._maker.get(value)
        return op if op is not None and op.name == name else None

    # --- ops ---
    def emit(
        self,
        node: Node,
        name: str,
        inputs: list[Value | None],
        attributes: dict[str, Attribute],
        results: list[Tensor | None],
        flops: int = 0,
    ) -> list[Value | None]:
        """Appends an op with the module and phase of `node`; `results` give types, None: absent."""
        custom = node.meta["custom"]
        if name not in self._known:
            raise Error(
                f"op {name} in module {custom['module']!r} is not in the op table: add a row "
                f'"{name}" with its shapes and loop nest to src/dojo/graph and its kernel to '
                "src/dojo/run (docs/ops.md lists the rows), or write the module with other ops"
            )
        packet = name.split(".", 1)[1]
        suffixes = _RESULTS.get(packet) or ["", *map(str, range(1, len(results)))]
        root = _SHORT.get(packet, packet.lstrip("_"))
        outputs: list[Value | None] = []
        for suffix, result in zip(suffixes, results, strict=True):
            if result is None:
                outputs.append(None)
                continue
            wanted = f"{root}.{suffix}" if suffix else root
            value = self.text.value(wanted, dtype_at(node, result), tuple(result.shape))
            root = root if suffix else value.name
            outputs.append(value)
        op = Op(name, inputs, attributes, outputs, custom["module"], custom["phase"], flops)
        self.text.ops.append(op)
        self._maker.update((value, op) for value in outputs if value is not None)
        return outputs

    def emit_one(
        self,
        node: Node,
        name: str,
        inputs: list[Value | None],
        attributes: dict[str, Attribute],
        result: Tensor | None = None,
        flops: int = 0,
    ) -> Value:
        """An op with one result, of the type of `result` or of the node."""
        like = node.meta["val"] if result is None else result
        (value,) = self.emit(node, name, inputs, attributes, [like], flops)
        assert value is not None
        return value

    def cast(self, node: Node, value: Value, dtype: str) -> Value:
        if value.dtype == dtype:
            return value
        like = torch.empty(value.shape, dtype=_TORCH_DTYPES[dtype], device="meta")
        return self.emit_one(node, "aten._to_copy", [value], {"dtype": dtype}, like)

    def _import(self, node: Node) -> Any:
        if node.target is operator.getitem:
            return self.values[arg(node, 0)][arg(node, 1)]
        if not isinstance(node.target, torch._ops.OpOverload):
            raise error_at(node, "is not an ATen op: a captured step is made of ATen ops")
        if node.target._schema.is_mutable:
            raise error_at(node, "changes a tensor in place, and this change is not captured")
        return self._write(node)

    def _write(self, node: Node) -> Any:
        handler = self._handlers.get(packet_of(node))
        result = handler(self, node) if handler else NotImplemented
        return self.by_schema(node) if result is NotImplemented else result

    def by_schema(self, node: Node, **override: Any) -> Any:
        """The op as its schema writes it; `override` replaces arguments by name."""
        packet = packet_of(node)
        inputs: list[Value | None] = []
        attributes: dict[str, Attribute] = {}
        arguments = arguments_of(node) | override
        for argument in overload_of(node)._schema.arguments:
            name, value = argument.name, arguments[argument.name]
            if name in _MEMORY_ARGUMENTS:
                continue
            if "Tensor" not in str(argument.type):
                if value is not None and value != argument.default_value:
                    attributes[name] = self._attribute(node, str(argument.type), value)
            elif isinstance(value, list | tuple):
                inputs += [None if v is None else self.value(v) for v in value]
            elif value is None:
                inputs.append(None)
            elif not isinstance(value, Node) and name == "self":
                inputs.append(self.scalar_tensor(node, value))
            elif not isinstance(value, Node):
                attributes[name] = number_at(node, value)
            elif (scalar := self._scalar_operand(node, name, value)) is not None:
                attributes[name] = number_at(node, scalar)
            else:
                inputs.append(self.value(value))
        if packet in _PROMOTING:
            inputs = self._promoted(node, inputs)
        results = node.meta["val"]
        many = isinstance(results, list | tuple)
        outputs = self.emit(
            node,
            op_name(node),
            inputs,
            _normalised(node, attributes, inputs),
            list(results) if many else [results],
            node_flops(node),
        )
        return outputs if many else outputs[0]

    def scalar_tensor(self, node: Node, value: Any) -> Value:
        """A number as a tensor without dimensions, of the type of the node."""
        scalar = torch.full((), value, dtype=node.meta["val"].dtype)
        return self.full(node, scalar, scalar.item())

    def _scalar_operand(self, node: Node, name: str, source: Node) -> Any:
        """The number, if this operand is a constant scalar that an attribute can hold."""
        if packet_of(node) not in _SCALAR_SECOND or name != "other":
            return None
        tensor, first = self.constants.get(source), arg(node, 0)
        if not isinstance(tensor, Tensor) or tensor.dim() != 0 or first in self.constants:
            return None
        is_same_kind = tensor.dtype.is_floating_point == first.meta["val"].dtype.is_floating_point
        return tensor.item() if is_same_kind and tensor.dtype != torch.bool else None

    def _promoted(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        """Converts operands to the one type that the op computes in."""
        if packet_of(node) in _COMPARISONS:
            first, second = (a.meta["val"] if isinstance(a, Node) else a for a in node.args[:2])
            common = torch.result_type(first, second)
            dtype = DTYPES.get(common, "f32")  # a float64 scalar is compared as FP32
        else:
            dtype = dtype_at(node, node.meta["val"])
        return [None if v is None else self.cast(node, v, dtype) for v in inputs]

    def _attribute(self, node: Node, kind: str, value: Any) -> Attribute:
        if isinstance(value, torch.dtype):
            if value not in DTYPES:
                raise error_at(
                    node, f"asks for {value}: expected one of {', '.join(_TORCH_DTYPES)}"
                )
            return DTYPES[value]
        if isinstance(value, list | tuple):
            return [int(v) if isinstance(v, bool) else v for v in value]
        if "float" in kind:
            return float(value)
        return number_at(node, value) if "number" in kind else value

    # --- constants ---
    def _constant(self, node: Node) -> Value:
        tensor = self.constants[node]
        if not isinstance(tensor, Tensor):
            raise error_at(node, "a constant of several results is not captured")
        key = constants.fingerprint(tensor)
        if key not in self._made:
            if self._is_simple(node, _MAX_SIMPLE_DEPTH):
                self._made[key] = self._make(node)
            elif tensor.numel() <= MAX_LEAF_ELEMENTS:
                self._made[key] = self._constant_leaf(node, tensor)
            else:
                self._made[key] = self._write(node)
        return self._made[key]

    def _is_simple(self, node: Node, depth: int) -> bool:
        """Whether few cheap ops over `full` and `arange` make this constant."""
        tensor = self.constants.get(node)
        if not isinstance(tensor, Tensor) or tensor.dtype not in DTYPES:
            return False
        if constants.uniform_value(tensor) is not None or constants.progression(tensor) is not None:
            return True
        if depth == 0:
            return False
        source = self._equal_operand(node, tensor)
        if source is not None:
            return self._is_simple(source, depth - 1)
        return (
            isinstance(node.target, torch._ops.OpOverload)
            and packet_of(node) in _SIMPLE
            and all(self._is_simple(s, depth - 1) for s in node.all_input_nodes)
        )

    def _make(self, node: Node) -> Value:
        tensor = self.constants[node]
        key = constants.fingerprint(tensor)
        if key in self._made:
            return self._made[key]
        fill = constants.uniform_value(tensor)
        line = constants.progression(tensor)
        source = self._equal_operand(node, tensor)
        if fill is not None:
            made = self.full(node, tensor, fill)
        elif line is not None:
            made = self._arange(node, tensor, *line)
        elif source is not None:
            made = self._make(source)
        else:
            for operand in node.all_input_nodes:
                self._make(operand)
            made = self._write(node)
        self._made[key] = made
        return made

    def _equal_operand(self, node: Node, tensor: Tensor) -> Node | None:
        """An operand that the op only repeats: `x & True`."""
        for source in node.all_input_nodes:
            same = self.constants.get(source)
            if isinstance(same, Tensor) and (same.dtype, same.shape) == (
                tensor.dtype,
                tensor.shape,
            ):
                if torch.equal(same, tensor):
                    return source
        return None

    def full(self, node: Node, like: Tensor, fill: bool | int | float) -> Value:
        attributes: dict[str, Attribute] = {"size": list(like.shape), "fill_value": fill}
        if isinstance(fill, bool) or like.dtype not in (torch.float32, torch.int64):
            # Without dtype, ATen infers f32 from a float and i64 from an integer.
            attributes |= {"fill_value": int(fill), "dtype": dtype_at(node, like)}
        return self.emit_one(node, "aten.full", [], attributes, like)

    def _arange(self, node: Node, tensor: Tensor, dim: int, start: int, step: int) -> Value:
        extent = tensor.shape[dim]
        attributes: dict[str, Attribute] = {"start": start, "end": start + step * extent}
        if step != 1:
            attributes["step"] = step
        line = torch.empty(extent, dtype=torch.int64, device="meta")
        value = self.emit_one(node, "aten.arange", [], attributes, line)
        value = self.cast(node, value, DTYPES[tensor.dtype])
        shape = [1] * tensor.dim()
        shape[dim] = extent
        if len(shape) > 1:
            like = torch.empty(shape, dtype=tensor.dtype, device="meta")
            value = self.emit_one(node, "aten.view", [value], {"size": list(shape)}, like)
        if shape != list(tensor.shape):
            size: Attribute = list(tensor.shape)
            value = self.emit_one(node, "aten.expand", [value], {"size": size}, tensor)
        return value

    def _constant_leaf(self, node: Node, tensor: Tensor) -> Value:
        label = f"constant.{len(self.data)}"
        self.data[label] = tensor.contiguous().clone()
        return self.text.leaf("buffer", label, dtype_at(node, tensor), tuple(tensor.shape), label)


# --- what a node says ---
def arg(node: Node, index: int) -> Any:
    return node.args[index]


def overload_of(node: Node) -> torch._ops.OpOverload:
    assert isinstance(node.target, torch._ops.OpOverload)
    return node.target


def packet_of(node: Node) -> Any:
    return overload_of(node)._overloadpacket


def op_name(node: Node) -> str:
    if isinstance(node.target, torch._ops.OpOverload):
        return f"{node.target.namespace}.{node.target._overloadpacket.__name__}"
    return getattr(node.target, "__name__", str(node.target))


def arguments_of(node: Node) -> dict[str, Any]:
    """All arguments of a call by their schema names, defaults filled in."""
    schema = overload_of(node)._schema.arguments
    bound: dict[str, Any] = {a.name: a.default_value for a in schema}
    bound |= dict(zip([a.name for a in schema], node.args, strict=False))
    return bound | dict(node.kwargs)


def error_at(node: Node, what: str) -> Error:
    module = node.meta.get("custom", {}).get("module", "")
    return Error(f"op {op_name(node)} in module {module!r}: {what}")


def dtype_at(node: Node, tensor: Tensor) -> str:
    """The format of a result; only what a Graph can hold."""
    if tensor.dtype not in DTYPES:
        raise error_at(
            node,
            f"its result is {str(tensor.dtype).removeprefix('torch.')}: a step is captured in "
            f"{', '.join(_TORCH_DTYPES)}; narrower floats are chosen by the recipe, and float64 "
            "may only stand in constants",
        )
    return DTYPES[tensor.dtype]


def number_at(node: Node, value: Any) -> Attribute:
    """A scalar, as a float where the op computes in floats."""
    tensors = [a.meta["val"] for a in node.all_input_nodes[:1]] + [node.meta["val"]]
    is_float = any(isinstance(t, Tensor) and t.dtype.is_floating_point for t in tensors)
    return float(value) if is_float else value


def node_flops(node: Node) -> int:
    """What torch.utils.flop_counter counts for this call."""
    count = flop_registry.get(packet_of(node))
    if count is None:
        return 0
    args: Any = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    return int(count(*args[0], **args[1], out_val=node.meta["val"]))


def _normalised(
    node: Node, attributes: dict[str, Attribute], inputs: list[Value | None]
) -> dict[str, Attribute]:
    """Dimensions counted from the front, sizes without -1."""
    if "size" in attributes and isinstance(node.meta["val"], Tensor):
        attributes["size"] = list(node.meta["val"].shape)
    if inputs and inputs[0] is not None:
        rank = max(len(inputs[0].shape), 1)
        for name in ("dim", "dims"):
            given = attributes.get(name)
            if isinstance(given, list):
                attributes[name] = [int(d) % rank for d in given]
            elif isinstance(given, int):
                attributes[name] = given % rank
    return attributes
