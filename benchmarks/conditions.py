"""What every benchmark says before its figures and writes beside them: the machine, the date, what
it ran with."""

from __future__ import annotations

from typing import Any

from likeness.scene.machine import machine, machine_line


def announced(**more: Any) -> dict[str, Any]:
    """Prints the machine's line, with ``more`` behind it, and returns all of it with the versions
    for the JSON."""
    from likeness.fitting.run_directory import versions

    found, used = machine(), versions()
    print(
        machine_line(found) + "".join(f", {name} {value}" for name, value in more.items()),
        flush=True,
    )
    return found | {name: used[name] for name in ("code", "python", "torch", "numba")} | more


def with_load_after(found: dict[str, Any]) -> dict[str, Any]:
    """The same when all is measured: how busy the machine was by then."""
    return found | {"load_average_after": machine()["load_average"]}
