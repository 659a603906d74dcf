"""Captures of synthetic subjects whose truth is known: endless training data for models that see
many persons.

One folder a person, by its seed; each is a small ordinary capture whose states, identity, cameras
and mattes are the truth. Folders are whole or absent, so that an interrupted run resumes where it
stopped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from likeness.head_models import HEAD_MODELS
from likeness.head_models.base import HeadModel
from likeness.scene.camera import Camera
from likeness.scene.capture import MANIFEST, Capture, TrackedFrame, TrackedFrames
from likeness.scene.files import new_folder
from likeness.scene.head_state import HeadState
from likeness.scene.image_files import save_image
from likeness.synthetic.moments import random_camera, random_person, random_states

_SEED_DIGITS = 7


@dataclasses.dataclass(frozen=True)
class PeopleConfig:
    """What is drawn of each synthetic subject."""

    frames: int = 10
    """Moments, each with another pose and expression."""
    size: int = 256
    """Width and height in pixels."""
    head_model: str = "anny"
    """Name in HEAD_MODELS."""
    texture_size: int = 512
    """Texels along a side of the head's texture."""


def make_people(
    root: Path, seeds: Iterable[int], config: PeopleConfig, processes: int = 1
) -> list[Path]:
    """Makes the captures of seeds that are not in ``root`` yet; returns the folders of all of them.

    Raises UserError where the disk is full or the folder cannot be written to.
    """
    from tqdm import tqdm

    seeds = list(seeds)
    missing = [seed for seed in seeds if not (folder_of(root, seed) / MANIFEST).is_file()]
    bar = tqdm(
        total=len(missing), desc="making people", unit="person", disable=None if missing else True
    )
    task = functools.partial(make_person, root, config=config)
    with bar:
        if processes <= 1:
            for seed in missing:
                task(seed)
                bar.update()
        else:
            from concurrent.futures import ProcessPoolExecutor, as_completed
            from multiprocessing import get_context

            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                for future in as_completed([pool.submit(task, seed) for seed in missing]):
                    future.result()
                    bar.update()
    return [folder_of(root, seed) for seed in seeds]


def folder_of(root: Path, seed: int) -> Path:
    """Where the capture of a seed is."""
    return Path(root) / f"person{seed:0{_SEED_DIGITS}d}"


def make_person(root: Path, seed: int, config: PeopleConfig) -> Path:
    """Draws one person at random moments; see ``make_people``."""
    from likeness.synthetic.subject import SyntheticSubject

    model = _model(config.head_model)
    rng = np.random.default_rng((seed, 22))
    camera, distance = random_camera(rng, config.size)
    states = random_states(model, config.frames, distance, rng)
    subject = SyntheticSubject(model, random_person(model, seed), config.texture_size)
    with new_folder(folder_of(root, seed)) as folder:
        write_capture(folder, subject, states, camera, f"made-person-{seed}")
    return folder_of(root, seed)


def write_capture(folder: Path, subject, states: HeadState, camera: Camera, source: str) -> Capture:
    """Draws a ``SyntheticSubject`` in states [T] seen by one camera, or by one each [T], into a
    folder, as a capture of training frames alone."""
    model = subject.model
    cameras = camera if camera.batch_shape else Camera.stack([camera] * len(states))
    frames = []
    for index in range(len(states)):
        state, camera = states[index], cameras[index]
        rgb, alpha = subject.render(state, camera)
        paths = folder / "images" / f"{index:06d}.png", folder / "mattes" / f"{index:06d}.png"
        straight = np.where(alpha[..., None] > 0, rgb / np.maximum(alpha[..., None], 1e-3), 0)
        _write_image(paths[0], straight[..., ::-1])
        _write_image(paths[1], alpha)
        posed = subject.shaped.posed(state)
        landmarks, _ = camera.in_frame(state.T_world_head).project(posed.landmarks())
        frames.append(
            TrackedFrame(
                *paths, index / 25, camera, state, landmarks, torch.ones(len(landmarks)), 0.0
            )
        )
    capture = Capture(
        root=folder,
        head_model=model.name,
        expression_names=tuple(model.expression_names),
        joint_names=tuple(model.joint_names),
        identity=subject.person.identity,
        fps=25.0,
        frames=TrackedFrames.stack(frames),
        train=tuple(range(len(frames))),
        test=(),
        source_hash=source,
        report={"warnings": []},
    )
    capture.save()
    return capture


def _write_image(path: Path, values: np.ndarray) -> None:
    save_image(path, np.clip(np.round(values * 255), 0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=2)
def _model(name: str) -> HeadModel:
    return HEAD_MODELS[name]()
