"""The body's sway, from pictures whose shirt was moved by known shifts."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from preprocess.body import follow_body, register_body
from tests import toys

SIZE = 256


def write_pictures(folder, shifts):
    """A head that nods above a striped shirt that shifts."""
    import cv2

    rng = np.random.default_rng(0)
    wall = np.full((SIZE, SIZE, 3), 200, np.uint8)
    shirt = cv2.GaussianBlur(rng.integers(0, 120, (2 * SIZE, 2 * SIZE, 3), np.uint8), (0, 0), 4)
    pictures, landmarks = [], []
    for index, (dx, dy) in enumerate(shifts):
        nod = int(6 * np.sin(index))
        image, matte = wall.copy(), np.zeros((SIZE, SIZE), np.uint8)
        outline = np.array([[20, 256], [60, 180], [196, 180], [236, 256]]) + np.round([dx, dy]).astype(int)
        cv2.fillPoly(matte, [np.vstack([outline, [[236, 300], [20, 300]]])], 255)
        moved = cv2.warpAffine(shirt, np.float32([[1, 0, dx - 100], [0, 1, dy - 100]]), (SIZE, SIZE))
        image[matte > 0] = moved[matte > 0]
        cv2.ellipse(image, (128, 100 + nod), (45, 60), 0, 0, 360, (90, 130, 180), -1)
        cv2.ellipse(matte, (128, 100 + nod), (45, 60), 0, 0, 360, 255, -1)
        paths = folder / f"{index}.png", folder / f"{index}m.png"
        for path, picture in zip(paths, (image, matte)):
            cv2.imwrite(str(path), picture)
        pictures.append(paths)
        points = np.zeros((478, 2))
        points[9], points[152] = (128, 70 + nod), (128, 160 + nod)
        landmarks.append(points)
    return pictures, np.stack(landmarks)


def test_it_finds_the_shift_of_the_shirt_and_not_the_nod_of_the_head(tmp_path):
    shifts = np.stack([3 * np.sin(np.arange(10) / 2), 2 * np.cos(np.arange(10) / 3)], -1).round()
    pictures, landmarks = write_pictures(tmp_path, shifts)
    calm = np.arange(10) < 8
    motion = register_body(pictures, landmarks, SIZE, calm, progress=False)
    assert motion.followed == 1
    np.testing.assert_allclose(motion.shifts, shifts - shifts[calm].mean(0), atol=0.8)


def test_without_a_body_in_the_picture_it_stands_still(tmp_path):
    pictures, landmarks = write_pictures(tmp_path, np.zeros((3, 2)))
    landmarks[:, 152, 1] = 255  # the chin at the bottom
    motion = register_body(pictures, landmarks, SIZE, np.ones(3, bool), progress=False)
    assert motion.followed == 0 and not motion.shifts.any()


def test_shifts_in_pixels_become_metres_at_the_bodys_depth(tmp_path, monkeypatch):
    from preprocess import body

    capture = toys.make_capture(tmp_path, frames=4, size=32, test=1)
    shifts = np.tile([3.0, -1.0], (4, 1))  # steady: what is smoothed stays
    monkeypatch.setattr(body, "register_body", lambda *args: body.BodyMotion(shifts, 1.0))
    moved = follow_body(capture, progress=False)
    for before, after, shift in zip(capture.frames, moved.frames, shifts):
        pixels = [
            frame.camera.project(frame.state.T_world_body[None, :3, 3])[0][0] for frame in (before, after)
        ]
        torch.testing.assert_close(pixels[1] - pixels[0], torch.from_numpy(shift).float(), atol=1e-3, rtol=0)
        assert torch.equal(before.state.T_world_head, after.state.T_world_head)
    assert moved.report["body"] == {"followed": 1.0, "sway_px": [0.0, 0.0]}
    assert dataclasses.replace(moved, frames=capture.frames, report=capture.report) == capture
