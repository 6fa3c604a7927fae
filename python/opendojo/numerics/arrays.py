"""PyTorch tensors and NumPy arrays alike: what kernels may read, and arrays to write into."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from opendojo.errors import Error

Array = torch.Tensor | np.ndarray
ArrayT = TypeVar("ArrayT", torch.Tensor, np.ndarray)

_to_capsule = torch.utils.dlpack.to_dlpack
_is_transformed = torch._C._functorch.is_functorch_wrapped_tensor

# PERF: a look-up by type takes 0.05 us, the name of a NumPy type 1 us.
_NAMES: dict[Any, str] = {
    **{getattr(torch, name): name for name in ("float32", "bfloat16", "uint8", "uint16")},
    **{np.dtype(name): name for name in ("float32", "uint8", "uint16")},
}


def check_array(x: Any, name: str) -> None:
    """Raises opendojo.Error unless kernels can read `x` as it lies in memory."""
    if isinstance(x, torch.Tensor):
        if (
            type(x) is not torch.Tensor
            or not (x.is_cpu and x.layout is torch.strided)
            or x.requires_grad
            or x.is_neg()
            or _is_transformed(x)
        ):
            _check_tensor(x, name)
    elif type(x) is not np.ndarray or not x.flags.aligned:
        _check_ndarray(x, name)


def _check_ndarray(x: Any, name: str) -> None:
    if not isinstance(x, np.ndarray):
        raise Error(
            f"{name} is of type {type(x).__name__}: expected a torch.Tensor or numpy.ndarray "
            "(torch.from_dlpack and numpy.from_dlpack wrap other arrays without a copy)"
        )
    if isinstance(x, np.ma.MaskedArray):
        raise Error(f"{name} is masked, which codes cannot say: give {name}.filled(0)")
    if not x.flags.aligned:
        raise Error(f"{name} has elements at addresses that are no multiple of their size: copy it")


def _check_tensor(x: torch.Tensor, name: str) -> None:
    if _is_transformed(x):
        raise Error(f"{name} is inside torch.func (vmap, grad, ...): call without a transform")
    if type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise Error(f"{name} is a {type(x).__name__}, not a plain tensor: it may have no memory")
    if x.is_meta:
        raise Error(f"{name} is on the device meta and has no values; make it on the CPU")
    if not x.is_cpu:
        raise Error(f"{name} is on {x.device}: the kernels run on the CPU, give {name}.cpu()")
    if x.layout is not torch.strided:
        raise Error(f"{name} has the layout {x.layout}: give {name}.to_dense()")
    if x.requires_grad and torch.is_grad_enabled():
        raise Error(
            f"{name} requires a gradient, which this function would lose: give {name}.detach(), or "
            "call fake_quantize, quantized_matmul, quantized_linear or quantized_convolution: they "
            "have derivatives"
        )
    if x.is_neg():
        raise Error(f"{name} is a lazy negation: give {name}.resolve_neg()")


def check_same_kind(first: Array, **others: Array | None) -> None:
    """Raises opendojo.Error if there are tensors of PyTorch and arrays of NumPy."""
    is_tensor = isinstance(first, torch.Tensor)
    for name, x in others.items():
        if x is not None and isinstance(x, torch.Tensor) is not is_tensor:
            kinds = ("PyTorch", "NumPy") if is_tensor else ("NumPy", "PyTorch")
            raise Error(
                f"{name} is an array of {kinds[1]} and the first one of {kinds[0]}: give all of "
                "one kind (torch.from_numpy(x) and x.numpy() share the memory)"
            )


def exported(x: Array) -> Any:
    """`x` as the extension takes it: its memory, shape and strides, without a copy."""
    # PERF: a capsule from C takes 0.3 us, one from Tensor.__dlpack__, which is Python, 3 us.
    return _to_capsule(x) if isinstance(x, torch.Tensor) else x


def dtype_name(x: Array) -> str:
    """ "float32", "uint8", "bfloat16", ..., in native byte order."""
    return _NAMES.get(x.dtype) or _unusual_name(x.dtype)


def _unusual_name(dtype: Any) -> str:
    if isinstance(dtype, torch.dtype):
        return str(dtype).removeprefix("torch.")
    return dtype.name if dtype.isnative else f"byte-swapped {dtype.name}"


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


def shares_memory(x: Array, y: Array) -> bool:
    """Whether writing to one may change the other."""
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() != 0
    return np.may_share_memory(x, y)
