"""Derivatives in opendojo.numerics: against FP64 where nothing is rounded, against the primitive
functions, bit by bit, where it is."""

import pytest
import torch
from opendojo import Error, numerics
from opendojo.numerics import QuantSpec
from torch import nn

OFF = QuantSpec(forward="f32", gradient="f32")
STOCHASTIC = QuantSpec(rounding="stochastic", gradient_rounding="stochastic", seed=5)


def randn(seed: int, *shape: int, grad: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).requires_grad_(grad)


def doubled(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def assert_gradients_match(ours, theirs, output, expected) -> None:
    """Both backward passes from one output gradient; FP32 against FP64."""
    assert torch.allclose(output.double(), expected, rtol=1e-5, atol=1e-5)
    gradient = randn(99, *output.shape, grad=False)
    output.backward(gradient)
    expected.backward(gradient.double())
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad.shape == reference.grad.shape
        assert torch.allclose(mine.grad.double(), reference.grad, rtol=1e-5, atol=2e-5)


def equal_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


# --- Rounding off


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (6, 4, 5)),
        ((2, 1, 3, 4), (1, 6, 4, 5)),
        ((7, 2, 3, 4), (2, 4, 5)),
        ((2, 7, 3, 4), (2, 1, 4, 5)),
    ],
)
def test_matmul_has_the_derivatives_of_torch(a_shape, b_shape):
    a, b = randn(1, *a_shape), randn(2, *b_shape)
    a64, b64 = doubled(a, b)
    assert_gradients_match((a, b), (a64, b64), numerics.quantized_matmul(a, b, OFF), a64 @ b64)


