"""How much a image changes with each value of each Gaussian: the diagonal of the Gauss-Newton
matrix.

For images I(θ) and random signs r over their pixels, the expectation of (rᵀ ∂I/∂θ)² is Σ_p
(∂I_p/∂θ)² (Hutchinson's estimator on JᵀJ): one backward pass per image weighs opacities, colours
and motions in one unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.fitting.avatars.linear import Linear
from likeness.renderers import Renderer
from likeness.scene.camera import Camera
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

_SIDE_RAD = 0.5  # every other probe looks from up to so far to the side
_LARGEST_SIDE = 384  # pixels of the probes' images


def sensitivity(
    probe: Linear,
    values: Tensor,
    states: HeadState,
    camera: Camera,
    renderer: Renderer,
    seed: int = 0,
    progress=None,
) -> Tensor:
    """Mean squared derivatives [N, D] of images by values [P, N, D] at states [P].

    probe: a linear avatar of one code that is always 1 and bases of 0, so that its modes are the
        values.
    """
    generator = torch.Generator().manual_seed(seed)
    camera = reduced(camera)
    appearance = probe.per_gaussian["look_modes"]
    modes = [appearance] + ([probe.per_gaussian["motion_modes"]] if probe.config.motion else [])
    total = torch.zeros_like(values[0], dtype=torch.float32)
    for index in range(len(states)):
        parts = values[index].float().split([mode.shape[-1] for mode in modes], -1)
        with torch.no_grad():
            for mode, part in zip(modes, parts):
                mode.copy_(part[:, None])
        view = camera.in_frame(states[index].T_world_head)
        if index % 2:
            view = orbited(view, _SIDE_RAD * (2 * float(torch.rand(1, generator=generator)) - 1))
        output = renderer.render(probe(states[index], view.center), view)
        signs = (torch.randint(2, output.rgb.shape, generator=generator) * 2 - 1).to(output.rgb)
        # Over white: where a Gaussian covers the background, its opacity shows as well.
        gradients = torch.autograd.grad((output.over(torch.ones(3)) * signs).sum(), modes)
        total += torch.cat([gradient[:, 0] for gradient in gradients], -1).square()
        if progress is not None:
            progress()
    return total / len(states)


def orbited(view: Camera, yaw: float, pitch: float = 0.0) -> Camera:
    """A camera in the head frame, gone round the head by angles in radians."""
    return view.in_frame(
        make_transform(rotvecs_to_matrices(torch.tensor([pitch, yaw, 0.0])), torch.zeros(3))
    )


def reduced(camera: Camera) -> Camera:
    """The camera with images that are large enough for probes."""
    ratio = min(1.0, _LARGEST_SIDE / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * ratio)), max(1, round(camera.height * ratio)))
