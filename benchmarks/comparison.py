"""All presets on the same captures in one run, with equal minutes; or the default preset without
each of its parts.

    python -m benchmarks.comparison --videos a.mp4 b.mp4 --minutes 10 --seeds 3 --jobs 2 --threads 1
    python -m benchmarks.comparison --changes --videos a.mp4 b.mp4 --iterations 2000 --seeds 3 --jobs 2 --threads 1

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
from benchmarks.common.fits import Fit, file_name, kept, run_all
from likeness.cli import command_line
from likeness.cli.command_line import option, positive_int, positive_number
from likeness.scene.files import check_writable

DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a table: what is fitted, to the capture tracked in which way."""

    name: str
    preset: str
    settings: tuple[str, ...] = ()
    tracking: str = "photometric"


PRESETS = tuple(
    Entry(name, name)
    for name in (DEFAULT, "headgas-plus", "gaussianhead-plus", "headgas", "gaussianhead")
)
# What tracking by landmarks alone costs: these presets on the other capture of the same clips.
BY_LANDMARKS = tuple(
    Entry(f"{name}{tables.LANDMARKS}", name, tracking="landmarks") for name in (DEFAULT, "headgas")
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
    "step sizes of a long fit": ("schedule.short_fit_exponent=0",),
}


def changes() -> tuple[Entry, ...]:
    """The default preset, and it without each of its parts."""
    return (
        Entry(DEFAULT, DEFAULT),
        *(Entry(name, DEFAULT, settings) for name, settings in CHANGES.items()),
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    option(
        source,
        "--videos",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="videos to make captures of, in --out",
    )
    option(
        source,
        "--captures",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="ready captures of photometric tracking",
    )
    option(
        parser,
        "--landmark-captures",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="ready captures of the same videos tracked by landmarks, in the order of --captures",
    )
    option(
        parser,
        "--changes",
        action="store_true",
        help="the default preset without each of its parts",
    )
    option(
        parser,
        "--only",
        nargs="+",
        metavar="TEXT",
        help="only default and what has one of these in its name",
    )
    length = parser.add_mutually_exclusive_group()
    option(
        length,
        "--minutes",
        type=positive_number,
        unit="minutes",
        help="length of each fit [default: 10]",
    )
    option(
        length,
        "--iterations",
        type=positive_int,
        metavar="N",
        help="the same for all in steps, as for --changes",
    )
    option(
        parser,
        "--seeds",
        type=positive_int,
        default=3,
        metavar="N",
        help="seeds 0 to N - 1 of each",
    )
    option(parser, "--jobs", type=positive_int, default=1, metavar="N", help="fits at a time")
    option(
        parser, "--threads", type=positive_int, default=2, metavar="N", help="threads of each fit"
    )
    option(
        parser,
        "--out",
        type=Path,
        default=Path("runs/comparison"),
        metavar="DIR",
        help="captures and figures",
    )
    option(parser, "--json", type=Path, metavar="FILE", help="also write the figures here")
    option(
        parser,
        "--finished",
        action="store_true",
        help="fit nothing: the table of the fits that are finished",
    )
    option(
        parser,
        "--set",
        action="append",
        default=[],
        dest="common",
        metavar="KEY=VALUE",
        help="a setting of every fit",
    )
    option(
        parser,
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with weights of MODNet, VGG16 and LPIPS",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(arguments)
    if args.videos and args.landmark_captures:
        options.error(
            "--landmark-captures belongs to --captures; of --videos both captures are made"
        )
    command_line.resume_with("the same command resumes: finished fits are kept")
    for path in filter(None, (args.out, args.json)):
        check_writable(path)
    if args.videos:
        clips = clip_captures.prepared(args.videos, args.out / "captures", args.weights)
    else:
        clips = clip_captures.given(args.captures, args.landmark_captures)
    entries = chosen(changes() if args.changes else (*PRESETS, *BY_LANDMARKS), args.only)
    minutes = args.minutes or (None if args.iterations else 10.0)
    fits = planned(
        clips, entries, args.seeds, minutes, tuple(args.common), args.weights, args.iterations
    )
    labelled = [(label, fit) for label, (_, _, fit) in fits.items()]
    found = (
        kept(labelled, args.out)
        if args.finished
        else run_all(labelled, args.out, args.jobs, args.threads)
    )
    rows = [
        {
            "clip": clip.name,
            "name": entry.name,
            "tracking": entry.tracking,
            "seed": fit.seed,
            **found[label],
        }
        for label, (clip, entry, fit) in fits.items()
        if label in found
    ]
    conditions = {"minutes": minutes, "iterations": args.iterations, "seeds": args.seeds}
    conditions |= {"jobs": args.jobs, "threads": args.threads}
    conditions |= {
        "settings": args.common,
        "missing": len(fits) - len(rows),
        "left_out": left_out(clips, entries),
    }
    write(rows, entries, conditions, args.changes, args.json)


def chosen(entries: Sequence[Entry], only: Sequence[str] | None) -> list[Entry]:
    """The first entry, and of the others those with one of the texts in their name."""
    return [
        entries[0],
        *(e for e in entries[1:] if only is None or any(text in e.name for text in only)),
    ]


def planned(
    clips: Sequence[Clip],
    entries: Sequence[Entry],
    seeds: int,
    minutes: float | None,
    common: tuple[str, ...],
    weights: Path | None,
    iterations: int | None = None,
) -> dict[str, tuple[Clip, Entry, Fit]]:
    """Every fit by the name of its file, in the order of the work: seeds, clips, entries."""
    found = {}
    for seed in range(seeds):
        for clip in clips:
            for entry in entries:
                if entry.tracking in clip.captures:
                    settings = (*common, *entry.settings)
                    fit = Fit(
                        clip.captures[entry.tracking],
                        entry.preset,
                        settings,
                        seed,
                        minutes,
                        weights,
                        iterations,
                    )
                    label = file_name(clip.name, entry.name, fit.length, f"seed{seed}")
                    found[label] = clip, entry, fit
    return found


def left_out(clips: Sequence[Clip], entries: Sequence[Entry]) -> list[str]:
    """Names of the entries for which there are no captures."""
    return [
        entry.name
        for entry in entries
        if not all(entry.tracking in clip.captures for clip in clips)
    ]


def write(
    rows: list[dict[str, Any]],
    entries: Sequence[Entry],
    conditions: dict[str, Any],
    by_change: bool,
    json: Path | None,
) -> None:
    """Prints the tables, and writes the figures to a file."""
    from likeness.scene.files import write_json

    same = [row for row in rows if row["tracking"] == "photometric"]
    names = [entry.name for entry in entries if entry.tracking == "photometric"]
    compared = [tables.compare(same, name, sign=1 if by_change else -1) for name in names[1:]]
    costs = [
        tables.compare(rows, e.name, sign=1, base=e.preset)
        for e in entries
        if e.tracking == "landmarks"
    ]
    parts = [tables.heading(rows, conditions), tables.figures(same)]
    parts += [tables.changes(compared, same) if by_change else tables.differences(compared)]
    parts += [tables.landmarks(costs, rows)] if costs else []
    print("\n\n".join(parts))
    if json:
        write_json(
            json,
            {
                **conditions,
                "rows": rows,
                "means": tables.means(rows),
                "against_default" if by_change else "default_against": compared,
                "landmarks_against_photometric": costs,
            },
        )


if __name__ == "__main__":
    command_line.run(main)
