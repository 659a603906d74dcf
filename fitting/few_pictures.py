"""From the capture of one or a few pictures to a bundle: what the initializer gives, fitted only on request."""

from __future__ import annotations

import dataclasses
import logging
import time

from fitting.bundle import AvatarBundle
from fitting.config import FitConfig
from fitting.loop import create_avatar
from fitting.refinement import FREEDOM, can_refine, refine
from fitting.run_directory import RunDirectory, versions
from renderers import create
from scene.capture import Capture
from scene.errors import UserError
from scene.pictures import FrameStore

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PicturesResult:
    """bundle: as saved. seconds: by part. notes: for people, recorded in the run."""

    bundle: AvatarBundle
    seconds: dict[str, float]
    notes: dict[str, str]


def fit_pictures(
    run: RunDirectory, capture: Capture, config: FitConfig, *, refine_s: float | None = None, device: str = "cpu",
    seed: int = 0,
) -> PicturesResult:  # fmt: skip
    """Makes the avatar of a run of pictures and saves its bundle.

    refine_s: seconds of fitting to the pictures themselves; none if None. Raises UserError for an avatar that cannot be
    refined so.
    """
    frames, seconds = FrameStore(capture, capture.train, device), {}
    begun = time.perf_counter()
    avatar = create_avatar(config, capture, frames, seed).to(device)
    seconds["seeds"] = round(time.perf_counter() - begun, 3)
    notes = {
        "held_out": "nothing: the avatar has all the pictures there are, and its figures are those of pictures that "
        "it was made from"
    }
    if refine_s is not None:
        if not can_refine(avatar):
            raise UserError(
                f"--refine: avatars of kind {avatar.kind} are not refined (they lack one of {', '.join(FREEDOM)}); "
                "leave it out, or use the preset one-picture"
            )
        renderer = create("auto", device)
        renderer.warm_up()
        begun = time.perf_counter()
        steps = refine(avatar, capture, frames, renderer, refine_s, seed)
        seconds["refine"] = round(time.perf_counter() - begun, 3)
        notes["refinement"] = f"{steps} steps on the pictures themselves in {refine_s:g} s"
    facts = {
        "seed": seed, "capture_hash": capture.source_hash, "versions": versions(), "notes": notes,
        "pictures": [picture["name"] for picture in capture.report.get("pictures", [])],
    }  # fmt: skip
    AvatarBundle.from_fit(avatar.eval(), capture, facts).save(run.bundle)
    return PicturesResult(AvatarBundle.load(run.bundle), seconds, notes)
