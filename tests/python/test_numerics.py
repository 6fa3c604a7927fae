"""opendojo.numerics: values against long-hand definitions, in one order, of any layout."""

import doctest
import functools
import importlib
import itertools
import math
import pkgutil
from collections.abc import Iterator
from fractions import Fraction

import ml_dtypes
import numpy as np
import opendojo
import pytest
import torch
from opendojo import numerics

FORMATS_WITH_BIAS = ["cf8_1_4_3", "cf8_1_5_2"]
TORCH_TYPES = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    numerics.set_threads(2)
    yield
    numerics.set_threads(2)


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape) * scale
    return values.astype(np.float32)


def as_torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.copy())


def copied(x):
    """The same values, C-contiguous."""
    return x.contiguous() if isinstance(x, torch.Tensor) else np.ascontiguousarray(x)


def bits(x) -> np.ndarray:
    """Bits of a float32 array, so that -0, +0 and NaN are told apart."""
    return np.asarray(x).copy().view(np.uint32)


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(numerics.__path__)])
def test_examples_in_docstrings_run(module):
    imported = importlib.import_module(f"opendojo.numerics.{module}")
    names = vars(numerics) | {"np": np, "torch": torch}
    failed, _ = doctest.testmod(imported, extraglobs=names)
    assert failed == 0


# --- Formats


def magnitudes(format: numerics.Format, bias: int, denormals: str) -> list[Fraction]:
    """All values of a CFloat8, ascending, from the paper's formula."""
    values = []
    for code in range(1 << (format.exponent_bits + format.mantissa_bits)):
        exponent, mantissa = divmod(code, 1 << format.mantissa_bits)
        fraction = Fraction(mantissa, 1 << format.mantissa_bits)
        if exponent > 0:
            values.append((1 + fraction) * Fraction(2) ** (exponent - bias))
        else:
            values.append(fraction * Fraction(2) ** ((0 if denormals == "paper" else 1) - bias))
    return values


def rounded(x: float, values: list[Fraction]) -> int:
    """The code of |x|: nearest, ties to the even code, clamped."""
    if not math.isfinite(x):
        return len(values) - 1
    distance = [abs(Fraction(abs(x)) - value) for value in values]
    best = min(distance)
    candidates = [code for code, d in enumerate(distance) if d == best]
    return candidates[0] if len(candidates) == 1 else next(c for c in candidates if c % 2 == 0)


def test_formats_lists_what_can_be_stored():
    names = [format.name for format in numerics.formats()]
    assert set(names) >= {"f32", "bf16", "cf8_1_4_3", "cf8_1_5_2"}
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("bias", [0, 7, 31, 63])
@pytest.mark.parametrize("name", FORMATS_WITH_BIAS)
def test_limits_of_a_cfloat_follow_the_formula(name, bias):
    format = next(f for f in numerics.formats() if f.name == name)
    values = magnitudes(format, bias, "paper")
    assert format.max(bias) == values[-1]
    assert format.min_normal(bias) == values[1 << format.mantissa_bits]
    assert format.min_denormal(bias) == values[1]
    assert format.min_denormal(bias, "gradual") == 2 * values[1]


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_limits_of_usual_formats_are_those_of_torch(name):
    format = next(f for f in numerics.formats() if f.name == name)
    limits = torch.finfo(TORCH_TYPES[name])
    assert format.max() == limits.max
    assert format.min_normal() == limits.tiny
    assert format.min_denormal(denormals="gradual") == limits.tiny * 2.0**-format.mantissa_bits
    assert format.bits == limits.bits


def test_limits_of_uhp_are_those_of_the_paper():
    uhp = next(f for f in numerics.formats() if f.name == "uhp")
    assert uhp.max() == (2 - 2.0**-10) * 2.0**31
    assert uhp.min_normal() == uhp.min_denormal() == 2.0**-30
    assert not uhp.is_signed


# --- Quantise and dequantise


