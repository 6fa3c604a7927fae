"""Properties of opendojo.numerics on random operands: one seed per case, which is in its name."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from opendojo import numerics

FORMATS = [format.name for format in numerics.formats()]
SEEDS = range(40)


def fused_multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """float32 fma, exactly: the product is exact in FP64, and a sum that is not is rounded to odd
    there, so that the rounding to FP32 is the only one (Boldo and Melquiond, 2008)."""
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64) - ((error != 0) & ((error < 0) != (total < 0)))
    return np.where(error != 0, bits | 1, bits).view(np.float64).astype(np.float32)


def longhand_matmul(a: np.ndarray, b: np.ndarray, block: int | None) -> np.ndarray:
    """The definition in docs/numerics.md, one k at a time."""
    k = a.shape[-1]
    block = block or max(k, 1)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    total = None
    for begin in range(0, max(k, 1), block):
        part = np.zeros(shape, dtype=np.float32)
        for i in range(begin, min(begin + block, k)):
            part = fused_multiply_add(a[..., :, i, None], b[..., None, i, :], part)
        total = part if total is None else total + part
    return total


def is_nearest(value: np.float32, exact: Fraction) -> bool:
    neighbours = [np.nextafter(value, np.float32(side)) for side in (-np.inf, np.inf)]
    distance = abs(Fraction(float(value)) - exact)
    return all(distance <= abs(Fraction(float(n)) - exact) for n in neighbours)


def test_the_emulated_fma_is_the_exact_one():
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(size=2000).astype(np.float32) for _ in range(3))
    c[::3] = -(a * b)[::3]  # cancellation leaves the error of the product
    c[1::3] = np.ldexp(c[1::3], rng.integers(-40, 40, size=c[1::3].size))
    ours = fused_multiply_add(a, b, c)
    for x, y, z, result in zip(a, b, c, ours, strict=True):
        assert is_nearest(result, Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))


def laid_out(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same values in memory of another shape: in a larger array, transposed, backwards."""
    order = rng.permutation(x.ndim)
    moved = x.transpose(order)
    room = np.zeros([2 * extent + 1 for extent in moved.shape], dtype=x.dtype)
    forward, backward = slice(1, None, 2), slice(-2, None, -2)
    room = room[tuple(backward if rng.random() < 0.3 else forward for _ in moved.shape)]
    room[...] = moved
    return room.transpose(np.argsort(order))


def random_operand(values: np.ndarray, format: str, rng: np.random.Generator):
    """Codes of `values` in a random layout, and what they are worth."""
    q = numerics.quantize(values, format, denormals=rng.choice(["paper", "gradual"]))
    return q.with_codes(laid_out(q.codes, rng)), q.dequantize()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_product_is_its_definition_for_any_format_layout_threads_and_cuts(seed):
    rng = np.random.default_rng(seed)
    m, n, k = rng.integers(1, 40, size=3).tolist()
    batch = rng.integers(1, 4, size=rng.integers(0, 4)).tolist()
    a_batch = [extent if rng.random() < 0.7 else 1 for extent in batch]
    b_batch = batch[rng.integers(0, len(batch) + 1) :]
    scale = np.float32(2.0 ** rng.integers(-20, 20))
    a, a_values = random_operand(
        rng.normal(size=(*a_batch, m, k)).astype(np.float32) * scale, rng.choice(FORMATS), rng
    )
    b, b_values = random_operand(
        rng.standard_cauchy(size=(*b_batch, k, n)).astype(np.float32), rng.choice(FORMATS), rng
    )
    cuts = None if rng.random() < 0.4 else int(rng.integers(1, k + 3))
    numerics.set_threads(int(rng.integers(1, 5)))
    out = numerics.matmul(a, b, cuts=cuts)
    expected = longhand_matmul(a_values, b_values, cuts)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


