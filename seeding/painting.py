"""What frames show on the head model's surface, and a guess where they show nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from likeness.head_models import HEAD_MODELS
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.seeding.unprojection.colours import vertex_colours
from likeness.seeding.unprojection.surface import View


def surface_colours(
    capture: Capture, frames: FrameStore, chosen: list[int], ties: RigBinding
) -> Tensor:
    """Colours [N, 3] of points tied to the mesh. What is hidden in all of the ``chosen`` frames (a
    mouth's inside that never opens) has the colour that such places have, not that of what is
    before it."""
    model = HEAD_MODELS[capture.head_model]()
    shaped = model.shaped(capture.identity)
    views = [View.of(capture.frames[index], frames.get(index), shaped) for index in chosen]
    colours = torch.from_numpy(vertex_colours(model, shaped, views).rgb)
    return (colours[ties.vertices] * ties.weights[..., None]).sum(1)
