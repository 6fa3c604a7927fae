"""A multi-camera driving network: eight cameras over four instants, bird's-eye view, two tasks.

No production network is published. The structure is the one that A. Karpathy and A. Elluswamy drew
at Tesla AI Day 2021 and 2022; the numbers are from papers (docs/workloads.md):

    cameras     8 of 1280 x 960, bytes                             AI Day 2021
    backbone    RegNetY-4.0GF                                      Radosavovic et al., CVPR 2020
    pyramid     256 channels at strides 8, 16 and 32               Lin et al., CVPR 2017
    to the top  25 x 25 queries attend to all cameras' pixels,     Zhou and Kraehenbuehl, CVPR 2022
                level by level; keys carry their viewing rays
    video       causal 3-D convolutions over 4 instants            Hu et al., ICCV 2021
    occupancy   200 x 200 x 16 voxels of 18 classes                Tian et al., NeurIPS 2023
                height unfolded from channels                      Yu et al., 2023
    lanes       50 polylines of 20 points, 6 decoder layers        Liao et al., ICLR 2023
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn


class Shape(NamedTuple):
    """Sizes of the network; the defaults are the published ones."""

    cameras: int = 8
    instants: int = 4
    image: tuple[int, int] = (960, 1280)
    depths: tuple[int, ...] = (2, 6, 12, 2)
    widths: tuple[int, ...] = (128, 192, 512, 1088)
    group_width: int = 64
    width: int = 256
    heads: int = 8
    grid: int = 25  # queries along each side of the bird's-eye view
    doublings: int = 3  # 25 -> 200 voxels along each side
    levels: int = 16  # of height
    kinds: int = 18  # of voxels
    lanes: int = 50
    points: int = 20
    lane_kinds: int = 3
    lane_layers: int = 6

    @property
    def voxels(self) -> int:
        return self.grid * 2**self.doublings


class Pyramid(nn.Module):
    """Top-down feature pyramid over the backbone's last three stages; returns strides 32 and 16.
    The third level, of stride 8, feeds nothing here and is left out."""

    def __init__(self, stages: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in stages)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in stages)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features from fine to coarse; levels from coarse to fine."""
        levels: list[Tensor] = []
        above: Tensor | None = None
        for x, lateral, smooth in zip(
            reversed(features), reversed(self.lateral), reversed(self.smooth), strict=True
        ):
            here = lateral(x)
            if above is not None:
                here = here + F.interpolate(above, size=here.shape[-2:], mode="nearest")
            above = here
            levels.append(smooth(here))
        return levels


class Attention(nn.Module):
    """Attention of queries to keys and their values, all of one width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(keys), self.value(values))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class CrossView(nn.Module):
    """One level of the pyramid read by the grid: pixels of all cameras are keys, and each key says
    which way its pixel looks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.rays = nn.Linear(3, shape.width)
        self.before, self.between = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.pixels = nn.LayerNorm(shape.width)
        self.attention = Attention(shape.width, shape.heads)
        self.mlp = MLP(shape.width)

    def forward(self, grid: Tensor, pixels: Tensor, rays: Tensor) -> Tensor:
        """grid [b, g, width], pixels [b, n, width], rays [n, 3]."""
        values = self.pixels(pixels)
        grid = grid + self.attention(self.before(grid), values + self.rays(rays), values)
        return grid + self.mlp(self.between(grid))


class CausalBlock(nn.Module):
    """A 3-D convolution over an instant and the one before it, with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(width, width, (2, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        earlier = F.pad(x, (0, 0, 0, 0, 1, 0))
        return F.relu(x + self.norm(self.convolution(earlier)))


class OccupancyHead(nn.Module):
    """Doubles the grid until it has the voxels' resolution, then unfolds height out of channels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.levels = shape.levels
        layers: list[nn.Module] = []
        for _ in range(shape.doublings):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(shape.width, shape.width, 3, padding=1, bias=False),
                nn.BatchNorm2d(shape.width),
                nn.ReLU(),
            ]
        self.decoder = nn.Sequential(*layers)
        self.classify = nn.Conv2d(shape.width, shape.kinds * shape.levels, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """[b, kinds, levels, voxels, voxels]"""
        return self.classify(self.decoder(grid)).unflatten(1, (-1, self.levels))


class LaneLayer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.itself = Attention(shape.width, shape.heads)
        self.grid = Attention(shape.width, shape.heads)
        self.mlp = MLP(shape.width)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3))

    def forward(self, queries: Tensor, grid: Tensor) -> Tensor:
        queries = self.norms[0](queries + self.itself(queries, queries, queries))
        queries = self.norms[1](queries + self.grid(queries, grid, grid))
        return self.norms[2](queries + self.mlp(queries))