@pytest.mark.parametrize("denormals", ["paper", "gradual"])
@pytest.mark.parametrize("name", FORMATS_WITH_BIAS)
@pytest.mark.parametrize("bias", [0, 11, 63])
def test_quantize_rounds_to_the_nearest_value(name, bias, denormals):
    format = next(f for f in numerics.formats() if f.name == name)
    values = magnitudes(format, bias, denormals)
    exact = [float(v) for v in values]
    middles = [float((a + b) / 2) for a, b in itertools.pairwise(values)]
    nearby = [float(np.nextafter(np.float32(m), np.float32(s))) for m in middles for s in (0, 1e9)]
    x = np.array([*exact, *middles, *nearby, 1e30, np.inf, np.nan], dtype=np.float32)
    x = np.concatenate([x, -x])
    q = numerics.quantize(x, name, bias, denormals=denormals)
    top = len(values)
    expected = [rounded(v, values) + top * int(np.signbit(v)) for v in x.tolist()]
    assert q.codes.tolist() == expected
    assert q.stats.not_finite == 4
    assert q.stats.amax == np.float32(1e30)
    back = q.dequantize()
    assert back.tolist() == [float(values[c % top]) * (-1 if c >= top else 1) for c in expected]


@pytest.mark.parametrize("kind", [np.asarray, as_torch])
@pytest.mark.parametrize("name", [format.name for format in numerics.formats()])
def test_quantizing_what_was_dequantized_changes_nothing(name, kind):
    x = kind(normal(1, 7, 33, scale=3.0))
    first = numerics.quantize(x, name)
    again = numerics.quantize(first.dequantize(), name, first.bias if first.format.has_bias else 0)
    assert type(first.codes) is type(x)
    assert tuple(first.codes.shape) == tuple(x.shape)
    assert bool((again.codes == first.codes).all())
    assert again.stats.zeroed == again.stats.saturated == 0


def flags_of(x: float, value: float, format: numerics.Format, bias: int) -> numerics.Flags:
    """Of one element whose rounded value is `value`, by the words of docs/numerics.md."""
    if np.isnan(x) or (x < 0 and not format.is_signed):
        return numerics.Flags(invalid=True)
    largest = format.max(bias if format.has_bias else None)
    smallest = format.min_normal(bias if format.has_bias else None)
    return numerics.Flags(
        denormal=0 < abs(x) < 2.0**-126,
        overflow=value != x and (np.isinf(x) or abs(x) > 1.1 * largest),
        underflow=abs(value) < smallest and value != x,
    )


@pytest.mark.parametrize("name", [format.name for format in numerics.formats()])
def test_flags_say_which_exceptions_occurred(name):
    format = next(f for f in numerics.formats() if f.name == name)
    bias = 11 if format.has_bias else 0
    small = format.min_normal(bias if format.has_bias else None)
    near = [small, small / 2, small * 0.9, -small / 64, small * 0.75, 2.0**-149, 3e-39]
    for x in np.array([1.0, -1.0, 0.0, -0.0, 3e38, np.inf, -np.inf, np.nan, *near], np.float32):
        q = numerics.quantize(np.array([x]), name, bias, overflow="special")
        expected = flags_of(float(x), float(q.dequantize()[0]), format, bias)
        assert q.stats.flags == expected, x
    together = numerics.quantize(np.float32([np.nan, small / 3, 1.0]), name, bias).stats.flags
    assert together.invalid
    assert together.underflow == (name != "f32")


def test_flags_of_mxfp8_are_those_of_its_elements():
    x = np.zeros((3, 32), np.float32)
    x[:, 0] = 2.0**8
    assert numerics.quantize_mx(x, "e4m3").stats.flags == numerics.Flags()
    x[0, 0] = 1.9375 * 2.0**8  # 496 of at most 448
    x[1, 3] = np.nan
    x[2, 5] = 1e-40
    assert numerics.quantize_mx(x, "e4m3").stats.flags == numerics.Flags(True, True, True, True)


