"""Deep features: VGG16 and AlexNet, the perceptual loss on VGG's, and LPIPS on both.

The networks are defined here with torchvision's names of parameters, so that its published ImageNet
weights load without torchvision. LPIPS is Zhang et al., "The Unreasonable Effectiveness of Deep
Features as a Perceptual Metric" (2018), version 0.1; its linear heads are files of the ``lpips``
package, read without importing it.

Weights that cannot be had are no error: ``VGGLoss.create`` and ``LPIPS.create`` return None then,
    callers record it.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from likeness.preprocess import weights
from likeness.scene.errors import UserError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# LPIPS's own scaling of [-1, 1], as values for [0, 1]: (2 x - 1 - shift) / scale.
_LPIPS_MEAN = tuple((1 + shift) / 2 for shift in (-0.030, -0.088, -0.188))
_LPIPS_STD = tuple(scale / 2 for scale in (0.458, 0.448, 0.450))


class Features(nn.Module):
    """The convolutional part of a classifier, cut into named activations. Frozen: its weights take
    no gradient."""

    weights_name: str
    """Key in likeness.preprocess.weights.WEIGHTS."""

    def __init__(self, layers: list[nn.Module], activations: dict[str, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.activations = activations
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, names: tuple[str, ...]) -> list[Tensor]:
        """Activations by name for normalised images [B, 3, H, W], each [B, C, h, w]."""
        wanted = [self.activations[name] for name in names]
        outputs: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features.children()):
            if index > max(wanted):
                break
            images = layer(images)
            if index in wanted:
                outputs[index] = images
        return [outputs[index] for index in wanted]

    def load_file(self, path: Path) -> None:
        """Loads the ``features.*`` entries of a torchvision checkpoint. Raises UserError when they
        do not fit."""
        state = weights.load_state_dict(path)
        try:
            self.load_state_dict({k: v for k, v in state.items() if k.startswith("features.")})
        except RuntimeError:
            message = (
                f"{path}: not the weights of {self.weights_name}; give torchvision's ImageNet file"
            )
            raise UserError(message) from None


class VGG16(Features):
    """VGG16 without batch normalisation (Simonyan and Zisserman, 2014), activations relu1_1 to
    relu5_3."""

    weights_name = "vgg16"

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        activations = {}
        channels = 3
        for block, (width, count) in enumerate(
            ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1
        ):
            if block > 1:
                layers.append(nn.MaxPool2d(2, 2))
            for step in range(1, count + 1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
                activations[f"relu{block}_{step}"] = len(layers) - 1
        super().__init__(layers, activations)


class AlexNet(Features):
    """AlexNet as torchvision has it ("One weird trick", Krizhevsky 2014), activations relu1 to
    relu5."""

    weights_name = "alexnet"

    def __init__(self) -> None:
        layers = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        ]
        super().__init__(layers, {"relu1": 1, "relu2": 4, "relu3": 7, "relu4": 9, "relu5": 11})


class VGGLoss(nn.Module):
    """Mean over layers of the L1 distance of VGG16 features of ImageNet-normalised images.

    GaussianHead takes relu1_2, relu2_2, relu3_3 and relu4_3 (the default); HeadGaS says only "VGG"
    and computes it inside the head's box: pass the cropped images.
    """

    LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")

    def __init__(self, network: Features, layers: tuple[str, ...] = LAYERS) -> None:
        super().__init__()
        unknown = [name for name in layers if name not in network.activations]
        if unknown or not layers:
            raise ValueError(
                f"VGGLoss: expected layers among {list(network.activations)}, got {list(layers)}"
            )
        self.network, self.layers = network, tuple(layers)

    @classmethod
    def create(
        cls, layers: tuple[str, ...] = LAYERS, folder: Path | None = None, download: bool = True
    ) -> VGGLoss | None:
        """The loss with ImageNet's weights, or None where they cannot be had (logged once)."""
        network = _load(VGG16(), folder, download)
        return None if network is None else cls(network, layers)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """A scalar for [H, W, 3] or [B, H, W, 3] in [0, 1], at least 16 pixels a side;
        differentiable by ``image``."""
        with torch.no_grad():
            wanted = self.network(_normalize(target, _IMAGENET_MEAN, _IMAGENET_STD), self.layers)
        features = self.network(_normalize(image, _IMAGENET_MEAN, _IMAGENET_STD), self.layers)
        return torch.stack([(a - b).abs().mean() for a, b in zip(features, wanted)]).mean()


