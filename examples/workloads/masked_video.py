"""Unsupervised training on video: VideoMAE with a fixed count of visible patches.

transformers selects the visible patches by a boolean mask, so that a shape depends on data. Which
patches are visible is drawn by the loader anyway: here it hands in their numbers.
"""

import torch
import transformers
from torch import Tensor, nn


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x [b or 1, n, width] at index [b, k]: [b, k, width]."""
    x = x.expand(index.shape[0], -1, -1)
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class MaskedVideo(nn.Module):
    """The modules of VideoMAEForPreTraining; predicts the pixels of the masked patches."""

    def __init__(self, config: transformers.VideoMAEConfig) -> None:
        super().__init__()
        self.model = transformers.VideoMAEForPreTraining(config)

    def forward(self, video: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """video [b, frames, 3, h, w], numbers of patches [b, k] and [b, n - k]; the result is
        [b, n - k, pixels of a patch]."""
        model = self.model
        encoder = model.videomae
        seen = encoder.encoder(rows(encoder.embeddings(video, None), visible)).last_hidden_state
        if encoder.layernorm is not None:
            seen = encoder.layernorm(seen)
        places = model.position_embeddings.to(seen.device)
        shown = model.encoder_to_decoder(seen) + rows(places, visible)
        hidden = model.mask_token + rows(places, masked)
        return model.decoder(torch.cat([shown, hidden], 1), hidden.shape[1]).logits
