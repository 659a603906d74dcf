"""A diagnostic, never a result: what tracking still costs.

Poses, then poses and expressions of measured frames are optimized on these frames' own images with
the avatar fixed; the gain in PSNR is an upper bound of what a perfect tracker could win (errors of
the avatar are compensated by motion, too).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.metrics import psnr
from likeness.ops.deform import deform
from likeness.renderers import Renderer, create
from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.frame_images import composite, load_rgba
from likeness.scene.transforms import invert_transform, make_transform, rotvecs_to_matrices

STEPS = 40
"""Steps of Adam for the poses, and as many again for all."""
# radians and _METRES; coefficients. They fall to a tenth.
_POSE_RATE, _EXPRESSION_RATE = 3e-3, 2e-2
_METRES = 0.1  # the unit of translations, so that they and radians move pixels alike


@dataclasses.dataclass(frozen=True)
class FrameGain:
    """PSNR in dB of one frame: as tracked, with poses optimised, with expressions optimised as
    well."""

    index: int
    tracked: float
    poses: float
    poses_and_expressions: float


def tracking_gain(
    bundle: AvatarBundle,
    capture: Capture,
    indices: Sequence[int],
    *,
    device: str = "cpu",
    steps: int = STEPS,
    progress: str | None = None,
) -> list[FrameGain]:
    """The gain on frames of a capture. Images are compared on white over the whole frame."""
    from tqdm import tqdm

    avatar, renderer = bundle.avatar.to(device).eval(), create("auto", device)
    required = [parameter.requires_grad for parameter in avatar.parameters()]
    avatar.requires_grad_(False)
    try:
        frames = tqdm(indices, desc=progress, unit="frame", disable=progress is None)
        return [
            _gain(_Frame(bundle, renderer, capture.frames[index], device), index, steps)
            for index in frames
        ]
    finally:
        for parameter, before in zip(avatar.parameters(), required):
            parameter.requires_grad_(before)


def summary(gains: Sequence[FrameGain]) -> dict[str, Any]:
    """Means in dB: ``tracked``, and what ``poses`` and ``poses_and_expressions`` gain over it;
    ``per_frame``."""
    count = max(len(gains), 1)
    tracked = sum(gain.tracked for gain in gains) / count
    means = {
        name: sum(getattr(g, name) for g in gains) / count
        for name in ("poses", "poses_and_expressions")
    }
    return {
        "tracked": tracked,
        **{name: value - tracked for name, value in means.items()},
        "steps": STEPS,
        "per_frame": [dataclasses.asdict(gain) for gain in gains],
    }


class _Frame:
    """One frame's truth, and the avatar's image of it at corrections of what was tracked."""

    def __init__(
        self, bundle: AvatarBundle, renderer: Renderer, frame: TrackedFrame, device: str
    ) -> None:
        self._bundle, self._renderer = bundle, renderer
        self.state = frame.state.to(device)
        self._camera = frame.camera.to(device).in_frame(self.state.T_world_head)
        self.truth = torch.as_tensor(composite(load_rgba(frame))).to(device)

    def image(self, poses: Tensor, expression: Tensor) -> Tensor:
        """[H, W, 3] on white. poses: [2, 6] rotations and translations of head and body, each in
        its own frame."""
        head, body = (make_transform(rotvecs_to_matrices(p[:3]), p[3:] * _METRES) for p in poses)
        state = dataclasses.replace(
            self.state,
            expression=expression,
            T_world_head=self.state.T_world_head @ head,
            T_world_body=self.state.T_world_body @ body,
        )
        # The camera stays where the tracked head has it, and the cloud moves: renderers give clouds
        # a gradient.
        eye = (invert_transform(head) @ torch.cat([self._camera.center, head.new_ones(1)]))[:3]
        cloud = deform(self._bundle.avatar(self._bundle.tuned(state), eye), T_head=head)
        white = torch.ones(3, device=expression.device)
        return self._renderer.render(cloud, self._camera).over(white)


def _gain(frame: _Frame, index: int, steps: int) -> FrameGain:
    poses = torch.zeros(2, 6, device=frame.truth.device)
    expression = frame.state.expression.clone()
    tracked = _psnr(frame, poses, expression)
    by_poses = max(tracked, _descend(frame, poses, expression, [poses], steps))
    by_all = _descend(frame, poses, expression, [poses, expression], steps)
    return FrameGain(index, tracked, by_poses, max(by_poses, by_all))


def _descend(
    frame: _Frame, poses: Tensor, expression: Tensor, moving: list[Tensor], steps: int
) -> float:
    """Optimises ``moving`` in place; the best PSNR on the way, whose values are kept."""
    rates = [_POSE_RATE if tensor is poses else _EXPRESSION_RATE for tensor in moving]
    optimizer = torch.optim.Adam(
        [{"params": [t.requires_grad_()], "lr": r} for t, r in zip(moving, rates)]
    )
    best, values = -float("inf"), [tensor.detach().clone() for tensor in moving]
    for step in range(steps + 1):
        loss = (frame.image(poses, expression) - frame.truth).square().mean()
        value = float(-10 * torch.log10(loss.detach().clamp_min(1e-10)))
        if value > best:
            best, values = value, [tensor.detach().clone() for tensor in moving]
        optimizer.zero_grad()
        loss.backward()
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * 0.1 ** (step / max(steps, 1))
        optimizer.step()
        with torch.no_grad():
            expression.clamp_(0, 1)
    with torch.no_grad():
        for tensor, value in zip(moving, values):
            tensor.requires_grad_(False).copy_(value)
    return best


@torch.no_grad()
def _psnr(frame: _Frame, poses: Tensor, expression: Tensor) -> float:
    return float(psnr(frame.image(poses, expression).clamp(0, 1), frame.truth))
