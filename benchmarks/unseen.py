"""Expressions and views that a clip never showed.

    python -m benchmarks.unseen --people 2 --iterations 500
    python -m benchmarks.unseen --people 3 --tracking photometric --size 512
    python -m benchmarks.unseen --captures DIR... --split mouth lids smile yaw time

Synthetic people: the clip shows a calm face from the front; measured against the truth are 30
expressions and mixtures, the sounds of speech, and views from up to 45° aside. Tracking: the truth,
or what preprocessing makes of the video; then the truth's states are carried over by the constant
difference of head frame and neutral face. Captures: fitted to the half of the training frames with
the mouth most closed, measured on the tenth with it most open; so for lids (closed), smile (width)
and yaw; time is the capture's own split. Held-out frames have no secondary motion of their own.

Lips: how far the mouths of the avatar's pictures are open, over the truth's, where those are open;
gap: lip opening in eye distances where the truth's are closed; width: of mouths; lids: mean
difference of their opening; all by the landmark detector, on both pictures. Every fit has its own
process. Figures, bundles and sheets of pictures (truth above avatar) are kept in --out, so that the
same command resumes; give another --out for another version of the program.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.face_measures import SPLITS
from benchmarks.common.figures import parser as new_parser
from benchmarks.common.figures import table
from benchmarks.common.fits import file_name, run_all
from likeness.cli import command_line
from likeness.cli.command_line import positive_int, positive_number
from likeness.scene.files import check_writable, write_json
from likeness.scene.machine import machine_line

TIME = "time"
# column: title, digits
COLUMNS = {
    "psnr": ("full", 2),
    "face": ("face", 2),
    "mouth": ("mouth", 2),
    "eyes": ("eyes", 2),
    "mouth_ssim": ("mouth SSIM", 3),
    "eyes_ssim": ("eyes SSIM", 3),
    "mouth_flip": ("mouth FLIP", 3),
    "eyes_flip": ("eyes FLIP", 3),
    "flip": ("FLIP", 3),
    "ms_ssim": ("MS-SSIM", 4),
    "lips": ("lips", 2),
    "gap": ("gap", 3),
    "width": ("width", 2),
    "lids": ("lids", 3),
    "missed": ("missed", 2),
}
VIEWS = {"calm": ("calm", 2), **{f"view{v}": (f"±{v}°", 2) for v in (20, 30, 45)}}


def parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--people", type=int, default=0, metavar="N", help="synthetic people 0 to N - 1 [0]")
    add("--first", type=int, default=0, metavar="N", help="begin with this person [0]")
    add("--tracking", choices=("truth", "photometric"), default="truth", help="of people [truth]")
    add("--size", type=positive_int, default=256, help="of people's pictures, in pixels [256]")
    add("--captures", nargs="+", type=Path, default=[], metavar="DIR", help="of clips")
    add("--split", nargs="+", choices=(*SPLITS, TIME), default=["mouth", TIME], help="of captures")
    add("--preset", default="default", help="of the avatars [default]")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive_number, help="of each fit")
    length.add_argument("--iterations", type=positive_int, help="of each fit [500]")
    add("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    add("--seed", type=int, default=0, help="of the fits [0]")
    add("--jobs", type=positive_int, default=1, help="fits at a time [1]")
    add("--threads", type=positive_int, default=1, help="threads of each fit [1]")
    add("--out", type=Path, default=Path("runs/unseen"), help="figures, bundles and pictures")
    add("--drawn", type=Path, help="the synthetic people, which many runs may share [OUT/people]")
    add("--parts", action="store_true", help="also a table by group of expressions")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser()
    args = options.parse_args(arguments)
    if not (args.people or args.captures):
        options.error("give --people N, --captures DIR..., or both")
    command_line.set_up_environment()
    for path in filter(None, (args.out, args.json)):
        check_writable(path)
    from benchmarks.common.unseen_figures import figures

    fits = planned(args)
    found = run_all([*fits.items()], args.out, args.jobs, args.threads, figures)
    rows = [{"name": name, **found[name]} for name in fits if name in found]
    print(text(rows, args.parts))
    if args.json:
        write_json(args.json, {"rows": rows})


def planned(args: argparse.Namespace) -> dict[str, Any]:
    """The fits by the names of their files; draws the people."""
    from benchmarks.common.unseen_figures import UnseenFit
    from benchmarks.common.unseen_people import make, make_tracked

    iterations = args.iterations or (None if args.minutes else 500)
    of_all: dict[str, Any] = {"seed": args.seed, "minutes": args.minutes, "iterations": iterations}
    fits: dict[str, Any] = {}

    def add(clip: str, capture: Path, **more: Any) -> None:
        fit = UnseenFit(capture, args.preset, tuple(args.settings), **of_all)
        name = file_name(clip, args.preset, fit.length, *args.settings, f"seed{args.seed}")
        fits[name] = UnseenFit(
            capture,
            args.preset,
            tuple(args.settings),
            **of_all,
            **more,
            pictures=args.out / "pictures" / name,
        )

    drawn = args.drawn or args.out / "people"
    for number in range(args.first, args.first + args.people):
        truth = make(drawn, number, args.size)
        if args.tracking == "truth":
            add(f"person{number}-{args.size}", truth, truth=truth, number=number)
        else:
            capture = make_tracked(drawn, number, args.size)
            add(f"person{number}-{args.size}-tracked", capture, truth=truth, number=number)
    for capture in args.captures:
        for split in args.split:
            root = capture.absolute()
            clip = root.parent.name if root.name == "capture" else root.name
            add(f"{clip}-{split}", capture, split=split)
    return fits


def text(rows: Sequence[dict[str, Any]], parts: bool) -> str:
    """The tables: one line a fit, and means over the people and over the clips of a split."""
    people = [row for row in rows if row.get("calm") is not None]
    clips = [row for row in rows if row not in people]
    lines = sorted({machine_line(row["machine"], load=False) for row in rows})
    for title, group, columns in (
        ("Synthetic people, expressions that their clip has not", people, COLUMNS | VIEWS),
        ("Clips, by split", clips, COLUMNS),
    ):
        if group:
            head = ["fit", *(title for title, _ in columns.values())]
            cells = [_cells(row["name"], row, columns) for row in group]
            if len(group) > 1:
                mean = {column: _mean(row[column] for row in group) for column in columns}
                cells.append(_cells("mean", mean, columns))
            lines += ["", f"{title}.", "", table(head, cells)]
            distances = [(row["name"], row["mm_from_bound_place"]) for row in group]
            if any(found for _, found in distances):
                lines += ["", _bound(distances)]
        if group and parts:
            lines += ["", _parts(group)]
    return "\n".join(lines)


def _parts(rows: Sequence[dict[str, Any]]) -> str:
    """PSNR and FLIP at mouth and eyes, and the lips' ratio, by group, mean over fits."""
    cells = []
    for group in dict.fromkeys(name for row in rows for name in row["groups"]):
        of = [row for row in rows if group in row["groups"]]
        values = [
            _mean(row["groups"][group][region][measure] for row in of)
            for region in ("full", "face", "mouth", "eyes")
            for measure in ("psnr", "flip")
        ]
        lips = _mean(row["ratios"][group]["lips"] for row in of)
        cells.append(
            [group, *(_plain(v, 3 if k % 2 else 2) for k, v in enumerate(values)), _plain(lips, 2)]
        )
    regions = [f"{r} {m}" for r in ("full", "face", "mouth", "eyes") for m in ("PSNR", "FLIP")]
    return table(["group", *regions, "lips"], cells)


def _bound(distances: Sequence[tuple[str, dict[str, dict[str, float]]]]) -> str:
    """Millimetres between Gaussians and where they are bound, median/95th percentile."""
    parts = list(dict.fromkeys(part for _, found in distances for part in found))

    def cell(found: dict[str, float] | None) -> str:
        return "–" if found is None else f"{found['median']:.1f}/{found['p95']:.1f}"

    cells = [[name, *(cell(found.get(part)) for part in parts)] for name, found in distances]
    return "Gaussians from where they are bound, mm, median/95th percentile.\n\n" + table(
        ["fit", *parts], cells
    )


def _cells(name: str, row: dict[str, Any], columns: dict[str, tuple[str, int]]) -> list[str]:
    return [name, *(_plain(row.get(column), digits) for column, (_, digits) in columns.items())]


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _plain(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    command_line.run(main)
