"""From tracked pictures to Gaussians at rest: the network asked for each picture, the answers
merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.one_shot.network import OneShotNetwork
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.surface import Surface
from likeness.one_shot.views import Person, View, make_view
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import normalize_quats
from likeness.seeding.shapes import expression_shapes

_MIN_CONFIDENCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Source:
    """A tracked picture: straight colour [H, W, 3], matte [H, W, 1], its camera and state."""

    colour: Tensor
    matte: Tensor
    camera: Camera
    state: HeadState


def predict(
    network: OneShotNetwork, surface: Surface, head: ShapedHead, sources: Sequence[Source]
) -> Prediction:
    """One prediction of a person from one or more pictures."""
    person, lifting = Person.of(head, expression_shapes(head)), network.config.lifting
    logits = torch.logit(surface.of(person.head_weights[:, None])[:, 0].clamp(0.02, 0.98))[None]
    grid = lifting.grid if lifting.enabled else 0
    found = []
    with torch.no_grad():
        for source in sources:  # one at a time: memory does not grow with their number
            view = make_view(
                surface,
                person,
                source.colour,
                source.matte,
                source.camera,
                source.state,
                network.config.picture_size,
                grid,
                lifting.region,
            )
            found += network(View.stack([view]), surface, logits)
        return merged(found)


def merged(predictions: Sequence[Prediction]) -> Prediction:
    """One prediction of several of the same queries, which are averaged by their confidence.

    What is lifted comes from the picture that shows most queries alone: outlines of hair and
    clothes from several poses do not agree, and their union would be too wide.
    """
    first = predictions[0]
    if len(predictions) == 1:
        return first
    count = first.num_queries
    confidence = torch.stack([p.confidence for p in predictions])
    weights = confidence.clamp_min(_MIN_CONFIDENCE)
    weights = weights / weights.sum(0)

    def mean(values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values)
        return (stacked * weights.reshape(*weights.shape, *[1] * (stacked.ndim - 2))).sum(0)

    def of_queries(name: str) -> list[Tensor]:
        return [getattr(p.cloud, name)[:count] for p in predictions]

    quats = of_queries("quats")
    signs = [torch.where((q * quats[0]).sum(-1, keepdim=True) < 0, -1.0, 1.0) for q in quats]
    queries = GaussianCloud(
        means=mean(of_queries("means")),
        quats=normalize_quats(mean([q * sign for q, sign in zip(quats, signs)])),
        scales=mean([s.log() for s in of_queries("scales")]).exp(),
        opacities=mean(of_queries("opacities")),
        sh=mean(of_queries("sh")),
    )
    heads = mean([p.head_weights[:count] for p in predictions])
    offsets = mean([p.offsets for p in predictions])
    best = predictions[int(confidence.sum(1).argmax())]
    lifted = GaussianCloud(**{name: value[count:] for name, value in best.cloud.fields().items()})
    departures = mean([p.departures for p in predictions])
    joined = Prediction(queries, heads, confidence.amax(0), offsets, departures)
    if best.features is None:
        return joined.with_lifted(lifted, best.head_weights[count:], None)
    joined = dataclasses.replace(joined, features=mean([p.features[:count] for p in predictions]))
    return joined.with_lifted(lifted, best.head_weights[count:], best.features[count:])
