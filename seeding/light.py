"""How expressions change the shade of a face: by the light of the clip on the head model's normals.

A clip that shows a calm face tells which light falls on which directions of the skin. Where an
expression turns the skin (the lower lip of an open mouth, the cheeks of a smile) its colour changes
with that light; so an avatar's colours follow there too, before any frame has shown it (the ratio
images of Liu, Shan and Zhang, "Expressive expression mapping with ratio images", 2001, of a mesh).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.base import ShapedHead
from likeness.head_models.landmarks import OVAL
from likeness.head_models.sides import NO_SIDE, sides_of
from likeness.head_models.turning import expression_turns
from likeness.ops import harmonics
from likeness.scene.capture import Capture, TrackedFrame
from likeness.scene.expression_caps import CAPS
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import mean_transform
from likeness.seeding.mesh import evenly_spread
from likeness.seeding.source_view import SourceView
from likeness.seeding.vertex_colours import vertex_colours

_NOTHING = 4e-3  # radians, share of a length, or units of harmonics
_VIEWS = 6
_DEGREE = 2  # of the light as harmonics of the normal: what a matte surface can tell
_RIDGE = 1e-3
_ROUNDS = 10
_WITHIN = 0.97  # of the face's oval, so that no hair is taken for skin
_FEWEST = 200  # pixels that tell a light
_DARKEST = 0.1  # of the mean light: directions that nothing showed
_RATIOS = (0.7, 1.4)  # of two shades that are believed: synthetic people want no more


def with_changes(seeds: Seeds, capture: Capture, frames: FrameStore) -> Seeds:
    """The same, whose rig knows how expressions turn, stretch and light the skin
    (``RigBinding.changes``)."""
    head = shaped_head(capture)
    changes = torch.cat([expression_turns(head), expression_shades(capture, frames, head)], -1)
    changes[changes.abs().amax(-1) < _NOTHING] = 0
    return dataclasses.replace(seeds, rig=dataclasses.replace(seeds.rig, changes=changes))


def expression_shades(capture: Capture, frames: FrameStore, head: ShapedHead) -> Tensor:
    """[E, V, 3] what each expression at 1 adds to the constant harmonics of the skin, with the head
    as it stands on average over the training frames. 0 where the frames tell no light."""
    model, train = head.model, list(capture.train)
    shades = torch.zeros(len(model.expression_names), len(model.template), 3)
    views, samples = [], []
    for index in evenly_spread(train, _VIEWS):
        views.append(SourceView.of(capture.frames[index], frames.get(index), head))
        samples.append(_skin_samples(views[-1], capture.frames[index], head))
    normals, colours = (torch.cat(parts) for parts in zip(*samples, strict=True))
    if len(normals) < _FEWEST:
        return shades
    light = fitted_light(normals, colours)
    rotation = mean_transform(capture.states.T_world_head[train])[:3, :3]
    skin = model.skin_faces.unique()
    rgb = torch.from_numpy(vertex_colours(head, views).rgb)[skin].clamp(0.01, 1)
    least = _DARKEST * colours.mean(0)

    def lit(expression: Tensor) -> Tensor:
        state = dataclasses.replace(model.neutral_state(), expression=expression)
        turned = head.posed(state).normals()[skin] @ rotation.T
        return (harmonics.basis(turned, _DEGREE) @ light).maximum(least)

    coefficients = torch.eye(len(shades))
    calm = lit(0 * coefficients[0])

    def shown(expression: Tensor) -> Tensor:
        ratio = (lit(expression) / calm).clamp(*_RATIOS)
        return _encoded((_linear(rgb) * ratio).clamp(0, 1))

    allowing = dict(CAPS)  # what must be there before an expression does anything
    for number, name in enumerate(model.expression_names):
        before = torch.zeros(len(shades))
        if allowing.get(name) in model.expression_names:
            before[model.expression_names.index(allowing[name])] = 1
        changed = shown(before + coefficients[number]) - shown(before)
        shades[number, skin] = changed / harmonics.C0
    return shades


def fitted_light(normals: Tensor, colours: Tensor) -> Tensor:
    """Harmonics [K, 3] of the unit normal that give the colours of a skin of one albedo, robustly
    (brows, beards and shadows are outliers). normals, colours: [P, 3], the latter linear RGB."""
    basis, weight = harmonics.basis(normals, _DEGREE), torch.ones(len(normals))
    ridge = torch.full((basis.shape[1],), _RIDGE)
    ridge[0] = 0
    light = torch.zeros(basis.shape[1], 3)
    for _ in range(_ROUNDS):
        weighed = basis * (weight / weight.sum())[:, None]
        light = torch.linalg.solve(weighed.T @ basis + torch.diag(ridge), weighed.T @ colours)
        off = (colours - basis @ light).mean(-1)
        weight = 1 / (1 + (off / (1.5 * off.abs().median()).clamp_min(1e-6)).square())
    return light


def _skin_samples(view: SourceView, frame: TrackedFrame, head: ShapedHead) -> tuple[Tensor, Tensor]:
    """Normals in the world and linear colours [P, 3] of the face's skin beside lips and lids."""
    import cv2

    model = head.model
    bare = (model.vertex_part == model.part_names.index("skin")).numpy()
    bare &= (sides_of(model.name).side == NO_SIDE).numpy()
    points = frame.landmarks.detach().cpu().numpy()[list(OVAL)]
    points = points.mean(0) + _WITHIN * (points - points.mean(0))
    oval = np.zeros(view.matte.shape, np.uint8)
    cv2.fillConvexPoly(oval, cv2.convexHull(points.round().astype(np.int32)), (1,))
    shown = view.usable & (oval > 0) & view.raster.mask
    corners = view.faces[view.raster.face_index[shown]]
    shown[shown] = bare[corners].all(-1)
    rotation = frame.state.T_world_head[:3, :3].cpu()
    normals = torch.from_numpy(view.pixel_normals[shown]).float() @ rotation.T
    return normals, _linear(torch.from_numpy(view.rgb[shown]).float())


def _linear(srgb: Tensor) -> Tensor:
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encoded(linear: Tensor) -> Tensor:
    bent = 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, bent)
