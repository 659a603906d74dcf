"""The initializer: seeds that the one-shot network sees in one or a few training frames."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.head_models import shaped_head
from likeness.head_models.base import ShapedHead
from likeness.head_models.surface import bind_to_skin
from likeness.one_shot import weights
from likeness.one_shot.infer import predict
from likeness.one_shot.inputs import SourceImage
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.queries import QueryPoints, make_queries
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection.curtain import curtain_seeds

_HAIR_SHARE = 0.2  # of what is beside the mesh, that hangs behind it
_MIN_OPACITY = 0.05
_YAW_QUANTILES = (0.05, 0.95)  # of the training frames, that sources are spread between
# radians of yaw that a whole coefficient of expression is worth when sources are chosen
_EXPRESSION_COST = 0.15


def one_shot_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """``num_gaussians`` seeds: the network's queries, and Gaussians unprojected beside the mesh.

    ``mesh_share`` of them are queries (more where little is unprojected). The network sees
    ``sources`` training frames. Raises UserError where its weights are missing, damaged or of
    another head model than the capture.
    """
    network, head_model = weights.load(config.weights)
    if head_model != capture.head_model:
        raise UserError(
            f"{config.weights or weights.SHIPPED}: weights for the head model {head_model}, the "
            "capture is tracked "
            f"with {capture.head_model}; choose --set initializer=picture"
        )
    head = shaped_head(capture)
    shapes = head.expression_shapes()
    sources = [_source(capture, frames, index) for index in chosen_frames(capture, config.sources)]
    tokens, count = network.config.tokens, config.num_gaussians
    generator = torch.Generator().manual_seed(seed)

    def predicted(num_queries: int) -> tuple[QueryPoints, Prediction]:
        queries = make_queries(head_model, max(num_queries, tokens, 1), tokens)
        return queries, predict(network, queries, head, sources)

    # How many Gaussians can be unprojected is known only from a prediction: the first is for as
    # many queries as expected.
    beside = round(count * (1 - config.mesh_share)) if network.config.lifting.enabled else 0
    queries, prediction = predicted(count - beside)
    hair = _hanging_hair(capture, frames, head, shapes, round(_HAIR_SHARE * beside))
    rest = beside if hair is None else max(beside - len(hair.head_weights), 0)
    unprojected = _unprojected(prediction, head, shapes, rest, generator)
    if hair is not None:
        if prediction.features is not None:  # as of what the network puts there
            features = prediction.features[prediction.num_queries :].mean(0)
            hair = dataclasses.replace(hair, features=features.expand(len(hair.head_weights), -1))
        unprojected = Seeds.cat([unprojected, hair])
    num_queries = count - len(unprojected.head_weights)
    if num_queries != count - beside:
        queries, prediction = predicted(num_queries)
    on_mesh = RigBinding(shapes, queries.corners, queries.barycentrics).select(slice(num_queries))
    return Seeds.cat([_of_queries(prediction, on_mesh), unprojected])


def _hanging_hair(
    capture: Capture, frames: FrameStore, head: ShapedHead, shapes: Tensor, most: int
) -> Seeds | None:
    """How long hair goes on behind head and neck, where the network puts nothing."""
    (front,) = chosen_frames(capture, 1)
    view = SourceView.of(capture.frames[front], frames.get(front), head)
    return curtain_seeds(view, head, shapes, most)


def chosen_frames(capture: Capture, count: int) -> list[int]:
    """``count`` training frames (fewer where there are not so many) spread over yaw, with calm
    faces."""
    train = list(capture.train)
    states = capture.states[train]
    rotation = capture.cameras[train].T_cam_world[:, :3, :3] @ states.T_world_head[:, :3, :3]
    yaw = torch.atan2(rotation[:, 0, 2], -rotation[:, 2, 2])
    effort = states.expression.clamp_min(0).sum(-1) * _EXPRESSION_COST
    if count <= 1:
        wanted = torch.zeros(1)
    else:
        low, high = torch.quantile(yaw, torch.tensor(_YAW_QUANTILES)).tolist()
        wanted = torch.linspace(low, high, count)
        wanted[count // 2] = 0.0 if low < 0 < high else wanted[count // 2]
    chosen: list[int] = []
    for angle in wanted:
        cost = (yaw - angle).abs() + effort
        cost[chosen] = torch.inf
        if torch.isfinite(cost).any():
            chosen.append(int(cost.argmin()))
    return [train[position] for position in sorted(chosen)]


def _source(capture: Capture, frames: FrameStore, index: int) -> SourceImage:
    frame = capture.frames[index]
    colour, matte = (tensor.cpu() for tensor in frames.get(index))
    return SourceImage(colour, matte, frame.camera, frame.state)


def _of_queries(prediction: Prediction, rig: RigBinding) -> Seeds:
    """The first queries, as many as the binding has; fewer than the network was asked for are
    enlarged to cover as much."""
    count = len(rig.vertices)
    growth = (prediction.num_queries / max(count, 1)) ** 0.5
    return _part(prediction, slice(count), rig, growth)


def _unprojected(
    prediction: Prediction, head: ShapedHead, shapes: Tensor, most: int, generator: torch.Generator
) -> Seeds:
    """At most so many of the unprojected Gaussians, the more likely the more they cover; enlarged
    for those left out."""
    start, cloud, growth = prediction.num_queries, prediction.cloud, 1.0
    chosen = (cloud.opacities[start:] > _MIN_OPACITY).nonzero()[:, 0] + start
    if 0 < most < len(chosen):
        cover = cloud.opacities[chosen] * cloud.scales[chosen].square().mean(-1)
        drawn = torch.multinomial(cover, most, replacement=False, generator=generator)
        growth = float((cover.sum() / cover[drawn].sum()).sqrt())
        chosen = chosen[drawn].sort().values
    chosen = chosen[:most]
    rig = bind_to_skin(head, cloud.means[chosen], shapes)
    return _part(prediction, chosen, rig, growth)


def _part(prediction: Prediction, index: slice | Tensor, rig: RigBinding, growth: float) -> Seeds:
    """Some of the Gaussians, enlarged."""
    cloud = prediction.cloud.select(index)
    features = None if prediction.features is None else prediction.features[index]
    cloud = dataclasses.replace(cloud, scales=cloud.scales * growth)
    return Seeds(cloud, prediction.head_weights[index], rig, features)
