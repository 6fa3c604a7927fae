"""Numerics on their own: arrays in the number formats of Tesla's Dojo, and products and
convolutions on them with one stated value, on PyTorch tensors and NumPy arrays of the CPU without
copies (docs/python-numerics.md)."""

from opendojo.numerics.number_format import Format, formats
from opendojo.numerics.products import (
    conv2d,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    matmul,
)
from opendojo.numerics.quantized import (
    BiasWindow,
    Quantized,
    Stats,
    bias_from_amax,
    dequantize,
    quantize,
)
from opendojo.numerics.workers import set_threads, threads

__all__ = [
    "BiasWindow",
    "Format",
    "Quantized",
    "Stats",
    "bias_from_amax",
    "conv2d",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "dequantize",
    "formats",
    "matmul",
    "quantize",
    "set_threads",
    "threads",
]