@pytest.mark.parametrize("x_shape", [(4,), (3, 4), (2, 5, 3, 4)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_has_the_derivatives_of_torch(x_shape, has_bias):
    tensors = [randn(3, *x_shape), randn(4, 6, 4), *([randn(5, 6)] if has_bias else [])]
    references = doubled(*tensors)
    output = numerics.quantized_linear(*tensors, spec=OFF)
    expected = nn.functional.linear(*references)
    assert_gradients_match(tensors, references, output, expected)


@pytest.mark.parametrize(
    ("size", "kernel", "geometry"),
    [
        ((9, 8), (3, 2), {}),
        ((9, 8), (3, 2), {"stride": 2, "padding": 1}),
        ((9, 8), (3, 2), {"groups": 2, "dilation": (1, 2), "padding": (0, 2)}),
        ((12,), (3,), {"stride": 2}),
        ((4, 5, 6), (2, 3, 2), {"padding": 1}),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_convolution_has_the_derivatives_of_torch(size, kernel, geometry, has_bias):
    groups = geometry.get("groups", 1)
    tensors = [randn(6, 2, 4, *size), randn(7, 6, 4 // groups, *kernel)]
    tensors += [randn(8, 6)] if has_bias else []
    references = doubled(*tensors)
    output = numerics.quantized_convolution(*tensors, spec=OFF, **geometry)
    expected = getattr(nn.functional, f"conv{len(size)}d")(*references, **geometry)
    assert_gradients_match(tensors, references, output, expected)


def test_finite_differences_agree_with_the_derivative():
    # Of the real FP32 function: a step of 2^-6 along a direction, central.
    x, w, direction = randn(9, 5, 7), randn(10, 3, 7), randn(11, 5, 7, grad=False)
    numerics.quantized_linear(x, w, spec=OFF).square().sum().backward()
    h = 2.0**-6
    with torch.no_grad():
        sums = [
            numerics.quantized_linear(x + s * h * direction, w, spec=OFF).double().square().sum()
            for s in (1, -1)
        ]
    slope = (sums[0] - sums[1]) / (2 * h)
    assert torch.isclose(slope, (x.grad * direction).sum().double(), rtol=1e-3)


# --- Rounding on: what the primitive functions give, bit by bit


def quantized(x: torch.Tensor, spec: QuantSpec, role: int, step: int = 0, tensor: int = 0):
    is_gradient = role == 2
    return numerics.quantize(
        x.detach(),
        spec.gradient if is_gradient else spec.forward,
        margin=spec.margin,
        rounding=spec.gradient_rounding if is_gradient else spec.rounding,
        denormals=spec.denormals,
        seed=spec.seed,
        step=step,
        tensor=3 * tensor + role,
    )


@pytest.mark.parametrize(
    "spec", [QuantSpec(), QuantSpec(margin=1, denormals="gradual"), STOCHASTIC]
)
def test_linear_is_the_composition_of_the_primitives(spec):
    x, w, bias = randn(12, 2, 9, 8), randn(13, 6, 8), randn(14, 6)
    output = numerics.quantized_linear(x, w, bias, spec, step=3, tensor=4)
    qx, qw = quantized(x, spec, 0, 3, 4), quantized(w, spec, 1, 3, 4)
    assert equal_bits(output, numerics.matmul(qx, qw.mT, bias=bias.detach()))
    gradient = randn(15, *output.shape, grad=False)
    output.backward(gradient)
    qg = quantized(gradient, spec, 2, 3, 4)
    rows = qg.with_codes(qg.codes.view(18, 6))
    assert equal_bits(x.grad, numerics.matmul(qg, qw))
    assert equal_bits(w.grad, numerics.matmul(rows.mT, qx.with_codes(qx.codes.view(18, 8))))
    in_order = torch.zeros(6)
    for row in rows.dequantize():
        in_order = in_order + row
    assert equal_bits(bias.grad, in_order)


def test_convolution_is_the_composition_of_the_primitives():
    spec, geometry = QuantSpec(), {"stride": 2, "padding": 1, "groups": 2}
    x, w, bias = randn(16, 2, 4, 7, 7), randn(17, 6, 2, 3, 3), randn(18, 6)
    output = numerics.quantized_convolution(x, w, bias, spec, **geometry)
    qx, qw = quantized(x, spec, 0), quantized(w, spec, 1)
    assert equal_bits(output, numerics.convolution(qx, qw, bias.detach(), **geometry))
    gradient = randn(19, *output.shape, grad=False)
    output.backward(gradient)
    qg = quantized(gradient, spec, 2)
    assert equal_bits(x.grad, numerics.convolution_input_gradient(qg, qw, (7, 7), **geometry))
    assert equal_bits(w.grad, numerics.convolution_weight_gradient(qg, qx, (3, 3), **geometry))
    in_order = torch.zeros(6)
    for point in qg.dequantize().permute(0, 2, 3, 1).reshape(-1, 6):
        in_order = in_order + point
    assert equal_bits(bias.grad, in_order)


def test_a_named_order_holds_forward_and_backward():
    spec = QuantSpec(order="tile4")
    x, w, bias = randn(30, 5, 9), randn(31, 4, 9), randn(32, 4)
    output = numerics.quantized_linear(x, w, bias, spec)
    qx, qw = quantized(x, spec, 0), quantized(w, spec, 1)
    assert equal_bits(output, numerics.matmul(qx, qw.mT, bias=bias.detach(), order="tile4"))
    gradient = randn(33, *output.shape, grad=False)
    output.backward(gradient)
    qg = quantized(gradient, spec, 2)
    assert equal_bits(x.grad, numerics.matmul(qg, qw, order="tile4"))
    assert equal_bits(w.grad, numerics.matmul(qg.mT, qx, order="tile4"))
    assert equal_bits(bias.grad, numerics.matmul(torch.ones(1, 5), qg, order="tile4")[0])


def test_a_layer_over_three_axes_is_its_function():
    layer = numerics.QuantizedConv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), stride=(1, 1, 2))
    x = randn(34, 2, 2, 3, 4, 5)
    expected = numerics.quantized_convolution(
        x, layer.weight, layer.bias, stride=(1, 1, 2), padding=(0, 1, 1)
    )
    assert equal_bits(layer(x), expected)


def test_the_gradient_of_a_broadcast_operand_is_one_sum_in_order():
    a, b = randn(20, 3, 1, 4, 5), randn(21, 2, 5, 6)
    output = numerics.quantized_matmul(a, b)
    gradient = randn(22, *output.shape, grad=False)
    output.backward(gradient)
    qa, qb = quantized(a, QuantSpec(), 0), quantized(b, QuantSpec(), 1)
    qg = quantized(gradient, QuantSpec(), 2)
    # b lacks the outer batch dimension: its sum runs over (outer, m); that of a over (inner, n).
    left = torch.cat([qa.codes[i, 0] for i in range(3)])
    for j in range(2):
        right = torch.cat([qg.codes[i, j] for i in range(3)])
        expected = numerics.matmul(qa.with_codes(left).mT, qg.with_codes(right))
        assert equal_bits(b.grad[j], expected)
    for i in range(3):
        left = torch.cat([qg.codes[i, j] for j in range(2)], dim=1)
        right = torch.cat([qb.codes[j].mT for j in range(2)])
        expected = numerics.matmul(qg.with_codes(left), qb.with_codes(right))
        assert equal_bits(a.grad[i, 0], expected)


def test_fake_quantize_passes_the_gradient_straight_through():
    x = torch.tensor([0.3, -1e9, 1e-9], requires_grad=True)
    y = numerics.fake_quantize(x, "cf8_1_4_3", 7)
    y.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert y.tolist() == [0.3125, -480.0, 0.0]
    assert x.grad.tolist() == [1.0, 2.0, 3.0]


def test_bfloat16_operands_get_bfloat16_gradients():
    x, w = randn(23, 3, 4).bfloat16().detach().requires_grad_(), randn(24, 2, 4)
    output = numerics.quantized_linear(x, w)
    assert output.dtype == torch.float32
    output.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert w.grad.dtype == torch.float32


def test_backward_keeps_one_byte_per_operand_element():
    x, w = randn(25, 64, 64), randn(26, 64, 64)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        numerics.quantized_linear(x, w)
    assert sorted((t.dtype, t.numel()) for t in kept) == [(torch.uint8, 64 * 64)] * 2


def test_only_wanted_gradients_are_computed():
    x, w, bias = randn(27, 3, 4, grad=False), randn(28, 2, 4), randn(29, 2, grad=False)
    numerics.quantized_linear(x, w, bias).sum().backward()
    assert x.grad is None
    assert bias.grad is None
    assert w.grad is not None


# --- Layers


def trained(threads: int, steps: int, resume_at: int | None = None) -> list[torch.Tensor]:
    numerics.set_threads(threads)
    model = nn.Sequential(
        numerics.QuantizedConv2d(2, 4, 3, padding=1, spec=STOCHASTIC, tensor=0),
        nn.ReLU(),
        nn.Flatten(),
        numerics.QuantizedLinear(4 * 6 * 6, 3, spec=STOCHASTIC, tensor=1),
    )
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(0.2 * randn(seed, *parameter.shape))
    for step in range(steps):
        if step == resume_at:
            state = {key: value.clone() for key, value in model.state_dict().items()}
            model.load_state_dict(state)
        x, target = randn(40 + step, 8, 2, 6, 6, grad=False), torch.arange(8) % 3
        model.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert int(model[0].step) == steps
    return [parameter.detach() for parameter in model.parameters()]


def test_training_gives_the_same_bits_for_any_threads_and_after_a_resume():
    reference = trained(threads=1, steps=4)
    for other in (trained(threads=2, steps=4), trained(threads=3, steps=4, resume_at=2)):
        assert all(equal_bits(a, b) for a, b in zip(reference, other, strict=True))


def test_evaluation_draws_no_new_bits():
    layer = numerics.QuantizedLinear(4, 3, spec=STOCHASTIC).eval()
    x = randn(60, 5, 4)
    assert equal_bits(layer(x).detach(), layer(x).detach())
    assert int(layer.step) == 0


# --- Errors


def test_numpy_arrays_have_no_derivatives():
    with pytest.raises(Error, match=r"x is of type ndarray: derivatives need a torch\.Tensor"):
        numerics.quantized_linear(randn(1, 2, 3).detach().numpy(), randn(2, 4, 3))


def test_a_vector_is_no_operand_of_a_matmul_with_derivatives():
    with pytest.raises(Error, match=r"b is \[3\]: expected a matrix"):
        numerics.quantized_matmul(randn(1, 2, 3), randn(2, 3))


def test_padding_by_name_is_refused():
    with pytest.raises(Error, match="padding 'same': expected integers"):
        numerics.QuantizedConv2d(1, 1, 3, padding="same")


def test_a_second_derivative_is_refused():
    x, w = randn(1, 2, 3), randn(2, 4, 3)
    (gradient,) = torch.autograd.grad(
        numerics.quantized_linear(x, w).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
