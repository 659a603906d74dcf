"""Seeds from a capture."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import torch

from likeness.head_models import HEAD_MODELS, shaped_head
from likeness.head_models.surface import bind_to_skin
from likeness.ops.harmonics import C0
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig
from likeness.seeding.mesh import mesh_seeds
from tests import toys


def test_what_is_far_from_the_mesh_does_not_move(tmp_path):
    capture = toys.make_capture(tmp_path, frames=4, size=32, test=1)
    surface = HEAD_MODELS["anny"]().template[:1]
    points = torch.cat([surface, surface + torch.tensor([0.0, 0.5, 0.5])])
    sums = bind_to_skin(shaped_head(capture), points).weights.sum(-1)
    assert sums[0] > 0.99 and sums[1] < 1e-3


def test_skin_has_the_pictures_colour_and_a_shut_mouth_is_not_lined_with_it(tmp_path):
    capture = toys.make_capture(tmp_path, frames=3, size=64, test=1)
    skin = torch.tensor([0.7, 0.5, 0.4])
    for frame in capture.frames:
        rows = (255 * skin.flip(0)).round().byte().expand(64, 64, 3)  # OpenCV's order of channels
        cv2.imwrite(str(frame.image_path), rows.numpy())
        cv2.imwrite(str(frame.matte_path), np.full((64, 64), 255, np.uint8))
    states = capture.states
    capture = capture.with_states(dataclasses.replace(states, expression=0 * states.expression))
    frames = FrameStore(capture, capture.train)
    seeds = mesh_seeds(capture, frames, SeedingConfig(3000, frames=2), seed=0)
    model = HEAD_MODELS["anny"]()
    names = [
        model.part_names[part] for part in model.vertex_part[seeds.rig.vertices[:, 0]].tolist()
    ]
    colours = 0.5 + C0 * seeds.cloud.sh[:, 0]
    of = {
        part: colours[[name == part for name in names]]
        for part in ("skin", "teeth_upper", "mouth_cavity")
    }
    torch.testing.assert_close(of["skin"].median(0).values, skin, atol=0.02, rtol=0)
    assert of["mouth_cavity"].mean() < 0.8 * skin.mean() < skin.mean() < of["teeth_upper"].mean()
