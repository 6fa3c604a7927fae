"""The ops whose schema does not say it all: what changes nothing is dropped, what has several loop
nests is split, what is random becomes dojo.mask. HANDLERS, at the end, is the table."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count

from opendojo.capture.constants import uniform_value
from opendojo.capture.graph_text import Attribute, Value
from opendojo.capture.importer import (
    DTYPES,
    DropMask,
    Handler,
    Importer,
    Node,
    Random,
    Undefined,
    arg,
    arguments_of,
    dtype_at,
    error_at,
    op_name,
    packet_of,
)

aten = torch.ops.aten


# --- movement ---
def same(importer: Importer, node: Node) -> Value:
    """An op that changes no element."""
    return importer.value(arg(node, 0))


def view(importer: Importer, node: Node) -> Value:
    """A view of a view is one view; a sum that keeps its dimensions and then loses them is a sum
    that does not keep them."""
    source = importer.value(arg(node, 0))
    shape = tuple(node.meta["val"].shape)
    while (earlier := importer.maker(source, "aten.view")) and source.shape != shape:
        assert earlier.inputs[0] is not None
        source = earlier.inputs[0]
    if source.shape == shape:
        return source
    total = importer.maker(source, "aten.sum")
    if total is not None and total.attributes.get("keepdim"):
        (x,), dims = total.inputs, total.attributes["dim"]
        assert x is not None and isinstance(dims, list)
        if shape == tuple(n for d, n in enumerate(x.shape) if d not in dims):
            return importer.emit_one(node, "aten.sum", [x], {"dim": dims})
    return importer.emit_one(node, "aten.view", [source], {"size": list(shape)})


def expand(importer: Importer, node: Node) -> Any:
    source = importer.value(arg(node, 0))
    return source if source.shape == tuple(node.meta["val"].shape) else NotImplemented


def permute(importer: Importer, node: Node) -> Value:
    """A permutation of a permutation is one permutation, or none."""
    source = importer.value(arg(node, 0))
    rank = len(source.shape)
    dims = [d % rank for d in arg(node, 1)]
    while earlier := importer.maker(source, "aten.permute"):
        before = earlier.attributes["dims"]
        assert isinstance(before, list) and earlier.inputs[0] is not None
        dims = [int(before[d]) for d in dims]
        source = earlier.inputs[0]
    if dims == list(range(rank)):
        return source
    return importer.emit_one(node, "aten.permute", [source], {"dims": dims})


def slice_(importer: Importer, node: Node) -> Value:
    arguments = arguments_of(node)
    source = importer.value(arguments["self"])
    dim = arguments["dim"] % len(source.shape)
    extent = source.shape[dim]

    def clamped(index: int) -> int:
        return max(0, min(extent, index + extent if index < 0 else index))

    start = clamped(arguments["start"] or 0)
    end = clamped(extent if arguments["end"] is None else arguments["end"])
    step = arguments["step"]
    if (start, end, step) == (0, extent, 1):
        return source
    attributes: dict[str, Attribute] = {"dim": dim, "start": start, "end": end}
    if step != 1:
        attributes["step"] = step
    return importer.emit_one(node, "aten.slice", [source], attributes)


def select(importer: Importer, node: Node) -> Value:
    source = importer.value(arg(node, 0))
    dim = arg(node, 1) % len(source.shape)
    index = arg(node, 2) % source.shape[dim]
    return importer.emit_one(node, "aten.select", [source], {"dim": dim, "index": index})


def to_copy(importer: Importer, node: Node) -> Value:
    return importer.cast(node, importer.value(arg(node, 0)), dtype_at(node, node.meta["val"]))


def copy(importer: Importer, node: Node) -> Value:
    """copy(self, src): src in the shape and type of self."""
    result = node.meta["val"]
    value = importer.cast(node, importer.value(arg(node, 1)), dtype_at(node, result))
    if value.shape == tuple(result.shape):
        return value
    return importer.emit_one(node, "aten.expand", [value], {"size": list(result.shape)})


# --- element-wise, reductions, indexing ---
def reduce(importer: Importer, node: Node) -> Value:
    """All dimensions are written out; a scalar is its own sum."""
    arguments = arguments_of(node)
    source = importer.value(arguments["self"])
    if packet_of(node) not in (aten.amax, aten.amin, aten.any, aten.all):
        source = importer.cast(node, source, dtype_at(node, node.meta["val"]))
    rank = len(source.shape)
    if rank == 0:
        return importer.cast(node, source, dtype_at(node, node.meta["val"]))
    given = arguments.get("dim")
    given = [given] if isinstance(given, int) else given
    attributes: dict[str, Attribute] = {"dim": sorted(d % rank for d in given or range(rank))}
    if arguments.get("keepdim"):
        attributes["keepdim"] = True
    return importer.emit_one(node, op_name(node), [source], attributes)


def where(importer: Importer, node: Node) -> Value:
    """A scalar branch becomes a tensor, so that there are always three operands."""
    result = node.meta["val"]
    branches = []
    for branch in (arg(node, 1), arg(node, 2)):
        if isinstance(branch, Node):
            branches.append(importer.cast(node, importer.value(branch), dtype_at(node, result)))
        else:
            branches.append(importer.scalar_tensor(node, branch))
    return importer.emit_one(node, "aten.where", [importer.value(arg(node, 0)), *branches], {})


def index_put(importer: Importer, node: Node) -> Value:
    """x[mask] = number is a where. Otherwise the values come before the index tensors, of which
    there may be any number."""
    arguments = arguments_of(node)
    mask, new = arguments["indices"][0], arguments["values"]
    is_masked_fill = (
        len(arguments["indices"]) == 1
        and mask is not None
        and mask.meta["val"].dtype == torch.bool
        and mask.meta["val"].shape == node.meta["val"].shape
        and new.meta["val"].numel() == 1
        and not arguments["accumulate"]
    )
    x = importer.value(arguments["self"])
    filled = importer.cast(node, importer.value(new), x.dtype)
    if not is_masked_fill:
        indices = [i and importer.value(i) for i in arguments["indices"]]
        attributes: dict[str, Attribute] = {"accumulate": True} if arguments["accumulate"] else {}
        return importer.emit_one(node, "aten.index_put", [x, filled, *indices], attributes)
    return importer.emit_one(node, "aten.where", [importer.value(mask), filled, x], {})


# --- convolutions, pooling ---
_WINDOW = ("stride", "padding", "dilation")


def _per_dimension(node: Node, rank: int, *names: str) -> dict[str, Any]:
    """The named list arguments, those of one number repeated for each spatial dimension."""
    arguments = arguments_of(node)
    lists = {name: list(arguments[name]) for name in names if name in arguments}
    return {name: v * rank if len(v) == 1 else v for name, v in lists.items()}


def convolution(importer: Importer, node: Node) -> Any:
    rank = node.meta["val"].dim() - 2
    return importer.by_schema(node, **_per_dimension(node, rank, *_WINDOW, "output_padding"))


def convolution_backward(importer: Importer, node: Node) -> Any:
    """One op per gradient, for their loop nests differ. Each of the two products takes as many
    FLOPs as the forward convolution."""
    arguments = arguments_of(node)
    if arguments["transposed"]:
        return importer.by_schema(node)
    gradient, x, weight = (
        importer.value(arguments[name]) for name in ("grad_output", "input", "weight")
    )
    window = {**_per_dimension(node, len(x.shape) - 2, *_WINDOW), "groups": arguments["groups"]}
    flops = conv_flop_count(list(x.shape), list(weight.shape), list(gradient.shape))
    results = node.meta["val"]
    wants_input, wants_weight, wants_bias = arguments["output_mask"]
    outputs: list[Value | None] = [None, None, None]
    if wants_input:
        sized = {"input_size": list(x.shape), **window}
        outputs[0] = importer.emit_one(
            node, "dojo.conv_input_grad", [gradient, weight], sized, results[0], flops
        )
    if wants_weight:
        sized = {"weight_size": list(weight.shape), **window}
        outputs[1] = importer.emit_one(
            node, "dojo.conv_weight_grad", [gradient, x], sized, results[1], flops
        )
    if wants_bias:
        dims = [d for d in range(len(gradient.shape)) if d != 1]
        outputs[2] = importer.emit_one(node, "aten.sum", [gradient], {"dim": dims}, results[2])
    return outputs


def pool(importer: Importer, node: Node) -> Any:
    lists = _per_dimension(node, 2, "kernel_size", *_WINDOW)
    lists["stride"] = lists["stride"] or lists["kernel_size"]
    return importer.by_schema(node, **lists)


# --- normalisation ---
def batch_norm(importer: Importer, node: Node) -> list[Value | None]:
    """One row for batch norm with and without training; without running statistics, it gets
    some that nobody reads."""
    arguments = arguments_of(node)
    x, weight, bias, mean, variance = (
        importer.value(arguments[n]) if isinstance(arguments.get(n), Node) else None
        for n in ("input", "weight", "bias", "running_mean", "running_var")
    )
    training = bool(arguments.get("training", False))
    results: list[Tensor | None] = [*node.meta["val"], None, None][:5]
    if mean is None:
        assert x is not None
        channels = torch.empty(x.shape[1], device="meta")
        mean = variance = importer.full(node, channels, 0.0)
    attributes: dict[str, Attribute] = {
        "training": training,
        "momentum": float(arguments["momentum"]),
        "eps": float(arguments["eps"]),
    }
    outputs = importer.emit(
        node,
        "aten._native_batch_norm_legit_functional",
        [x, weight, bias, mean, variance],
        attributes,
        results if training else [results[0], None, None, None, None],
    )
    return outputs if training else [outputs[0], None, None, mean, variance]


def batch_norm_backward(importer: Importer, node: Node) -> list[Value | None]:
    """Its operands are the statistics that it uses: the batch's or the running ones."""
    unused = (
        ("running_mean", "running_var")
        if arguments_of(node)["train"]
        else (
            "save_mean",
            "save_invstd",
        )
    )
    return norm_backward(importer, node, **dict.fromkeys(unused))


