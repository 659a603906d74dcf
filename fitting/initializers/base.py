"""What initializers are told."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class InitializerConfig:
    """Where the Gaussians of a fit start."""

    num_gaussians: int = 2500
    """Gaussians at the start."""
    mesh_share: float = 0.6
    """Share of them on the head model's surface; the others on what the matte shows beside it (``picture`` only)."""
    frames: int = 12
    """Training frames that colours and hair are taken from."""
    opacity: float = 0.5
    """Opacity at the start."""