def rounded_w21(x: np.ndarray) -> np.ndarray:
    """float32 to 1-7-13: 13 bits of mantissa, clamped, flushed below 2^-62."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    rounded = np.ldexp(np.rint(np.ldexp(fraction, 14)), exponent - 14)
    top = (2 - 2.0**-13) * 2.0**64
    return np.where(np.abs(x) < 2.0**-62, 0.0, np.clip(rounded, -top, top)).astype(np.float32)


def longhand_sum(products: list[tuple[np.ndarray, np.ndarray]], order: str) -> np.ndarray:
    """One part in a named order (src/dojo/numerics/sum_order.h)."""
    total = np.zeros(products[0][0].shape, dtype=np.float32)
    if order == "w21":
        for a, b in products:
            total = rounded_w21(fused_multiply_add(a, b, total))
        return total
    for begin in range(0, len(products), 4):
        group = np.zeros_like(total)
        for a, b in products[begin : begin + 4]:
            group = fused_multiply_add(a, b, group)
        total = total + group
    return total


@pytest.mark.parametrize("order", ["tile4", "w21"])
@pytest.mark.parametrize("seed", range(12))
def test_a_product_in_a_named_order_is_its_definition(seed, order):
    rng = np.random.default_rng(4000 + seed)
    m, n, k = rng.integers(1, 20, size=3).tolist()
    a = rng.normal(size=(m, k)).astype(np.float32)
    b = rng.standard_cauchy(size=(k, n)).astype(np.float32)
    numerics.set_threads(int(rng.integers(1, 4)))
    products = [np.broadcast_arrays(a[:, i, None], b[None, i]) for i in range(k)]
    expected = longhand_sum(products, order)
    out = numerics.matmul(a, b, order=order)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))
    cut = int(rng.integers(1, k + 1))
    parts = [longhand_sum(products[i : i + cut], order) for i in range(0, k, cut)]
    expected = parts[0]
    for part in parts[1:]:
        expected = expected + part if order == "tile4" else rounded_w21(expected + part)
    out = numerics.matmul(a, b, order=order, cuts=cut)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_order_rounds_the_real_sum_once(seed):
    rng = np.random.default_rng(5000 + seed)
    a = np.ldexp(rng.normal(size=30), rng.integers(-60, 60, size=30)).astype(np.float32)
    b = rng.normal(size=30).astype(np.float32)
    out = numerics.matmul(a, b, order="exact", cuts=int(rng.integers(1, 31)))
    exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    assert is_nearest(out[()], exact)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_convolution_and_its_gradients_do_not_depend_on_layout_or_threads(seed):
    rng = np.random.default_rng(1000 + seed)
    groups, per_group, out_per_group = rng.integers(1, 4, size=3).tolist()
    axes = int(rng.integers(1, 4))
    kernel = rng.integers(1, 4, size=axes).tolist()
    geometry = {
        "stride": rng.integers(1, 3, size=axes).tolist(),
        "padding": rng.integers(0, 3, size=axes).tolist(),
        "dilation": rng.integers(1, 3, size=axes).tolist(),
        "groups": groups,
        "order": rng.choice(["sequential", "tile4", "w21", "exact"], p=[0.7, 0.1, 0.1, 0.1]),
    }
    size = rng.integers(5, 9, size=axes).tolist()
    cuts = None if rng.random() < 0.5 else rng.integers(1, 5, size=1 + axes).tolist()
    x = rng.normal(size=(rng.integers(1, 4), groups * per_group, *size)).astype(np.float32)
    w = rng.normal(size=(groups * out_per_group, per_group, *kernel)).astype(np.float32)
    qx, qw = numerics.quantize(x, "cf8_1_4_3"), numerics.quantize(w, rng.choice(FORMATS))
    numerics.set_threads(1)
    reference = numerics.convolution(qx, qw, cuts=cuts, **geometry)
    qg = numerics.quantize(rng.normal(size=reference.shape).astype(np.float32), "cf8_1_5_2")
    references = (
        reference,
        numerics.convolution_input_gradient(qg, qw, size, cuts=cuts, **geometry),
        numerics.convolution_weight_gradient(qg, qx, kernel, cuts=cuts, **geometry),
    )
    numerics.set_threads(int(rng.integers(2, 5)))
    qx, qw, qg = (q.with_codes(laid_out(q.codes, rng)) for q in (qx, qw, qg))
    outputs = (
        numerics.convolution(qx, qw, cuts=cuts, **geometry),
        numerics.convolution_input_gradient(qg, qw, size, cuts=cuts, **geometry),
        numerics.convolution_weight_gradient(qg, qx, kernel, cuts=cuts, **geometry),
    )
    for output, expected in zip(outputs, references, strict=True):
        assert np.array_equal(output.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("seed", range(8))
def test_quantizing_is_idempotent_monotone_and_symmetric(seed, format):
    rng = np.random.default_rng(2000 + seed)
    x = np.sort(rng.standard_cauchy(size=5000).clip(-6e4, 6e4).astype(np.float32))
    denormals = rng.choice(["paper", "gradual"])
    margin = int(rng.integers(0, 8))
    q = numerics.quantize(x, format, margin=margin, denormals=denormals)
    values = q.dequantize()
    again = numerics.quantize(values, q.format, q.bias, denormals=denormals)
    assert np.array_equal(again.codes, q.codes)
    assert (np.diff(values) >= 0).all()
    if q.format.is_signed:
        negated = numerics.quantize(-x, q.format, q.bias, denormals=denormals)
        assert np.array_equal(negated.dequantize(), -values)


@pytest.mark.parametrize("seed", range(8))
def test_a_stochastic_encode_takes_one_of_the_two_neighbours(seed):
    rng = np.random.default_rng(3000 + seed)
    x = torch.from_numpy(rng.normal(size=3000).astype(np.float32))
    format = ["cf8_1_4_3", "cf8_1_5_2", "bf16", "shp", "f16", "e4m3", "e5m2", "uhp"][seed]
    x = x.abs() if format == "uhp" else x
    q = numerics.quantize(x, format, rounding="stochastic", seed=seed)
    nearest = numerics.quantize(x, format, q.bias)
    # Codes of one sign ascend with the magnitude, so neighbours differ by one.
    distance = (q.codes.int() - nearest.codes.int()).abs()
    assert int(distance.max()) == 1
    exact = nearest.dequantize() == x
    assert bool((distance[exact] == 0).all())