def every_65th_float() -> np.ndarray:
    return np.arange(0, 2**32, 65537, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", ["bf16", "f16", "e4m3", "e5m2"])
def test_usual_formats_round_as_ml_dtypes_does(name):
    dtype = {
        "bf16": ml_dtypes.bfloat16,
        "f16": np.float16,
        "e4m3": ml_dtypes.float8_e4m3fn,
        "e5m2": ml_dtypes.float8_e5m2,
    }[name]
    format = next(f for f in numerics.formats() if f.name == name)
    x = every_65th_float()
    bias = format.bias if format.has_bias else 0
    q = numerics.quantize(x, name, bias, overflow="special")
    with np.errstate(all="ignore"):
        theirs = x.astype(dtype)
    numbers = ~np.isnan(theirs.astype(np.float32))
    assert np.array_equal(q.codes[numbers], theirs[numbers].view(q.codes.dtype))
    assert np.isnan(q.dequantize()[~numbers]).all()


def test_overflow_is_what_the_caller_says():
    x = np.array([1e9, -np.inf, 1.0], dtype=np.float32)
    cases = {
        ("e4m3", "format"): [448.0, -448.0],
        ("e4m3", "special"): [np.nan, np.nan],
        ("e5m2", "special"): [np.inf, -np.inf],
        ("f16", "format"): [np.inf, -np.inf],
        ("f16", "saturates"): [65504.0, -65504.0],
        ("cf8_1_4_3", "special"): [480.0, -480.0],
    }
    for (name, overflow), expected in cases.items():
        bias = 7 if name in ("e4m3", "cf8_1_4_3") else 15 if name == "e5m2" else 0
        values = numerics.quantize(x, name, bias, overflow=overflow).dequantize()
        assert np.array_equal(values[:2], np.float32(expected), equal_nan=True)
        assert values[2] == 1.0


def test_uhp_has_no_negative_numbers_and_no_denormals():
    x = np.array([-1.0, 2.0**-31, 2.0**-30, 3.0], dtype=np.float32)
    q = numerics.quantize(x, "uhp")
    assert q.dequantize().tolist() == [0.0, 0.0, 2.0**-30, 3.0]
    assert q.stats.saturated == 1


@pytest.mark.parametrize("name", ["bf16", "f16", "e4m3", "e5m2"])
def test_plain_arrays_of_other_types_are_codes_already(name):
    x = as_torch(normal(3, 9, 16))
    plain = x.to(TORCH_TYPES[name])
    assert torch.equal(numerics.matmul(plain, x.mT), numerics.matmul(plain.float(), x.mT))
    codes = numerics.quantize(plain, "cf8_1_4_3").codes
    assert torch.equal(codes, numerics.quantize(plain.float(), "cf8_1_4_3").codes)


def test_plain_arrays_of_numpy_are_codes_already():
    x = normal(3, 9, 16)
    for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        plain = x.astype(dtype)
        expected = numerics.matmul(plain.astype(np.float32), x.T)
        assert np.array_equal(numerics.matmul(plain, x.T), expected)


def test_stochastic_rounding_is_a_function_of_seed_step_tensor_and_element():
    x = normal(4, 100_000)
    draw = {"rounding": "stochastic", "seed": 2**63 + 5, "step": 7, "tensor": 3}
    q = numerics.quantize(x, "cf8_1_4_3", 11, **draw)
    numerics.set_threads(1)
    again = numerics.quantize(as_torch(x), "cf8_1_4_3", 11, **draw)
    assert np.array_equal(q.codes, again.codes.numpy())
    for key in ("seed", "step", "tensor"):
        other = numerics.quantize(x, "cf8_1_4_3", 11, **(draw | {key: 9}))
        assert not np.array_equal(q.codes, other.codes)
    error = q.dequantize().astype(np.float64) - x
    nearest = numerics.quantize(x, "cf8_1_4_3", 11).dequantize().astype(np.float64) - x
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(x.size)  # without bias
    assert np.abs(error).max() > 1.5 * np.abs(nearest).max()


def test_the_bias_follows_the_largest_finite_magnitude():
    x = np.array([0.5, -3.75, np.inf, np.nan], dtype=np.float32)
    q = numerics.quantize(x, "cf8_1_4_3")
    assert q.bias == numerics.bias_from_amax(3.75, "cf8_1_4_3") == 14  # 1.875 * 2^(15 - 14)
    assert numerics.quantize(x, "cf8_1_4_3", margin=2).bias == 12
    assert numerics.bias_from_amax(3.76, "cf8_1_4_3") == 13
    assert numerics.quantize(np.zeros(3, np.float32), "cf8_1_5_2").bias == 63


def biases(control: numerics.BiasControl, *arrays: np.ndarray) -> list[int]:
    return [numerics.quantize(x, "cf8_1_4_3", control).bias for x in arrays]


def test_a_delayed_bias_follows_the_largest_of_the_last_amax():
    control = numerics.BiasControl("delayed", window=2, margin=1)
    passes = [np.array([amax], np.float32) for amax in (1.0, 8.0, 1.0, 1.0, 1.0)]
    assert biases(control, *passes) == [14, 14, 11, 11, 14]
    other = numerics.BiasControl("delayed", window=2, margin=1)
    other.load_state_dict(control.state_dict())
    assert other.state_dict() == control.state_dict()
    assert other.state_dict()["amax"] == [1.0, 1.0]


def test_a_current_bias_follows_each_amax_and_a_grid_holds_it():
    passes = [np.array([amax], np.float32) for amax in (1.0, 8.0, 1.0)]
    assert biases(numerics.BiasControl("current", margin=0), *passes) == [15, 12, 15]
    assert biases(numerics.BiasControl("current", margin=0, grid=8), *passes) == [8, 8, 8]


def test_a_learnt_bias_gives_up_rare_outliers_and_goes_on_from_its_state():
    x = normal(30, 20_000, scale=2.0**-18)
    x[7] = 1.0  # alone; most of the rest is zeroed in its range
    whole = numerics.BiasControl("learnt", margin=0)
    course = biases(whole, *[x] * 40)
    assert course[0] == 15
    assert max(course) > 18
    assert all(abs(later - earlier) <= 1 for earlier, later in itertools.pairwise(course))
    first, second = (numerics.BiasControl("learnt", margin=0) for _ in range(2))
    start = biases(first, *[x] * 13)
    second.load_state_dict(first.state_dict())
    assert start + biases(second, *[x] * 27) == course


def test_out_takes_the_codes_and_the_values():
    x = as_torch(normal(5, 4, 4))
    codes, values = torch.empty(4, 4, dtype=torch.uint8), torch.empty(4, 4)
    q = numerics.quantize(x, "cf8_1_4_3", 9, out=codes)
    assert q.codes is codes
    assert numerics.dequantize(codes, "cf8_1_4_3", 9, out=values) is values
    assert torch.equal(values, q.dequantize())


# --- MXFP8


def longhand_mx(x: np.ndarray, element: str) -> tuple[list[int], np.ndarray]:
    """Scales and values of one block, from the specification."""
    emax = {"e4m3": 8, "e5m2": 15}[element]
    dtype = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}[element]
    amax = np.abs(x).max()
    exponent = int(np.frexp(amax)[1]) - 1 - emax if amax > 0 else -127
    top = float(ml_dtypes.finfo(dtype).max)
    scaled = np.ldexp(x, -exponent).clip(-top, top)
    return [exponent + 127], np.ldexp(scaled.astype(dtype).astype(np.float32), exponent)


