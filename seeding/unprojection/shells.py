"""What the matte shows beside the mesh, as a near and a far shell: hair about the mesh's own rim,
neck and clothes on a closed trunk."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from likeness.head_models.base import HeadMesh, ShapedHead
from likeness.head_models.surface import bind_to_skin
from likeness.scene.cloud import GaussianCloud
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import invert_transform, transform_points
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.cells import cell_means, divide
from likeness.seeding.unprojection.patches import OPACITY, SPREAD, flat_cloud
from likeness.seeding.unprojection.trunk import trunk_depths

_MIN_MATTE = 0.25
# metres, head frame: the depth towards which what is far beside the mesh goes
_SKULL = (0.0, 0.0, -0.075)
_RIM_M = 0.03  # distance over which it goes there from the mesh's own rim
_HAIR_M = 0.035  # half the thickness of hair, at most
_BELOW_CHIN_M, _SOFT_M = 0.035, 0.012
_STEEPEST = 3.0  # metres of depth per metre across
_FAR_SHARE = 0.3  # of the patches: the far shell, which is coarser


def shell_seeds(view: SourceView, head: ShapedHead, shapes: torch.Tensor, count: int) -> Seeds:
    """About ``count`` patches of both shells, bound to the nearest vertices of ``head``. shapes: of
    the rig."""
    free = (view.matte > _MIN_MATTE) & ~view.usable
    depth, thickness, body = _depths(view, head, free)
    in_body = dataclasses.replace(view, camera=view.camera.in_frame(view.T_head_body))
    enters, leaves = trunk_depths(in_body, float(head.vertices[:, 1].min()))
    of_body = body > 0.5
    busy = np.concatenate([view.rgb, view.matte[..., None]], -1)
    parts = []
    for share, sign in ((1 - _FAR_SHARE, -1.0), (_FAR_SHARE, 1.0)):
        corners, sides = divide(busy, free, round(share * count))
        x, y = (corners + (sides[:, None] - 1) // 2).T
        if sign > 0:
            thick = np.where(of_body, leaves - enters, thickness)[y, x] > 0.004
            x, y, sides = x[thick], y[thick], sides[thick]
        trunk = enters if sign < 0 else leaves
        for own, surface, here in (
            (view, depth + sign * thickness, ~of_body),
            (in_body, trunk, of_body),
        ):
            chosen = here[y, x]
            cloud = _patches(own, x[chosen], y[chosen], sides[chosen], surface)
            weights = 1 - torch.from_numpy(body[y, x][chosen]).float()
            parts.append(Seeds(cloud, weights, bind_to_skin(head, cloud.means, shapes)))
    return Seeds.cat(parts)


def _depths(
    view: SourceView, head: ShapedHead, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[H, W] each: depth of the middle of hair beside the mesh, half its thickness (metres), share
    of the body."""
    import cv2
    from scipy.ndimage import distance_transform_edt

    camera = view.camera
    skull = float(transform_points(camera.T_cam_world, torch.tensor([_SKULL]))[0, 2])
    metres = skull / float(camera.K[0, 0])
    solid = view.raster.mask
    transform: Any = distance_transform_edt
    distance, (rows, columns) = transform(~solid, return_indices=True)
    rim = np.full(free.shape, skull, np.float32)
    if solid.any():
        rim = view.raster.depth[rows, columns]
    near = np.exp(-distance * metres / _RIM_M)
    depth = near * np.where(solid, rim, cv2.GaussianBlur(rim, (0, 0), 4)) + (1 - near) * skull
    # a person continues beyond the image
    person = np.pad((view.matte > 0.5) | solid, 1, mode="edge")
    edge = transform(person)[1:-1, 1:-1] * metres
    below = _height_below(view, skull, float(HeadMesh(head.model, view.posed).chin[1]))
    body = 1 / (1 + np.exp(-(below - _BELOW_CHIN_M) / _SOFT_M))
    # At the mesh's rim a shell is as thin as the mesh is there: nothing.
    hair = np.minimum(_round(edge, _HAIR_M), 0.5 * distance * metres)
    return depth.astype(np.float32), hair.astype(np.float32), body


def _round(distance: np.ndarray, radius: float) -> np.ndarray:
    """Height of a quarter circle at a distance from its edge."""
    inner = 1 - np.clip(distance / radius, 0, 1)
    return radius * np.sqrt(1 - inner**2)


def _height_below(view: SourceView, depth: float, height: float) -> np.ndarray:
    """[H, W] metres by which pixels at a depth lie below a height of the head frame."""
    T = invert_transform(view.camera.T_cam_world).numpy()
    forward = view.rays @ view.camera.T_cam_world.numpy()[2, :3]
    return height - (view.rays[..., 1] / forward * depth + T[1, 3])


def _patches(
    view: SourceView, x: np.ndarray, y: np.ndarray, sides: np.ndarray, depth: np.ndarray
) -> GaussianCloud:
    """Patches at pixels, on the surface that depths [H, W] are of."""
    K_inverse = np.linalg.inv(view.camera.K.double().numpy())
    T_head_cam = invert_transform(view.camera.T_cam_world)
    to_middle = sides / 2 - (sides - 1) // 2
    middle = np.stack([x + to_middle, y + to_middle, np.ones(len(x))], -1)
    here = depth[y, x].astype(np.float64)
    in_camera = (middle @ K_inverse.T) * here[:, None]
    points = transform_points(T_head_cam, torch.from_numpy(in_camera).float())
    # The surface's slope in the camera's frame: n ~ (dz/dx, dz/dy, -1) with x, y in metres at that
    # depth.
    slope = np.stack(np.gradient(depth)[::-1], -1)[y, x]
    slope = slope * float(view.camera.K[0, 0]) / here[:, None]
    steep = np.linalg.norm(slope, axis=-1, keepdims=True)
    slope = slope * np.minimum(1, _STEEPEST / np.maximum(steep, 1e-6))
    normals = torch.from_numpy(np.concatenate([slope, -np.ones((len(x), 1))], -1)).float()
    normals = torch.nn.functional.normalize(normals @ T_head_cam[:3, :3].T, dim=-1)
    stretch = torch.from_numpy(np.sqrt(1 + (slope**2).sum(-1))).float()
    # None may hang over the outline.
    reach = np.minimum(sides, view.depth_inside[y, x] + 0.5)
    spacing = torch.from_numpy(reach * here).float() / view.camera.K[0, 0]
    return flat_cloud(
        points,
        normals,
        SPREAD * torch.stack([spacing * stretch, spacing], -1),
        torch.from_numpy(cell_means(view.rgb, x, y, sides)),
        along=torch.from_numpy(view.rays[y, x]).float(),
        opacities=torch.from_numpy(view.matte[y, x]) * OPACITY,
    )
