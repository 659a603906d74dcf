"""From the capture of one or a few pictures to a bundle: the avatar of the seeds, fitted only on
request."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.fitting import networks
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.fade import fade_border
from likeness.fitting.finetune import FREEDOM, can_finetune, finetune
from likeness.fitting.loop import avatar_of, make_seeds
from likeness.fitting.recolouring import check_recolourable, recolour
from likeness.fitting.run_directory import RunDirectory, versions
from likeness.renderers import create
from likeness.renderers.screen_refiner import Refinement
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.seeds import Seeds

if TYPE_CHECKING:
    from likeness.preprocess.portraits.capture import PortraitOptions

_NOTHING_HELD = (
    "nothing: the avatar has all the images there are, and its figures are those of images "
    "that it was made from"
)

_REFINED = (
    "images are refined by a network that came with the weights (likeness render --coarse shows "
    "them without it); .ply, .spz and web pages leave it out"
)
_UNREFINED = "left out: it knows the Gaussians as the network gives them, and --refine changed them"


@dataclasses.dataclass(frozen=True)
class PicturesResult:
    """bundle: as saved. seconds: by part. notes: for people, recorded in the run. figures: further
    metrics."""

    bundle: AvatarBundle
    seconds: dict[str, float]
    notes: dict[str, str]
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Base:
    """The run whose avatar an edited picture changes."""

    run: RunDirectory
    bundle: AvatarBundle
    capture: Capture

    @classmethod
    def open(cls, root: Path) -> Base:
        """Raises UserError when it is no finished run, or its avatar cannot be recoloured."""
        run = RunDirectory.open(root)
        bundle = AvatarBundle.load(run.bundle)
        check_recolourable(bundle, str(root))
        capture = Capture.load(run.capture)
        if capture.expression_names != bundle.expression_names:
            raise UserError(
                f"{root}: its capture is not that of its avatar; give a run that likeness fit made"
            )
        return cls(run, bundle, capture)

    def options(self, options: PortraitOptions) -> PortraitOptions:
        """Options for pictures of this person; a picture without a focal length is taken for one by
        its camera."""
        camera = self.bundle.default_camera
        focal = options.focal or float(camera.K[0, 0]) / max(camera.width, camera.height)
        return dataclasses.replace(options, head_model=self.capture.head_model, focal=focal)


def recolour_pictures(
    run: RunDirectory, capture: Capture, base: Base, *, device: str = "cpu"
) -> PicturesResult:
    """Saves the base's avatar with the colours of the pictures of a capture as the bundle of a run.

    The capture's states become those at which the avatar lies over the pictures.
    """
    start_s = time.perf_counter()
    recoloured = recolour(base.bundle, capture, device=device)
    capture.select(capture.train).with_states(recoloured.states).save()
    pictures = ", ".join(_names(capture))
    change = f"{base.run.root} with the colours of {pictures}; all else is as it was"
    notes = {"held_out": _NOTHING_HELD, "recoloured": change}
    if base.bundle.refinement is not None:
        notes["screen_refiner"] = "left out: it knows the colours as the network gives them"
    facts = {
        **base.bundle.facts,
        "recoloured": {"base": str(base.run.root), **recoloured.figures},
        "notes": notes,
    }
    dataclasses.replace(recoloured.bundle.coarse(), facts=facts).save(run.bundle)
    seconds = {"recolouring": round(time.perf_counter() - start_s, 3)}
    figures = {"recoloured": recoloured.figures}
    return PicturesResult(AvatarBundle.load(run.bundle), seconds, notes, figures)


def _names(capture: Capture) -> list[str]:
    return [picture["name"] for picture in capture.report.get("pictures", [])]


def fit_pictures(
    run: RunDirectory,
    capture: Capture,
    config: FitConfig,
    *,
    refine_s: float | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> PicturesResult:
    """Makes the avatar of a run of pictures and saves its bundle.

    refine_s: seconds of fitting to the pictures themselves; none if None. Raises UserError for an
    avatar that cannot be refined so, and where the networks' backend was asked for and is not
    there.
    """
    networks.require(config.networks, device)
    frames, seconds = FrameStore(capture, capture.train, device), {}
    start_s = time.perf_counter()
    seeds = make_seeds(config, capture, frames, seed)
    avatar = avatar_of(seeds, config, capture, seed).to(device)
    seconds["seeds"] = round(time.perf_counter() - start_s, 3)
    notes = {"held_out": _NOTHING_HELD}
    refinement = _refinement(config, seeds)
    if refinement is not None:
        notes["screen_refiner"] = _REFINED if refine_s is None else _UNREFINED
    if refine_s is not None:
        refinement = None
        if not can_finetune(avatar):
            raise UserError(
                f"--refine: avatars of kind {avatar.kind} are not refined (they lack one of "
                f"{', '.join(FREEDOM)}); leave it out, or use the preset one-picture"
            )
        renderer = create("auto", device)
        renderer.warm_up()
        start_s = time.perf_counter()
        steps = finetune(avatar, capture, frames, renderer, refine_s, seed)
        seconds["refine"] = round(time.perf_counter() - start_s, 3)
        notes["refinement"] = f"{steps} steps on the images themselves in {refine_s:g} s"
    fade_border(avatar, capture)
    facts = {
        "seed": seed,
        "capture_hash": capture.source_hash,
        "versions": versions(),
        "notes": notes,
        "pictures": _names(capture),
        "extrapolates": True,
        "networks": dataclasses.asdict(config.networks),
    }
    bundle = AvatarBundle.from_fit(avatar.eval(), capture, facts)
    dataclasses.replace(bundle, refinement=refinement).save(run.bundle)
    return PicturesResult(AvatarBundle.load(run.bundle), seconds, notes)


def _refinement(config: FitConfig, seeds: Seeds) -> Refinement | None:
    """The one-shot network's screen refiner, where that made the seeds and has one."""
    if config.initializer != "one_shot":
        return None
    from likeness.one_shot import weights

    refiner = weights.load(config.seeds.weights)[0].refiner
    if refiner is None:
        return None
    return Refinement.of(refiner, seeds.features, seeds.cloud.num_gaussians)
