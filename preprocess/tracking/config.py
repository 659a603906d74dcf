"""Options of the tracker."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """Options of ``track``.

    Energies are in squared per cent of the outer eye-corner distance. A frame's data term is half
    the weighted mean of its squared landmark residuals, so that a prior of weight w on x costs as
    much as an error of w * x**2.
    """

    iterations: int = 14
    """Outer iterations: each one Gauss-Newton step on all frames, then one on the shared shape,
    then the gaze."""

    pose_iterations: int = 2
    """Of these, the first that move the head only: expressions and shape join when it stands about
    right."""

    tolerance: float = 5e-4
    """Stops early when an iteration changes the energy by less than this share of it. Shape and
    motion take turns, so that it rises now and then on its way down."""

    huber_percent: float = 3.0
    """Residual, in per cent of the eye distance, beyond which a landmark's pull no longer grows."""

    outlier_frame_factor: float = 3.0
    """A frame whose residual exceeds this many times the median counts less, by the square of the
    excess."""

    expression_l1: float = 0.05
    """Linear cost of each expression coefficient: keeps shapes off that explain little."""

    expression_l2: float = 1.5
    """Quadratic cost of each expression coefficient: keeps curves meaningful (without it two thirds
    saturate)."""

    expression_effort: float = 0.7
    """Power of the distance by which a coefficient moves the landmarks, in its costs. At 0 the
    cheapest way to part the lips is always the jaw, closed teeth or not: it moves them ten times as
    far as the lips' own shapes. At 1 no jaw opens as far as it does."""

    expression_smoothness: float = 0.1
    """Cost of a coefficient's squared change between frames, at 30 frames per second."""

    rotation_smoothness: float = 15.0
    """Cost of the squared change of angular velocity, in (0.1 rad per frame) at 30 frames per
    second. A second difference, because a first difference shrinks the range of motion."""

    translation_smoothness: float = 3.0
    """The same for the position, in centimetres per frame."""

    gap_weight: float = 24.0
    """Weight of one lid or lip gap against one landmark: blinks and speech are small, but people
    see them first."""

    rigid_weight: float = 1.0
    """Extra weight of landmarks that expressions hardly move (nose bridge, temples, forehead),
    which hold the pose."""

    outline_weight: float = 1.0
    """Weight of the face's outline, against 1 of other landmarks."""

    outline_tangent_weight: float = 0.08
    """Share of its weight that the outline has along itself. Detected outlines lie right across,
    and slide along as the head nods (a fifth of its angle is lost to that if they count in
    full)."""

    outline_width_mm: float = 12.0
    """Distance from the outline over which landmarks slide with it."""

    identity_prior: float = 1e-3
    """Cost of the squared identity coefficients (of unit variance over people)."""

    offset_prior: float = 2e-5
    """Cost of the offset field per squared millimetre over the face, sideways and up. Low, for it
    also takes up where on real faces the detector puts its landmarks, which differs from the places
    found on renderings."""

    offset_depth_prior: float = 1e-3
    """The same in depth. A head that turns outweighs it; one that hardly turns does not show its
    depth, and would grow a nose without this cost."""

    offset_modes: int = 200
    """Smooth modes of the offset field per axis."""

    closed_lips_weight: float = 0.1
    """Cost of the squared millimetres between the lips at rest. A mouth that is open in most frames
    else becomes a part of the shape, which no expression can close."""

    snap_steps: int = 0
    """Last steps of the shape alone, with offsets that cost ``snap_relief`` of their prior: the
    surface meets the landmarks of few images, whose expressions have been told from the shape by
    strong priors before."""

    snap_relief: float = 1e-3
    """See ``snap_steps``."""

    max_gap_s: float = 0.5
    """Frames further apart than this are not tied to each other in time."""

    gaze_smoothness: float = 1.0
    """Cost of the change of gaze between frames against the irises' residuals; jumps (saccades) are
    let through."""

    open_eye: float = 0.0
    """Least height over width of an eye that counts as open: for images too few to show it both
    open and shut."""

    min_frames: int = 3
    """Fewer frames with a face than this are refused: a clip must show its person in motion."""

    chunk_frames: int = 128
    """Frames whose Jacobians are held in memory at a time."""
