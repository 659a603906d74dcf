"""What of a head model the tracker sees: its landmarks, as linear functions of shape and
expression."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import EYE_CORNERS, FEATURES, IRISES, NUM_LANDMARKS, OVAL
from likeness.head_models.lids import LidClosure
from likeness.preprocess.tracking.config import TrackerConfig

# Expressions that landmarks do not show (tongueOut), or that follow the gaze (eyeLook*).
_UNSEEN = ("tongueOut",)
_GAZE_PREFIX = "eyeLook"
# The model's rigid points move less than this per unit expression (root mean square over
# expressions).
_RIGID_METRES = 4e-4
# How far a coefficient of 1 moves the landmarks (root mean square) at the least, to cost more than
# others. Were those of less reach cheaper, lids would explain what is noise.
_USUAL_REACH = 2e-3


@dataclasses.dataclass(frozen=True)
class LandmarkRig:
    """The head model at its landmarks, L = 478, in metres.

    rest: [L, 3] the mean head. shape: [S, L, 3] identity and offset basis. expression: [E, L, 3].
    controls: [C, E]: what the solver moves. Controls and coefficients are the same but for two:
    landmarks can close the lips only as far as the jaw is open, so the control of ``mouthClose``
    opens the jaw by as much as it closes the lips, and ``jawOpen``'s control adds to it.
    Non-negative controls then obey mouthClose <= jawOpen by themselves.
    control_names: [C]. jaw, close: positions of these two controls, or None.
    weights: [L] of the landmarks in pose and expression, summing to 1; zero at the irises, which
        tell of gaze alone.
    effort: [E] what a coefficient's square costs against others': more where its shape moves
        landmarks further.
    lids: how the blinks adapt to a person, read at the landmarks.
    eye_distance: metres between the outer eye corners of the mean head.
    """

    rest: Tensor
    shape: Tensor
    expression: Tensor
    controls: Tensor
    control_names: tuple[str, ...]
    jaw: int | None
    close: int | None
    weights: Tensor
    effort: Tensor
    lids: LidClosure
    eye_distance: float

    def of_person(self, neutral: Tensor) -> LandmarkRig:
        """From the template's rig that of a person with the landmarks [L, 3] at rest: with blinks
        that close."""
        expression = self.expression.clone()
        expression[list(self.lids.rows)] += self.lids.of_person(neutral)
        return dataclasses.replace(self, expression=expression)

    def neutral(self, coefficients: Tensor) -> Tensor:
        """The landmarks [L, 3] of the person with the shape coefficients [S], without
        expression."""
        return self.rest + torch.einsum("s,sld->ld", coefficients, self.shape)

    @property
    def control_basis(self) -> Tensor:
        """[C, L, 3]: how the controls move the landmarks."""
        return torch.einsum("ce,eld->cld", self.controls, self.expression)


def at_landmarks(model: HeadModel, values: Tensor) -> Tensor:
    """Values [..., V, 3] on the model's vertices, read at its landmarks: [..., L, 3]."""
    corners = model.faces[model.landmark_faces]
    return torch.einsum(
        "...lkd,lk->...ld", values[..., corners, :], model.landmark_barycentrics.to(values.dtype)
    )


def build_rig(model: HeadModel, shape: Tensor, config: TrackerConfig) -> LandmarkRig:
    """The rig of a head model with a shape basis at the landmarks, [S, L, 3]."""
    names = list(model.expression_names)
    rest = at_landmarks(model, model.template.double())
    expression = at_landmarks(model, model.expression_basis.double())
    if rest.shape[0] != NUM_LANDMARKS:
        raise ValueError(
            f"head model {model.name}: expected {NUM_LANDMARKS} landmarks, got {rest.shape[0]}"
        )
    moved = [name for name in names if name not in _UNSEEN and not name.startswith(_GAZE_PREFIX)]
    controls = torch.eye(len(names), dtype=torch.float64)[[names.index(name) for name in moved]]
    jaw = close = None
    if "jawOpen" in moved and "mouthClose" in moved:
        jaw, close = moved.index("jawOpen"), moved.index("mouthClose")
        controls[close, names.index("jawOpen")] = 1.0
    weights = _landmark_weights(expression, config)
    # no matrix product: these round by where tensors lie, and resumed work must find the same
    reach = (weights[:, None] * expression.square()).sum((1, 2)).sqrt()
    return LandmarkRig(
        rest=rest,
        shape=shape.double(),
        expression=expression,
        controls=controls,
        control_names=tuple(moved),
        jaw=jaw,
        close=close,
        weights=weights,
        effort=(reach / _USUAL_REACH).clamp_min(1) ** config.expression_effort,
        lids=dataclasses.replace(
            model.lid_closure, shapes=at_landmarks(model, model.lid_closure.shapes.double())
        ),
        eye_distance=float((rest[EYE_CORNERS[0]] - rest[EYE_CORNERS[1]]).norm()),
    )


def _landmark_weights(expression: Tensor, config: TrackerConfig) -> Tensor:
    """[L] weights: the surest features up, the sliding outline down, points that expressions hardly
    move up."""
    weights = torch.ones(NUM_LANDMARKS, dtype=torch.float64)
    mobility = expression.square().sum(-1).mean(0)
    weights += config.rigid_weight / (1 + mobility / _RIGID_METRES**2)
    weights[list(OVAL)] = config.outline_weight
    weights[list(FEATURES)] = 2.5
    weights[list(IRISES)] = 0.0
    return weights / weights.sum()
