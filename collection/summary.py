"""What came of a list of subjects: ``summary.json`` for programs, some lines for people, the exit
code."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from likeness.collection import state
from likeness.collection.scheduler import Outcome
from likeness.collection.tasks import FIT, Task
from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.reading import read_json

SUMMARY = "summary.json"


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One for each subject: status, the figures of its tasks, and of its avatar on held-out
    frames."""
    return [_row(chain, outcome) for chain in outcome.chains]


def _row(chain: tuple[Task, ...], outcome: Outcome) -> dict[str, Any]:
    tasks = {}
    for task in chain:
        if (got := outcome.states.get(task.key)) is not None:
            tasks[task.stage] = {
                "status": got.status,
                "seconds": got.seconds,
                "cpu_seconds": got.cpu_seconds,
                "attempts": got.attempts,
                "peak_mb": got.peak_mb,
                "threads": got.threads,
                "host": got.host,
                "error": got.error,
                "reason": got.reason,
                "log": str(task.log),
            }
    statuses = [entry["status"] for entry in tasks.values()]
    whole = len(statuses) == len(chain) and set(statuses) == {state.DONE}
    bad = next((status for status in statuses if status != state.DONE), "unfinished")
    row = {"name": chain[0].subject, "status": state.DONE if whole else bad, "tasks": tasks}
    if chain[-1].stage == FIT and whole:
        row["run"] = str(chain[-1].product.parent)
        row["heldout"] = _heldout(chain[-1].product.with_name("metrics.json"))
    return row


class _HeldOut(msgspec.Struct):
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None


class _Metrics(msgspec.Struct):
    headline: _HeldOut | None = None  # older runs have none
    heldout: _HeldOut = msgspec.field(default_factory=_HeldOut)


def _heldout(path: Path) -> dict[str, Any]:
    with contextlib.suppress(UserError):
        metrics = read_json(path, _Metrics, "metrics of a run")
        return msgspec.structs.asdict(metrics.headline or metrics.heldout)
    return {}


def write(root: Path, outcome: Outcome) -> list[dict[str, Any]]:
    """Writes ``summary.json`` into the folder of all subjects, over an earlier one, and returns its
    rows."""
    found = rows(outcome)
    write_json(root / SUMMARY, {"format": "summary", "format_version": 1, "subjects": found})
    return found


def text(root: Path, outcome: Outcome, found: list[dict[str, Any]]) -> str:
    """The end of the story: how many are done, how good they are, and each failure with its log."""
    done = [row for row in found if row["status"] == state.DONE]
    lines = [
        f"{len(done)} of {len(found)} subjects are done ({len(outcome.ran)} tasks ran now): {root / SUMMARY}"
    ]
    psnr = sorted(
        row["heldout"]["psnr"] for row in done if row.get("heldout", {}).get("psnr") is not None
    )
    if psnr:
        middle = psnr[len(psnr) // 2]
        lines.append(f"held-out PSNR: {psnr[0]:.2f} to {psnr[-1]:.2f} dB, median {middle:.2f} dB")
    if outcome.failures:
        lines.append(
            f"{len(outcome.failures)} failed; the same command tries these again, and nothing else:"
        )
        lines += [
            f"  {task.subject}: {task.stage}: {got.error}\n    log: {task.log}"
            for task, got in outcome.failures
        ]
    return "\n".join(lines)


def exit_code(outcome: Outcome) -> int:
    """1 where a task failed, or, in a fit, where its video was refused."""
    return int(bool(outcome.failures))
