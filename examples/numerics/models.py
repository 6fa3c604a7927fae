"""Two networks of textbook shape, to measure formats and speed on: ResNet-18 and a small GPT.

Both are plain PyTorch and know nothing of OpenDojo; they return one tensor, so that any loss of
torch.nn.functional fits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification


class ResNet18(nn.Module):
    """ResNet-18 (basic blocks, two a stage, 64 to 512 wide) as the transformers package has it.

    Args:
        outputs: of the last layer: classes, or numbers to predict.

    Shapes: images f32[B,3,H,W], H and W 32 or more -> f32[B,outputs].
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.network = ResNetForImageClassification(
            ResNetConfig(
                embedding_size=64,
                hidden_sizes=[64, 128, 256, 512],
                depths=[2, 2, 2, 2],
                layer_type="basic",
                num_labels=outputs,
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns f32[B,outputs] for images f32[B,3,H,W]."""
        return self.network(images).logits


@dataclass(frozen=True)
class GptShape:
    """How large a GPT is. As it stands: 10.8 million parameters, with 96 characters."""

    characters: int = 96
    context: int = 256
    layers: int = 6
    width: int = 384
    heads: int = 6
    dropout: float = 0.0


class _Block(nn.Module):
    """Causal attention, then two dense layers, each on a normalised copy added to its input."""

    def __init__(self, shape: GptShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.dropout = shape.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def _attention(self, x: Tensor) -> Tensor:
        batch, context, width = x.shape
        heads = (batch, context, self.heads, width // self.heads)
        q, k, v = (
            each.view(heads).transpose(1, 2) for each in self.queries_keys_values(x).split(width, 2)
        )
        dropout = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.mix(y.transpose(1, 2).reshape(batch, context, width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns f32[B,T,width] for f32[B,T,width]."""
        x = x + self._drop(self._attention(self.attention_norm(x)))
        return x + self._drop(self.down(functional.gelu(self.up(self.dense_norm(x)))))


class Gpt(nn.Module):
    """A GPT on characters: position and character embeddings, blocks, a norm, a dense head.

    Shapes (B texts of T = context characters):
        input: i64[B,T], numbers of characters.
        output: f32[B*T,characters], unnormalised, of the next character at each place.
    """

    def __init__(self, shape: GptShape | None = None) -> None:
        super().__init__()
        self.shape = shape or GptShape()
        self.characters = nn.Embedding(self.shape.characters, self.shape.width)
        self.positions = nn.Embedding(self.shape.context, self.shape.width)
        self.blocks = nn.ModuleList([_Block(self.shape) for _ in range(self.shape.layers)])
        self.norm = nn.LayerNorm(self.shape.width)
        self.head = nn.Linear(self.shape.width, self.shape.characters)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """GPT-2's: weights of deviation 0.02, smaller where a block adds to its input."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, _Block):
            for layer in (module.mix, module.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * self.shape.layers) ** 0.5)

    def forward(self, text: Tensor) -> Tensor:
        """Returns f32[B*T,characters] for text i64[B,T]."""
        places = torch.arange(text.shape[1], device=text.device)
        x = self.characters(text) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)
