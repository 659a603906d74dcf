"""What benchmarks.one_shot measures on synthetic subjects and on real captures, and what an image
costs."""

from __future__ import annotations

import dataclasses
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likeness.fitting import metrics
from likeness.fitting.images import to_uint8
from likeness.fitting.seedings import SEEDINGS
from likeness.head_models import HEAD_MODELS
from likeness.ops.deform import deform, displacement
from likeness.renderers.screen_refiner import Refinement, ScreenRefiner
from likeness.scene.capture import Capture, Identity
from likeness.scene.frame_images import FrameStore
from likeness.scene.head_state import HeadState
from likeness.scene.seeds import Seeds
from likeness.scene.transforms import make_transform, rotvecs_to_matrices
from likeness.seeding.config import SeedingConfig

METHODS = {
    "one-shot": "the network, one image",
    "refined": "the same with the refiner",
    "lifted": "the image unprojected onto the head model, nothing learned",
    "mesh": "the fitted mesh with the image projected on it",
    "picture": "the same, and what the matte shows beside the mesh",
    "mean head": "the mean head in one mean colour",
}
FIRST_SEED = 100_000  # synthetic subjects that no training draws
EXPRESSIONS = {
    "smile": {"mouthSmile": 0.9, "cheekSquint": 0.4},
    "open": {"jawOpen": 0.6},
    "kiss": {"mouthPucker": 0.9},
    "brows": {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.4},
    "blink": {"eyeBlink": 1.0},
}
VIEWS = {"source": 0.0, "left 30": 30.0, "right 30": -30.0}
_MEAN_COLOUR = torch.tensor([0.62, 0.47, 0.40])
_ABOUT = torch.tensor([0.0, -0.03, -0.06])  # metres, head frame: what views turn about


def methods(config: SeedingConfig) -> list[str]:
    """Those of METHODS that there are: refined images need weights with a refiner."""
    return [method for method in METHODS if method != "refined" or _refiner(config) is not None]


def refinement_of(method: str, seeds: Seeds, config: SeedingConfig) -> Refinement | None:
    """What corrects a method's images."""
    return (
        Refinement.of(_refiner(config), seeds.features, len(seeds.head_weights))
        if method == "refined"
        else None
    )


def _refiner(config: SeedingConfig) -> ScreenRefiner | None:
    from likeness.one_shot import weights

    return weights.load(config.weights)[0].refiner


def shown(
    seeds: Seeds, state: HeadState, camera, renderer, refinement: Refinement | None = None
) -> Tensor:
    """Seeds as a rigged avatar with two frames moves them, on white: [H, W, 3]."""
    cloud = deform(
        seeds.cloud,
        displacement=displacement(state.expression, seeds.rig),
        T_body=state.T_head_body,
        head_weights=seeds.head_weights,
    )
    camera = camera.in_frame(state.T_world_head)
    output = renderer.render(cloud, camera)
    output = output if refinement is None else refinement(output, renderer, cloud, camera)
    return output.over(torch.ones(3)).clamp(0, 1)


def seeds_of(method: str, capture: Capture, source: int, config: SeedingConfig) -> Seeds:
    """What a method makes of one frame of a capture."""
    capture = dataclasses.replace(capture, train=(source,), test=())
    frames = FrameStore(capture, [source])
    if method in ("one-shot", "refined"):
        return SEEDINGS["one_shot"](capture, frames, dataclasses.replace(config, sources=1), 0)
    dense = dataclasses.replace(config, opacity=0.95, frames=1)  # as solid as a mesh
    if method in ("lifted", "mesh", "picture"):
        return SEEDINGS[method](capture, frames, dense, 0)
    neutral = HEAD_MODELS[capture.head_model]().neutral_identity()
    seeds = SEEDINGS["mesh"](dataclasses.replace(capture, identity=neutral), frames, dense, 0)
    sh = (_MEAN_COLOUR - 0.5).div(0.28209479).expand_as(seeds.cloud.sh)
    return dataclasses.replace(seeds, cloud=dataclasses.replace(seeds.cloud, sh=sh.contiguous()))


def on_subject(seed: int, config: SeedingConfig, renderer, errors: bool = True) -> dict[str, Any]:
    """Figures by method and image of a synthetic subject seen once, from the front, by a tracker
    that errs."""
    from likeness.synthetic.moments import random_camera, random_person
    from likeness.synthetic.people import write_capture
    from likeness.synthetic.subject import SyntheticSubject
    from likeness.training.config import TrainConfig
    from likeness.training.samples import tracked_with_errors

    model, rng = HEAD_MODELS["anny"](), np.random.default_rng((seed, 31))
    camera, distance = random_camera(rng, 256)
    names, states = subject_states(model, distance)
    with tempfile.TemporaryDirectory() as folder:
        subject = SyntheticSubject(model, random_person(model, seed), 512)
        truth = write_capture(Path(folder), subject, states, camera, "made")
        images = FrameStore(truth, truth.train)
        state, identity = tracked_with_errors(truth, 0, TrainConfig(), rng)
        if not errors:
            state, identity = truth.frames[0].state, truth.identity
        frames = (dataclasses.replace(truth.frames[0], state=state), *truth.frames[1:])
        tracked = dataclasses.replace(
            truth, frames=frames, identity=Identity(*dataclasses.astuple(identity))
        )
        result: dict[str, Any] = {}
        for method in methods(config):
            seeds = seeds_of(method, tracked, 0, config)
            refinement = refinement_of(method, seeds, config)
            rows, rendered, wanted = {}, [], []
            for index, name in enumerate(names):
                colour, matte = images.get(index)
                target = colour * matte + 1 - matte
                # The source is shown as it was tracked, all else as the driver says.
                given = state if index == 0 else truth.frames[index].state
                image = shown(seeds, given, camera, renderer, refinement)
                rows[name] = {
                    "psnr": metrics.psnr(image, target),
                    "ssim": metrics.ssim(image, target),
                }
                rendered.append(to_uint8(image))
                wanted.append(to_uint8(target))
            result[method] = {"pictures": rows, **landmark_errors(rendered, wanted)}
    return result


