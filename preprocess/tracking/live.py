"""The head tracker as it must be live: one frame after the other, from the past alone, for a face
that it has learnt.

Of the clip's tracker it keeps model, energies and solver; what is left out is what needs the whole
clip. The shape is learnt once, from the first second or two (``calibrate``), and held. Each new
frame takes a few Gauss-Newton steps from the state of the one before, together with that one and
the one before it, so that the priors in time hold.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from likeness.head_models.base import HeadModel
from likeness.head_models.landmarks import EYE_CORNERS, IRISES
from likeness.preprocess.tracking import gaze
from likeness.preprocess.tracking.config import TrackerConfig
from likeness.preprocess.tracking.initialization import initial_poses
from likeness.preprocess.tracking.motion import Motion, Observations, step
from likeness.preprocess.tracking.outline import residual_metric
from likeness.preprocess.tracking.priors import Timeline
from likeness.preprocess.tracking.projection import project
from likeness.preprocess.tracking.rig import LandmarkRig, at_landmarks, build_rig
from likeness.preprocess.tracking.tracker import Tracking, track
from likeness.scene.capture import Identity
from likeness.scene.gaze import EYES, gaze_expression, gaze_quats, quats_to_gaze
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform

WINDOW = 3
STEPS = 2
_LOST = 0.25  # of the eye distance: a mean error beyond which the pose starts anew
_PER_FRAME = ("points", "weights", "metric", "scale")
_FORGET_S = 0.5  # without a face, after which the past no longer counts


@dataclasses.dataclass(frozen=True)
class Face:
    """What calibration learns of a person.

    neutral: [L, 3] landmarks at rest. centers: [2, 3] of the eyeballs, left first. open: [2] height
    over width of the open eyes. squint: radians that the left eye seems turned outwards by, from
    the model's distance of the eyes.
    T_world_body: [4, 4] the mean head pose.
    """

    neutral: Tensor
    centers: Tensor
    open: Tensor
    squint: float
    T_world_body: Tensor


def calibrate(
    points: Tensor, times: Tensor, K: Tensor, model: HeadModel, config: TrackerConfig | None = None
) -> tuple[LiveTracker, Tracking]:
    """Learns a face from landmarks [T, L, 2] (all found) at times [T]: a LiveTracker that continues
    from there, and the tracked frames. Raises UserError for fewer than 3 frames."""
    config = config or TrackerConfig()
    points, K = points.double(), K.double()
    fps = float((len(times) - 1) / (times[-1] - times[0]).clamp_min(1e-3))
    tracking = track(points, torch.ones(points.shape[:2]), K, model, fps, config, times=times)
    tracker = LiveTracker(model, K, _face(model, tracking, points), config)
    raw = []
    for index in range(len(points)):
        tracker(points[index], float(times[index]), tracking.states[index])
        raw.append(tracker.look())
    squint = 0.5 * float(torch.stack([angles[0, 0] - angles[1, 0] for angles in raw]).median())
    tracker.face = dataclasses.replace(tracker.face, squint=squint)
    return tracker, tracking


def _face(model: HeadModel, tracking: Tracking, points: Tensor) -> Face:
    identity: Identity = tracking.identity
    shaped = model.shaped(identity)
    ratios = torch.stack([gaze.opening(points, eye).quantile(0.8) for eye in EYES])
    return Face(
        at_landmarks(model, shaped.vertices.double()),
        shaped.joint_centers.double(),
        ratios.clamp_min(1e-6),
        0.0,
        tracking.states.T_world_body[0],
    )


class LiveTracker:
    """Landmarks of one frame in, state out; holds the last frames."""

    def __init__(self, model: HeadModel, K: Tensor, face: Face, config: TrackerConfig) -> None:
        landmarks = model.landmark_faces.shape[0]
        rig = build_rig(model, torch.zeros(0, landmarks, 3), config)
        self._rig: LandmarkRig = rig.of_person(face.neutral)
        self._names = tuple(model.expression_names)
        self._K, self.face, self._config = K.double(), face, config
        self._belongs = (face.neutral[list(IRISES), None] - face.centers).norm(dim=-1).argmin(-1)
        self._points: list[Tensor] = []
        self._times: list[float] = []
        self._motion: Motion | None = None
        self._angles = torch.zeros(2, 2, dtype=torch.float64)

    @torch.no_grad()
    def __call__(self, points: Tensor, time_s: float, known: HeadState | None = None) -> HeadState:
        """The state [] of a frame with landmarks [L, 2] (pixels) at ``time_s``. ``known``: goes in
        without solving."""
        points = points.double()
        if self._times and not 0 < time_s - self._times[-1] < _FORGET_S:
            self._points, self._times, self._motion = [], [], None
        self._points, self._times = (
            [*self._points[1 - WINDOW :], points],
            [*self._times[1 - WINDOW :], time_s],
        )
        if known is not None:
            self._motion = self._appended(self._of_state(known))
            self._angles = quats_to_gaze(known.joints.double())
            return known
        motion = self._appended(self._guess(points))
        observed = self._observations(motion)
        for _ in range(STEPS):
            motion, _, _ = step(motion, self.face.neutral, self._rig, observed, self._config, True)
        self._motion = motion = self._with_gaze(motion, observed)
        return HeadState(
            motion.expression(self._rig)[-1].clamp(0, 1).float(),
            gaze_quats(self._angles).float(),
            make_transform(motion.rotation[-1], motion.translation[-1]).float(),
            self.face.T_world_body,
        )

    def look(self) -> Tensor:
        """The gaze angles [2, 2] by the newest frame's irises."""
        if self._motion is None:
            raise ValueError("look: expected a frame first")
        self._motion = self._with_gaze(self._motion, self._observations(self._motion))
        return self._angles

    def _of_state(self, state: HeadState) -> Motion:
        """A known state as the solver's unknowns [1]."""
        pose = state.T_world_head.double()[None]
        looking = gaze_expression(quats_to_gaze(state.joints.double())[None], self._names)
        controls = torch.linalg.lstsq(
            self._rig.controls.T, (state.expression.double() - looking[0])[:, None]
        ).solution
        return Motion(pose[:, :3, :3], pose[:, :3, 3], controls.T.clamp(0, 1), looking)

    def _guess(self, points: Tensor) -> Motion:
        """Where to start from: the last frame, or the closed form where that is far off."""
        if self._motion is not None:
            last = self._motion.take(slice(-1, None))
            shape = self.face.neutral + torch.einsum(
                "te,eld->tld", last.expression(self._rig), self._rig.expression
            )
            pixels, _, _ = project(self._K, last.rotation, last.translation, shape)
            scale = (points[EYE_CORNERS[0]] - points[EYE_CORNERS[1]]).norm()
            if float((pixels[0] - points).norm(dim=-1).mean()) < _LOST * float(scale):
                return last
        rotation, translation = initial_poses(
            self._K, self.face.neutral, points[None], self._rig.weights[None]
        )
        zero = torch.zeros(1, len(self._rig.control_names), dtype=torch.float64)
        return Motion(rotation, translation, zero, gaze_expression(self._angles[None], self._names))

    def _appended(self, new: Motion) -> Motion:
        if self._motion is None:
            self._points, self._times = self._points[-1:], self._times[-1:]
            return new
        past = self._motion.take(slice(1 - WINDOW, None))
        pairs = zip(vars(past).values(), vars(new).values())
        return Motion(*(torch.cat(pair) for pair in pairs))

    def _observations(self, motion: Motion) -> Observations:
        points = torch.stack(self._points)
        eye_distance = (
            self.face.neutral[EYE_CORNERS[0]] - self.face.neutral[EYE_CORNERS[1]]
        ).norm()
        scale = 100 * motion.translation[:, 2] / (self._K[0, 0] * eye_distance)
        metric = residual_metric(points, self._rig.rest, self._config) * scale[:, None, None, None]
        timeline = Timeline.from_times(np.array(self._times), self._config.max_gap_s)
        weights = self._rig.weights.expand(len(points), -1)
        return Observations(self._K, points, weights, metric, scale, timeline)

    def _with_gaze(self, motion: Motion, observed: Observations) -> Motion:
        """The motion with the newest frame's gaze: towards what its irises say, as far as the eyes
        are open."""
        last = motion.take(slice(-1, None))
        now = dataclasses.replace(
            observed, **{name: getattr(observed, name)[-1:] for name in _PER_FRAME}
        )
        squint = torch.tensor([self.face.squint, -self.face.squint], dtype=torch.float64)
        raw = self._angles.clone()
        raw[:, 0] += squint
        for index, eye in enumerate(EYES):
            mine = torch.tensor(IRISES)[self._belongs == index]
            trust = gaze.trust(gaze.opening(now.points, eye) / self.face.open[index])
            matrix, right = gaze.iris_terms(
                raw[None, index], self.face.neutral[mine], self.face.centers[index], mine, last, now
            )
            damped = matrix[0] + torch.eye(2, dtype=torch.float64) * (
                1e-3 + 0.1 * matrix[0].diagonal()
            )
            raw[index] += float(trust) * gaze.UNIT * torch.linalg.solve(damped, right[0])
        raw[:, 0] -= squint
        raw[:, 1] = raw[:, 1].mean()
        limits = torch.tensor([gaze.MAX_YAW, gaze.MAX_PITCH], dtype=torch.float64)
        self._angles = torch.minimum(torch.maximum(raw, -limits), limits)
        looking = motion.gaze_expression.clone()
        looking[-1] = gaze_expression(self._angles[None], self._names)[0]
        return dataclasses.replace(motion, gaze_expression=looking)
