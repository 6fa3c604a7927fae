"""Bad input to opendojo.numerics: the right result, or one clear error that names the remedy."""

import re
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch
from opendojo import Error, numerics
from opendojo.numerics.arrays import exported
from torch._subclasses import FakeTensorMode

F = "cf8_1_4_3"


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(array(*shape))


def fake(device: str) -> torch.Tensor:
    with FakeTensorMode():
        return torch.empty(2, 3, device=device)


# --- Arguments that are wrong in themselves

QUANTIZE = [
    ({"format": "fp8"}, "format 'fp8': expected one of f32, bf16, "),
    ({"bias": 64}, "bias 64: expected an integer from 0 to 63"),
    ({"bias": -1}, "bias -1: expected an integer from 0 to 63"),
    ({"bias": 7.0}, "bias 7.0: expected an integer"),
    ({"bias": True}, "bias True: expected an integer"),
    ({"bias": "max"}, "bias 'max': expected an integer, 'amax' or a BiasControl"),
    ({"format": "bf16", "bias": 3}, "bias 3: bf16 has none, leave it out"),
    ({"margin": -1}, "margin -1: expected an integer from 0 to 63"),
    ({"rounding": "up"}, "rounding 'up': expected one of 'nearest', 'stochastic', "),
    ({"denormals": "none"}, "denormals 'none': expected one of 'paper', 'gradual'"),
    ({"seed": 2**64}, r"seed 18446744073709551616: expected an integer from 0 to 2^64 - 1"),
    ({"step": -1}, r"step -1: expected an integer from 0 to 2^32 - 1"),
    ({"tensor": 1.5}, "tensor 1.5: expected an integer"),
]


@pytest.mark.parametrize(("arguments", "message"), QUANTIZE)
def test_quantize_names_the_wrong_argument(arguments, message):
    with pytest.raises(Error, match=re.escape(message)):
        numerics.quantize(array(2, 3), **({"format": F} | arguments))


def test_integers_of_numpy_and_torch_are_integers():
    x = array(2, 3)
    for bias in (np.int64(9), torch.tensor(9)):
        assert np.array_equal(numerics.quantize(x, F, bias).codes, numerics.quantize(x, F, 9).codes)


def test_other_functions_name_the_wrong_argument():
    cases = [
        (lambda: numerics.set_threads(0), "threads 0: expected an integer from 1 to 4096"),
        (lambda: numerics.set_threads(2.5), "threads 2.5: expected an integer from 1 to 4096"),
        (lambda: numerics.bias_from_amax(-1.0, F), "amax -1.0: expected the largest magnitude"),
        (lambda: numerics.bias_from_amax(float("nan"), F, 64), "margin 64: expected an integer"),
        (lambda: numerics.bias_from_amax(1.0, "f32"), "f32 has no bias"),
        (lambda: numerics.BiasControl("fixed"), "rule 'fixed': expected one of 'delayed', "),
        (lambda: numerics.BiasControl(window=0), "window 0: expected an integer from 1 to 4096"),
        (lambda: numerics.BiasControl(grid=64), "grid 64: expected an integer from 1 to 63"),
        (lambda: numerics.BiasControl().choose("bf16", 1.0), "bf16 has no bias"),
        (lambda: numerics.formats()[-1].max(99), "bias 99: expected an integer from 0 to 63"),
        (lambda: numerics.matmul(array(2, 2), array(2, 2), cuts=0), "cuts 0: expected an integer"),
        (
            lambda: numerics.matmul(array(2, 2), array(2, 2), activation="gelu"),
            "activation 'gelu': expected one of None, 'relu'",
        ),
    ]
    for call, message in cases:
        with pytest.raises(Error, match=re.escape(message)):
            call()


def test_the_state_of_a_bias_control_is_checked():
    state = numerics.BiasControl(window=2).state_dict()
    for change in ({"position": 2}, {"amax": [1.0] * 3}, {"learnt": 7}, {"votes": 99}):
        with pytest.raises(Error, match="the state is none of a BiasControl with these arguments"):
            numerics.BiasControl(window=2).load_state_dict(state | change)


# --- Arrays that kernels cannot read

