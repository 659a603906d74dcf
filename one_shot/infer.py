"""From tracked images to Gaussians at rest: the network evaluated for each image, its predictions
merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likeness.head_models.base import ShapedHead
from likeness.one_shot.inputs import NetworkInputs, SourceImage, SourcePerson, network_inputs
from likeness.one_shot.network import OneShotNetwork
from likeness.one_shot.prediction import Prediction
from likeness.one_shot.queries import QueryPoints
from likeness.scene.cloud import GaussianCloud
from likeness.scene.transforms import normalize_quats

_MIN_CONFIDENCE = 1e-3


def predict(
    network: OneShotNetwork, queries: QueryPoints, head: ShapedHead, sources: Sequence[SourceImage]
) -> Prediction:
    """One prediction of a person from one or more images."""
    person = SourcePerson.of(head)
    logits = person.query_logits(queries)[None]
    predictions: list[Prediction] = []
    with torch.no_grad():
        for source in sources:  # one at a time: memory does not grow with their number
            inputs = network_inputs(queries, person, source, network.config)
            predictions += network(NetworkInputs.stack([inputs]), queries, logits)
        return merged(predictions)


def merged(predictions: Sequence[Prediction]) -> Prediction:
    """One prediction of several of the same queries, which are averaged by their confidence.

    What is unprojected comes from the one image that shows most queries: outlines of hair and
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
    unprojected = best.cloud.select(slice(count, None))
    departures = mean([p.departures for p in predictions])
    features = [p.features[:count] for p in predictions if p.features is not None]
    joined = Prediction(
        queries,
        heads,
        confidence.amax(0),
        offsets,
        departures,
        mean(features) if features else None,
    )
    behind = None if best.features is None else best.features[count:]
    return joined.with_unprojected(unprojected, best.head_weights[count:], behind)