@pytest.mark.parametrize("kind", [np.asarray, as_torch])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("element", ["e4m3", "e5m2"])
def test_mxfp8_is_the_specification_block_by_block(element, axis, kind):
    x = normal(31, 70, 3, 45) * np.exp2(normal(32, 70, 3, 45) * 6).astype(np.float32)
    q = numerics.quantize_mx(kind(x), element, axis=axis)
    values, scales = np.asarray(q.dequantize()), np.asarray(q.scales)
    assert type(q.codes) is type(kind(x))
    lines, of_values, of_scales = (np.moveaxis(array, axis, -1) for array in (x, values, scales))
    for line in np.ndindex(lines.shape[:-1]):
        for block in range(of_scales.shape[-1]):
            at = (*line, slice(32 * block, 32 * block + 32))
            scale, expected = longhand_mx(lines[at], element)
            assert [of_scales[(*line, block)]] == scale
            assert np.array_equal(of_values[at], expected)


def test_mxfp8_of_nothing_is_empty_and_wrong_arguments_are_named():
    assert numerics.quantize_mx(np.zeros((0, 5), np.float32)).scales.shape == (0, 1)
    x = normal(33, 4, 40)
    for call, message in [
        (lambda: numerics.quantize_mx(x, "bf16"), "element 'bf16': expected one of 'e4m3', 'e5m2'"),
        (lambda: numerics.quantize_mx(x, axis=2), "axis 2: expected an integer from -2 to 1"),
        (lambda: numerics.quantize_mx(x[0, 0:1].reshape(())), "axis -1: expected an integer"),
        (
            lambda: numerics.QuantizedMx(*(np.zeros((4, 40), np.uint8),) * 2, "e4m3", 1),
            r"scales are \[4, 40\]: expected \[4, 2\]",
        ),
        (lambda: numerics.matmul(numerics.quantize_mx(x), x.T), "a is of type QuantizedMx: "),
    ]:
        with pytest.raises(opendojo.Error, match=message):
            call()


