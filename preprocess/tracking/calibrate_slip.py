"""Finds how the detector's landmarks slip over the face as it turns, and writes the asset of ``detector_slip.py``.

    python -m preprocess.tracking.calibrate_slip

Made people (``preprocess.demo_subject``) of random shape, skin, hair and light turn, nod and speak before a camera;
the detector runs on their pictures; and what it adds to the true projections is regressed on the view. A constant per
person and the amount of each expression are fitted beside it and dropped: shapes of real faces differ anyway. The face
is taken to be symmetric. The seeds are none of the demo's; no real footage takes part. About 15 s per person.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from preprocess.tracking.detector_slip import ASSET, view_terms
from preprocess.tracking.landmark_groups import EYE_CORNERS
from scene.camera import Camera
from scene.files import atomic_path
from scene.head_state import HeadState
from scene.transforms import make_transform, rotvecs_to_matrices, transform_points

_log = logging.getLogger(__name__)

SIZE, FOCAL, DISTANCE, NOISE = 448, 2.5, 1.1, 1.2  # pixels; image widths; metres; 8-bit steps
# Expressions that a calibration clip plays, each with its largest value; both sides alike.
_PLAYED = {
    "jawOpen": 0.5, "mouthSmile": 0.55, "mouthPucker": 0.35, "mouthFunnel": 0.3, "browInnerUp": 0.5,
    "browOuterUp": 0.4, "browDown": 0.35, "mouthUpperUp": 0.2, "mouthLowerDown": 0.3, "eyeBlink": 0.6,
}  # fmt: skip
# A mirrored picture changes the sign of the direction's x.
_MIRRORED_TERMS = (-1.0, 1.0, 1.0, 1.0, -1.0)


def make_states(names: tuple[str, ...], num_joints: int, num_frames: int, seed: int) -> tuple[HeadState, Tensor]:
    """States [T] of a head that turns (30 degrees), nods (20) and tilts (9) while it makes faces, and the played
    amounts [T, P]. Frequencies differ from person to person, so that nothing goes together throughout."""
    rng = np.random.default_rng(seed)
    t = 2 * np.pi * np.arange(num_frames) / num_frames

    def wave(low: int, high: int) -> np.ndarray:
        return np.sin(rng.integers(low, high) * t + rng.uniform(0, 2 * np.pi))

    turns = np.stack([0.38 * wave(5, 8), 0.55 * wave(2, 5), 0.15 * wave(3, 7)], 1)
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    place = np.stack([0.01 * wave(1, 4), 0.02 + 0.01 * wave(1, 4), DISTANCE + 0.06 * wave(1, 4)], 1)
    pose = make_transform(flip @ rotvecs_to_matrices(torch.from_numpy(turns)), torch.from_numpy(place)).float()
    body = make_transform(flip, torch.tensor([0.0, 0.02, DISTANCE], dtype=torch.float64)).float().expand_as(pose)
    played = np.stack([top * (0.5 + 0.5 * wave(4, 14)) ** 2 for top in _PLAYED.values()], 1).astype(np.float32)
    expression = torch.zeros(num_frames, len(names))
    for column, name in enumerate(_PLAYED):
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in names:
                expression[:, names.index(full)] = torch.from_numpy(played[:, column])
    joints = torch.tensor([1.0, 0, 0, 0]).repeat(num_frames, num_joints, 1)
    return HeadState(expression, joints, pose, body), torch.from_numpy(played)


def observe(model, seed: int, num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """One made person: view terms [F, 5], played amounts [F, P] and slips [F, L, 2] of the frames with a face."""
    from preprocess.demo_subject.subject import Person, Subject
    from preprocess.landmarks import detect

    subject = Subject(model, Person.random(model, seed))
    K = torch.tensor([[FOCAL * SIZE, 0.0, SIZE / 2], [0.0, FOCAL * SIZE, SIZE / 2], [0.0, 0.0, 1.0]])
    camera = Camera(K, torch.eye(4), SIZE, SIZE)
    states, played = make_states(model.expression_names, len(model.joint_names), num_frames, seed)
    wall = subject.wall(SIZE, SIZE)
    rng = np.random.default_rng(seed)

    def pictures():
        for frame in range(num_frames):
            rgb, alpha = subject.render(states[frame], camera)
            picture = 255 * (rgb + (1 - alpha[..., None]) * wall)
            yield np.clip(picture + rng.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)

    landmarks = detect(pictures())
    truth = subject.shaped.posed(states).landmarks()
    pixels, _ = camera.in_frame(torch.eye(4)).project(transform_points(states.T_world_head, truth))
    rotation, translation = states.T_world_head[:, :3, :3], states.T_world_head[:, :3, 3]
    terms, axes = view_terms(rotation, translation)
    corners = model.landmark_vertices(model.template)[list(EYE_CORNERS)]
    percent = 100 * translation[:, 2] / (K[0, 0] * (corners[0] - corners[1]).norm())
    slips = (torch.as_tensor(landmarks.points) - pixels) * percent[:, None, None] @ axes.transpose(1, 2)
    found = torch.as_tensor(landmarks.found)
    return terms[found], played[found], slips[found]


def fit(observations: list[tuple[Tensor, Tensor, Tensor]], mirror: Tensor) -> Tensor:
    """Coefficients [5, L, 2] from several people's observations, made symmetric by ``mirror`` [L]."""
    rows, values = [], []
    for person, (terms, played, slips) in enumerate(observations):
        own = torch.zeros(len(terms), len(observations))
        own[:, person] = 1
        mirrored = slips[:, mirror] * torch.tensor([-1.0, 1.0])
        rows += [torch.cat([terms, played, own], 1), torch.cat([terms * torch.tensor(_MIRRORED_TERMS), played, own], 1)]
        values += [slips, mirrored]
    design, target = torch.cat(rows).double(), torch.cat(values).double()
    normal = design.T @ design + 1e-3 * torch.eye(design.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(normal, design.T @ target.flatten(1))
    return solution[: len(_MIRRORED_TERMS)].unflatten(1, target.shape[1:])


def calibrate(people: int = 10, frames: int = 120, first_seed: int = 1000, out: Path = ASSET) -> None:
    """Looks at made people, logs how well the slip of the others explains each of three, and writes the asset."""
    from preprocess.head_models import HEAD_MODELS

    model = HEAD_MODELS["anny"]()
    observations = []
    for seed in range(first_seed, first_seed + people):
        observations.append(observe(model, seed, frames))
        _log.info("person %d: %d of %d frames with a face", seed, len(observations[-1][0]), frames)
    for left_out in range(min(3, people)):
        others = fit(observations[:left_out] + observations[left_out + 1 :], model.landmark_mirror)
        terms, _, slips = observations[left_out]
        rest = slips - torch.einsum("tk,kld->tld", terms, others.float())
        before, after = (float((x - x.mean(0)).square().sum(-1).mean().sqrt()) for x in (slips, rest))
        _log.info("person %d left out: %.2f %% of the eye distance without, %.2f %% with", left_out, before, after)
    with atomic_path(out) as path, path.open("wb") as file:
        np.savez(file, coefficients=fit(observations, model.landmark_mirror).numpy().astype(np.float16))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    calibrate()
