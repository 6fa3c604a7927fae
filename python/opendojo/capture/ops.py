"""The names of the ops that a Graph can hold: the rows of the op table (docs/ops.md)."""

from functools import cache

_ATEN = """
_adaptive_avg_pool2d _adaptive_avg_pool2d_backward _fused_rms_norm _fused_rms_norm_backward
_log_softmax _log_softmax_backward_data _native_batch_norm_legit_functional _safe_softmax _softmax
_softmax_backward_data _to_copy abs add addmm amax amin any all arange argmax avg_pool2d
avg_pool2d_backward baddbmm binary_cross_entropy binary_cross_entropy_backward bitwise_and
bitwise_not bitwise_or bmm cat ceil clamp constant_pad_nd convolution convolution_backward cos
cumsum div elu elu_backward embedding embedding_dense_backward eq erf exp expand expm1 flip floor
full gather ge gelu gelu_backward gt hardsigmoid hardsigmoid_backward hardswish hardswish_backward
hardtanh hardtanh_backward index index_add index_put leaky_relu leaky_relu_backward le log log1p
logical_and logical_not logical_or lt max_pool2d_with_indices max_pool2d_with_indices_backward
maximum mean minimum mm mse_loss mse_loss_backward mul native_batch_norm_backward native_group_norm
native_group_norm_backward native_layer_norm native_layer_norm_backward ne neg nll_loss2d_backward
nll_loss2d_forward nll_loss_backward nll_loss_forward permute pow reciprocal relu remainder repeat
round rsqrt scatter scatter_add select sigmoid sigmoid_backward sign silu silu_backward sin slice
smooth_l1_loss smooth_l1_loss_backward softplus softplus_backward split_with_sizes sqrt sub sum tanh
tanh_backward threshold_backward tril triu upsample_bilinear2d upsample_bilinear2d_backward
upsample_nearest2d upsample_nearest2d_backward var view where
"""
_DOJO = "adamw conv_input_grad conv_weight_grad mask sgd"


@cache
def op_names() -> frozenset[str]:
    aten = (f"aten.{name}" for name in _ATEN.split())
    return frozenset([*aten, *(f"dojo.{name}" for name in _DOJO.split())])