# --- Products


def longhand_matmul(
    a: np.ndarray, b: np.ndarray, block: int | None = None, runs: int | None = None
) -> np.ndarray:
    """fma over ascending k, in FP64 where each product is exact; one rounding to FP32 per point.

    A product of two FP32 numbers is exact in FP64; adding the FP32 accumulator may round twice,
    so operands here are of formats with short mantissas, whose fma is exact in FP64."""
    m, k = a.shape
    block = block or max(k, 1)
    parts = []
    for begin in range(0, max(k, 1), block):
        part = np.zeros((m, b.shape[1]), dtype=np.float32)
        for i in range(begin, min(begin + block, k)):
            product = np.outer(a[:, i].astype(np.float64), b[i].astype(np.float64))
            part = (part.astype(np.float64) + product).astype(np.float32)
        parts.append(part)
    runs = runs or len(parts)
    totals = [chain(parts[i : i + runs]) for i in range(0, len(parts), runs)]
    return chain(totals)


def chain(parts: list[np.ndarray]) -> np.ndarray:
    """Added one after the other."""
    return functools.reduce(np.add, parts)


def quantized_pair(seed: int, m: int, n: int, k: int):
    a = numerics.quantize(normal(seed, m, k), "cf8_1_4_3")
    b = numerics.quantize(normal(seed + 1, k, n, scale=1e-3), "cf8_1_5_2")
    return a, b


@pytest.mark.parametrize("cuts", [None, 1, 7, 64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 64), (17, 40, 133), (0, 4, 3), (4, 4, 0)])
def test_matmul_sums_in_ascending_order(shape, cuts):
    m, n, k = shape
    a, b = quantized_pair(6, m, n, k)
    out = numerics.matmul(a, b, cuts=cuts)
    assert np.array_equal(bits(out), bits(longhand_matmul(a.dequantize(), b.dequantize(), cuts)))


@pytest.mark.parametrize("runs", [1, 2, 5, 1000])
def test_matmul_adds_the_parts_of_each_run_first(runs):
    a = numerics.quantize(normal(7, 6, 133), "bf16")  # FP32 sums of such are rounded
    b = numerics.quantize(normal(8, 133, 9), "bf16")
    out = numerics.matmul(a, b, cuts=8, runs=runs)
    expected = longhand_matmul(a.dequantize(), b.dequantize(), 8, runs)
    assert np.array_equal(bits(out), bits(expected))
    in_one_chain = numerics.matmul(a, b, cuts=8)
    assert np.array_equal(bits(out), bits(in_one_chain)) == (runs in (1, 1000))


