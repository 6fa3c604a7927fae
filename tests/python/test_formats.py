"""Conversions against ml_dtypes and gfloat, two implementations of others.

CFloat8 and SHP meet gfloat with gradual denormals: no other library has the paper's. ml_dtypes
does not saturate, so where we do its Inf and NaN beyond the range stand for our largest magnitude.
"""

import gfloat
import gfloat.formats
import ml_dtypes
import numpy as np
import pytest
from opendojo import numerics

BIASES = [0, 7, 31, 63]


def inputs(bias: int, width: int) -> np.ndarray:
    """Any bits; numbers around the range of a format; and ties of its significands, both sides."""
    rng = np.random.default_rng(bias + 100 * width)
    anything = rng.integers(0, 1 << 32, 8_000, dtype=np.uint32).view(np.float32)
    exponents = rng.integers(-width - 4, 34, 12_000) - bias
    significands = rng.integers(0, 1 << 23, 12_000) | 1 << 23
    ties = (significands >> (22 - width) | 1) << (22 - width)
    near = ties + rng.integers(-1, 2, 12_000)
    scaled = [np.ldexp(s.astype(np.float64), exponents - 23) for s in (significands, ties, near)]
    edges = np.array([0.0, np.inf, np.nan, np.finfo(np.float32).max, 2.0**-149], np.float32)
    values = np.concatenate([anything, *[s.astype(np.float32) for s in scaled], edges])
    return np.concatenate([values, -values])


def gfloat_info(name: str, bias: int) -> gfloat.FormatInfo:
    known = {
        "e4m3": gfloat.formats.format_info_ocp_e4m3,
        "e5m2": gfloat.formats.format_info_ocp_e5m2,
        "bf16": gfloat.formats.format_info_bfloat16,
        "f16": gfloat.formats.format_info_binary16,
    }
    if name in known:
        return known[name]
    bits, precision = {"cf8_1_4_3": (8, 4), "cf8_1_5_2": (8, 3), "shp": (16, 11)}[name]
    return gfloat.FormatInfo(
        name,
        bits,
        precision,
        bias=bias,
        is_signed=True,
        domain=gfloat.Domain.Finite,
        has_nz=True,
        num_high_nans=0,
        has_subnormals=True,
        is_twos_complement=False,
    )


CASES = [(name, bias) for name in ("cf8_1_4_3", "cf8_1_5_2", "shp") for bias in BIASES] + [
    ("e4m3", 7),
    ("e5m2", 15),
    ("bf16", None),
    ("f16", None),
]


def quantized(
    x: np.ndarray, name: str, bias: int | None, rounding: str, overflow: str = "format"
) -> numerics.Quantized:
    chosen = "amax" if bias is None else bias
    options = {"rounding": rounding, "denormals": "gradual", "overflow": overflow}
    return numerics.quantize(x, name, chosen, **options)


@pytest.mark.parametrize("rounding", ["nearest", "nearest_away"])
@pytest.mark.parametrize(("name", "bias"), CASES)
def test_rounding_is_that_of_gfloat(name: str, bias: int | None, rounding: str) -> None:
    info = gfloat_info(name, bias or 0)
    x = inputs(bias or 0, info.precision - 1)
    x = x[~np.isnan(x)]
    mode = {"nearest": gfloat.RoundMode.TiesToEven, "nearest_away": gfloat.RoundMode.TiesToAway}
    # A format of fixed bias overflows to Inf; the others saturate.
    wanted = gfloat.round_ndarray(info, x.astype(np.float64), mode[rounding], sat=bias is not None)
    got = quantized(x, name, bias, rounding).dequantize()
    np.testing.assert_array_equal(got.view(np.uint32), wanted.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(("name", "bias"), CASES)
def test_every_code_is_worth_what_gfloat_says(name: str, bias: int | None) -> None:
    info = gfloat_info(name, bias or 0)
    codes = np.arange(1 << info.k, dtype=f"uint{info.k}")
    wanted = gfloat.decode_ndarray(info, codes).astype(np.float32)
    got = numerics.dequantize(codes, name, bias or 0, denormals="gradual")
    np.testing.assert_array_equal(got, wanted)
    is_number = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got)[is_number], np.signbit(wanted)[is_number])


@pytest.mark.parametrize("overflow", ["saturates", "special"])
@pytest.mark.parametrize(
    ("name", "bias", "dtype", "largest"),
    [
        ("e4m3", 7, ml_dtypes.float8_e4m3fn, 0x7E),
        ("e5m2", 15, ml_dtypes.float8_e5m2, 0x7B),
        ("bf16", None, ml_dtypes.bfloat16, 0x7F7F),
        ("f16", None, np.float16, 0x7BFF),
    ],
)
def test_codes_are_those_of_ml_dtypes(
    name: str, bias: int | None, dtype: type, largest: int, overflow: str
) -> None:
    x = inputs(bias or 0, ml_dtypes.finfo(dtype).nmant)
    got = quantized(x, name, bias, "nearest", overflow).codes
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = x.astype(dtype)
    wanted = rounded.view(got.dtype).copy()
    is_beyond = ~np.isfinite(rounded.astype(np.float32)) & ~np.isnan(x)
    assert is_beyond.any()
    if overflow == "saturates":
        sign = 1 << (8 * got.itemsize - 1)
        wanted[is_beyond] = np.where(np.signbit(x[is_beyond]), sign | largest, largest)
    is_number = ~np.isnan(x)
    np.testing.assert_array_equal(got[is_number], wanted[is_number])
    assert np.isnan(got[~is_number].view(dtype).astype(np.float32)).all()


@pytest.mark.parametrize(
    ("element", "info"),
    [
        ("e4m3", gfloat.formats.format_info_mxfp8_e4m3),
        ("e5m2", gfloat.formats.format_info_mxfp8_e5m2),
    ],
)
def test_blocks_of_mxfp8_are_those_of_gfloat(element: str, info: gfloat.BlockFormatInfo) -> None:
    rng = np.random.default_rng(5)
    blocks = (rng.standard_normal((150, 32)) * 2.0 ** rng.integers(-20, 21, (150, 32))).astype("f4")
    blocks *= 2.0 ** rng.integers(-90, 90, (150, 1)).astype(np.float32)
    blocks[0] = 0.0
    got = numerics.quantize_mx(blocks, element)
    beyond = 0
    for block, codes, scale in zip(blocks, got.codes, got.scales[:, 0], strict=True):
        largest = gfloat.compute_scale_amax(info.etype.emax, block.astype(np.float64))
        scaled = block.astype(np.float64) / largest
        beyond += int((np.abs(scaled) > info.etype.max).sum())
        # gfloat saturates, as the specification's conversion may.
        assert [int(scale), *codes.tolist()] == list(gfloat.encode_block(info, largest, scaled))
    assert beyond > 10
