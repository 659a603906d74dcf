"""Seeds that are a picture lifted onto the head: what few pictures show, as sharp as they do, and a
guess of the rest.

Three layers. On the mesh: a flat Gaussian for each cell of a picture, where the picture's ray meets
the posed head model (``surface``). Beside the mesh: hair, clothes and what else the matte shows, as
two shells, a near and a far one (``shells``; GAGAvatar lifts the image plane to both sides for the
same reason). Unseen: the rest of the mesh, coloured from the other half of the face, by diffusion
over the surface, and by what mouths are like (``unseen``).
"""

from __future__ import annotations

import torch

from likeness.head_models import HEAD_MODELS
from likeness.scene.capture import Capture
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.mesh import chin_of, head_weights, spread
from likeness.seeding.off_mesh import bind_to_nearest_vertices
from likeness.seeding.shapes import expression_shapes
from likeness.seeding.unprojection.colours import vertex_colours
from likeness.seeding.unprojection.lids import lids
from likeness.seeding.unprojection.outline import drawn_in, raised
from likeness.seeding.unprojection.patches import Patches
from likeness.seeding.unprojection.shells import shells
from likeness.seeding.unprojection.surface import View, on_mesh
from likeness.seeding.unprojection.unseen import unseen

_MAX_VIEWS = 8
_BLINKS = ("eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight")
_CLOSED = 0.5  # radians of turning that one shut eye counts for
_SHELL_SHARE, _UNSEEN_SHARE = 0.25, 0.25  # of all seeds


def unprojected_seeds(capture: Capture, frames: FrameStore, count: int, seed: int) -> Seeds:
    """About ``count`` seeds from the training frames of a capture (at most 8, evenly spread)."""
    model = HEAD_MODELS[capture.head_model]()
    shaped = model.shaped(capture.identity)
    chosen = spread(capture.train, _MAX_VIEWS)
    views = [View.of(capture.frames[index], frames.get(index), shaped) for index in chosen]
    front = _reference(capture, chosen, views)
    shaped = raised(shaped, views[front])
    shaped = drawn_in(
        shaped, View.of(capture.frames[chosen[front]], frames.get(chosen[front]), shaped)
    )
    views = [View.of(capture.frames[index], frames.get(index), shaped) for index in chosen]
    colours = vertex_colours(model, shaped, views, front)
    views = [view.adjusted(gain) for view, gain in zip(views, colours.gains)]
    unseen_count, shell_count = round(_UNSEEN_SHARE * count), round(_SHELL_SHARE * count)
    parts: list[Patches] = [
        on_mesh(views, shaped, colours, count - unseen_count - shell_count),
        shells(views[front], shaped, shell_count),
        unseen(views, views[front], shaped, colours, unseen_count, seed),
        lids(shaped, torch.from_numpy(colours.rgb), seed),
    ]
    every = Patches.join(parts)
    chin = chin_of(model, shaped.vertices)
    tied = RigBinding(expression_shapes(shaped), every.vertices, every.weights)
    loose = every.vertices[:, 0] < 0  # of the shells: not on the mesh
    if loose.any():
        near = bind_to_nearest_vertices(capture, every.cloud.means[loose])
        tied.vertices[loose], tied.weights[loose] = near.vertices, near.weights
    weights = torch.where(loose, every.head_weights, head_weights(every.cloud.means, chin)).clamp(
        0.02, 0.98
    )
    return Seeds(every.cloud, weights, tied)


def _reference(capture: Capture, chosen: list[int], views: list[View]) -> int:
    """Which picture gives the outline, and the face where others do not see much better: from the
    front, eyes open."""
    shut = [
        capture.expression_names.index(name) for name in _BLINKS if name in capture.expression_names
    ]
    closed = [float(capture.frames[index].state.expression[shut].sum()) for index in chosen]
    return min(
        range(len(views)), key=lambda number: views[number].turned + _CLOSED * closed[number]
    )
