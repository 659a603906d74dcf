"""The transformer of the tokens: self-attention, cross-attention to the image, MLP (LAM, section
3.2); and the decoders of Gaussians."""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of ``x`` [B, N, D] to ``context`` [B, M, D']."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(context_dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One layer; each part is added to its input, which it sees normalised."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        # named as in files of weights
        self.itself, self.picture = Attention(dim, dim, heads), Attention(dim, dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """x: [B, N, D] tokens; image: [B, M, D] features of the image."""
        normed = self.norms[0](x)
        x = x + self.itself(normed, normed)
        x = x + self.picture(self.norms[1](x), image)
        return x + self.mlp(self.norms[2](x))


def decoder(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """An MLP with two hidden layers whose outputs are near 0 before training."""
    layers = nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
    last = nn.Linear(hidden, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
