"""The network of MODNet: Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective
Decomposition", AAAI 2022 (arXiv 2011.11961). Parameter names are those of the published
checkpoints.

Three branches over a MobileNetV2 (Sandler et al., CVPR 2018): *semantics* at a sixteenth of the
resolution, *detail* at the edges, and their *fusion* into the matte. Suffixes such as ``4x`` say by
how much a feature map is smaller than the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (expansion, channels out, blocks, stride of the first) per stage: MobileNetV2, table 2.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Positions in ``features`` of the last layers at 1/2 and 1/4 of the resolution.
_LAST_2X, _LAST_4X = 1, 3
_CHANNELS_2X, _CHANNELS_4X, _CHANNELS_32X = 16, 24, 1280
_HR = 32
"""Width of the detail branch."""


def _resize(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _conv_bn(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(channels_out)]


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, filter each channel, narrow."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        widen = [*_conv_bn(channels_in, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        per_channel = [*_conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
        self.conv = nn.Sequential(*widen, *per_channel, *_conv_bn(hidden, channels_out, 1))
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv_bn(3, 32, 3, 2), nn.ReLU6())]
        channels = 32
        for expansion, channels_out, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(
                    InvertedResidual(channels, channels_out, expansion, stride if block == 0 else 1)
                )
                channels = channels_out
        layers.append(nn.Sequential(*_conv_bn(channels, _CHANNELS_32X, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of [B, 3, H, W] at 1/2 (16 channels), 1/4 (24) and 1/32 (1280) of the
        resolution."""
        features = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (_LAST_2X, _LAST_4X):
                features[index] = x
        return features[_LAST_2X], features[_LAST_4X], x


class Backbone(nn.Module):
    """Holds the encoder as ``model``: one level of names that the checkpoints have."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MobileNetV2()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model(x)


class IBNorm(nn.Module):
    """Batch normalisation of the first half of the channels, instance normalisation of the
    second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_batch = channels // 2
        self.bnorm = nn.BatchNorm2d(self.num_batch)
        self.inorm = nn.InstanceNorm2d(channels - self.num_batch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.bnorm(x[:, : self.num_batch]), self.inorm(x[:, self.num_batch :])], 1
        )


class Conv(nn.Module):
    """A padded convolution, with IBNorm and ReLU unless it is a ``head`` (one that predicts)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, head: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2)
        ]
        if not head:
            layers += [IBNorm(channels_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SEBlock(nn.Module):
    """Channel attention (squeeze and excitation)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        narrow = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, narrow, bias=False),
            nn.ReLU(),
            nn.Linear(narrow, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class SemanticBranch(nn.Module):
    """Where the person is, at low resolution."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone  # the same module as the network's: the checkpoints name it twice
        self.se_block = SEBlock(_CHANNELS_32X)
        self.conv_lr16x = Conv(_CHANNELS_32X, 96, 5)
        self.conv_lr8x = Conv(96, _HR, 5)
        self.conv_lr = Conv(_HR, 1, 3, stride=2, head=True)

    def forward(self, enc32x: Tensor) -> Tensor:
        lr16x = self.conv_lr16x(_resize(self.se_block(enc32x), 2))
        return self.conv_lr8x(_resize(lr16x, 2))


class DetailBranch(nn.Module):
    """Where the edge runs, at high resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.tohr_enc2x = Conv(_CHANNELS_2X, _HR, 1)
        self.conv_enc2x = Conv(_HR + 3, _HR, 3, stride=2)
        self.tohr_enc4x = Conv(_CHANNELS_4X, _HR, 1)
        self.conv_enc4x = Conv(2 * _HR, 2 * _HR, 3)
        self.conv_hr4x = nn.Sequential(
            Conv(3 * _HR + 3, 2 * _HR, 3), Conv(2 * _HR, 2 * _HR, 3), Conv(2 * _HR, _HR, 3)
        )
        self.conv_hr2x = nn.Sequential(
            Conv(2 * _HR, 2 * _HR, 3), Conv(2 * _HR, _HR, 3), Conv(_HR, _HR, 3), Conv(_HR, _HR, 3)
        )
        self.conv_hr = nn.Sequential(Conv(_HR + 3, _HR, 3), Conv(_HR, 1, 1, head=True))

    def forward(self, image: Tensor, enc2x: Tensor, enc4x: Tensor, lr8x: Tensor) -> Tensor:
        enc2x = self.tohr_enc2x(enc2x)
        hr4x = self.conv_enc2x(torch.cat([_resize(image, 0.5), enc2x], 1))
        hr4x = self.conv_enc4x(torch.cat([hr4x, self.tohr_enc4x(enc4x)], 1))
        hr4x = self.conv_hr4x(torch.cat([hr4x, _resize(lr8x, 2), _resize(image, 0.25)], 1))
        return self.conv_hr2x(torch.cat([_resize(hr4x, 2), enc2x], 1))


class FusionBranch(nn.Module):
    """Semantics and detail to the matte."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_lr4x = Conv(_HR, _HR, 5)
        self.conv_f2x = Conv(2 * _HR, _HR, 3)
        self.conv_f = nn.Sequential(Conv(_HR + 3, _HR // 2, 3), Conv(_HR // 2, 1, 1, head=True))

    def forward(self, image: Tensor, lr8x: Tensor, hr2x: Tensor) -> Tensor:
        lr2x = _resize(self.conv_lr4x(_resize(lr8x, 2)), 2)
        f2x = self.conv_f2x(torch.cat([lr2x, hr2x], 1))
        return torch.sigmoid(self.conv_f(torch.cat([_resize(f2x, 2), image], 1)))


class MODNet(nn.Module):
    """RGB in [-1, 1], [B, 3, H, W] with sides that are multiples of 32, to a matte [B, 1, H, W] in
    [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lr_branch = SemanticBranch(self.backbone)
        self.hr_branch = DetailBranch()
        self.f_branch = FusionBranch()

    def forward(self, image: Tensor) -> Tensor:
        enc2x, enc4x, enc32x = self.backbone(image)
        lr8x = self.lr_branch(enc32x)
        return self.f_branch(image, lr8x, self.hr_branch(image, enc2x, enc4x, lr8x))
