"""What figures were measured on, and when: a speed says nothing without."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

# What the kernels here, PyTorch and oneDNN choose their code by, as Linux names it (x86-64, then
# ARM).
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def machine() -> dict[str, Any]:
    """This machine and this moment, as plain JSON.

    processor: its name. cores: those that this process may use. instructions: those of INSTRUCTIONS
        that it has.
    gpu: name of the CUDA device, where there is one. date: today, ISO. load_average: over the last
    minute, None where the system does not tell.
    """
    import torch

    cpu = _cpu_information()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    return {
        "processor": cpu.get("model name") or platform.processor() or "unknown processor",
        "cores": cores,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "system": platform.system(),
        "architecture": platform.machine(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "date": time.strftime("%Y-%m-%d"),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def machine_line(found: dict[str, Any], load: bool = True) -> str:
    """``machine()`` as the line that benchmarks print beside their figures. load: also how busy it
    was."""
    parts = [
        found["processor"],
        f"{found['cores']} cores",
        " ".join(found["instructions"]),
        found.get("gpu", ""),
        found["date"],
    ]
    if load and found["load_average"] is not None:
        parts.append(f"load {found['load_average']:g}")
    return f"machine: {', '.join(part for part in parts if part)}"


def _cpu_information() -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo; none where the system has no such
    file."""
    try:
        lines = (
            Path("/proc/cpuinfo")
            .read_text(encoding="utf-8", errors="replace")
            .partition("\n\n")[0]
            .splitlines()
        )
    except OSError:
        return {}
    return {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
