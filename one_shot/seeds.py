"""The initializer: seeds that the one-shot network sees in one or a few training frames."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.one_shot import weights
from likeness.one_shot.infer import Source, predict
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.surface import make_surface
from likeness.scene.capture import Capture
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.scene.seeds import Seeds
from likeness.seeding.config import SeedingConfig
from likeness.seeding.off_mesh import bind_to_nearest_vertices
from likeness.seeding.shapes import expression_shapes

_MIN_OPACITY = 0.05
_YAW_QUANTILES = (0.05, 0.95)  # of the training frames, that sources are spread between
# radians of yaw that a whole coefficient of expression is worth when sources are chosen
_EXPRESSION_COST = 0.15


def one_shot_seeds(capture: Capture, frames: FrameStore, config: SeedingConfig, seed: int) -> Seeds:
    """``num_gaussians`` seeds: the network's queries, and Gaussians lifted beside the mesh.

    ``mesh_share`` of them are queries (more where little is lifted). The network sees ``sources``
    training frames. Raises UserError where its weights are missing, damaged or of another head
    model than the capture.
    """
    network, head_model = weights.load(config.weights)
    if head_model != capture.head_model:
        raise UserError(
            f"{config.weights or weights.SHIPPED}: weights for the head model {head_model}, the capture is tracked "
            f"with {capture.head_model}; choose --set initializer=picture"
        )
    model = make_surface(head_model, 1, 0).model
    head = model.shaped(capture.identity)
    sources = [_source(capture, frames, index) for index in chosen_frames(capture, config.sources)]
    tokens, count = network.config.tokens, config.num_gaussians
    generator = torch.Generator().manual_seed(seed)
    beside = round(count * (1 - config.mesh_share)) if network.config.lifting.enabled else 0
    # What can be lifted is known only when the network has been asked: first for as many queries as
    # expected.
    surface = make_surface(head_model, max(count - beside, tokens, 1), tokens)
    prediction = predict(network, surface, head, sources)
    kept = _lifted(prediction, beside, generator)
    queries = count - len(kept.head_weights)
    if queries != count - beside:
        surface = make_surface(head_model, max(queries, tokens, 1), tokens)
        prediction = predict(network, surface, head, sources)
    own = _of_queries(prediction, queries)
    rig = RigBinding(
        expression_shapes(head), surface.corners[:queries], surface.barycentrics[:queries]
    )
    if len(kept.head_weights) == 0:
        return Seeds(own.cloud, own.head_weights, rig, own.features)
    near = bind_to_nearest_vertices(capture, kept.cloud.means)
    rig = RigBinding(
        rig.shapes, torch.cat([rig.vertices, near.vertices]), torch.cat([rig.weights, near.weights])
    )
    both = own.cloud.fields(), kept.cloud.fields()
    return Seeds(
        GaussianCloud(**{name: torch.cat([part[name] for part in both]) for name in both[0]}),
        torch.cat([own.head_weights, kept.head_weights]),
        rig,
        None if own.features is None else torch.cat([own.features, kept.features]),
    )


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


def _source(capture: Capture, frames: FrameStore, index: int) -> Source:
    frame = capture.frames[index]
    colour, matte = (tensor.cpu() for tensor in frames.get(index))
    return Source(colour, matte, frame.camera, frame.state)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Gaussians of a prediction; see Prediction."""

    cloud: GaussianCloud
    head_weights: Tensor
    features: Tensor | None

    @classmethod
    def of(cls, prediction: Prediction, index: slice | Tensor, grow: float | Tensor) -> _Part:
        """Those of an index, enlarged."""
        cloud = {name: value[index] for name, value in prediction.cloud.fields().items()}
        cloud["scales"] = cloud["scales"] * grow
        features = None if prediction.features is None else prediction.features[index]
        return cls(GaussianCloud(**cloud), prediction.head_weights[index], features)


def _of_queries(prediction: Prediction, count: int) -> _Part:
    """The first ``count`` queries; fewer than the network was asked for are enlarged to cover as
    much."""
    return _Part.of(prediction, slice(count), (prediction.num_queries / max(count, 1)) ** 0.5)


def _lifted(prediction: Prediction, most: int, generator: torch.Generator) -> _Part:
    """At most so many of the lifted Gaussians, the more likely the more they cover; enlarged for
    those left out."""
    start, cloud = prediction.num_queries, prediction.cloud
    seen = (cloud.opacities[start:] > _MIN_OPACITY).nonzero()[:, 0] + start
    cover = cloud.opacities[seen] * cloud.scales[seen].square().mean(-1)
    if 0 < most < len(seen):
        drawn = torch.multinomial(cover, most, replacement=False, generator=generator)
        return _Part.of(
            prediction, seen[drawn].sort().values, (cover.sum() / cover[drawn].sum()).sqrt()
        )
    return _Part.of(prediction, seen[:most], 1.0)