def test_a_weight_gradient_adds_the_images_of_each_run_first():
    dy = numerics.quantize(normal(8, 7, 3, 2, 2), "bf16")
    x = numerics.quantize(normal(9, 7, 4, 3, 3), "bf16")
    images = [
        numerics.convolution_weight_gradient(
            numerics.Quantized(dy.codes[i : i + 1], dy.format, dy.bias),
            numerics.Quantized(x.codes[i : i + 1], x.format, x.bias),
            (2, 2),
        )
        for i in range(7)
    ]
    expected = chain([chain(images[i : i + 3]) for i in range(0, 7, 3)])
    out = numerics.convolution_weight_gradient(dy, x, (2, 2), cuts=(1, 2, 2), runs=3)
    assert np.array_equal(bits(out), bits(expected))
    assert not np.array_equal(bits(out), bits(chain(images)))


def test_threads_do_not_move_a_bit():
    a, b = quantized_pair(8, 130, 150, 300)
    numerics.set_threads(1)
    one = numerics.matmul(a, b)
    for count in (2, 3, 7):
        numerics.set_threads(count)
        assert numerics.threads() == count
        assert np.array_equal(bits(numerics.matmul(a, b)), bits(one))


@pytest.mark.parametrize("kind", [np.asarray, as_torch])
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((4,), (4,)),
        ((4,), (4, 3)),
        ((2, 4), (4,)),
        ((5, 2, 4), (4,)),
        ((4,), (5, 4, 2)),
        ((3, 5, 2, 4), (4, 6)),
        ((3, 1, 2, 4), (5, 4, 6)),
        ((2, 1, 2, 1, 3, 4), (1, 2, 2, 2, 4, 5)),
        ((0, 2, 4), (4, 3)),
        ((2, 0), (0, 3)),
    ],
)
def test_matmul_has_the_shapes_of_torch(a_shape, b_shape, kind):
    a, b = normal(9, *a_shape), normal(10, *b_shape)
    expected = torch.matmul(torch.from_numpy(a), torch.from_numpy(b))
    out = numerics.matmul(kind(a), kind(b))
    assert tuple(out.shape) == tuple(expected.shape)
    assert np.allclose(np.asarray(out), expected.numpy(), atol=1e-5)
    assert type(out) is type(kind(a))


def test_each_batch_of_a_product_is_the_product_of_its_matrices():
    a = numerics.quantize(normal(11, 3, 1, 9, 20), "cf8_1_4_3")
    b = numerics.quantize(normal(12, 4, 20, 11), "cf8_1_4_3")
    out = numerics.matmul(a, b)
    for i, j in itertools.product(range(3), range(4)):
        assert np.array_equal(bits(out[i, j]), bits(numerics.matmul(a[i, 0], b[j])))


@pytest.mark.parametrize("kind", [np.asarray, as_torch])
def test_views_give_the_bits_of_copies(kind):
    base = kind(normal(13, 12, 30, 14))
    q = numerics.quantize(base, "cf8_1_4_3")
    a, b = q[:, 3:10, ::2], q.mT[:, ::2, 1::2]
    copies = [numerics.Quantized(copied(x.codes), x.format, x.bias) for x in (a, b)]
    assert np.array_equal(bits(numerics.matmul(a, b)), bits(numerics.matmul(*copies)))
    a, b = base[:, 3:10, ::2], base.mT[:, ::2, 1::2]
    assert np.array_equal(bits(numerics.matmul(a, b)), bits(numerics.matmul(copied(a), copied(b))))


def test_numpy_views_with_negative_strides_are_read_where_they_lie():
    a, b = quantized_pair(14, 6, 5, 9)
    backward = numerics.matmul(a[:, ::-1], b[::-1])
    assert np.array_equal(
        bits(backward), bits(longhand_matmul(a[:, ::-1].dequantize(), b[::-1].dequantize()))
    )


def test_formats_mix():
    x = as_torch(normal(15, 8, 16))
    operands = [x, x.bfloat16(), *(numerics.quantize(x, f) for f in numerics.formats())]
    values = [o.dequantize() if isinstance(o, numerics.Quantized) else o.float() for o in operands]
    for (a, a_value), (b, b_value) in itertools.product(
        zip(operands, values, strict=True), repeat=2
    ):
        out = numerics.matmul(a, b.mT)
        assert torch.equal(out, numerics.matmul(a_value, b_value.mT))


