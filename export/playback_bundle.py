"""The playback bundle: an avatar distilled and stored in few bits, for whatever only plays it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tqdm import tqdm

from likeness.export.base import Exporter, ExportOptions
from likeness.export.culling import culled
from likeness.export.distil import distil
from likeness.export.fidelity import REFERENCE_DB, agreement, images, loss_db
from likeness.export.sampling import teaching_states
from likeness.export.storage import as_stored, halved, quantised
from likeness.fitting.avatars.linear import Linear
from likeness.fitting.bundle import AvatarBundle
from likeness.scene.files import check_absent, new_folder
from likeness.scene.head_state import HeadState


def _export(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """Gaussians that no image misses are left out, and the avatar is distilled unless it is linear
    already; or ``options.exact`` asks for itself, which is then stored in half precision.

    What it costs is measured on recorded frames that distillation did not see. A screen refiner is
    kept as it is, and then all Gaussians are.
    """
    check_absent(out)
    refinement, bundle = bundle.refinement, bundle.coarse()
    test_states = teaching_states(bundle).test
    small = bundle
    if options.exact:
        encodings = halved(small)
    else:
        if refinement is None:  # which knows its Gaussians by number
            small = culled(bundle, options.progress)
        if not isinstance(bundle.avatar, Linear):
            small, _ = distil(small, options.codes, progress=options.progress)
        with tqdm(
            desc="quantising", unit="tensor", disable=not options.progress, leave=False
        ) as bar:
            encodings = quantised(small, test_states, bar.update)
    stored = images(as_stored(small, encodings), test_states)
    psnr = agreement(stored, images(bundle, test_states))
    export = {
        "psnr_to_avatar": round(psnr, 3),
        "loss_db": round(loss_db(psnr), 4),
        "loss_at_db": REFERENCE_DB,
        "frames": len(test_states),
        "exact": bool(options.exact),
    }
    if refinement is not None:
        export["refiner"] = "kept"
    small = dataclasses.replace(
        small, facts={**small.facts, "export": export}, refinement=refinement
    )
    with new_folder(out) as folder:
        small.save(folder, encodings)
    size = sum(path.stat().st_size for path in out.iterdir())
    avatar = small.avatar
    facts: dict[str, Any] = {"bytes": size, "psnr": psnr, "avatar": avatar.kind}
    facts |= {"codes": avatar.config.codes} if isinstance(avatar, Linear) else {}
    facts |= {"gaussians": avatar.num_gaussians}
    return facts | ({} if refinement is None else {"refiner": "kept"})


BUNDLE = Exporter(_export, "bundle", frozenset({"exact", "codes"}))
