"""Places the 478 landmarks on a head model anew: ``python -m tools.place_landmarks --model anny
--out FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Draws, detects, places; prints residuals; writes the .npz that the model's builder reads."""
    parser = argparse.ArgumentParser(
        description="Place the landmark detector's points on a head model, by pictures."
    )
    parser.add_argument("--model", default="anny", help="name of the head model (default: anny)")
    parser.add_argument(
        "--out", type=Path, help="file to write (.npz); without it only residuals are printed"
    )
    parser.add_argument(
        "--people", type=int, default=7, help="made people to draw (default: 7; 35 pictures each)"
    )
    parser.add_argument(
        "--seed", type=int, default=100, help="seed of the first of them (default: 100)"
    )
    args = parser.parse_args()

    import numpy as np

    from likeness.head_models import HEAD_MODELS
    from likeness.head_models.embedding import EmbeddingConfig, observe, place, residuals
    from likeness.scene.errors import UserError

    def progress(done: int, total: int) -> None:
        print(
            f"\rpictures {done}/{total}",
            end="\n" if done == total else "",
            file=sys.stderr,
            flush=True,
        )

    if args.model not in HEAD_MODELS:
        parser.error(f"--model {args.model}: unknown; one of {', '.join(HEAD_MODELS)}")
    if args.people < 1:
        parser.error(f"--people {args.people}: expected at least 1")
    try:
        model = HEAD_MODELS[args.model]()
        config = EmbeddingConfig(people=args.people, first_seed=args.seed)
        seen = observe(model, config, progress)
        embedding = place(model, seen, config)
        if args.out:
            embedding.save(args.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    present = residuals(
        model, seen, model.landmark_faces.numpy(), model.landmark_barycentrics.numpy()
    )
    print(
        f"{len(seen.points)} pictures; residual over landmarks, mm: median, 90th percentile, worst"
    )
    for name, values in (("placed", embedding.residual_mm), ("the model's own", present)):
        print(
            f"  {name:16s} {np.median(values):5.2f} {np.percentile(values, 90):5.2f} {values.max():5.2f}"
        )
    same = (embedding.mirror == model.landmark_mirror.numpy()).mean()
    print(f"  twins as in the model: {100 * same:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
