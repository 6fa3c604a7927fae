"""The workloads by name: networks at published shapes, with loss, optimiser and a batch of shapes.

Nothing is downloaded and no weight is made: models are built on the meta device. docs/workloads.md
says where each number comes from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
import transformers
from driving import DrivingNetwork, driving_batch, driving_loss
from experts import mixtral
from masked_video import MaskedVideo
from opendojo.capture import CapturedStep, capture
from torch import Tensor, nn

# Samples are images, clips, sequences of tokens, or for `driving` 32 frames of 8 cameras.
Batch = Callable[[int], tuple[Any, tuple]]


@dataclass(frozen=True)
class Workload:
    title: str
    make: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Batch
    samples: int  # of a step, unless asked otherwise

    def model(self) -> nn.Module:
        """In training mode, without weights."""
        with torch.device("meta"):
            return self.make().train()

    def capture(self, name: str, samples: int | None = None) -> CapturedStep:
        model = self.model()
        example = self.batch(samples or self.samples)
        return capture(model, self.loss, self.optimizer(model), example, name=name)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4)


def floats(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def numbers(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device="meta")


# --- images ---
def images(count: int) -> tuple[tuple, tuple]:
    return (floats(count, 3, 224, 224),), (numbers(count),)


def image_loss(output: Any, target: Tensor) -> Tensor:
    return F.cross_entropy(output.logits, target)


def resnet_50() -> nn.Module:
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))


def regnet_y_16gf() -> nn.Module:
    return transformers.RegNetForImageClassification(
        transformers.RegNetConfig(
            depths=[2, 4, 11, 1],
            hidden_sizes=[224, 448, 1232, 3024],
            groups_width=112,
            num_labels=1000,
        )
    )


# --- video ---
PATCHES = 8 * 14 * 14  # of 2 x 16 x 16, in 16 frames of 224 x 224
VISIBLE = 160  # 20 of the 196 places, the same in all frames: 90 % are masked


def videomae_l() -> nn.Module:
    return MaskedVideo(
        transformers.VideoMAEConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            decoder_hidden_size=512,
            decoder_num_hidden_layers=12,
            decoder_num_attention_heads=8,
            decoder_intermediate_size=2048,
        )
    )


def masked_clips(count: int) -> tuple[tuple, tuple]:
    masked = PATCHES - VISIBLE
    inputs = (floats(count, 16, 3, 224, 224), numbers(count, VISIBLE), numbers(count, masked))
    return inputs, (floats(count, masked, 2 * 16 * 16 * 3),)


# --- diffusion ---
def stable_diffusion_unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )


def noise_loss(output: Any, noise: Tensor) -> Tensor:
    return F.mse_loss(output.sample, noise)


def latents(count: int) -> tuple[dict, tuple]:
    inputs = {
        "sample": floats(count, 4, 64, 64),
        "timestep": numbers(count),
        "encoder_hidden_states": floats(count, 77, 768),
    }
    return inputs, (floats(count, 4, 64, 64),)


# --- language ---
def token_loss(output: Any, target: Tensor) -> Tensor:
    return F.cross_entropy(output.logits.flatten(0, 1), target.flatten())


def tokens(length: int, count: int) -> tuple[tuple, tuple]:
    return (numbers(count, length),), (numbers(count, length),)


def gpt2_xl(layers: int = 48) -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=1600, n_layer=layers, n_head=25, use_cache=False)
    )


def llama_70b(layers: int = 80) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=32000,
            hidden_size=8192,
            intermediate_size=28672,
            num_hidden_layers=layers,
            num_attention_heads=64,
            num_key_value_heads=8,
            max_position_embeddings=4096,
            use_cache=False,
        )
    )


def gpt3_175b() -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_positions=2048,
            n_embd=12288,
            n_layer=96,
            n_head=96,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
    )


def mixtral_8x7b(layers: int = 32) -> nn.Module:
    return mixtral(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_local_experts=8,
        num_experts_per_tok=2,
    )


WORKLOADS = {
    "resnet-50": Workload("ResNet-50", resnet_50, image_loss, sgd, images, 32),
    "regnet-y-16gf": Workload("RegNetY-16GF", regnet_y_16gf, image_loss, sgd, images, 32),
    "driving": Workload(
        "Multi-camera driving", DrivingNetwork, driving_loss, adamw, driving_batch, 1
    ),
    "videomae-l": Workload(
        "VideoMAE-L, unsupervised", videomae_l, F.mse_loss, adamw, masked_clips, 8
    ),
    "stable-diffusion-unet": Workload(
        "Stable Diffusion UNet", stable_diffusion_unet, noise_loss, adamw, latents, 4
    ),
    "gpt2-xl": Workload("GPT-2 XL", gpt2_xl, token_loss, adamw, partial(tokens, 1024), 1),
    "llama-70b": Workload("Llama 2 70B", llama_70b, token_loss, adamw, partial(tokens, 4096), 1),
    "gpt3-175b": Workload("GPT-3 175B", gpt3_175b, token_loss, adamw, partial(tokens, 2048), 1),
    "mixtral-8x7b": Workload(
        "Mixtral 8x7B", mixtral_8x7b, token_loss, adamw, partial(tokens, 4096), 1
    ),
}
