"""Seeds from few images: what they show, unprojected onto the head, and a guess of the rest.

On the mesh: a flat Gaussian for each cell of an image, where the image's ray meets the posed head
model (``seen``). Beside the mesh: hair, clothes and what else the matte shows, as two shells, a
near and a far one (``shells``; GAGAvatar unprojects the image plane to both sides for the same
reason). The rest of the mesh, coloured from the other half of the face, by diffusion over the
surface, and by what mouths are like (``unseen``). And the eyelids (``lids``).
"""

from __future__ import annotations

import dataclasses

import torch

from likeness.head_models import shaped_head
from likeness.head_models.base import ShapedHead
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import evenly_spread
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.curtain import curtain_seeds
from likeness.seeding.unprojection.lids import lid_seeds
from likeness.seeding.unprojection.outline import pulled_in, raised
from likeness.seeding.unprojection.seen import seen_seeds
from likeness.seeding.unprojection.shells import shell_seeds
from likeness.seeding.unprojection.unseen import unseen_seeds
from likeness.seeding.vertex_colours import vertex_colours

_MAX_VIEWS = 8
_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight")
_CLOSED = 0.5  # radians of yaw that one shut eye counts for
_CONTINUED_M = 0.04  # beyond the image
_SHELL_SHARE, _UNSEEN_SHARE = 0.25, 0.25  # of all seeds


def unprojected_seeds(
    capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int
) -> Seeds:
    """About ``num_gaussians`` seeds from the training frames of a capture (at most 8, evenly
    spread); their opacity is their own."""
    subject, count = shaped_head(capture), config.num_gaussians
    chosen = evenly_spread(capture.train, _MAX_VIEWS)

    def view_of(index: int, head) -> SourceView:
        return SourceView.of(capture.frames[index], frames.get(index), head)

    views = [view_of(index, subject) for index in chosen]
    front = _reference(capture, chosen, views)
    head = raised(subject, views[front])
    head = pulled_in(head, view_of(chosen[front], head))
    views = [view_of(index, head) for index in chosen]
    colours = vertex_colours(head, views, front)
    views = [view.adjusted(gain) for view, gain in zip(views, colours.gains)]
    num_unseen, num_shells = round(_UNSEEN_SHARE * count), round(_SHELL_SHARE * count)
    shapes = head.expression_shapes()

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    seeds = Seeds.cat(
        [
            seen_seeds(views, head, shapes, colours, count - num_unseen - num_shells),
            beside_seeds(views[front], subject, shapes, num_shells),
            unseen_seeds(views, views[front], head, shapes, colours, num_unseen, generator()),
            lid_seeds(head, shapes, torch.from_numpy(colours.rgb), generator()),
        ]
    )
    return dataclasses.replace(seeds, head_weights=seeds.head_weights.clamp(0.02, 0.98))


def beside_seeds(view: SourceView, head: ShapedHead, shapes: torch.Tensor, count: int) -> Seeds:
    """About ``count`` seeds of what the matte of an image shows beside the mesh, and of what goes
    on behind it and beyond the image. shapes: of the rig."""
    hair = curtain_seeds(view, head, shapes, count // 4)
    rest = count - (0 if hair is None else len(hair.head_weights))
    shells = shell_seeds(view.continued(_CONTINUED_M), head, shapes, rest)
    return shells if hair is None else Seeds.cat([shells, hair])


def _reference(capture: Capture, chosen: list[int], views: list[SourceView]) -> int:
    """Which image gives the outline, and the face where others do not see much better: from the
    front, eyes open."""
    lids = [
        capture.expression_names.index(name) for name in _BLINKS if name in capture.expression_names
    ]
    closed = capture.states.expression[chosen][:, lids].sum(-1).tolist()
    costs = [view.yaw + _CLOSED * amount for view, amount in zip(views, closed)]
    return costs.index(min(costs))
