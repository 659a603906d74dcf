"""What became of many subjects, for programs and for people: ``summary.json`` of a list of fits,
``report.json``, ``report.txt`` and ``captures.txt`` of a folder of videos."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likeness.collection import state
from likeness.collection.pool import Outcome
from likeness.collection.state import TaskState
from likeness.collection.subjects import Subject
from likeness.collection.tasks import FIT, Task, Workspace
from likeness.fitting.evaluation import headline
from likeness.scene.errors import UserError
from likeness.scene.files import write_bytes, write_json
from likeness.scene.foreign_paths import shown
from likeness.scene.reading import read_json

SUMMARY = "summary.json"
REPORT, TABLE, ACCEPTED = "report.json", "report.txt", "captures.txt"
_OF_TASKS = "status seconds cpu_seconds attempts peak_mb threads host error reason".split()
_OF_CAPTURES = "frames used_seconds residual yaw_degrees crowded cuts eye_distance".split()
_STATUS = {state.DONE: "accepted", state.REFUSED: "refused", state.FAILED: "failed"}


# A list of fits


def summary(outcome: Outcome) -> list[dict[str, Any]]:
    """A row for each subject: status, the figures of its tasks, and of its avatar on held-out
    frames; JSON values."""
    return [_row(chain, outcome.states) for chain in outcome.chains]


def _row(chain: tuple[Task, ...], states: dict[str, TaskState]) -> dict[str, Any]:
    tasks = {}
    status = state.DONE
    for task in chain:
        got = states.get(task.key)
        if got is not None:
            figures = {name: getattr(got, name) for name in _OF_TASKS}
            tasks[task.stage] = figures | {"log": str(task.log)}
        if status == state.DONE:
            status = "unfinished" if got is None else got.status
    row = {"name": chain[0].subject, "status": status, "tasks": tasks}
    last = chain[-1]
    if last.stage == FIT and status == state.DONE:
        figures = heldout(last.product.with_name("metrics.json"))
        row |= {"run": str(last.product.parent), "heldout": figures}
    return row


def heldout(path: Path) -> dict[str, float | None]:
    """The headline figures of a metrics.json; none where it is damaged."""
    with contextlib.suppress(UserError):
        return headline(read_json(path, dict[str, Any], "metrics of a run"))
    return {}


def write_summary(root: Path, rows: list[dict[str, Any]]) -> None:
    """Writes ``summary.json`` into the folder of all subjects, over an earlier one."""
    write_json(root / SUMMARY, {"format": "summary", "format_version": 1, "subjects": rows})


def summary_text(root: Path, outcome: Outcome, rows: list[dict[str, Any]]) -> str:
    """How many are done, how good they are, and each failure with its log."""
    done = [row for row in rows if row["status"] == state.DONE]
    ran = f"{len(outcome.ran)} tasks ran now"
    lines = [f"{len(done)} of {len(rows)} subjects are done ({ran}): {root / SUMMARY}"]
    figures = (row.get("heldout", {}).get("psnr") for row in done)
    psnr = sorted(figure for figure in figures if figure is not None)
    if psnr:
        median = psnr[len(psnr) // 2]
        lines.append(f"held-out PSNR: {psnr[0]:.2f} to {psnr[-1]:.2f} dB, median {median:.2f} dB")
    return "\n".join(lines + _failures(outcome))


def _failures(outcome: Outcome) -> list[str]:
    failures = outcome.failures
    head = f"{len(failures)} failed; the same command tries these again, and nothing else:"
    return [head] * bool(failures) + [
        f"  {task.subject}: {task.stage}: {got.error}\n    log: {task.log}"
        for task, got in failures
    ]


# A folder of videos


def collection_report(
    folder: Path,
    workspace: Workspace,
    subjects: Sequence[Subject],
    outcome: Outcome,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Which videos of a folder were accepted, refused or failed, as JSON values. limits: what was
    asked for, kept in the report."""
    videos = []
    for subject, (task,) in zip(subjects, outcome.chains):
        video = shown(subject.video.relative_to(folder.absolute()).as_posix())
        entry: dict[str, Any] = {"name": subject.name, "video": video, "status": "unfinished"}
        if (got := outcome.states.get(task.key)) is not None:
            entry |= {
                "status": _STATUS.get(got.status, "unfinished"),
                "reason": got.reason,
                "message": got.error,
                "seconds": got.seconds,
                "peak_mb": got.peak_mb,
                "log": task.log.relative_to(workspace.root).as_posix(),
            }
            if got.status == state.DONE:
                capture = workspace.capture(subject.name).relative_to(workspace.root)
                entry |= {"capture": capture.as_posix(), "figures": got.result}
        videos.append(entry)
    reasons = Counter(entry["reason"] for entry in videos if entry["status"] == "refused")
    return {
        "format": "collection",
        "format_version": 1,
        "limits": limits,
        "counts": dict(Counter(entry["status"] for entry in videos)),
        "reasons": dict(reasons.most_common()),
        "frames": sum(entry["figures"].get("frames", 0) for entry in videos if "figures" in entry),
        "videos": videos,
    }


def write_collection(root: Path, report: dict[str, Any]) -> None:
    """Writes report.json, report.txt and captures.txt (the accepted captures' folders, one to a
    line)."""
    write_json(root / REPORT, report)
    write_bytes(root / TABLE, collection_table(report).encode())
    accepted = [entry["capture"] for entry in report["videos"] if "capture" in entry]
    write_bytes(root / ACCEPTED, "".join(f"{path}\n" for path in accepted).encode())


def collection_text(root: Path, report: dict[str, Any], outcome: Outcome) -> str:
    """Some lines for the terminal: counts, reasons, and each failure with its log."""
    lines = [*_counts(report), *_failures(outcome), f"report: {root / TABLE}"]
    return "\n".join(lines)


def collection_table(report: dict[str, Any]) -> str:
    """The report for people: counts, reasons, then one line for each video."""
    width = max(len(entry["name"]) for entry in report["videos"])
    titles = " ".join(f"{name:>12}" for name in _OF_CAPTURES)
    lines = [*_counts(report), "", f"{'name':{width}}  {'status':10} {titles}"]
    for entry in report["videos"]:
        if figures := entry.get("figures"):
            rest = " ".join(f"{_text(figures.get(name)):>12}" for name in _OF_CAPTURES)
        else:
            texts = (entry.get("reason"), entry.get("message"))
            rest = ": ".join(text for text in texts if text)
        lines.append(f"{entry['name']:{width}}  {entry['status']:10} {rest}".rstrip())
    return "\n".join(lines) + "\n"


def _counts(report: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{number} {status}" for status, number in sorted(report["counts"].items()))
    head = f"{len(report['videos'])} videos: {counts}; {report['frames']} frames"
    return [head] + [f"  refused {n:5d}  {reason}" for reason, n in report["reasons"].items()]


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
