"""A tiny made-up capture and run directory: what reports and metrics are tested on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from likeness.fitting.images import to_uint8
from likeness.head_models import HEAD_MODELS
from likeness.scene.camera import Camera
from likeness.scene.capture import Capture, TrackedFrame, TrackedFrames
from likeness.scene.head_state import HeadState
from likeness.scene.transforms import make_transform, rotvecs_to_matrices

SIZE = 64


def landmarks(size: int = SIZE, shift: float = 0.0) -> torch.Tensor:
    """478 points: the groups of face oval, lips and eyes where a face has them, the others at the
    nose."""
    from likeness.head_models.landmarks import EYES, LIPS, OVAL

    points = np.full((478, 2), (0.5, 0.5))
    groups = ((OVAL, 0.5, 0.45, 0.25, 0.3), (LIPS, 0.5, 0.6, 0.1, 0.05))
    groups += ((EYES["right"], 0.4, 0.4, 0.05, 0.03), (EYES["left"], 0.6, 0.4, 0.05, 0.03))
    for group, x, y, across, down in groups:
        angles = np.linspace(0, 2 * np.pi, len(group), endpoint=False)
        points[list(group)] = np.stack([x + across * np.sin(angles), y - down * np.cos(angles)], -1)
    points[152] = (0.5, 0.75)
    return torch.from_numpy(points * size + (shift, 0)).float()


def matte(size: int = SIZE) -> np.ndarray:
    """uint8 [H, W]: a head, and shoulders below it, with a soft edge."""
    ys, xs = (np.mgrid[:size, :size] + 0.5) / size
    inside = np.maximum(1 - np.hypot((xs - 0.5) / 0.32, (ys - 0.42) / 0.36), (ys - 0.8) * 4)
    return to_uint8(np.clip(inside * size / 6 + 0.5, 0, 1)[..., None].repeat(3, -1))[..., 0]


def make_capture(
    root: Path, num_frames: int = 6, size: int = SIZE, head_model: str = "anny"
) -> Capture:
    """A capture of random texture whose last two frames are for testing, saved under ``root``."""
    generator = np.random.default_rng(0)
    texture = cv2.GaussianBlur(generator.uniform(0, 1, (size, size, 3)), (0, 0), 2)
    texture = to_uint8((texture - texture.min()) / np.ptp(texture))
    model = HEAD_MODELS["anny"]()
    frames = []
    for index in range(num_frames):
        image_path, matte_path = (
            root / folder / f"{index:06d}.png" for folder in ("images", "mattes")
        )
        for path, picture in ((image_path, np.roll(texture, index, 1)), (matte_path, matte(size))):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
        turn = rotvecs_to_matrices(torch.tensor([0.0, 0.3 * np.sin(index), 0.0]).float())
        facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        pose = make_transform(facing @ turn, torch.tensor([0.0, 0.0, 1.0]))
        state = HeadState.neutral(len(model.expression_names), 2, pose)
        state.expression[model.expression_names.index("jawOpen")] = index / num_frames
        K = torch.tensor([[2.5 * size, 0, size / 2], [0, 2.5 * size, size / 2], [0, 0, 1]])
        camera = Camera(K, torch.eye(4), size, size)
        frames.append(
            TrackedFrame(
                image_path,
                matte_path,
                index / 25,
                camera,
                state,
                landmarks(size),
                torch.ones(478),
                1.0,
            )
        )
    train, test = tuple(range(num_frames - 2)), (num_frames - 2, num_frames - 1)
    report = {
        "video": {"path": "me.mp4", "width": 640, "height": 480, "fps": 25.0, "frames": num_frames},
        "warnings": [
            {"what": "the head hardly turns", "remedy": "look left & right while filming"}
        ],
        "seconds": {"landmarks": 1.0, "matting": 2.0},
    }
    capture = Capture(
        root,
        head_model,
        model.expression_names,
        model.joint_names,
        model.neutral_identity(),
        25.0,
        TrackedFrames.stack(frames),
        train,
        test,
        "0" * 64,
        report,
    )
    capture.save()
    return capture


def make_run(root: Path) -> Path:
    """A finished run directory around that capture."""
    from likeness.fitting.evaluation import evaluate, headline
    from likeness.scene.frame_images import composite, load_rgba

    capture = make_capture(root / "capture")
    generator = torch.Generator().manual_seed(0)

    def avatar(index: int) -> torch.Tensor:
        truth = composite(load_rgba(capture.frames[index]))
        return (truth + 0.05 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)

    evaluation = evaluate(avatar, capture, capture.test).to_json()
    apply_secondary_motion = {
        **evaluation,
        "heldout": {**evaluation["heldout"], "psnr": evaluation["heldout"]["psnr"] + 3},
    }
    parts = {key: evaluation[key] for key in ("heldout", "regions")}
    (root / "heldout").mkdir()
    for index in capture.test:
        for name, picture in (
            ("truth", composite(load_rgba(capture.frames[index]))),
            ("avatar", avatar(index)),
        ):
            cv2.imwrite(
                str(root / "heldout" / f"{index:06d}_{name}.png"), to_uint8(picture)[..., ::-1]
            )
    metrics = {
        "headline": headline(evaluation),
        "unswayed": evaluation,
        **apply_secondary_motion,
        "train": {"psnr": 27.0},
        "baseline": {"unswayed": parts, **parts},
        "num_gaussians": 12345,
        "bundle_mb": 3.2,
        "seconds": {"preprocess": 3.0, "fit": 60.0},
        "versions": {"code": "abc", "torch": "2.13.0"},
        "notes": {"perceptual_loss": "off: no weights"},
        "truth": {"rotation_degrees": {"median": 1.234}},
    }
    (root / "metrics.json").write_text(json.dumps(metrics, allow_nan=False))
    (root / "config.yaml").write_text("avatar: headgas\nobjective:\n  l1: 0.8\n")
    log = [
        {
            "step": 10 * k,
            "seconds": k,
            "loss": 1 / (k + 1),
            "psnr": 10 + k,
            "num_gaussians": 2500 + 10 * k,
        }
        for k in range(40)
    ]
    (root / "log.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in log) + '{"step": 4'
    )
    return root
