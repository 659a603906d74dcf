"""Fits that benchmarks compare: ordinary runs of fit_subject.py, kept, so that a benchmark goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REGIONS = ("face", "mouth", "eyes", "inside")


def run(folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """The figures of the fit in ``folder``, made with these options of fit_subject.py unless it is there.

    wall_s and peak_memory_gb are of the last process, where a fit was interrupted; None where that is not known.
    """
    record = folder / "benchmark.json"
    if record.exists() and (asked := json.loads(record.read_text())["options"]) != list(options):
        sys.exit(f"{folder}: holds a fit with other options ({' '.join(asked)}); choose another --out")
    if not (folder / "report.html").exists():
        begun = (folder / "run.json").exists()
        where = ["--resume", str(folder)] if begun else [*options, "--out", str(folder)]
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, str(ROOT / "fit_subject.py"), *where], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"the fit in {folder} ended with status {status}")
        extra = {"peak_memory_gb": round(usage.ru_maxrss / 1e6, 2), "wall_s": round(time.monotonic() - started, 1)}
        record.write_text(json.dumps({**extra, "options": list(options)}))
    metrics = json.loads((folder / "metrics.json").read_text())
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return {
        "steps": last["step"], "steps_per_s": round(last["step"] / max(last["seconds"], 1e-9), 2), **metrics["heldout"],
        **{name: metrics["regions"][name]["psnr"] for name in REGIONS},
        "train": metrics["train"]["psnr"], "num_gaussians": metrics["num_gaussians"], "bundle_mb": metrics["bundle_mb"],
        "baseline": {
            "psnr": metrics["baseline"]["heldout"]["psnr"],
            **{name: metrics["baseline"]["regions"][name]["psnr"] for name in REGIONS},
        },
        "error_share": metrics["error_share"], "seconds": metrics["seconds"],
        **({"peak_memory_gb": None, "wall_s": None} | (json.loads(record.read_text()) if record.exists() else {})),
    }  # fmt: skip
