"""Any avatar as one that is linear in a few codes of the state, for players that cannot afford its
networks."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from likeness.export.codes import CODER_STEPS, fit_coder, principal_codes, solve_modes
from likeness.export.degree import choose_degree
from likeness.export.fidelity import agreement, images, loss_db
from likeness.export.sampling import TeachingStates, teaching_states
from likeness.export.sensitivity import sensitivity
from likeness.export.teacher import Lesson, ask, is_moving, thin, values_per_gaussian
from likeness.fitting.avatars import AvatarModel, AvatarShape
from likeness.fitting.avatars.anchoring import bent_pose
from likeness.fitting.avatars.linear import ROTATION_RAD, TRANSLATION_M, Linear, LinearConfig
from likeness.fitting.bundle import AvatarBundle
from likeness.ops import harmonics as spherical_harmonics
from likeness.renderers import create
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import multiply_quats, normalize_quats, rotvecs_to_quats

CODES, ENOUGH_DB = (24, 40), 40.0
"""Numbers of codes that are tried, and the agreement with the teacher that ends the trying."""

_PROBES = 48
_MEMORY = 1.5e9  # bytes that the teacher's values may take


@dataclasses.dataclass(frozen=True)
class DistilReport:
    """psnr: dB of the distilled avatar's images against its teacher's, on recorded frames that it
    was not taught.
    loss: what that costs an avatar at fidelity.REFERENCE_DB, in dB. kept: how many frames. states:
        how many taught."""

    psnr: float
    loss: float
    kept: int
    states: int
    codes: int
    sh_degree: int
    motion: bool
    reads_pose: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(self).items()
        }


def distil(
    bundle: AvatarBundle,
    codes: int | None = None,
    *,
    states: int = 1200,
    hidden_size: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> tuple[AvatarBundle, DistilReport]:
    """The bundle with a linear avatar in place of its own, and how well that agrees with it.

    codes: R of them; None takes the first of CODES that agrees at ENOUGH_DB. states: at most so
    many that the teacher is asked for; a quarter of them for all its Gaussians (fewer where these
    are many, for memory). The rig, the two frames and the pose correction are the teacher's own. A
    view-dependent teacher is taken as the bundle's camera sees it.
    """
    started = time.perf_counter()
    sample = teaching_states(bundle, states, states // 4, seed)
    degree, moves = choose_degree(bundle, sample.test), is_moving(bundle, sample.taught)
    most = int(_MEMORY / (2 * bundle.avatar.num_gaussians * values_per_gaussian(degree, moves)))
    if most < len(sample.whole):
        sample = teaching_states(bundle, states, max(most, 4), seed)
    whole = sample.taught[sample.whole]
    tries = CODES if codes is None else (codes,)
    expected = images(bundle, sample.test)
    total = len(whole) + _PROBES + len(sample.taught) + CODER_STEPS
    with tqdm(
        total=total, desc="distilling", unit="step", disable=not progress, leave=False
    ) as bar:
        lesson = ask(bundle, whole, degree, moves, bar.update)
        importance = _importance(bundle, lesson, whole, degree, seed, bar.update)
        thinned, share = thin(bundle, importance, seed)
        scouted = ask(thinned, sample.taught, degree, moves, bar.update).values
        for count in tries:
            config = LinearConfig(
                codes=count, hidden_size=hidden_size, sh_degree=degree, motion=moves
            )
            student = _linear(bundle, lesson, config, seed)
            _teach(student, lesson, scouted, share, sample, bar.update)
            distilled = dataclasses.replace(bundle, avatar=student.eval())
            psnr = agreement(images(distilled, sample.test), expected)
            if psnr >= ENOUGH_DB or count == tries[-1]:
                break
            bar.total += CODER_STEPS
    report = DistilReport(
        psnr,
        loss_db(psnr),
        len(sample.test),
        len(sample.taught),
        count,
        degree,
        moves,
        lesson.reads_pose,
        time.perf_counter() - started,
    )
    facts = {**bundle.facts, "distilled": {"from": bundle.avatar.kind, **report.to_json()}}
    if bundle.shows_unseen:
        facts["shows_unseen"] = True
    return dataclasses.replace(distilled, facts=facts), report


def _teach(
    student: Linear,
    lesson: Lesson,
    scouted: Tensor,
    share: Tensor,
    sample: TeachingStates,
    progress,
) -> None:
    """Gives the student its codes, by what the scouts [T, S, D] of importance [S, D] show, and then
    its modes."""
    codes, shares = principal_codes(scouted, share, sample.weights, student.config.codes)
    # fewer states than codes leave the rest at zero
    padding = (0, student.config.codes - codes.shape[1])
    codes, shares = nn.functional.pad(codes, padding), nn.functional.pad(shares, padding)
    inputs = _inputs(sample.taught, lesson.reads_pose)
    fit_coder(student.coder, inputs, codes, shares, sample.weights, progress)
    with torch.no_grad():
        own = student.coder(_inputs(sample.taught[sample.whole], True))
        _set(student, lesson, *solve_modes(lesson.values, own, sample.weights[sample.whole]))


def _linear(bundle: AvatarBundle, lesson: Lesson, config: LinearConfig, seed: int) -> Linear:
    """A linear avatar whose coder is drawn by the seed, with the teacher's neutral geometry, rig
    and anchoring."""
    teacher: AvatarModel = bundle.avatar
    rig = getattr(teacher, "rig_shapes", None)
    shape = AvatarShape(
        teacher.num_gaussians,
        teacher.num_expressions,
        teacher.num_joints,
        0 if rig is None else rig.shape[1],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Linear(dataclasses.replace(config, anchoring=teacher.anchoring.config), shape)
    student.anchoring.load_state_dict(teacher.anchoring.state_dict())
    with torch.no_grad():
        if rig is not None:
            student.get_buffer("rig_shapes").copy_(rig)
            student.get_buffer("rig_changes").copy_(teacher.rig_changes)
        for name in ("head_logits", "rig_vertices", "rig_weights"):
            if name in teacher.per_gaussian:
                student.per_gaussian[name].copy_(teacher.per_gaussian[name])
        student.per_gaussian["means"].copy_(lesson.rest.means)
        student.per_gaussian["quats"].copy_(lesson.rest.quats)
        student.per_gaussian["log_scales"].copy_(lesson.rest.scales.log())
    return student


def _importance(
    bundle: AvatarBundle, lesson: Lesson, states: HeadState, degree: int, seed: int, progress
) -> Tensor:
    """[N, D]: how much images change with each value, by images of some of the states."""
    chosen = torch.linspace(0, len(states) - 1, _PROBES).round().long()
    probe = _linear(
        bundle,
        lesson,
        LinearConfig(codes=1, hidden_layers=0, sh_degree=degree, motion=lesson.moves),
        seed,
    )
    with torch.no_grad():
        (layer,) = linear_layers(probe)
        layer.weight.zero_()
        layer.bias.fill_(1)
    renderer = create("cpu")
    importance = sensitivity(
        probe,
        lesson.values[chosen],
        states[chosen],
        bundle.default_camera,
        renderer,
        seed,
        progress,
    )
    # What no probe saw may be seen from elsewhere: it counts a little.
    return importance + 1e-3 * importance.mean(0)


def linear_layers(avatar: Linear) -> list[nn.Linear]:
    """The layers of the network that gives the codes."""
    return [module for module in avatar.coder if isinstance(module, nn.Linear)]


def _inputs(states: HeadState, reads_pose: bool) -> Tensor:
    """What the coder reads at states [T]: [T, C]. The pose is held still where the teacher does not
    read it, so that the network does not either."""
    poses = torch.stack([bent_pose(states[index]) for index in range(len(states))])
    return torch.cat([states.expression, poses if reads_pose else torch.zeros_like(poses)], 1)


def _set(student: Linear, lesson: Lesson, base: Tensor, modes: Tensor) -> None:
    """Writes solved bases [N, D] and modes [N, R, D] into the student; bases of motion go into its
    geometry."""
    p = student.per_gaussian
    channels = 1 + 3 * spherical_harmonics.num_coefficients(student.config.sh_degree)
    p["base_looks"].copy_(base[:, :channels])
    p["look_modes"].copy_(modes[..., :channels])
    if lesson.moves:
        translation, rotation, log_scale = base[:, channels:].split(3, -1)
        p["means"].add_(TRANSLATION_M * translation)
        p["quats"].copy_(
            multiply_quats(rotvecs_to_quats(ROTATION_RAD * rotation), normalize_quats(p["quats"]))
        )
        p["log_scales"].add_(log_scale)
        p["motion_modes"].copy_(modes[..., channels:])
