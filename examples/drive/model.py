"""The steering network and its learning-rate schedule.

One convolutional trunk looks at each of the last four camera frames, and two dense layers fuse
what it saw into steering angle and throttle:

    frames u8[B,4,3,60,80] -> trunk on 4*B frames -> 64 features a frame -> fusion -> [B,2]

A window costs 37.3 million floating-point operations forward, 9.3 million a frame (a
multiply-add counts as two); the network has 132,162 parameters. Dropout and the decay to a rate
of almost zero are there to make two runs that differ only in rounding end close together.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

FRAMES = 4
"""Frames in a window: the one to be labelled and the three before it, oldest first."""

HEIGHT, WIDTH = 60, 80
"""Size of an input frame in pixels."""

FEATURES = 64
"""Features that the trunk hands on for each frame."""

BATCH = 32
"""Windows in a training step."""

STEPS = 750
"""Training steps: 24,000 frame visits at 32 windows a step."""

PEAK_RATE = 1e-3
"""Highest learning rate of AdamW."""

WARM_UP_STEPS = 100
"""Steps over which the learning rate rises from PEAK_RATE / 100 to PEAK_RATE."""

BETAS = (0.9, 0.99)
"""AdamW's averaging factors; 0.99 because a run has only 750 steps."""

WEIGHT_DECAY = 0.01
"""AdamW's decoupled weight decay, on all parameters."""


class SteeringNetwork(nn.Module):
    """Predicts steering angle and throttle from four consecutive frames.

    Args:
        mean_label: mean (angle, throttle) of the training labels, the value at which the bias of
            the last layer starts, so that training need not first find the constant.
        dropout: probability of dropping a feature before each of the two dense layers that read
            features of frames.

    Shapes (B windows):
        input: u8[B,4,3,60,80], RGB, frames oldest first.
        output: f32[B,2], columns angle and throttle, in the units of the labels.
    """

    def __init__(self, mean_label: Sequence[float] = (0.0, 0.0), dropout: float = 0.3) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=5, stride=2),  # [4B,16,28,38]
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=5, stride=2),  # [4B,32,12,17]
            nn.ReLU(),
            nn.Conv2d(32, 32, kernel_size=3, stride=2),  # [4B,32,5,8]
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3),  # [4B,64,3,6]
            nn.ReLU(),
        )
        self.frame = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(64 * 3 * 6, FEATURES),  # [4B,64]
            nn.ReLU(),
        )
        self.fusion = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(FRAMES * FEATURES, 64),  # [B,64]
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 2)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor(tuple(mean_label)))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns f32[B,2] for frames u8[B,4,3,60,80]."""
        windows = frames.shape[0]
        # Pixels become k/128 for an integer k from -128 to 127: exact in BF16 too.
        pixels = frames.reshape(windows * FRAMES, 3, HEIGHT, WIDTH).float() * (1 / 128) - 1
        features = self.frame(self.trunk(pixels).reshape(windows * FRAMES, -1))
        return self.head(self.fusion(features.reshape(windows, FRAMES * FEATURES)))


def learning_rate(step: int, steps: int = STEPS) -> float:
    """Returns AdamW's rate at `step`, counted from 0, of a run of `steps`.

    It follows half a cosine from PEAK_RATE down to almost zero, times a straight warm-up over the
    first WARM_UP_STEPS.
    """
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return PEAK_RATE * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))