class LPIPS(nn.Module):
    """Learned perceptual distance: squared differences of unit features, weighed by channel, summed
    over layers."""

    LAYERS = {
        "vgg": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
        "alex": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    }
    NETWORKS = {"vgg": VGG16, "alex": AlexNet}

    def __init__(self, net: str, network: Features, heads: dict[str, Tensor]) -> None:
        """net: "vgg" or "alex". heads: the state dict of the ``lpips`` package's linear layers."""
        super().__init__()
        self.net, self.network, self.layers = net, network, self.LAYERS[net]
        for index in range(len(self.layers)):
            self.register_buffer(
                f"head{index}", heads[f"lin{index}.model.1.weight"].detach().flatten()
            )

    @classmethod
    def create(
        cls, net: str = "alex", folder: Path | None = None, download: bool = True
    ) -> LPIPS | None:
        """The metric with published weights, or None where the backbone's cannot be had (logged
        once)."""
        if net not in cls.NETWORKS:
            raise UserError(
                f"lpips: unknown network {net!r}, expected one of {sorted(cls.NETWORKS)}"
            )
        network = _load(cls.NETWORKS[net](), folder, download)
        return None if network is None else cls(net, network, load_heads(net))

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Distances [] or [B] of [H, W, 3] or [B, H, W, 3] in [0, 1], at least 32 pixels a side."""
        first, second = (
            self.network(_normalize(x, _LPIPS_MEAN, _LPIPS_STD), self.layers)
            for x in (image, target)
        )
        distances = []
        for index, (a, b) in enumerate(zip(first, second)):
            difference, head = (_unit(a) - _unit(b)).square(), getattr(self, f"head{index}")
            distances.append(torch.einsum("bchw,c->bhw", difference, head).mean((1, 2)))
        total = torch.stack(distances).sum(0)
        return total if image.ndim == 4 else total[0]


def make_vgg_loss(
    folder: Path | None, download: bool, device: torch.device | str = "cpu"
) -> VGGLoss | None:
    """The VGG loss on a device, or None where its weights cannot be had."""
    loss = VGGLoss.create(folder=folder, download=download)
    return None if loss is None else loss.to(device)


def load_heads(net: str) -> dict[str, Tensor]:
    """The linear layers of LPIPS 0.1 from the installed ``lpips`` package. Raises UserError without
    it."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise UserError(
            "lpips: not installed, expected for LPIPS's weights; run pip install --no-deps "
            "lpips==0.1.4"
        )
    return weights.load_state_dict(Path(spec.origin).parent / "weights" / "v0.1" / f"{net}.pth")


def _load(network: Features, folder: Path | None, download: bool) -> Features | None:
    path = weights.find(network.weights_name, folder, download)
    if path is None:
        return None
    network.load_file(path)
    return network


def _normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[H, W, 3] or [B, H, W, 3] in [0, 1] to normalised [B, 3, H, W]."""
    images = images[None] if images.ndim == 3 else images
    shift, scale = (_constant(values, images.dtype, images.device) for values in (mean, std))
    return ((images - shift) / scale).movedim(-1, 1)


@functools.lru_cache
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device, copied there once: a copy at every step would make the host wait for a
    GPU."""
    with torch.inference_mode(False):  # whoever asks next may want gradients
        return torch.tensor(values, dtype=dtype, device=device)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
