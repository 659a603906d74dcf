"""A folder of videos as a collection of captures: which videos, and the report on what became of
them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from likeness.collection import state
from likeness.collection.scheduler import Outcome
from likeness.collection.subjects import Subject, name_from
from likeness.collection.tasks import Place
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes, write_json
from likeness.scene.foreign_paths import shown

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
REPORT, TABLE, ACCEPTED = "report.json", "report.txt", "captures.txt"
_FIGURES = ("frames", "used_seconds", "residual", "yaw_degrees", "crowded", "cuts", "eye_distance")


def find_videos(folder: Path) -> tuple[Subject, ...]:
    """The videos in a folder and those below it, by their endings, in alphabetical order; hidden
    ones are left out.

    Each is named after its path, so that a name stays when other videos come to the folder. Raises
    UserError for folders that are missing or hold no video.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: not a folder; expected one with videos ({', '.join(ENDINGS)}) in it or below"
        )
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in ENDINGS and path.is_file() and not hidden:
            found.append(relative)
    if not found:
        raise UserError(f"{folder}: holds no video; expected files ending in {', '.join(ENDINGS)}")
    plain = Counter(_name(relative, with_ending=False) for relative in found)
    names = [_name(path, with_ending=plain[_name(path, with_ending=False)] > 1) for path in found]
    for name, count in Counter(names).items():
        if count > 1:
            pair = [str(path) for path, given in zip(found, names) if given == name]
            raise UserError(
                f"{folder}: {pair[0]} and {pair[1]} would both be named {name!r}; rename one of them"
            )
    return tuple(
        Subject(name, (folder / path).absolute(), {}, str(folder / path))
        for name, path in zip(names, found)
    )


def _name(relative: Path, with_ending: bool) -> str:
    path = relative if with_ending else relative.with_suffix("")
    return name_from("__".join(path.parts)).lower()


def report(
    folder: Path, place: Place, subjects: tuple[Subject, ...], outcome: Outcome, limits: dict
) -> dict[str, Any]:
    """The report as JSON values. ``limits``: what was asked for, said in the report."""
    videos = []
    for subject, (task,) in zip(subjects, outcome.chains):
        got = outcome.states.get(task.key)
        entry: dict[str, Any] = {
            "name": subject.name,
            "video": shown(subject.video.relative_to(folder.absolute()).as_posix()),
            "status": "unfinished" if got is None else _STATUS.get(got.status, "unfinished"),
        }
        if got is not None:
            entry |= {
                "reason": got.reason,
                "message": got.error,
                "seconds": got.seconds,
                "peak_mb": got.peak_mb,
            }
            entry["log"] = task.log.relative_to(place.root).as_posix()
        if got is not None and got.status == state.DONE:
            entry |= {
                "capture": place.capture(subject.name).relative_to(place.root).as_posix(),
                "figures": got.result,
            }
        videos.append(entry)
    counts = Counter(entry["status"] for entry in videos)
    reasons = Counter(entry["reason"] for entry in videos if entry["status"] == "refused")
    return {
        "format": "collection",
        "format_version": 1,
        "limits": limits,
        "counts": dict(counts),
        "reasons": dict(reasons.most_common()),
        "frames": sum(entry["figures"].get("frames", 0) for entry in videos if "figures" in entry),
        "videos": videos,
    }


_STATUS = {state.DONE: "accepted", state.REFUSED: "refused", state.FAILED: "failed"}


def table(found: dict[str, Any]) -> str:
    """The report for people: counts, reasons, then one line for each video."""
    counts = ", ".join(f"{number} {status}" for status, number in sorted(found["counts"].items()))
    lines = [f"{len(found['videos'])} videos: {counts}; {found['frames']} frames"]
    lines += [f"  refused {number:5d}  {reason}" for reason, number in found["reasons"].items()]
    wide = max(len(entry["name"]) for entry in found["videos"])
    titles = " ".join(f"{name:>12}" for name in _FIGURES)
    lines += ["", f"{'name':{wide}}  {'status':10} {titles}"]
    for entry in found["videos"]:
        figures = entry.get("figures", {})
        if figures:
            rest = " ".join(f"{_shown(figures.get(name)):>12}" for name in _FIGURES)
        else:
            rest = " ".join(
                filter(
                    None, [entry.get("reason") and f"{entry['reason']}:", entry.get("message", "")]
                )
            )
        lines.append(f"{entry['name']:{wide}}  {entry['status']:10} {rest}".rstrip())
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def write(place: Place, found: dict[str, Any]) -> None:
    """Writes report.json, report.txt and captures.txt (the accepted captures' folders, one to a
    line)."""
    write_json(place.root / REPORT, found)
    write_bytes(place.root / TABLE, table(found).encode())
    accepted = [entry["capture"] for entry in found["videos"] if "capture" in entry]
    write_bytes(place.root / ACCEPTED, "".join(f"{path}\n" for path in accepted).encode())


def summary(place: Place, found: dict[str, Any]) -> str:
    """Some lines for the terminal."""
    lines = table(found).split("\n\n")[0].splitlines()
    failed = [entry for entry in found["videos"] if entry["status"] == "failed"]
    if failed:
        lines.append(f"{len(failed)} failed; the same command tries these again, and nothing else:")
        lines += [
            f"  {e['name']}: {e['message']}\n    log: {place.root / e['log']}" for e in failed
        ]
    return "\n".join([*lines, f"report: {place.root / TABLE}"])