UNREADABLE = {
    "list": (lambda: [[1.0]], "is of type list: expected a torch.Tensor or numpy.ndarray"),
    "float64": (lambda: array(2, 3).astype(np.float64), "is float64: expected "),
    "int64": (lambda: torch.ones(2, 3, dtype=torch.int64), "is int64: expected "),
    "complex": (lambda: torch.ones(2, 3, dtype=torch.complex64), "is complex64: expected "),
    "swapped": (lambda: array(2, 3).astype(">f4"), "is byte-swapped float32: expected "),
    "meta": (lambda: torch.empty(2, 3, device="meta"), "is on the device meta and has no values"),
    "sparse": (lambda: tensor(2, 3).to_sparse(), "has the layout torch.sparse_coo: give "),
    "fake": (lambda: fake("cpu"), "is a FakeTensor, not a plain tensor: it may have no memory"),
    "gradient": (lambda: tensor(2, 3).requires_grad_(), "requires a gradient, which this "),
    "masked": (lambda: np.ma.masked_array(array(2, 3)), "is masked, which codes cannot say"),
    "misaligned": (
        lambda: np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3),
        "has elements at addresses that are no multiple of their size: copy it",
    ),
    "negated": (
        lambda: torch.ones(2, 3, dtype=torch.complex64).conj().imag,
        "is a lazy negation: give ",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_array_that_kernels_cannot_read_is_refused_by_name(kind):
    make, message = UNREADABLE[kind]
    x = make()
    other = tensor(3, 2) if isinstance(x, torch.Tensor) else array(3, 2)
    calls = {
        "x": lambda: numerics.quantize(x, F),
        "a": lambda: numerics.matmul(x, other),
        "b": lambda: numerics.matmul(other, x),
        "weight": lambda: numerics.convolution(other[None, None], x),
        "output_gradient": lambda: numerics.convolution_input_gradient(x, other, (2, 2)),
    }
    for name, call in calls.items():
        with pytest.raises(Error, match=re.escape(f"{name} {message}")):
            call()


class _CudaTensor(torch.Tensor):
    """A tensor that says it is on a GPU: the test needs none."""

    is_cpu = False
    device = torch.device("cuda:0")


def test_a_tensor_on_a_gpu_is_refused_with_the_remedy():
    x = tensor(2, 3).as_subclass(_CudaTensor)
    with pytest.raises(
        Error, match=re.escape("x is on cuda:0: the kernels run on the CPU, give x.cpu()")
    ):
        numerics.quantize(x, F)


def test_a_transform_of_torch_func_is_refused():
    with pytest.raises(Error, match=r"a is inside torch\.func"):
        torch.func.vmap(lambda x: numerics.matmul(x, tensor(3, 2)))(tensor(5, 2, 3))


def test_codes_without_their_format_are_refused_with_the_remedy():
    codes = numerics.quantize(array(2, 3), F).codes
    with pytest.raises(Error, match=re.escape("give Quantized(a, format, bias)")):
        numerics.matmul(codes, array(3, 2))
    with pytest.raises(Error, match=re.escape("codes are uint8: those of bf16 are uint16")):
        numerics.dequantize(codes, "bf16")
    with pytest.raises(Error, match=re.escape("codes are float32: those of cf8_1_4_3 are uint8")):
        numerics.Quantized(array(2, 3), F, 7)


def test_the_frameworks_do_not_mix():
    with pytest.raises(Error, match="b is an array of NumPy and the first one of PyTorch"):
        numerics.matmul(tensor(2, 3), array(3, 2))
    with pytest.raises(Error, match="bias is an array of PyTorch and the first one of NumPy"):
        numerics.matmul(array(2, 3), array(3, 2), bias=tensor(2))
    with pytest.raises(Error, match="out is an array of PyTorch and the first one of NumPy"):
        numerics.quantize(array(2, 3), F, out=torch.empty(2, 3, dtype=torch.uint8))


def test_an_output_that_does_not_fit_is_refused():
    x = array(2, 3)
    locked = np.empty((2, 3), np.uint8)
    locked.flags.writeable = False
    for out, message in [
        (np.empty((3, 2), np.uint8), "out is uint8[3, 2]: expected a C-contiguous uint8[2, 3]"),
        (np.empty((2, 3), np.uint16), "out is uint16[2, 3]: expected a C-contiguous uint8"),
        (np.empty((3, 2), np.uint8).T, "out is uint8[2, 3]: expected a C-contiguous uint8"),
        (locked, "out is read-only"),
    ]:
        with pytest.raises(Error, match=re.escape(message)):
            numerics.quantize(x, F, out=out)
    for values in (x, torch.from_numpy(x)):
        with pytest.raises(Error, match="out overlaps the input"):
            numerics.quantize(values, "f32", out=values)


# --- Shapes that do not fit

SHAPES = [
    (
        lambda: numerics.matmul(array(2, 3), array(4, 2)),
        "k is 3 in a of [2, 3] and 4 in b of [4, 2]",
    ),
    (lambda: numerics.matmul(array(3), array(4)), "k is 3 in a of [3] and 4 in b of [4]"),
    (lambda: numerics.matmul(array(), array(4)), "a scalar has no rows and columns"),
    (
        lambda: numerics.matmul(array(2, 5, 3), array(4, 3, 2)),
        "batch dimensions [2] of a and [4] of b do not broadcast",
    ),
    (
        lambda: numerics.matmul(array(2, 3), array(3, 2), bias=array(3)),
        "bias is float32[3]: expected float32[2]",
    ),
    (
        lambda: numerics.matmul(array(2, 3), array(3, 2), runs=2),
        "runs 2 without cuts: a run is so many parts of a loop that is cut",
    ),
    (
        lambda: numerics.matmul(array(2, 3), array(3, 2), cuts=1, runs=0),
        "runs 0: expected an integer",
    ),
    (
        lambda: numerics.matmul(array(2, 3), array(3, 2), cuts=(1, 2)),
        "cuts (1, 2): expected 1 integers, or one for all",
    ),
    (lambda: numerics.convolution(array(3, 4), array(2, 3)), "x is [3, 4]: expected three to five"),
    (
        lambda: numerics.convolution(array(3, 4, 4), array(2, 3, 1, 1)),
        "x is [3, 4, 4] and weight [2, 3, 1, 1]: expected equally many dimensions",
    ),
    (
        lambda: numerics.convolution(array(1, 3, 4, 4), array(2, 4, 1, 1)),
        "x has 3 channels and the weight 4 for each of 1 groups",
    ),
    (
        lambda: numerics.convolution(array(1, 3, 4, 4), array(2, 1, 1, 1), groups=3),
        "groups 3 divides not both 3 channels in and 2 out",
    ),
    (
        lambda: numerics.convolution(array(1, 1, 4, 4), array(1, 1, 3, 3), dilation=2),
        "a kernel of size [3, 3] with dilation [2, 2] exceeds the input of size [4, 4]",
    ),
    (
        lambda: numerics.convolution(array(1, 1, 4, 4), array(1, 1, 0, 3)),
        "a kernel of size [0, 3]: expected at least 1",
    ),
    (
        lambda: numerics.convolution(array(1, 1, 4, 4), array(1, 1, 3, 3), stride=0),
        "stride 0: expected an integer from 1 to 2^31 - 1",
    ),
    (
        lambda: numerics.convolution(array(1, 1, 4, 4), array(1, 1, 3, 3), padding=(1, 2, 3)),
        "padding (1, 2, 3): expected 2 integers, or one for all",
    ),
    (
        lambda: numerics.convolution(array(1, 1, 4, 4), array(2, 1, 3, 3), array(1)),
        "bias is float32[1]: expected float32[2]",
    ),
    (
        lambda: numerics.convolution_input_gradient(array(1, 2, 3, 3), array(2, 1, 3, 3), (4, 4)),
        "output_gradient is [1, 2, 3, 3]: an output of this convolution is [n, 2, 2, 2]",
    ),
    (
        lambda: numerics.convolution_weight_gradient(array(1, 2, 2, 2), array(3, 1, 4, 4), (3, 3)),
        "output_gradient is of 1 images and x of 3",
    ),
    (
        lambda: numerics.convolution_weight_gradient(array(1, 2, 2, 2), array(1, 1, 4, 4), (3, 0)),
        "kernel_size 0: expected an integer from 1",
    ),
]


@pytest.mark.parametrize(("call", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(Error, match=re.escape(message)):
        call()


def test_a_size_that_no_memory_holds_is_an_error():
    with pytest.raises((MemoryError, RuntimeError, ValueError)):
        numerics.convolution(array(1, 1, 4, 4), array(1, 1, 3, 3), padding=2**31 - 1)


# --- What is not finite


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
def test_what_is_not_finite_clamps_and_is_counted(value):
    x = np.array([value, 1.0], dtype=np.float32)
    q = numerics.quantize(x, F, 7)
    top = next(f for f in numerics.formats() if f.name == F).max(7)
    assert q.dequantize()[0] == np.copysign(top, value)
    assert (q.stats.not_finite, q.stats.saturated, q.stats.amax) == (1, 1, 1.0)


def test_a_tensor_without_finite_elements_has_the_largest_bias():
    q = numerics.quantize(np.array([np.nan, np.inf], np.float32), F)
    assert (q.bias, q.stats.amax, q.stats.saturated) == (63, 0.0, 2)


def test_fp32_operands_that_are_not_finite_go_through_the_product():
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [1.0, 1.0]], dtype=np.float32)
    out = numerics.matmul(a, np.ones((2, 1), np.float32))
    assert out[0, 0] == np.inf
    assert np.isnan(out[1, 0])
    assert out[2, 0] == 2.0


# --- Zero-sized


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_empty_array_quantizes_to_an_empty_array(kind, shape):
    q = numerics.quantize(kind(array(*shape)), F)
    assert q.shape == shape == tuple(q.dequantize().shape)
    assert q.bias == 63
    assert q.stats == numerics.Stats(0.0, 0, 0, 0)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("batch", [(), (2,), (0,)])
def test_an_empty_product_is_empty_or_its_bias(batch, m, n, k):
    bias = array(n)
    for kind in (np.asarray, torch.from_numpy):
        a, b = (numerics.quantize(kind(array(*batch, *s)), F) for s in ((m, k), (k, n)))
        out = numerics.matmul(a, b, bias=kind(bias))
        assert np.array_equal(np.asarray(out), np.broadcast_to(bias, (*batch, m, n)))


def test_an_empty_convolution_is_empty_or_its_bias():
    x, w, g = array(2, 0, 5, 5), array(3, 0, 3, 3), array(2, 3, 3, 3)
    bias = array(3)
    expected = np.broadcast_to(bias[:, None, None], (2, 3, 3, 3))
    assert np.array_equal(numerics.convolution(x, w, bias), expected)
    assert numerics.convolution_input_gradient(g, w, (5, 5)).shape == (2, 0, 5, 5)
    assert numerics.convolution_weight_gradient(g, x, (3, 3)).shape == (3, 0, 3, 3)
    none = array(0, 1, 5, 5)
    assert numerics.convolution(none, array(3, 1, 3, 3)).shape == (0, 3, 3, 3)
    no_gradient = numerics.convolution_weight_gradient(array(0, 3, 3, 3), none, (3, 3))
    assert np.array_equal(no_gradient, np.zeros((3, 1, 3, 3)))


# --- Beyond 2^31 elements


def test_offsets_beyond_two_to_the_31_are_read_where_they_are():
    # 8 GiB of address space, of which a few pages are ever touched.
    rows, distance = 3, 2**31 + 4096
    base = np.zeros((rows, distance), dtype=np.uint8)
    small = numerics.quantize(array(rows, 8), F, 12)
    base[:, -8:] = small.codes
    far = small.with_codes(base[:, -8:])
    other = numerics.quantize(array(8, 5), F, 12)
    assert np.array_equal(numerics.matmul(far, other), numerics.matmul(small, other))
    assert np.array_equal(numerics.matmul(other.mT, far.mT), numerics.matmul(other.mT, small.mT))
    images = far.with_codes(far.codes.reshape(rows, 1, 2, 4))
    weight = array(2, 1, 1, 3)
    near = small.with_codes(small.codes.reshape(rows, 1, 2, 4))
    assert np.array_equal(numerics.convolution(images, weight), numerics.convolution(near, weight))


def free_bytes() -> int:
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    return 1024 * int(fields["MemAvailable"].split()[0])


@pytest.mark.slow
def test_more_than_two_to_the_31_elements_quantize():
    count = 2**31 + 100
    if free_bytes() < 14 << 30:
        pytest.skip("needs 14 GiB of free memory: 8 for FP32, 2 for codes, and some in reserve")
    x = np.zeros(count, dtype=np.float32)
    x[-100:] = array(100)
    q = numerics.quantize(x, F, rounding="stochastic", seed=3)
    assert q.stats.amax == np.abs(x[-100:]).max()
    assert not q.codes[: 1 << 20].any()
    last = numerics.dequantize(q.codes[-100:], F, q.bias)
    spacing = 2.0 ** (np.floor(np.log2(np.abs(x[-100:]))) - 3)
    assert (np.abs(last - x[-100:]) <= spacing).all()


# --- Nothing is copied


@pytest.mark.parametrize("make", [array, tensor])
def test_operands_are_handed_over_without_a_copy(make):
    x = make(6, 8)[::2, 1:]
    given = exported(x)
    wrapped = torch.from_dlpack(given)
    assert wrapped.data_ptr() == torch.as_tensor(x).data_ptr()
    assert wrapped.stride() == torch.as_tensor(x).stride()


def test_a_product_of_numpy_views_allocates_its_output_alone():
    a, b = array(2, 64, 512, 3)[0, :, :, 1], array(64, 1024).T[::2]
    numerics.matmul(a, b)  # threads and tables exist now
    tracemalloc.start()
    out = numerics.matmul(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < out.nbytes + 8192 < a.size * 4


def test_a_product_of_torch_views_allocates_its_output_alone():
    a, b = tensor(2, 64, 512, 3)[0, :, :, 1], tensor(64, 512).T
    q = numerics.quantize(tensor(64, 512), F).mT
    with torch.profiler.profile(profile_memory=True) as profile:
        for operand in (b, q):
            out = numerics.matmul(a, operand)
    allocated = sum(
        event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0
    )
    assert out.nbytes <= allocated < 4 * out.nbytes < a.numel() * 4


def test_read_only_arrays_are_read():
    x, w = array(2, 3), array(3, 2)
    expected = numerics.matmul(x, w)
    for each in (x, w):
        each.flags.writeable = False
    assert np.array_equal(numerics.matmul(x, w), expected)
    assert numerics.quantize(x, F).shape == (2, 3)


# --- Threads and processes


def test_python_threads_may_call_at_once():
    a, b = numerics.quantize(array(96, 200), F), numerics.quantize(array(200, 80), F)
    expected = numerics.matmul(a, b)
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(numerics.matmul(a, b), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_other_python_threads_run_while_a_kernel_does():
    a = array(1500, 1500)
    worker = threading.Thread(target=lambda: numerics.matmul(a, a))
    worker.start()
    turns = 0
    while worker.is_alive():
        time.sleep(0.0005)
        turns += 1
    assert turns > 5


FORK = """
import os, sys
import numpy as np
from opendojo import numerics
numerics.set_threads(3)
a = np.arange(300 * 300, dtype=np.float32).reshape(300, 300) % 7
before = numerics.matmul(a, a)
child = os.fork()
same = np.array_equal(numerics.matmul(a, a), before)
if child == 0:
    sys.exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if same and os.waitstatus_to_exitcode(status) == 0 else 1)
"""


def test_a_forked_child_computes_with_threads_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo")
def test_functions_run_as_they_are_under_torch_compile():
    x, w = tensor(4, 3), tensor(5, 3)

    def network(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return 2 * numerics.quantized_linear(x.relu(), w)

    plain, compiled = w.clone().requires_grad_(), w.clone().requires_grad_()
    expected = network(x, plain)
    out = torch.compile(network, backend="eager")(x, compiled)
    assert torch.equal(out, expected)
    expected.sum().backward()
    out.sum().backward()
    assert torch.equal(plain.grad, compiled.grad)
