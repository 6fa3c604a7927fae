"""PyTorch tensors and NumPy arrays alike: what kernels may read, and arrays to write into."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from opendojo.errors import Error

Array = torch.Tensor | np.ndarray
ArrayT = TypeVar("ArrayT", torch.Tensor, np.ndarray)

_to_capsule = torch.utils.dlpack.to_dlpack


def check_array(x: Any, name: str) -> None:
    """Raises opendojo.Error unless kernels can read `x` as it lies in memory."""
    if isinstance(x, torch.Tensor):
        if x.device.type == "meta":
            raise Error(f"{name} is on the device meta and has no values; make it on the CPU")
        if x.device.type != "cpu":
            raise Error(f"{name} is on {x.device}: the kernels run on the CPU, give {name}.cpu()")
        if x.layout != torch.strided:
            raise Error(f"{name} is sparse ({x.layout}): give {name}.to_dense()")
        if x.requires_grad and torch.is_grad_enabled():
            raise Error(
                f"{name} requires a gradient, which this function would lose: give "
                f"{name}.detach(), or call fake_quantize, quantized_matmul, quantized_linear or "
                "quantized_conv2d, which have derivatives"
            )
        if x.is_neg() or x.is_conj():
            raise Error(f"{name} is a lazy negation or conjugate: give {name}.resolve_neg()")
    elif not isinstance(x, np.ndarray):
        raise Error(
            f"{name} is of type {type(x).__name__}: expected a torch.Tensor or numpy.ndarray "
            "(torch.from_dlpack and numpy.from_dlpack wrap other arrays without a copy)"
        )


def check_same_kind(**arrays: Array | None) -> None:
    """Raises opendojo.Error if there are tensors of PyTorch and arrays of NumPy."""
    given = {name: x for name, x in arrays.items() if x is not None}
    if len({isinstance(x, torch.Tensor) for x in given.values()}) > 1:
        kinds = ", ".join(
            f"{name} is of {'PyTorch' if isinstance(x, torch.Tensor) else 'NumPy'}"
            for name, x in given.items()
        )
        raise Error(f"{kinds}: give all of one kind (torch.from_numpy(x), x.numpy(): no copy)")


def exported(x: Array) -> Any:
    """`x` as the extension takes it: its memory, shape and strides, without a copy."""
    # PERF: of a tensor, a capsule from C takes 0.3 us; Tensor.__dlpack__ is Python and takes 3 us.
    return _to_capsule(x) if isinstance(x, torch.Tensor) else x


def dtype_name(x: Array) -> str:
    """ "float32", "uint8", "bfloat16", ..., of native byte order."""
    if isinstance(x, torch.Tensor):
        return str(x.dtype).removeprefix("torch.")
    return x.dtype.name if x.dtype.isnative else f"byte-swapped {x.dtype.name}"


def empty_like(x: ArrayT, shape: Sequence[int], dtype: str = "float32") -> ArrayT:
    """A new C-contiguous array of the same framework."""
    if isinstance(x, torch.Tensor):
        return torch.empty(tuple(shape), dtype=getattr(torch, dtype))
    return np.empty(tuple(shape), dtype=dtype)


def contiguous(x: ArrayT) -> ArrayT:
    """`x`, or a copy of it if it is not C-contiguous."""
    return x.contiguous() if isinstance(x, torch.Tensor) else np.asarray(x, order="C")


def is_contiguous(x: Array) -> bool:
    """Whether elements lie in C order without gaps."""
    return x.is_contiguous() if isinstance(x, torch.Tensor) else x.flags.c_contiguous


def view_as(x: ArrayT, dtype: str) -> ArrayT:
    """The same bits as elements of another type of the same width."""
    return x.view(getattr(torch, dtype) if isinstance(x, torch.Tensor) else np.dtype(dtype))


def broadcast(x: ArrayT, shape: Sequence[int]) -> ArrayT:
    """A view of `x` of that shape; new and stretched dimensions have stride 0."""
    if tuple(x.shape) == tuple(shape):
        return x
    if isinstance(x, torch.Tensor):
        return x.expand(tuple(shape))
    return np.broadcast_to(x, tuple(shape))
