"""What this machine has for tasks: memory that is free, and GPUs. Cores are counted by the
programs' common part."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from likeness.collection.tasks import FIT, PREPROCESS

# Resident memory in MB that a task is expected to need until one of its kind has been measured: as
# clips of 250 to 1000 frames at 512 pixels did (docs/ten_thousand_subjects.md).
EXPECTED_MB = {PREPROCESS: 1500.0, FIT: 2500.0}
_SHARE = 0.9  # of what is free at the start: the rest is for the system and for what others begin


def free_mb() -> float:
    """Memory in MB that new processes can use: what the system calls available, within a
    container's limit."""
    limits = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(float(line.split()[1]) / 1024)
    limit, used = (
        _read("/sys/fs/cgroup/memory.max").strip(),
        _read("/sys/fs/cgroup/memory.current").strip(),
    )
    if limit.isdigit() and used.isdigit():
        limits.append((int(limit) - int(used)) / 1024**2)
    if not limits:  # not Linux
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**2 / 2)
    return _SHARE * max(0.0, min(limits))


def gpus() -> list[str]:
    """The CUDA devices that are ours, as CUDA_VISIBLE_DEVICES names them; found without loading
    CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.split() if found.returncode == 0 else []


class Memory:
    """Decides whether one more task fits: by what tasks of its kind took so far, or are expected
    to."""

    def __init__(self, budget_mb: float) -> None:
        self._budget_mb = budget_mb
        self._peaks = dict(EXPECTED_MB)
        self._measured: set[str] = set()

    def fits(self, stage: str, running: list[str]) -> bool:
        """One task always does: where even that is too much, the system says so better than we
        could."""
        return not running or sum(map(self.expected_mb, [*running, stage])) <= self._budget_mb

    def expected_mb(self, stage: str) -> float:
        return self._peaks.get(stage, max(EXPECTED_MB.values()))

    def note(self, stage: str, peak_mb: float) -> None:
        if peak_mb > 0:
            first = stage not in self._measured
            self._measured.add(stage)
            self._peaks[stage] = peak_mb if first else max(self._peaks[stage], peak_mb)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
