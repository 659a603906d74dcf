"""Codes of states: principal components of what a teacher shows, the network that gives them, modes
that use them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHUNK = 2000  # Gaussians at a time
CODER_STEPS, _RATE = 2000, 5e-3


def principal_codes(
    values: Tensor, importance: Tensor, weights: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The codes [T, R] of unit deviation that tell most of values [T, N, D] apart, and how much
    each tells [R].

    importance: [N, D] of squared differences. weights: [T] of the states. By the Gram matrix [T,
        T], in chunks.
    """
    share = (weights / weights.sum()).sqrt()[:, None]
    gram = torch.zeros(len(values), len(values), dtype=torch.float64)
    for start in range(0, values.shape[1], CHUNK):
        part = values[:, start : start + CHUNK].float()
        mean = (part * (share**2)[..., None]).sum(0)
        part = ((part - mean) * importance[start : start + CHUNK].sqrt()).flatten(1) * share
        gram += (part @ part.T).double()
    variances, directions = torch.linalg.eigh(gram)
    count = min(count, len(values))
    variances, directions = variances.flip(0)[:count].clamp_min(0), directions.flip(1)[:, :count]
    return (directions / share.double()).float(), variances.float()


def fit_coder(
    coder: nn.Sequential,
    inputs: Tensor,
    codes: Tensor,
    importance: Tensor,
    weights: Tensor,
    progress=None,
) -> None:
    """Fits a network to give codes [T, R] for inputs [T, C] by Adam. importance: [R] of the codes.

    It is fitted on inputs of mean 0 and deviation 1; the first layer then takes these into itself.
    Inputs that never change keep no weight.
    """
    mean = inputs.mean(0)
    deviation = inputs.std(0, unbiased=False)
    changing = (deviation > 1e-4).float()
    scaled = (inputs - mean) / deviation.clamp_min(1e-4) * changing
    importance = importance / importance.sum().clamp_min(1e-12)
    share = (weights / weights.sum())[:, None]
    optimizer = torch.optim.Adam(coder.parameters(), lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CODER_STEPS, 1e-2 * _RATE)
    for _ in range(CODER_STEPS):
        loss = ((coder(scaled) - codes).square() * importance * share).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress()
    first = next(module for module in coder if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight.mul_(changing / deviation.clamp_min(1e-4))
        first.bias.sub_(first.weight @ mean)


def solve_modes(
    values: Tensor, codes: Tensor, weights: Tensor, ridge: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """Bases [N, D] and modes [N, R, D] such that base + Σ_r code_r mode_r fits values [T, N, D]
    best.

    weights: [T] of the states. A state counts for a Gaussian's colour and motion as its opacity
    there, squared, and for its opacity's logit as the slope of the sigmoid, squared: what does not
    show need not fit.
    """
    share = weights / weights.sum()
    design = torch.cat([torch.ones(len(codes), 1), codes], 1)
    products = (design[:, :, None] * design[:, None, :]).flatten(1)  # [T, (R + 1)²]
    penalty = ridge * torch.eye(design.shape[1])
    penalty[0, 0] = 1e-6
    solved = []
    for start in range(0, values.shape[1], CHUNK):
        part = values[:, start : start + CHUNK].float()
        opacity = torch.sigmoid(part[..., 0])
        columns = []
        for rows, seen in ((part[..., :1], 4 * opacity * (1 - opacity)), (part[..., 1:], opacity)):
            counted = (seen + 0.02) ** 2 * share[:, None]  # [T, n]
            counted = counted / counted.sum(0)
            normal = (products.T @ counted).T.reshape(-1, *penalty.shape) + penalty
            right = torch.einsum("tr,tn,tnd->nrd", design, counted, rows)
            columns.append(torch.linalg.solve(normal, right))
        solved.append(torch.cat(columns, -1))
    everything = torch.cat(solved)
    return everything[:, 0], everything[:, 1:]