def subject_states(model, distance: float) -> tuple[list[str], HeadState]:
    """The images of a synthetic subject: the source, the views, the expressions."""
    rest = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    rest[2, 3] = distance
    neutral = HeadState.neutral(len(model.expression_names), len(model.joint_names), rest)
    names, states = [], []
    for name, degrees in VIEWS.items():
        rotation = rotvecs_to_matrices(torch.tensor([0.0, np.radians(degrees), 0.0]).float())
        pose = rest @ make_transform(rotation, _ABOUT - rotation @ _ABOUT)
        names.append(name)
        states.append(dataclasses.replace(neutral, T_world_head=pose, T_world_body=pose))
    for name, shape in EXPRESSIONS.items():
        values = neutral.expression.clone()
        for part, strength in shape.items():
            for side in ("", "Left", "Right"):
                if part + side in model.expression_names:
                    values[model.expression_names.index(part + side)] = strength
        names.append(name)
        states.append(dataclasses.replace(neutral, expression=values))
    return names, HeadState.stack(states)


def landmark_errors(
    found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
) -> dict[str, float | None]:
    """Errors by the face detector's landmarks in per cent of the eye distance; None where it finds
    no face.

    identity: mean distance at rest, of the first len(VIEWS) images. expression: mean distance of
    how landmarks move from the first image, over the others.
    """
    from likeness.preprocess.landmarks import detect, eye_distances

    pairs = [image for pair in zip(wanted, found) for image in pair]
    marks = detect(pairs, max_faces=1)
    points, seen = (
        marks.points.reshape(len(found), 2, -1, 2),
        marks.found.reshape(len(found), 2).all(1),
    )
    if not seen[0]:
        return {"identity": None, "expression": None}
    scale = eye_distances(points[0, 0])
    identity = [distance(points[k, 1] - points[k, 0], scale) for k in range(len(VIEWS)) if seen[k]]
    moved = points - points[:1]
    still = range(len(VIEWS), len(found))
    expression = [distance(moved[k, 1] - moved[k, 0], scale) for k in still if seen[k]]
    return {
        "identity": statistics.mean(identity),
        "expression": statistics.mean(expression) if expression else None,
    }


def distance(offsets: np.ndarray, scale: float) -> float:
    return float(np.linalg.norm(offsets, axis=-1).mean() / scale * 100)


def on_capture(
    capture: Capture, config: SeedingConfig, renderer, most: int, keep: Path | None
) -> dict[str, Any]:
    """One frame of a capture in, at most ``most`` of all others as targets. keep: a file for a
    image to look at."""
    from likeness.one_shot.seeds import chosen_frames

    (source,) = chosen_frames(capture, 1)
    others = [index for index in range(len(capture.frames)) if index != source]
    others = others[:: -(-len(others) // most)]
    frames = FrameStore(capture, [source, *others])
    result: dict[str, Any] = {"source": source, "frames": len(others)}
    mosaic = [torch.cat([on_white(frames, index) for index in _few(source, others)], 1)]
    for method in methods(config):
        begun = time.perf_counter()
        seeds = seeds_of(method, capture, source, config)
        refinement = refinement_of(method, seeds, config)
        seconds = time.perf_counter() - begun
        rows = []
        for index in others:
            frame, target = capture.frames[index], on_white(frames, index)
            image = shown(seeds, frame.state, frame.camera, renderer, refinement)
            rows.append((metrics.psnr(image, target), metrics.ssim(image, target)))
        psnr, ssim = (statistics.mean(column) for column in zip(*rows))
        result[method] = {"psnr": psnr, "ssim": ssim, "seconds": round(seconds, 2)}
        few = [capture.frames[index] for index in _few(source, others)]
        views = [shown(seeds, frame.state, frame.camera, renderer, refinement) for frame in few]
        mosaic.append(torch.cat(views, 1))
    if keep is not None:
        import cv2

        keep.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(keep), to_uint8(torch.cat(mosaic))[..., ::-1])
    return result


def _few(source: int, others: list[int]) -> list[int]:
    return [source, *others[:: max(len(others) // 5, 1)][:5]]


def on_white(frames: FrameStore, index: int) -> Tensor:
    """A frame on white [H, W, 3]."""
    colour, matte = frames.get(index)
    return colour * matte + 1 - matte


def cost(config: SeedingConfig, capture: Capture) -> dict[str, float]:
    """Seconds of the parts for one image, the first time and again, and peak memory of this
    process in GB."""
    from likeness.one_shot import weights
    from likeness.one_shot.seeds import chosen_frames

    begun = time.perf_counter()
    weights.load(config.weights)
    loaded = time.perf_counter()
    (source,) = chosen_frames(capture, 1)
    seeds_of("one-shot", capture, source, config)
    first = time.perf_counter()
    seeds_of("one-shot", capture, source, config)
    again = time.perf_counter()
    return {
        "load_s": round(loaded - begun, 3),
        "first_s": round(first - loaded, 3),
        "again_s": round(again - first, 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
