"""The vision transformer of DINOv2 (Oquab et al., 2023), ViT-S/14, with the names of its published
weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from likeness.preprocess import weights
from likeness.scene.errors import UserError

NAME = "dinov2_vits14"
PATCH = 14
_TRAINED_GRID = 37  # patches a side that the published position encodings are of (518 pixels)


class Dinov2(nn.Module):
    """Patch tokens of chosen blocks. Parameters are named as in ``dinov2_vits14_pretrain.pth``."""

    def __init__(
        self, dim: int = 384, depth: int = 12, heads: int = 6, grid: int = _TRAINED_GRID
    ) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # of its pre-training; not used
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, dim))
        self.patch_embed = _PatchEmbed(dim)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position encodings [1, 1 + rows * columns, D], resampled bicubically from those that it
        was trained with."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        first, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        patches = patches.reshape(1, self.grid, self.grid, self.dim).movedim(-1, 1)
        # antialias off and the scale from the sizes themselves, as its current public code does.
        patches = nn.functional.interpolate(
            patches, (rows, columns), mode="bicubic", align_corners=False
        )
        return torch.cat([first, patches.movedim(1, -1).reshape(1, rows * columns, self.dim)], 1)

    def forward(self, images: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Maps [B, D, h, w] after the blocks numbered ``layers`` (from 1), normalised as the last.

        images: [B, 3, H, W], ImageNet-normalised, sides multiples of 14.
        """
        tokens = self.patch_embed(images)
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.positions(
            rows, columns
        )
        maps = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in layers:
                maps.append(
                    self.norm(x)[:, 1:].movedim(1, -1).reshape(len(x), self.dim, rows, columns)
                )
        return maps


class _PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = _Attention(dim, heads), _Mlp(dim)
        self.ls1, self.ls2 = _LayerScale(dim), _LayerScale(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def load(path: Path, network: Dinov2) -> Dinov2:
    """Loads a published file into the network. Raises UserError when the file is damaged or of
    another model."""
    try:
        network.load_state_dict(weights.load_state_dict(path))
    except RuntimeError:
        raise UserError(
            f"{path}: not the weights of {NAME}; give dinov2_vits14_pretrain.pth"
        ) from None
    return network


def pretrained(folder: Path | None = None, download: bool = True) -> Dinov2:
    """The network with its published weights, found by hash. Raises UserError where they cannot be
    had."""
    path = weights.find(NAME, folder, download)
    if path is None:
        published = weights.WEIGHTS[NAME]
        raise UserError(
            f"{published.filename}: missing; download it from {published.urls[0]} and name its "
            "folder with --weights, "
            "or train with --set model.backbone.kind=conv"
        )
    return load(path, Dinov2())
