"""The playback bundle: an avatar distilled and stored in few bits, for whatever only plays it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tqdm import tqdm

from likeness.export.base import Exporter, ExportOptions
from likeness.export.culling import culled
from likeness.export.distil import distil
from likeness.export.fidelity import REFERENCE_DB, agreement, loss_db, pictures
from likeness.export.sampling import teaching_states
from likeness.export.storage import as_stored, halved, quantised
from likeness.fitting.bundle import AvatarBundle
from likeness.scene.files import check_absent, new_folder
from likeness.scene.head_state import HeadState

KIND = "linear"


def _export(
    bundle: AvatarBundle, states: HeadState, out: Path, options: ExportOptions
) -> dict[str, Any]:
    """Gaussians that no picture misses are left out, and the avatar is distilled
    unless it is linear already; or ``options.exact`` asks for itself, which is then stored in half
    precision. What it costs is measured on recorded frames that distillation did not see. A screen
    refiner is kept as it is, and then all Gaussians are."""
    check_absent(out)
    refinement, bundle = bundle.refinement, bundle.coarse()
    kept = teaching_states(bundle).kept
    shown = bundle
    if options.exact:
        encodings = halved(shown)
    else:
        if refinement is None:  # which knows its Gaussians by number
            shown = culled(bundle, options.progress)
        if bundle.avatar.kind != KIND:
            shown, _ = distil(shown, options.codes, progress=options.progress)
        with tqdm(
            desc="quantising", unit="tensor", disable=not options.progress, leave=False
        ) as bar:
            encodings = quantised(shown, kept, bar.update)
    psnr = agreement(pictures(as_stored(shown, encodings), kept), pictures(bundle, kept))
    export = {
        "psnr_to_avatar": round(psnr, 3),
        "loss_db": round(loss_db(psnr), 4),
        "loss_at_db": REFERENCE_DB,
        "frames": len(kept),
        "exact": bool(options.exact),
    }
    if refinement is not None:
        export["refiner"] = "kept"
    shown = dataclasses.replace(
        shown, facts={**shown.facts, "export": export}, refinement=refinement
    )
    with new_folder(out) as folder:
        shown.save(folder, encodings)
    size = sum(path.stat().st_size for path in out.iterdir())
    details = {"codes": shown.avatar.config.codes} if shown.avatar.kind == KIND else {}
    details["gaussians"] = shown.avatar.num_gaussians
    details |= {} if refinement is None else {"refiner": "kept"}
    return {"bytes": size, "psnr": psnr, "avatar": shown.avatar.kind, **details}


BUNDLE = Exporter(_export, "bundle", frozenset({"exact", "codes"}))