def norm_backward(importer: Importer, node: Node, **override: Any) -> list[Value | None]:
    """Gradients that the mask leaves out are not there."""
    outputs = importer.by_schema(node, **override)
    op, mask = importer.text.ops[-1], arguments_of(node)["output_mask"]
    op.outputs = [v if wanted else None for v, wanted in zip(outputs, mask, strict=True)]
    return op.outputs


# --- random ---
def mask(importer: Importer, node: Node, keep: float, shape: Any) -> Value:
    """dojo.mask: independent elements, 0 with probability p, else 1/(1-p)."""
    p = round(1.0 - keep, 12)
    if 1.0 - p != keep:
        p = 1.0 - keep
    like = torch.empty(tuple(shape), device="meta")
    if p >= 1:
        return importer.full(node, like, 0.0)
    return importer.emit_one(node, "dojo.mask", [], {"p": p, "size": list(shape)}, like)


def keep_bits(importer: Importer, node: Node, keep: float) -> Value:
    """1 with probability `keep`, else 0, in the type of the node."""
    result = node.meta["val"]
    drawn = mask(importer, node, keep, result.shape)
    flags = torch.empty(result.shape, dtype=torch.bool, device="meta")
    kept = importer.emit_one(node, "aten.ne", [drawn], {"other": 0.0}, flags)
    return importer.cast(node, kept, DTYPES[result.dtype])


