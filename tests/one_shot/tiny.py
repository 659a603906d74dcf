"""A network small enough for tests, and views of the toy capture for it."""

from __future__ import annotations

import dataclasses

import torch

from likeness.head_models import HEAD_MODELS
from likeness.one_shot.config import BackboneConfig, LiftingConfig, OneShotConfig
from likeness.one_shot.network import OneShotNetwork
from likeness.one_shot.surface import make_surface
from likeness.one_shot.views import Person, View, make_view
from likeness.scene.frame_images import FrameStore
from likeness.seeding.shapes import expression_shapes
from likeness.training.config import DataConfig, TrainConfig

MODEL = OneShotConfig(
    picture_size=32,
    queries=200,
    tokens=40,
    dim=16,
    blocks=1,
    heads=2,
    vertex_features=4,
    hidden=16,
    backbone=BackboneConfig(widths=(8, 8, 8, 16, 16), fine_channels=4),
    lifting=LiftingConfig(grid=8),
)
TRAIN = TrainConfig(model=MODEL, data=DataConfig(targets=2, target_size=32), warm_up=1)
VERTICES = 4706


def network(seed: int = 0, **changes) -> OneShotNetwork:
    torch.manual_seed(seed)
    return OneShotNetwork(dataclasses.replace(MODEL, **changes), VERTICES).eval()


def views(capture, indices, region: str = "beside"):
    """The surface, the person, and single views of frames."""
    surface = make_surface("anny", MODEL.queries, MODEL.tokens)
    head = HEAD_MODELS["anny"]().shaped(capture.identity)
    person, frames = Person.of(head, expression_shapes(head)), FrameStore(capture, list(indices))
    found = []
    for index in indices:
        frame = capture.frames[index]
        found.append(
            make_view(surface, person, *frames.get(index), frame.camera, frame.state, 32, 8, region)
        )
    return surface, person, found


def ask(net: OneShotNetwork, surface, person: Person, found: list[View]):
    logits = torch.logit(surface.of(person.head_weights[:, None])[:, 0].clamp(0.02, 0.98))
    with torch.no_grad():
        return net(View.stack(found), surface, logits.expand(len(found), -1))
