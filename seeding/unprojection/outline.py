"""The head model fitted to the outline of the matte: the scalp raised by the hair, what stands out
pulled in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from likeness.head_models.base import ShapedHead
from likeness.head_models.regions import regions_of, scalp_score
from likeness.renderers.mesh import vertex_normals
from likeness.seeding.source_view import SourceView

_CENTRE = (0.0, 0.02, -0.07)  # metres, head frame: the middle of the cranium
_BINS = 72
_MAX_HEIGHT_M, _MIN_HEIGHT_M = 0.045, -0.012
_FULL_MM = 30.0  # above the hairline hair has its whole height
_PERSON = 0.8  # matte
_MAX_PULL_M = 0.02
_STEPS = 1024  # along a ray from the middle of the cranium to the image's border


def raised(shaped: ShapedHead, view: SourceView) -> ShapedHead:
    """The neutral head with hair, by one image. Its joints stay; what is not scalp stays."""
    heights = _heights(view)
    if heights is None:
        return shaped
    model, camera = shaped.model, view.camera
    score = scalp_score(regions_of(model), model.template.numpy() * 1000)
    ramp = np.clip(score / _FULL_MM, 0, 1) * (
        model.vertex_part.numpy() == model.part_names.index("skin")
    )
    ramp = ramp * ramp * (3 - 2 * ramp)
    pixels, _ = camera.project(view.posed)
    centre, _ = camera.project(torch.tensor([_CENTRE]))
    offset = (pixels - centre).numpy()
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    reach = np.linalg.norm(offset, axis=-1)
    outer = float(np.percentile(reach[ramp > 0.5], 95)) if (ramp > 0.5).any() else 1.0
    # In the middle of the image, on top of the head and behind it no outline tells the height: it
    # is the mean.
    sure = np.clip(reach / outer, 0, 1) ** 2
    place = (angle / (2 * np.pi) % 1.0) * _BINS
    height = np.interp(place, np.arange(_BINS + 1), np.append(heights, heights[0]))
    upper = np.sin(np.arange(_BINS) / _BINS * 2 * np.pi) < -0.3
    height = sure * height + (1 - sure) * float(np.mean(heights[upper]))
    normals = vertex_normals(shaped.vertices, model.faces)
    moved = shaped.vertices + torch.from_numpy((height * ramp)[:, None] * normals).float()
    return dataclasses.replace(shaped, vertices=moved)


def pulled_in(shaped: ShapedHead, view: SourceView) -> ShapedHead:
    """The neutral head whose skin, where it stands out of the matte a little, lies on the matte's
    outline.

    Landmarks hold the face, not jaw, ears and neck: where the model is wider than the person, skin
    would show background, and without that skin there would be holes seen from the side.
    """
    from scipy.ndimage import distance_transform_edt

    camera = view.camera
    pixels, depth = camera.project(view.posed)
    x, y = pixels.floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
    person = view.matte > _PERSON
    if not person.any():
        return shaped
    nearest: Any = distance_transform_edt(~person, return_distances=False, return_indices=True)
    rows, columns = nearest
    x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
    target = torch.stack([torch.from_numpy(columns)[y, x], torch.from_numpy(rows)[y, x]], -1) + 0.5
    move = (target - pixels) * (depth / camera.K[0, 0])[:, None]
    skin = shaped.model.vertex_part == shaped.model.part_names.index("skin")
    out = inside & skin & ~torch.from_numpy(person)[y, x] & (move.norm(dim=-1) < _MAX_PULL_M)
    in_camera = torch.cat([move, torch.zeros_like(move[:, :1])], -1) * out[:, None]
    moved = shaped.vertices + (in_camera @ camera.T_cam_world[:3, :3]).float()
    return dataclasses.replace(shaped, vertices=moved)


def _heights(view: SourceView) -> np.ndarray | None:
    """[_BINS] metres by which the matte's outline lies outside the mesh's, by angle in the image
    (0 to the right, a quarter downwards); None where the skull's middle is not in the image."""
    from scipy.ndimage import median_filter, uniform_filter1d

    camera = view.camera
    centre, depth = camera.project(torch.tensor([_CENTRE]))
    x, y = centre[0].tolist()
    if not (0 <= x < camera.width and 0 <= y < camera.height):
        return None
    angles = np.arange(_BINS) / _BINS * 2 * np.pi
    radii = np.linspace(0, max(camera.width, camera.height), _STEPS)
    columns = (x + np.cos(angles)[:, None] * radii).astype(int)
    rows = (y + np.sin(angles)[:, None] * radii).astype(int)
    inside = (columns >= 0) & (rows >= 0) & (columns < camera.width) & (rows < camera.height)
    columns, rows = columns.clip(0, camera.width - 1), rows.clip(0, camera.height - 1)
    person = _first_gap((view.matte[rows, columns] > 0.5) & inside)
    mesh = _last(view.raster.mask[rows, columns] & inside)
    difference = (radii[person] - radii[mesh]) * float(depth[0]) / float(camera.K[0, 0])
    smooth = uniform_filter1d(median_filter(difference, 5, mode="wrap"), 5, mode="wrap")
    return smooth.clip(_MIN_HEIGHT_M, _MAX_HEIGHT_M)


def _first_gap(along: np.ndarray) -> np.ndarray:
    """Along rays [R, S]: the last step before the first False."""
    return np.where(along.all(1), along.shape[1] - 1, (~along).argmax(1) - 1).clip(0)


def _last(along: np.ndarray) -> np.ndarray:
    """Along rays [R, S]: the last step that is True; 0 where none is."""
    return np.where(along.any(1), along.shape[1] - 1 - along[:, ::-1].argmax(1), 0)
