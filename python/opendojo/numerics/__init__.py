"""Numerics on their own: arrays in the number formats of Tesla's Dojo, and products and
convolutions on them with one stated value, on PyTorch tensors and NumPy arrays of the CPU without
copies (docs/python-numerics.md)."""

from opendojo.numerics.autograd import (
    QuantSpec,
    fake_quantize,
    quantized_convolution,
    quantized_linear,
    quantized_matmul,
)
from opendojo.numerics.bias import BiasControl, Flags, Stats, bias_from_amax
from opendojo.numerics.convolutions import (
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from opendojo.numerics.layers import QuantizedConv2d, QuantizedConv3d, QuantizedLinear
from opendojo.numerics.mx import QuantizedMx, quantize_mx
from opendojo.numerics.number_format import Format, formats
from opendojo.numerics.products import matmul
from opendojo.numerics.quantized import (
    Quantized,
    dequantize,
    quantize,
)
from opendojo.numerics.workers import set_threads, threads

__all__ = [
    "BiasControl",
    "Flags",
    "Format",
    "QuantSpec",
    "Quantized",
    "QuantizedConv2d",
    "QuantizedConv3d",
    "QuantizedLinear",
    "QuantizedMx",
    "Stats",
    "bias_from_amax",
    "convolution",
    "convolution_input_gradient",
    "convolution_weight_gradient",
    "dequantize",
    "fake_quantize",
    "formats",
    "matmul",
    "quantize",
    "quantize_mx",
    "quantized_convolution",
    "quantized_linear",
    "quantized_matmul",
    "set_threads",
    "threads",
]
