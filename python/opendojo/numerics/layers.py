"""Layers of PyTorch that round their operands and sum in the one stated order."""

from typing import Any

import torch
from torch import Tensor, nn

from opendojo.errors import Error
from opendojo.numerics.autograd import QuantSpec, quantized_convolution, quantized_linear


class _QuantizedLayer(nn.Module):
    """A spec, the layer's number, and the count of its training forward passes, of which random
    bits are a function: so a resumed run draws the same ones."""

    step: Tensor

    def _set_spec(self, spec: QuantSpec | None, tensor: int) -> None:
        self.spec = spec or QuantSpec()
        self.tensor = tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def _draw(self) -> dict[str, int]:
        step = int(self.step)
        if self.training:
            self.step += 1
        return {"step": step, "tensor": self.tensor}


class QuantizedLinear(_QuantizedLayer, nn.Linear):
    """torch.nn.Linear that computes by `quantized_linear`.

    Args:
        in_features, out_features, bias: as torch.nn.Linear.
        spec: default `QuantSpec()`.
        tensor: the layer's number, of stochastic rounding.

    The buffer `step` counts training forward passes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        spec: QuantSpec | None = None,
        tensor: int = 0,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._set_spec(spec, tensor)

    def forward(self, input: Tensor) -> Tensor:
        return quantized_linear(input, self.weight, self.bias, self.spec, **self._draw())


class _QuantizedConvolution(_QuantizedLayer):
    """In front of a class such as torch.nn.Conv2d, which has these attributes."""

    weight: Any
    bias: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        spec: QuantSpec | None = None,
        tensor: int = 0,
    ) -> None:
        if isinstance(padding, str):
            raise Error(f"padding {padding!r}: expected integers")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self._set_spec(spec, tensor)

    def forward(self, input: Tensor) -> Tensor:
        return quantized_convolution(
            input,
            self.weight,
            self.bias,
            self.spec,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            **self._draw(),
        )


class QuantizedConv2d(_QuantizedConvolution, nn.Conv2d):
    """torch.nn.Conv2d, with zeros as padding, that computes by `quantized_convolution`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as
            torch.nn.Conv2d; padding as integers.
        spec, tensor, and the buffer `step`: as `QuantizedLinear`.
    """


class QuantizedConv3d(_QuantizedConvolution, nn.Conv3d):
    """torch.nn.Conv3d; the rest as `QuantizedConv2d`."""
