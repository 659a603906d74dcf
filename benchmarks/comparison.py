"""Presets on the same captures in one run, with equal minutes or steps.

    python -m benchmarks.comparison --videos a.mp4 b.mp4 --minutes 10 --jobs 2 --threads 1
    python -m benchmarks.comparison --changes --videos a.mp4 b.mp4 --iterations 2000
    python -m benchmarks.comparison --ablations headgas --captures DIR --iterations 2000

Without --changes and --ablations all presets; with --changes the default preset without each of its
parts; with --ablations the ablations of the papers, against the full model of the preset.

Of each video two captures are made in --out, which differ in the tracking alone. Every preset is
fitted to the one of photometric tracking; what tracking by landmarks alone costs is a table of its
own. Held-out frames are measured as a driver reaches them, without the secondary motion (sway) that
was tracked on these very frames; the PSNR with it stands beside. A difference counts (*) where it
is more than twice the spread over seeds. Every fit has its own process; finished ones are kept in
--out, so that the same command resumes: all of seed 0 first. Fits with fewer seeds than others are
compared on the seeds that both have; --seeds 1, then --seeds 3 --only TEXT and --seeds 3 --finished
measure only some with three.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import clips as clip_captures
from benchmarks.common import tables
from benchmarks.common.clips import Clip
from benchmarks.common.figures import parser as new_parser
from benchmarks.common.fits import Fit, file_name, kept, run_all
from likeness.cli import command_line
from likeness.cli.command_line import positive_int, positive_number
from likeness.scene.files import check_writable, write_json

DEFAULT = tables.DEFAULT


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a table: what is fitted, to the capture tracked in which way, and the name of the
    entry that it is compared with."""

    name: str
    preset: str
    settings: tuple[str, ...] = ()
    tracking: str = "photometric"
    base: str = DEFAULT

    @property
    def by_landmarks(self) -> bool:
        return self.tracking == "landmarks"


PRESETS = tuple(
    Entry(name, name)
    for name in (DEFAULT, "headgas-plus", "gaussianhead-plus", "headgas", "gaussianhead")
)
# What tracking by landmarks alone costs: these presets on the other capture of the same clips.
BY_LANDMARKS = tuple(
    Entry(f"{name}{tables.LANDMARKS}", name, tracking="landmarks", base=name)
    for name in (DEFAULT, "headgas")
)
# Each part of configs/default.yaml switched off alone.
CHANGES: dict[str, tuple[str, ...]] = {
    "without two frames": ("headgas.anchoring.two_frames=false",),
    "without the rig": ("headgas.anchoring.rigged=false",),
    "without sway": ("headgas.anchoring.swaying=false",),
    "seeds on the mesh alone": ("initializer=mesh",),
    "white background, no matte loss": ("objective.background=white", "objective.matte=0"),
    "full resolution throughout": ("schedule.half_resolution_until=0",),
    "without base appearance": ("headgas.base_appearance=false",),
    "coefficients without limits": ("headgas.limited=false",),
    "a basis for every coefficient": ("headgas.expression_codes=0",),
    "step sizes of a long fit": ("schedule.short_fit_exponent=0",),
}
NO_PERCEPTUAL = "without perceptual loss"
# Preset, then what each ablation is called in its paper, and the settings that make it.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "headgas": {
        "full": (),
        "without blending": ("headgas.blending=none",),
        "change of position and rotation": ("headgas.changes=geometry",),
        "change of everything": ("headgas.changes=everything",),
        "without MLP": ("headgas.blending=parameters",),
        NO_PERCEPTUAL: ("objective.perceptual=0",),
    },
    "gaussianhead": {
        "full, K = 4": (),
        "without derivation, K = 0": ("gaussianhead.derivations=0",),
        **{f"K = {k}": (f"gaussianhead.derivations={k}",) for k in (1, 2, 8, 16)},
        "K by equation 12": (
            "gaussianhead.derivations=32",
            "gaussianhead.derivation_schedule=true",
        ),
        "Euclidean Adam": ("gaussianhead.derivation_kind=euclidean",),
        "shared channels": ("gaussianhead.shared_channels=true",),
        "random and fixed derivations": ("gaussianhead.derivation_kind=fixed",),
        "global rotation": ("gaussianhead.derivation_kind=scene",),
        "single scale": ("gaussianhead.scales=[1]",),
        "without tri-plane": ("gaussianhead.triplane=false",),
        "without deformation": ("gaussianhead.deformation=false",),
        NO_PERCEPTUAL: ("objective.perceptual=0",),
    },
}
# The same with the default preset's parts around it, with which minutes suffice for a sharp image.
ABLATIONS["gaussianhead-plus"] = {
    name: settings for name, settings in ABLATIONS["gaussianhead"].items() if name != NO_PERCEPTUAL
}


def changes() -> tuple[Entry, ...]:
    """The default preset, and it without each of its parts."""
    return (
        Entry(DEFAULT, DEFAULT),
        *(Entry(name, DEFAULT, settings) for name, settings in CHANGES.items()),
    )


def ablations(preset: str, perceptual: bool = True) -> tuple[Entry, ...]:
    """The full model of a preset, and its ablations. perceptual: whether there is such a loss."""
    switches = ABLATIONS[preset].items()
    base = f"{preset}, {next(iter(ABLATIONS[preset]))}"
    return tuple(
        Entry(f"{preset}, {name}", preset, settings, base=base)
        for name, settings in switches
        if perceptual or name != NO_PERCEPTUAL
    )


def parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--videos", nargs="+", type=Path, help="captures of them are made in --out")
    source.add_argument(
        "--captures", nargs="+", type=Path, help="ready captures of photometric tracking"
    )
    add(
        "--landmark-captures",
        nargs="+",
        type=Path,
        default=[],
        help="ready captures of the same videos tracked by landmarks, in the order of --captures",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--changes", action="store_true", help="the default without each part")
    what.add_argument("--ablations", nargs="+", choices=ABLATIONS, help="of these presets")
    add("--only", nargs="+", metavar="TEXT", help="only entries with one of these in their name")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive_number, help="of each fit [10]")
    length.add_argument("--iterations", type=positive_int, help="the same for all in steps")
    add("--seeds", type=positive_int, default=3, help="seeds 0 to N - 1 of each [3]")
    add("--jobs", type=positive_int, default=1, help="fits at a time [1]")
    add("--threads", type=positive_int, default=2, help="threads of each fit [2]")
    add("--out", type=Path, default=Path("runs/comparison"), help="captures and figures")
    add("--finished", action="store_true", help="fit nothing: the table of the finished fits")
    add(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting of every fit",
    )
    add("--weights", type=Path, help="folder with weights of MODNet, VGG16 and LPIPS")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(arguments)
    if args.videos and args.landmark_captures:
        options.error("--landmark-captures belongs to --captures; of --videos both are made")
    command_line.resume_with("the same command resumes: finished fits are kept")
    for path in filter(None, (args.out, args.json)):
        check_writable(path)
    if args.videos:
        clips = clip_captures.prepared(args.videos, args.out / "captures", args.weights)
    else:
        clips = clip_captures.given(args.captures, args.landmark_captures)
    entries = chosen(_entries(args), args.only)
    minutes = args.minutes or (None if args.iterations else 10.0)
    of_all = {"minutes": minutes, "iterations": args.iterations, "weights": args.weights}
    fits = planned(clips, entries, args.seeds, tuple(args.settings), **of_all)
    labelled = [(label, fit) for label, (_, _, fit) in fits.items()]
    if args.finished:
        figures = kept(labelled, args.out)
    else:
        figures = run_all(labelled, args.out, args.jobs, args.threads)
    rows = [
        {"clip": clip.name, "name": entry.name, "tracking": entry.tracking, "seed": fit.seed}
        | figures[label]
        for label, (clip, entry, fit) in fits.items()
        if label in figures
    ]
    conditions = {name: getattr(args, name) for name in ("seeds", "jobs", "threads", "settings")}
    conditions |= {"minutes": minutes, "iterations": args.iterations}
    conditions |= {"missing": len(fits) - len(rows), "left_out": left_out(clips, entries)}
    of_presets = not (args.changes or args.ablations)
    report = compared(rows, entries, of_presets)
    print(text(rows, report, conditions, of_presets))
    if args.json:
        means = tables.means(rows)
        write_json(args.json, {**conditions, "rows": rows, "means": means, "compared": report})


def _entries(args: argparse.Namespace) -> list[Entry]:
    if args.changes:
        return [*changes()]
    if args.ablations:
        from likeness.fitting.perceptual import VGGLoss

        perceptual = VGGLoss.create(folder=args.weights, download=False) is not None
        return [entry for preset in args.ablations for entry in ablations(preset, perceptual)]
    return [*PRESETS, *BY_LANDMARKS]


def chosen(entries: Sequence[Entry], only: Sequence[str] | None) -> list[Entry]:
    """The entries that others are compared with first, and those with one of the texts in their
    name."""
    return [
        entry
        for entry in entries
        if only is None or entry.name == entry.base or any(text in entry.name for text in only)
    ]


def planned(
    clips: Sequence[Clip],
    entries: Sequence[Entry],
    seeds: int,
    common: tuple[str, ...] = (),
    **of_all: Any,
) -> dict[str, tuple[Clip, Entry, Fit]]:
    """Every fit by the name of its file, in the order of the work: seeds, clips, entries. common:
    settings of every fit; of_all: other fields of them."""
    results = {}
    for seed in range(seeds):
        for clip in clips:
            for entry in entries:
                if entry.tracking in clip.captures:
                    capture, settings = clip.captures[entry.tracking], (*common, *entry.settings)
                    fit = Fit(capture, entry.preset, settings, seed, **of_all)
                    label = file_name(clip.name, entry.name, fit.length, f"seed{seed}")
                    results[label] = clip, entry, fit
    return results


def left_out(clips: Sequence[Clip], entries: Sequence[Entry]) -> list[str]:
    """Names of the entries for which there are no captures."""
    return [
        entry.name
        for entry in entries
        if not all(entry.tracking in clip.captures for clip in clips)
    ]


def compared(
    rows: Sequence[dict[str, Any]], entries: Sequence[Entry], of_presets: bool
) -> list[dict[str, Any]]:
    """Each entry but the bases against its base (``tables.compare``): what a change or landmarks
    alone cost; of presets, what the default gains on them."""
    return [
        tables.compare(
            rows, entry.name, -1 if of_presets and not entry.by_landmarks else 1, entry.base
        )
        for entry in entries
        if entry.name != entry.base
    ]


def text(
    rows: Sequence[dict[str, Any]],
    report: Sequence[dict[str, Any]],
    conditions: dict[str, Any],
    of_presets: bool,
) -> str:
    """The tables of whole presets, or of changes to some."""
    photometric = [row for row in rows if row["tracking"] == "photometric"]
    costs = [entry for entry in report if entry["name"].endswith(tables.LANDMARKS)]
    others = [entry for entry in report if entry not in costs]
    parts = [tables.heading(rows, conditions), tables.figures(photometric)]
    if of_presets:
        parts.append(tables.differences(others))
    for base in [] if of_presets else dict.fromkeys(entry["base"] for entry in others):
        of_base = [entry for entry in others if entry["base"] == base]
        parts.append(tables.changes(of_base, photometric, base))
    if costs:
        parts.append(tables.landmarks(costs, rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    command_line.run(main)
