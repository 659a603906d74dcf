"""Cameras between keyframes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import CubicHermiteSpline, make_interp_spline
from scipy.spatial.transform import Rotation, Slerp

from likeness.scene.camera import Camera
from likeness.scene.transforms import invert_transform, make_transform


def interpolate(cameras: list[Camera], times: list[float], fps: float) -> list[Camera]:
    """Cameras of one image size at ``times`` (rising, seconds), sampled ``fps`` times a second, the
    last one included.

    Eyes follow cubic Hermite curves through the keyframes (Catmull and Rom's tangents for unequal
    times), rotations are interpolated by slerp, the entries of K linearly.
    """
    if len(cameras) == 1:
        return cameras
    keys, knots = Camera.stack(cameras), np.array(times)
    samples = np.minimum(np.arange(int(times[-1] * fps + 1e-6) + 1) / fps, times[-1])
    T_frame_cam = keys.T_world_cam.double().numpy()
    eyes = T_frame_cam[:, :3, 3]
    before, after = np.r_[0, 0 : len(eyes) - 1], np.r_[1 : len(eyes), len(eyes) - 1]
    tangents = (eyes[after] - eyes[before]) / (knots[after] - knots[before])[:, None]
    rotations = Slerp(knots, Rotation.from_matrix(T_frame_cam[:, :3, :3]))(samples).as_matrix()
    places = CubicHermiteSpline(knots, eyes, tangents)(samples)
    T_frame_cam = make_transform(torch.from_numpy(rotations), torch.from_numpy(places))
    poses = invert_transform(T_frame_cam).float()
    K = torch.from_numpy(make_interp_spline(knots, keys.K.double().numpy(), k=1)(samples)).float()
    return [Camera(K[i], poses[i], keys.width, keys.height) for i in range(len(samples))]