def test_bias_and_activation_follow_the_sum():
    a, b = quantized_pair(16, 7, 9, 5)
    bias = normal(17, 9, scale=1e-3)
    out = numerics.matmul(a, b, bias=bias, activation="relu")
    assert np.array_equal(bits(out), bits(np.maximum(numerics.matmul(a, b) + bias, 0)))


# --- Convolutions


CONVOLUTIONS = [
    ((9, 8), (3, 2), {}),
    ((9, 8), (3, 2), {"stride": 2, "padding": 1}),
    ((9, 8), (3, 2), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    ((9, 8), (3, 2), {"groups": 2, "padding": 1}),
    ((9, 8), (3, 2), {"groups": 4}),
    ((17,), (4,), {"stride": 3, "padding": 2}),
    ((5, 6, 7), (2, 3, 2), {"groups": 2, "padding": (1, 0, 1), "stride": (1, 2, 1)}),
    ((5, 6, 7), (2, 1, 3), {"dilation": (2, 1, 1)}),
]


@pytest.mark.parametrize(("size", "kernel", "geometry"), CONVOLUTIONS)
@pytest.mark.parametrize("kind", [np.asarray, as_torch])
def test_convolutions_are_those_of_torch(size, kernel, geometry, kind):
    x, groups = normal(18, 2, 4, *size), geometry.get("groups", 1)
    w = normal(19, 8, 4 // groups, *kernel)
    bias = normal(20, 8)
    tx, tw = as_torch(x).double().requires_grad_(), as_torch(w).double().requires_grad_()
    theirs = getattr(torch.nn.functional, f"conv{len(size)}d")
    expected = theirs(tx, tw, as_torch(bias).double(), **geometry)
    gradient = normal(21, *expected.shape)
    expected.backward(as_torch(gradient).double())
    out = numerics.convolution(kind(x), kind(w), kind(bias), **geometry)
    dx = numerics.convolution_input_gradient(kind(gradient), kind(w), size, **geometry)
    dw = numerics.convolution_weight_gradient(kind(gradient), kind(x), kernel, **geometry)
    for ours, exact in [(out, expected), (dx, tx.grad), (dw, tw.grad)]:
        assert type(ours) is type(kind(x))
        assert tuple(ours.shape) == tuple(exact.shape)
        assert np.allclose(np.asarray(ours), exact.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_two_axes_are_three_with_a_short_one():
    x, w = normal(24, 2, 3, 7, 6), normal(25, 4, 3, 3, 2)
    for cuts, cuts_of_three in [(None, None), ((2, 1, 2), (2, 9, 1, 2))]:
        two = numerics.convolution(x, w, padding=(1, 0), cuts=cuts)
        three = numerics.convolution(
            x[:, :, None], w[:, :, None], padding=(0, 1, 0), cuts=cuts_of_three
        )
        assert np.array_equal(bits(two), bits(three[:, :, 0]))


def longhand_convolution(x: np.ndarray, w: np.ndarray, padding: int) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = padded.shape[2] - w.shape[2] + 1, padded.shape[3] - w.shape[3] + 1
    out = np.zeros((x.shape[0], w.shape[0], height, width), dtype=np.float32)
    for c, ky, kx in np.ndindex(w.shape[1:]):
        pixels = padded[:, None, c, ky : ky + height, kx : kx + width].astype(np.float64)
        product = w[None, :, c, ky, kx, None, None].astype(np.float64) * pixels
        out = (out.astype(np.float64) + product).astype(np.float32)
    return out


def test_a_convolution_sums_in_ascending_order_on_any_strides():
    x = numerics.quantize(normal(22, 2, 9, 8, 3), "cf8_1_4_3")
    w = numerics.quantize(normal(23, 5, 3, 3, 3), "cf8_1_5_2")
    images = x.with_codes(np.moveaxis(x.codes, 3, 1))  # channels last in memory
    out = numerics.convolution(images, w, padding=1)
    expected = longhand_convolution(np.moveaxis(x.dequantize(), 3, 1), w.dequantize(), padding=1)
    assert np.array_equal(bits(out), bits(expected))
