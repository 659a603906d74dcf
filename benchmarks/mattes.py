"""Mattes of synthetic subjects before walls, furniture, a chair's back, pictures, flowers and their
own shadow, against the truth.

    python -m benchmarks.mattes --people 4
    python -m benchmarks.mattes --people 2 --backgrounds wall clutter --sheet

Each person speaks, turns the head and sways as people do in videos of themselves; the composed
clips are compressed. Errors are those of Rhemann et al. (2009), flicker is dtSSD; "edge" counts the
pixels within 10 of a soft pixel of the true matte. Drawn people and figures are kept in --out: the
benchmark resumes where it was stopped.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.figures import parser, table

if TYPE_CHECKING:
    import numpy as np

    from likeness.scene.head_state import HeadState
    from likeness.synthetic.subject import SyntheticSubject

_EDGE = 10  # pixels at 512 around soft pixels
_SWAY_M = (0.012, 0.004, 0.008)  # amplitudes of head and shoulders together
_TILES = 6


def main() -> None:
    from likeness.synthetic.backgrounds import BACKGROUNDS

    options = parser(__doc__)
    add = options.add_argument
    add("--people", type=int, default=4, metavar="N", help="synthetic subjects 0 to N - 1 [4]")
    add("--first", type=int, default=0, metavar="SEED", help="the first of them [0]")
    add("--frames", type=int, default=120, metavar="N", help="frames of each [120]")
    add("--size", type=int, default=512, metavar="PIXELS", help="side of the images [512]")
    add("--backgrounds", nargs="+", default=list(BACKGROUNDS), choices=list(BACKGROUNDS))
    add("--matting", default="selfie", help="a name in MATTING [selfie]")
    add("--label", default="now", help="name of the program's state, for figures side by side")
    add("--sheet", action="store_true", help="write pictures: truth and matte over green")
    add("--out", type=Path, default=Path("runs/mattes"), metavar="DIR", help="kept figures")
    args = options.parse_args()

    from likeness.cli import command_line

    command_line.set_up_environment()
    from likeness.scene.files import write_json
    from likeness.scene.machine import machine_line

    rows = [
        on_person(seed, name, args)
        for seed in range(args.first, args.first + args.people)
        for name in args.backgrounds
    ]
    print("\n".join(sorted({machine_line(row["machine"], load=False) for row in rows})))
    print(errors_table(rows))
    if args.json:
        write_json(args.json, {"rows": rows})


def on_person(seed: int, background: str, args: Any) -> dict[str, Any]:
    """The errors of one person before one background."""
    import numpy as np

    from benchmarks.common.matte_errors import matte_errors
    from likeness.preprocess.matting import MattingChoice, choose
    from likeness.scene.files import write_json
    from likeness.scene.machine import machine

    record = args.out / args.label / f"person{seed}-{background}.json"
    asked = {"frames": args.frames, "size": args.size, "matting": args.matting}
    if record.exists():
        kept = json.loads(record.read_text())
        if kept["asked"] != asked:
            sys.exit(f"{record}: figures with other options; choose another --out or --label")
        return kept
    folder = args.out / f"person{seed}-{args.size}-{args.frames}"
    frames, truths = composed(folder, seed, background, args.frames, args.size)
    model, _ = choose(MattingChoice(args.matting, download=False))
    start = time.perf_counter()
    survey(model, frames)
    mattes = np.stack(list(model.mattes(frames)))
    seconds = time.perf_counter() - start
    alphas, exact = (values.astype(np.float32) / 255 for values in (mattes, truths))
    row = {
        "asked": asked,
        "machine": machine(),
        "person": seed,
        "background": background,
        "ms_per_frame": 1000 * seconds / len(frames),
        "whole": matte_errors(alphas, exact),
        "edge": matte_errors(alphas, exact, edges(truths)),
    }
    if args.sheet:
        write_sheet(record.with_suffix(".jpg"), frames, truths, mattes)
    write_json(record, row)
    whole = row["whole"]
    print(f"{record.stem}: SAD {whole['sad']:.2f}, {row['ms_per_frame']:.0f} ms", file=sys.stderr)
    return row


def survey(model: Any, frames: list[np.ndarray]) -> None:
    """Shows a model what preprocessing shows it of the whole clip."""
    import numpy as np

    from likeness.preprocess.matting.base import SURVEYED, SurveyingModel

    if isinstance(model, SurveyingModel):
        chosen = np.linspace(0, len(frames) - 1, min(SURVEYED, len(frames))).astype(int)
        model.survey(frames[index] for index in chosen)


def edges(truths: np.ndarray) -> np.ndarray:
    """Bool [T, H, W]: where the true mattes uint8 [T, H, W] are soft, or close by."""
    import cv2
    import numpy as np

    reach = round(_EDGE * truths.shape[-1] / 512)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    soft = ((truths > 12) & (truths < 243)).astype(np.uint8)
    return np.stack([cv2.dilate(frame, kernel) > 0 for frame in soft])


def composed(
    folder: Path, seed: int, background: str, count: int, size: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The frames uint8 RGB [H, W, 3] of a compressed clip, and the true mattes uint8 [T, H, W]."""
    import cv2
    import numpy as np

    from likeness.preprocess.video import VideoReader, open_video
    from likeness.scene.files import atomic_path
    from likeness.synthetic.backgrounds import make_background

    layers = folder / "layers"
    clip = folder / f"{background}.mp4"
    if not clip.exists():
        subject, states, camera = person(seed, count, size)
        behind = make_background(background, subject, size, size, seed)
        rng = np.random.default_rng((seed, 43))
        with atomic_path(clip) as path:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (size, size))
            for layer in drawn(layers, subject, states, camera):
                alpha = layer[..., 3:].astype(np.float32) / 255
                image = layer[..., :3] + (1 - alpha) * 255 * behind.behind(alpha[..., 0])
                image += 1.2 * rng.standard_normal(image.shape, np.float32)
                writer.write(np.clip(np.round(image[..., ::-1]), 0, 255).astype(np.uint8))
            writer.release()
    paths = sorted(layers.glob("*.png"))[:count]
    truths = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 3] for path in paths])
    frames = [frame.image for frame in VideoReader(open_video(clip))]
    return frames, truths


