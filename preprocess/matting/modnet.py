"""The matting model ``modnet``: mattes with hair by the published MODNet weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likeness.preprocess import weights
from likeness.preprocess.matting.base import MattingChoice
from likeness.preprocess.matting.modnet_network import MODNet
from likeness.preprocess.matting.temporal import motion_aware_mean
from likeness.scene.errors import UserError

_STRIDE = 32


@dataclasses.dataclass(frozen=True)
class MODNetConfig:
    """How MODNet is applied to a video."""

    reference_size: int = 512
    """Pixels of the short side that images are brought to when they are smaller or larger than it
    on both sides."""
    batch_size: int = 4
    """Frames computed together."""
    alpha_radius: int = 2
    """Frames before and after over which the matte is averaged where the image stands still; 0
    switches it off."""
    alpha_tolerance: float = 3.0
    """Change of colour in 8-bit levels from which on a frame no longer counts in that average."""


class MODNetMatting:
    """Mattes by MODNet, each frame on its own, then averaged over time where the image stands
    still.

    network: with weights loaded; see ``load_modnet``. device: where it runs.
    """

    name = "modnet"

    def __init__(
        self, network: MODNet, device: str = "cpu", config: MODNetConfig = MODNetConfig()
    ) -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.config = config
        self.look_ahead = config.batch_size - 1 + config.alpha_radius

    def mattes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mattes uint8 [H, W] of consecutive frames uint8 RGB [H, W, 3], in order; sizes may
        change."""
        alphas = motion_aware_mean(
            self._alphas(frames), self.config.alpha_radius, self.config.alpha_tolerance
        )
        for _, alpha, _ in alphas:
            yield (alpha * 255 + 0.5).astype(np.uint8)

    def _alphas(
        self, frames: Iterable[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, None]]:
        batch: list[np.ndarray] = []
        for frame in frames:
            if batch and frame.shape != batch[0].shape:
                yield from self._compute(batch)
                batch = []
            batch.append(frame)
            if len(batch) == self.config.batch_size:
                yield from self._compute(batch)
                batch = []
        if batch:
            yield from self._compute(batch)

    def _compute(self, batch: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, None]]:
        height, width = batch[0].shape[:2]
        images = (
            torch.from_numpy(np.stack(batch)).to(self.device).permute(0, 3, 1, 2).float() / 127.5
            - 1
        )
        with torch.inference_mode():
            resized = F.interpolate(
                images, network_size(height, width, self.config.reference_size), mode="area"
            )
            alphas = (
                F.interpolate(self.network(resized), (height, width), mode="area")[:, 0]
                .cpu()
                .numpy()
            )
        for frame, alpha in zip(batch, alphas):
            yield frame, alpha, None


def network_size(height: int, width: int, reference: int = 512) -> tuple[int, int]:
    """Height and width that the official program gives the network for an image.

    Where the long side is under ``reference`` or the short side over it, the short side becomes
    ``reference``; then both are rounded down to multiples of 32 (and kept at 32 at least).
    """
    new_height, new_width = height, width
    if max(height, width) < reference or min(height, width) > reference:
        if width >= height:
            new_height, new_width = reference, int(width / height * reference)
        else:
            new_height, new_width = int(height / width * reference), reference
    return max(_STRIDE, new_height - new_height % _STRIDE), max(
        _STRIDE, new_width - new_width % _STRIDE
    )


def load(choice: MattingChoice) -> MODNetMatting:
    """With the published weights. Raises UserError where they cannot be had."""
    path = weights.find("modnet", choice.weights, choice.download)
    if path is None:
        entry = weights.WEIGHTS["modnet"]
        raise UserError(
            f"matting modnet: {entry.filename} is missing and could not be downloaded; get it from "
            f"{entry.urls[0]} and give its folder with --weights, or use --matting selfie"
        )
    return MODNetMatting(load_modnet(path), choice.device)


def load_modnet(path: Path) -> MODNet:
    """The network with the weights of an official checkpoint. Raises UserError when the file holds
    something else."""
    return modnet_from_state_dict(weights.load_state_dict(path), str(path))


def modnet_from_state_dict(state: dict[str, Tensor], where: str) -> MODNet:
    """The network with given weights, whose names may carry the prefix ``module.``; ``where`` is
    for the error."""
    network = MODNet()
    try:
        network.load_state_dict(
            {name.removeprefix("module."): tensor for name, tensor in state.items()}
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{where}: not a MODNet checkpoint ({reason}); take the file named in the README"
        ) from None
    return network.eval()
