"""Constants of a traced step: what depends on no weight, buffer or input.

Position numbers, causal masks, the 1 that the backward pass starts with. Their values are computed
here once, on small real CPU tensors, so that a Graph says `aten.full` or `aten.arange` instead of
repeating a dozen ops that arrive at it, and equal constants are made once.
"""

import operator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

aten = torch.ops.aten

MAX_ELEMENTS = 1 << 26  # of one constant while capturing

# Their result depends on their operand's shape alone.
SHAPE_ONLY = {
    aten.full_like,
    aten.zeros_like,
    aten.ones_like,
    aten.new_full,
    aten.new_zeros,
    aten.new_ones,
}
_RANDOM_OR_UNDEFINED = {
    aten.empty,
    aten.empty_like,
    aten.new_empty,
    aten.empty_strided,
    aten.new_empty_strided,
    aten.rand,
    aten.rand_like,
    aten.randn,
    aten.randn_like,
    aten.randint,
    aten.randperm,
    aten.bernoulli,
    aten.bernoulli_,
    aten.native_dropout,
}
_FILL = {aten.full: None, aten.zeros: 0, aten.ones: 1, aten.scalar_tensor: None}


def find_constants(graph: torch.fx.GraphModule, nodes: list[torch.fx.Node]) -> dict:
    """The value of each of `nodes` that is constant: a tensor, or a tuple for several results."""
    known: dict[torch.fx.Node, Any] = {}
    for node in nodes:
        if node.op == "get_attr":
            found = graph
            for part in node.target.split("."):
                found = getattr(found, part)
            known[node] = found.detach()
        elif node.op == "call_function":
            value = _evaluate(node, known)
            if value is not None:
                known[node] = value
    return known


def _evaluate(node: torch.fx.Node, known: dict) -> Any:
    if node.target is operator.getitem:
        source = node.args[0]
        return known[source][node.args[1]] if source in known else None
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    packet = node.target._overloadpacket
    result = node.meta.get("val")
    if packet in _RANDOM_OR_UNDEFINED or node.target._schema.is_mutable:
        return None
    if packet in SHAPE_ONLY and isinstance(result, Tensor):
        name = packet.__name__
        fill = node.args[-1] if "full" in name else (0 if "zeros" in name else 1)
        return _uniform(fill, result)
    if any(source not in known for source in node.all_input_nodes):
        return None
    results = result if isinstance(result, list | tuple) else [result]
    if any(isinstance(r, Tensor) and r.numel() > MAX_ELEMENTS for r in results):
        return None
    if packet in _FILL and isinstance(result, Tensor):
        fill = _FILL[packet]
        if fill is None:
            fill = node.args[1] if packet is aten.full else node.args[0]
        return _uniform(fill, result)
    flat, spec = tree_flatten((node.args, node.kwargs))
    flat = [known[a] if isinstance(a, torch.fx.Node) else a for a in flat]
    args, kwargs = tree_unflatten(flat, spec)
    with torch.no_grad():
        value = node.target(*args, **kwargs)
    return tree_map_only(Tensor, torch.Tensor.detach, value)


def _uniform(fill: Any, like: Tensor) -> Tensor:
    """Takes no memory, however large."""
    return torch.full((), fill, dtype=like.dtype).expand(like.shape)


def distinct(tensor: Tensor) -> Tensor:
    """The tensor with repeated dimensions (stride 0) narrowed to 1."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def uniform_value(tensor: Tensor) -> bool | int | float | None:
    """The one value of all elements, or None. A NaN has no equal; -0 is not 0."""
    if tensor.numel() == 0:
        return None
    elements = distinct(tensor).reshape(-1)
    first = elements[0]
    if not bool((elements == first).all()):
        return None
    if elements.is_floating_point() and bool(
        (torch.signbit(elements) != torch.signbit(first)).any()
    ):
        return None
    return first.item()


def progression(tensor: Tensor) -> tuple[int, int, int] | None:
    """(dimension, start, step) if the integers vary along one dimension only, in equal steps."""
    if tensor.dtype not in (torch.int64, torch.int32):
        return None
    for dim, extent in enumerate(tensor.shape):
        if extent < 2:
            continue
        line = tensor.movedim(dim, 0).reshape(extent, -1)[:, 0]
        if tensor.stride(dim) == 0 or bool(line[0] == line[1]):
            continue
        steps = line[1:] - line[:-1]
        shape = [1] * tensor.dim()
        shape[dim] = extent
        if bool((steps == steps[0]).all()) and bool((tensor == line.reshape(shape)).all()):
            return dim, int(line[0]), int(steps[0])
        return None
    return None


def fingerprint(tensor: Tensor) -> tuple:
    """Equal for equal dtype, shape and values."""
    return tensor.dtype, tuple(tensor.shape), distinct(tensor).numpy().tobytes()