def dropout(importer: Importer, node: Node) -> list:
    arguments = arguments_of(node)
    x, p = importer.value(arguments["input"]), float(arguments["p"])
    if arguments["train"] is False or p == 0:
        return [x, DropMask(None)]
    drawn = mask(importer, node, 1.0 - p, x.shape)
    dropped = importer.emit_one(node, "aten.mul", [x, drawn], {}, node.meta["val"][0])
    return [dropped, DropMask(drawn)]


def dropout_backward(importer: Importer, node: Node) -> Value:
    drawn = importer.values.get(arg(node, 1))
    if not isinstance(drawn, DropMask):
        raise error_at(node, "its mask is not that of a captured dropout")
    gradient = importer.value(arg(node, 0))
    if drawn.value is None:
        return gradient
    return importer.emit_one(node, "aten.mul", [gradient, drawn.value], {})


def rand(importer: Importer, node: Node) -> Random:
    return Random()


def undefined(importer: Importer, node: Node) -> Undefined:
    return Undefined()


def bernoulli(importer: Importer, node: Node) -> Any:
    """Bits; divided by their probability, as dropout of whole channels does, the mask itself."""
    probability = arg(node, 1) if len(node.args) > 1 else arg(node, 0)
    if isinstance(probability, Node):
        known = importer.constants.get(probability)
        probability = None if known is None else uniform_value(known)
    if probability is None:
        raise error_at(node, "its probabilities differ or are computed: give one number")
    keep = float(probability)
    is_mask = all(
        isinstance(user.target, torch._ops.OpOverload)
        and packet_of(user) is aten.div
        and user.args[0] is node
        and user.args[1] == keep
        for user in node.users
    )
    return Random(keep) if is_mask else keep_bits(importer, node, keep)