@functools.lru_cache(maxsize=1)
def person(seed: int, count: int, size: int) -> tuple[SyntheticSubject, HeadState, Any]:
    """Who it is, how they move [count] and what films them; every second one moves little."""
    import dataclasses

    import numpy as np
    import torch

    from likeness.head_models import HEAD_MODELS
    from likeness.scene.transforms import make_transform
    from likeness.synthetic.moments import random_person
    from likeness.synthetic.motion import make_motion
    from likeness.synthetic.subject import SyntheticSubject
    from likeness.synthetic.truth import DemoConfig

    rng = np.random.default_rng((seed, 42))
    focal, field = rng.uniform(1.6, 3.2), rng.uniform(0.42, 0.62)
    config = DemoConfig(frames=count, size=size, seed=seed, focal=focal, field=field)
    model = HEAD_MODELS["anny"]()
    subject = SyntheticSubject(model, random_person(model, seed), 512)
    states = make_motion(model, count, 25.0, config.distance, 0.07 * field, seed)
    if seed % 2:
        # played at a third of the speed: the head moves little in the same time
        slow = make_motion(model, count, 75.0, config.distance, 0.07 * field, seed)
        states = dataclasses.replace(states, T_world_head=slow.T_world_head)
    t, strength = np.arange(count) / 25.0, 0.4 if seed % 2 else 1.0
    waves = [
        strength * a * np.sin(2 * np.pi * t / rng.uniform(4, 9) + rng.uniform(0, 6.28))
        for a in _SWAY_M
    ]
    shift = torch.from_numpy(np.stack(waves, 1)).float()
    moved = make_transform(torch.eye(3).expand(count, 3, 3), shift)
    states = dataclasses.replace(
        states, T_world_head=moved @ states.T_world_head, T_world_body=moved @ states.T_world_body
    )
    return subject, states, config.camera


def drawn(
    folder: Path, subject: SyntheticSubject, states: HeadState, camera: Any
) -> Iterator[np.ndarray]:
    """The person without background, uint8 [H, W, 4] premultiplied by alpha, from the disk where
    it was drawn before."""
    import cv2
    import numpy as np

    from likeness.scene.image_files import save_image

    for index in range(len(states)):
        path = folder / f"{index:06d}.png"
        if not path.is_file():
            rgb, alpha = subject.render(states[index], camera)
            layer = np.concatenate([rgb[..., ::-1], alpha[..., None]], 2)
            save_image(path, np.clip(np.round(255 * layer), 0, 255).astype(np.uint8))
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        yield cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA)


def write_sheet(path: Path, frames: list[np.ndarray], truths: np.ndarray, mattes) -> None:
    """Frames, and what true and found matte cut out of them, over green."""
    import cv2
    import numpy as np

    from likeness.scene.image_files import save_image

    columns = []
    for index in np.linspace(0, len(frames) - 1, _TILES).astype(int):
        tiles = [frames[index]]
        for alpha in (truths[index], mattes[index]):
            share = alpha[..., None] / 255.0
            tiles.append(frames[index] * share + (1 - share) * [0, 200, 0])
        columns.append(np.concatenate(tiles))
    sheet = np.concatenate(columns, 1).astype(np.uint8)
    sheet = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    save_image(path, np.ascontiguousarray(sheet[..., ::-1]))


def errors_table(rows: list[dict[str, Any]]) -> str:
    """The means over the people for each background, of the whole matte and of its edge."""
    from benchmarks.common.matte_errors import FIGURES

    titles = ["background", *FIGURES, *(f"{name}, edge" for name in FIGURES), "ms a frame"]
    lines = []
    for name in dict.fromkeys(row["background"] for row in rows):
        of_name = [row for row in rows if row["background"] == name]
        cells = [
            statistics.mean(row[part][figure] for row in of_name)
            for part in ("whole", "edge")
            for figure in FIGURES
        ]
        cells.append(statistics.mean(row["ms_per_frame"] for row in of_name))
        lines.append([name, *(f"{cell:.2f}" for cell in cells)])
    return table(titles, lines)


if __name__ == "__main__":
    main()
