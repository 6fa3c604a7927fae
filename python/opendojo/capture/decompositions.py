"""Which ATen ops are taken apart while tracing, and which stay whole.

The table is the core ATen list without the ops in KEEP, whose core decompositions would replace one
op that has a stated algorithm by dozens of element-wise ones; each of those would then be rounded
on its own. Decomposition happens below autograd only.
"""

from collections.abc import Callable

import torch
from torch._decomp import _core_aten_decompositions_post_autograd, get_decompositions
from torch._ops import OpOverload

aten = torch.ops.aten

KEEP = frozenset(
    {
        # normalisations
        "native_batch_norm_backward",
        "native_group_norm_backward",
        "native_layer_norm_backward",
        # softmax
        "_log_softmax_backward_data",
        "_safe_softmax",
        "_softmax_backward_data",
        # activations
        "elu_backward",
        "gelu_backward",
        "hardsigmoid",
        "hardsigmoid_backward",
        "hardswish",
        "hardswish_backward",
        "hardtanh_backward",
        "leaky_relu_backward",
        "sigmoid_backward",
        "silu",
        "silu_backward",
        "softplus",
        "softplus_backward",
        "tanh_backward",
        "threshold_backward",
        # losses
        "mse_loss",
        "mse_loss_backward",
        "nll_loss2d_backward",
        "nll_loss2d_forward",
        "nll_loss_backward",
        "nll_loss_forward",
        "smooth_l1_loss",
        "smooth_l1_loss_backward",
        # pooling, resizing, indexing
        "avg_pool2d_backward",
        "embedding_dense_backward",
        "upsample_bilinear2d",
        "upsample_bilinear2d_backward",
        "upsample_nearest2d",
        "upsample_nearest2d_backward",
        # random: imported as dojo.mask
        "bernoulli",
        "native_dropout_backward",
        # Its decomposition is for inference: it returns probabilities where the op returns their
        # log-sum-exp, and the backward op has none. Tracing forces math attention instead.
        "_scaled_dot_product_flash_attention_for_cpu",
    }
)


def select_backward(grad: torch.Tensor, sizes: list[int], dim: int, index: int) -> torch.Tensor:
    """Zeros of `sizes` but for the one selected slice: pure movement, one op."""
    dim = dim % len(sizes)
    index = index % sizes[dim]
    return _padded(grad.unsqueeze(dim), dim, index, sizes[dim] - index - 1)


def slice_backward(
    grad: torch.Tensor, sizes: list[int], dim: int, start: int, end: int, step: int
) -> torch.Tensor:
    """As select_backward, for a run of slices; a step other than 1 goes through index_put."""
    dim = dim % len(sizes)
    extent = sizes[dim]
    start = max(0, min(extent, start + extent if start < 0 else start))
    if step == 1:
        return _padded(grad, dim, start, extent - start - grad.shape[dim])
    rows = torch.arange(start, start + step * grad.shape[dim], step, device=grad.device)
    indices: list[torch.Tensor | None] = [None] * dim + [rows]
    return aten.index_put(grad.new_zeros(sizes), indices, grad)


def _padded(x: torch.Tensor, dim: int, before: int, after: int) -> torch.Tensor:
    if before == 0 and after == 0:
        return x
    return aten.constant_pad_nd(x, [0, 0] * (x.dim() - dim - 1) + [before, after], 0.0)


def packet_name(op: OpOverload) -> str:
    """`add` of aten.add.Tensor."""
    return op.name().split("::")[1].split(".")[0]


def index_select(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    indices: list[torch.Tensor | None] = [None] * (dim % x.dim()) + [index]
    return aten.index(x, indices)


def isnan(x: torch.Tensor) -> torch.Tensor:
    return x != x


def decomposition_table() -> dict[OpOverload, Callable]:
    """A fresh table for make_fx. In-place ops are left to functionalisation, so that `silu_` ends
    as the kept `silu`."""
    table: dict[OpOverload, Callable] = {
        op: rule
        for op, rule in _core_aten_decompositions_post_autograd().items()
        if isinstance(op, OpOverload) and packet_name(op) not in KEEP and not op._schema.is_mutable
    }
    table |= get_decompositions([aten.linalg_vector_norm])
    table[aten.index_select.default] = index_select
    table[aten.isnan.default] = isnan
    table[aten.select_backward.default] = select_backward
    table[aten.slice_backward.default] = slice_backward
    return table
