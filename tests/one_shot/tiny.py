"""A network small enough for tests, and views of the toy capture for it."""

from __future__ import annotations

import dataclasses

import torch

from likeness.head_models import shaped_head
from likeness.one_shot.config import BackboneConfig, OneShotConfig, UnprojectionConfig
from likeness.one_shot.inputs import NetworkInputs, SourceImage, SourcePerson, network_inputs
from likeness.one_shot.network import OneShotNetwork
from likeness.one_shot.queries import make_queries
from likeness.scene.frame_images import FrameStore
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
    lifting=UnprojectionConfig(grid=8),
)
TRAIN = TrainConfig(model=MODEL, data=DataConfig(targets=2, target_size=32), warm_up=1)
VERTICES = 4706


def network(seed: int = 0, **changes) -> OneShotNetwork:
    torch.manual_seed(seed)
    return OneShotNetwork(dataclasses.replace(MODEL, **changes), VERTICES).eval()


def views(capture, indices, region: str = "beside"):
    """The queries, the person, and single inputs of frames."""
    queries = make_queries("anny", MODEL.queries, MODEL.tokens)
    person, frames = SourcePerson.of(shaped_head(capture)), FrameStore(capture, list(indices))
    config = dataclasses.replace(MODEL, lifting=UnprojectionConfig(grid=8, region=region))
    inputs = []
    for index in indices:
        frame = capture.frames[index]
        source = SourceImage(*frames.get(index), frame.camera, frame.state)
        inputs.append(network_inputs(queries, person, source, config))
    return queries, person, inputs


def ask(net: OneShotNetwork, surface, person: SourcePerson, found: list[NetworkInputs]):
    logits = person.query_logits(surface)
    with torch.no_grad():
        return net(NetworkInputs.stack(found), surface, logits.expand(len(found), -1))