def _random_operand(importer: Importer, node: Node) -> Random | None:
    source = importer.values.get(node.args[0]) if isinstance(node.args[0], Node) else None
    return source if isinstance(source, Random) else None


def div(importer: Importer, node: Node) -> Any:
    source = _random_operand(importer, node)
    if source is not None and source.keep is not None:
        return mask(importer, node, source.keep, node.meta["val"].shape)
    return NotImplemented


def add(importer: Importer, node: Node) -> Any:
    """rand + keep: floor makes bits of it that are 1 with probability keep."""
    source = _random_operand(importer, node)
    if source is not None and source.keep is None and isinstance(node.args[1], float):
        return Random(node.args[1])
    return NotImplemented


def floor(importer: Importer, node: Node) -> Any:
    source = _random_operand(importer, node)
    if source is not None and source.keep is not None:
        return keep_bits(importer, node, source.keep)
    return NotImplemented


def compare(importer: Importer, node: Node) -> Any:
    """rand < p and its kin."""
    source = _random_operand(importer, node)
    if source is None or source.keep is not None or not isinstance(node.args[1], float):
        return NotImplemented
    is_less = packet_of(node) in (aten.lt, aten.le)
    return keep_bits(importer, node, node.args[1] if is_less else 1.0 - node.args[1])


def refuse(reason: str) -> Handler:
    def handler(importer: Importer, node: Node) -> Any:
        raise error_at(node, reason)

    return handler


_PASS_AS_INPUT = "has no op of its own: only dropout and drop-path do; pass its result as an input"

HANDLERS: dict[Any, Handler] = {
    aten._native_batch_norm_legit: batch_norm,
    aten._native_batch_norm_legit_functional: batch_norm,
    aten._native_batch_norm_legit_no_training: batch_norm,
    aten._scaled_dot_product_flash_attention_for_cpu: refuse(
        "has no backward that can be taken apart; capture forces math attention, so do not choose "
        "a backend inside the model"
    ),
    aten._to_copy: to_copy,
    aten._unsafe_view: view,
    aten.add: add,
    aten.alias: same,
    aten.all: reduce,
    aten.amax: reduce,
    aten.amin: reduce,
    aten.any: reduce,
    aten.avg_pool2d: pool,
    aten.avg_pool2d_backward: pool,
    aten.bernoulli: bernoulli,
    aten.clone: same,
    aten.contiguous: same,
    aten.convolution: convolution,
    aten.convolution_backward: convolution_backward,
    aten.copy: copy,
    aten.detach: same,
    aten.div: div,
    aten.empty: undefined,
    aten.empty_like: undefined,
    aten.empty_strided: undefined,
    aten.expand: expand,
    aten.floor: floor,
    aten.ge: compare,
    aten.gt: compare,
    aten.index_put: index_put,
    aten.le: compare,
    aten.lift_fresh: same,
    aten.lift_fresh_copy: same,
    aten.lt: compare,
    aten.max_pool2d_with_indices: pool,
    aten.max_pool2d_with_indices_backward: pool,
    aten.mean: reduce,
    aten.native_batch_norm_backward: batch_norm_backward,
    aten.native_dropout: dropout,
    aten.native_dropout_backward: dropout_backward,
    aten.native_group_norm_backward: norm_backward,
    aten.native_layer_norm_backward: norm_backward,
    aten.new_empty: undefined,
    aten.new_empty_strided: undefined,
    aten.permute: permute,
    aten.rand: rand,
    aten.rand_like: rand,
    aten.randint: refuse(_PASS_AS_INPUT),
    aten.randn: refuse(_PASS_AS_INPUT),
    aten.randn_like: refuse(_PASS_AS_INPUT),
    aten.randperm: refuse(_PASS_AS_INPUT),
    aten.reshape: view,
    aten.select: select,
    aten.slice: slice_,
    aten.squeeze: view,
    aten.sum: reduce,
    aten.unsqueeze: view,
    aten.view: view,
    aten.where: where,
    torch.ops.prims.convert_element_type: to_copy,
}
