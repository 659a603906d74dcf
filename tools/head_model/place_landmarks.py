"""Places the 478 landmarks on a head model anew: ``python -m tools.head_model.place_landmarks``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from likeness.cli import command_line
from likeness.head_models import HEAD_MODELS
from tools.head_model.embedding import EmbeddingConfig, observe, place, residuals


def main() -> int:
    """Draws, detects, places; prints residuals; writes the .npz that the model's builder reads."""
    parser = argparse.ArgumentParser(
        description="Place the landmark detector's points on a head model, by images."
    )
    parser.add_argument(
        "--model", default="anny", choices=list(HEAD_MODELS), help="head model (default: anny)"
    )
    parser.add_argument(
        "--out", type=Path, help="file to write (.npz); without it only residuals are printed"
    )
    parser.add_argument(
        "--people",
        type=command_line.positive_int,
        default=7,
        help="synthetic subjects to draw (default: 7; 35 images each)",
    )
    parser.add_argument(
        "--seed", type=int, default=100, help="seed of the first of them (default: 100)"
    )
    args = parser.parse_args()
    model = HEAD_MODELS[args.model]()
    config = EmbeddingConfig(people=args.people, first_seed=args.seed)
    with tqdm(total=config.num_images, desc="images") as bar:
        observed = observe(model, config, lambda: bar.update())
    embedding = place(model, observed, config)
    if args.out:
        embedding.save(args.out)
    present = residuals(
        model, observed, model.landmark_faces.numpy(), model.landmark_barycentrics.numpy()
    )
    count = len(observed.points)
    print(f"{count} images; residual over landmarks, mm: median, 90th percentile, worst")
    for name, values in (("placed", embedding.residual_mm), ("the model's own", present)):
        figures = (np.median(values), np.percentile(values, 90), values.max())
        print(f"  {name:16s}" + "".join(f" {value:5.2f}" for value in figures))
    same = (embedding.mirror == model.landmark_mirror.numpy()).mean()
    print(f"  twins as in the model: {100 * same:.1f} %")
    return 0


if __name__ == "__main__":
    command_line.run(main)
