"""Which device to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likeness.scene.errors import UserError

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device ``cpu`` or ``cuda``; ``auto`` is CUDA where it works. Raises UserError where CUDA
    was asked for and is absent."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; expected auto, cpu or cuda")
    usable = name != "cpu" and torch.cuda.is_available()
    if name != "cuda" or usable:
        return torch.device("cuda" if usable else "cpu")
    version = torch.version.cuda  # type: ignore[attr-defined]
    if version is None:
        reason = f"torch {torch.__version__} is built without it"
        remedy = "run `make clean setup TORCH=cuda`"
    else:
        reason = f"torch {torch.__version__} finds no GPU"
        remedy = f"check that nvidia-smi works and names CUDA {version} or later"
    raise UserError(
        f"device cuda: CUDA is not available: {reason}; {remedy}, or use the device cpu"
    )