class LaneHead(nn.Module):
    """Polylines: a query is the sum of its lane's and its point's embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.lanes = nn.Parameter(torch.randn(shape.lanes, 1, shape.width))
        self.points = nn.Parameter(torch.randn(1, shape.points, shape.width))
        self.layers = nn.ModuleList(LaneLayer(shape) for _ in range(shape.lane_layers))
        self.kind = nn.Linear(shape.width, shape.lane_kinds + 1)
        self.place = nn.Linear(shape.width, 2)

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Kinds [b, lanes, lane_kinds + 1] and points [b, lanes, points, 2], of the unit square."""
        queries = (self.lanes + self.points).flatten(0, 1).expand(grid.shape[0], -1, -1)
        for layer in self.layers:
            queries = layer(queries, grid)
        points = queries.unflatten(1, (self.lanes.shape[0], -1))
        return self.kind(points.mean(2)), self.place(points).sigmoid()


class DrivingNetwork(nn.Module):
    """Frames [b, instants, cameras, 3, height, width] of bytes and the car's motion between the
    instants [b, instants, 6] to voxels and lanes of the last instant."""

    rays: Tensor

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        self.backbone = transformers.RegNetModel(
            transformers.RegNetConfig(
                depths=list(shape.depths),
                hidden_sizes=list(shape.widths),
                groups_width=shape.group_width,
            )
        )
        self.pyramid = Pyramid(shape.widths[-2:], shape.width)
        self.queries = nn.Parameter(torch.randn(shape.grid**2, shape.width))
        self.views = nn.ModuleList(CrossView(shape) for _ in range(2))
        self.motion = nn.Linear(6, shape.width)
        self.video = nn.Sequential(CausalBlock(shape.width), CausalBlock(shape.width))
        self.occupancy = OccupancyHead(shape)
        self.lanes = LaneHead(shape)
        # Where each pixel at stride 16 looks: the mounting of the cameras, not trained.
        height, width = (n // 16 for n in shape.image)
        self.register_buffer("rays", torch.zeros(shape.cameras, height, width, 3))

    def forward(self, frames: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape, batch = self.shape, frames.shape[0]
        images = frames.flatten(0, 2).float() / 127.5 - 1.0
        stages = self.backbone(images, output_hidden_states=True).hidden_states
        grid = self.queries.expand(batch * shape.instants, -1, -1)
        for level, view, stride in zip(
            self.pyramid(list(stages[-2:])), self.views, (2, 1), strict=True
        ):
            pixels = level.unflatten(0, (-1, shape.cameras)).permute(0, 1, 3, 4, 2).flatten(1, 3)
            grid = view(grid, pixels, self.rays[:, ::stride, ::stride].flatten(0, 2))
        grid = grid.unflatten(0, (batch, shape.instants)) + self.motion(motion).unsqueeze(2)
        video = grid.unflatten(2, (shape.grid, shape.grid)).permute(0, 4, 1, 2, 3)
        latest = self.video(video)[:, :, -1]
        kinds, points = self.lanes(latest.flatten(2).transpose(1, 2))
        return self.occupancy(latest), kinds, points


def driving_loss(
    output: tuple[Tensor, Tensor, Tensor], voxels: Tensor, kinds: Tensor, points: Tensor
) -> Tensor:
    """Labels arrive assigned to queries: the matching of lanes is the loader's work."""
    occupied, kind, place = output
    return (
        F.cross_entropy(occupied, voxels)
        + F.cross_entropy(kind.flatten(0, 1), kinds.flatten())
        + F.l1_loss(place, points)
    )


def driving_batch(count: int, shape: Shape | None = None) -> tuple[tuple, tuple]:
    shape = shape or Shape()
    frames = (count, shape.instants, shape.cameras, 3, *shape.image)
    inputs = (
        torch.empty(frames, dtype=torch.uint8, device="meta"),
        torch.empty(count, shape.instants, 6, device="meta"),
    )
    voxels = (count, shape.levels, shape.voxels, shape.voxels)
    targets = (
        torch.empty(voxels, dtype=torch.int64, device="meta"),
        torch.empty(count, shape.lanes, dtype=torch.int64, device="meta"),
        torch.empty(count, shape.lanes, shape.points, 2, device="meta"),
    )
    return inputs, targets
