"""What evaluates an avatar's small networks in playback: PyTorch, or fully fused ones of
tiny-cuda-nn on CUDA.

Inference only. Fits learn by PyTorch's networks, in float32: tiny-cuda-nn takes gradients in half
precision, where those of a mean over pixels vanish (below 6e-8).
"""

from likeness.fitting.networks.choice import (
    Choice,
    NetworksConfig,
    choose,
    choose_for,
    describe,
    require,
    settle,
)
from likeness.fitting.networks.fused import FusedMLP, why_not
from likeness.fitting.networks.layout import Layout, UnsupportedNetwork, pack

__all__ = [
    "Choice",
    "FusedMLP",
    "Layout",
    "NetworksConfig",
    "UnsupportedNetwork",
    "choose",
    "choose_for",
    "describe",
    "pack",
    "require",
    "settle",
    "why_not",
]
