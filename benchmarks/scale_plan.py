"""From the measured figures of one subject to machines, hours, cost and storage for many: a plan,
not a measurement.

    python benchmarks/scale_plan.py --measured scale.json [--subjects 10000] [--days 7] [--fit-minutes 10]

``--measured`` is what ``benchmarks/scale.py --json`` wrote, from which core-seconds, memory and
storage of a subject are taken; prices and the seconds of a fit on a GPU are assumptions, and
printed as such.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from likeness.scene.errors import UserError
from likeness.scene.files import write_json
from likeness.scene.reading import read_json

_BASELINE = 1.1  # a fit is preceded by one without expressions, a tenth as long


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of one subject: core-seconds of preprocessing, of a fit but for the optimisation, memory,
    storage, files."""

    preprocess_core_s: float
    else_core_s: float
    peak_mb: float
    storage_mb: dict[str, float]
    files: int
    scheduling_ms: float

    @classmethod
    def of(cls, figures: dict[str, Any]) -> Measured:
        first = figures["runs"][0]
        seconds, cost = first["seconds"], figures["overhead"]
        # cores that were really ours, on a shared machine
        busy = seconds["fit, core-s"] / seconds["fit"]
        return cls(
            seconds["preprocess, core-s"],
            seconds["of it else"] * busy,
            max(first["peak_mb"].values()),
            first["storage_mb"],
            first["files"],
            cost["task_ms"] - cost["bare_process_ms"],
        )


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What is assumed, not measured. Prices in one currency, per hour of one core or one GPU, and
    per GB and month."""

    subjects: int = 10_000
    days: float = 7.0
    fit_minutes: float = 10.0
    fit_cores: int = 2
    gpu_fit_s: float = 300.0
    gpu_cores: int = 4
    machine_cores: int = 32
    machine_gb: float = 128.0
    core_price: float = 0.04
    gpu_price: float = 2.5
    gb_month_price: float = 0.03
    retried: float = 0.05


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to do it. CPU machines have all their cores used; a GPU's own cores are in its
    price."""

    way: str
    core_hours: float
    gpu_hours: float
    cpu_machines: int
    gpus: int
    cost: float


def rows(measured: Measured, assumed: Assumed) -> list[Row]:
    """All on CPUs; preprocessing on CPUs that feed GPUs."""
    again = assumed.subjects * (1 + assumed.retried) / 3600
    preprocess = measured.preprocess_core_s * again
    optimising = _BASELINE * 60 * assumed.fit_minutes * assumed.fit_cores
    fit = (optimising + measured.else_core_s) * again
    gpu = (assumed.gpu_fit_s + measured.else_core_s / assumed.gpu_cores) * again
    return [
        _row("CPUs alone", preprocess + fit, 0.0, measured, assumed),
        _row("CPUs feed GPUs", preprocess, gpu, measured, assumed),
    ]


def _row(
    way: str, core_hours: float, gpu_hours: float, measured: Measured, assumed: Assumed
) -> Row:
    hours = 24 * assumed.days
    # Memory, too, bounds how many tasks a machine takes.
    tasks = min(
        assumed.machine_cores // assumed.fit_cores,
        int(assumed.machine_gb * 1000 / measured.peak_mb),
    )
    usable = tasks * assumed.fit_cores
    cost = (
        core_hours * assumed.core_price * assumed.machine_cores / usable
        + gpu_hours * assumed.gpu_price
    )
    return Row(
        way,
        core_hours,
        gpu_hours,
        math.ceil(core_hours / usable / hours),
        math.ceil(gpu_hours / hours),
        cost,
    )


def storage(measured: Measured, assumed: Assumed) -> dict[str, float]:
    """TB: all that is there at the end; without checkpoints (--tidy); bundles and reports alone.
    Millions of files."""
    parts = measured.storage_mb
    whole, at_last = sum(parts.values()), parts["bundle"] + parts["other figures and pictures"]
    sizes = {
        "all": whole,
        "without checkpoints": whole - parts["checkpoints"],
        "bundles and reports": at_last,
    }
    found = {name: round(size * assumed.subjects / 1e6, 2) for name, size in sizes.items()}
    return found | {"million files": round(measured.files * assumed.subjects / 1e6, 2)}


def report(measured: Measured, assumed: Assumed) -> str:
    """The plan as text with a table."""
    found = storage(measured, assumed)
    lines = [
        f"measured: {measured.preprocess_core_s:.0f} core-s preprocessing, {measured.else_core_s:.0f} core-s of a fit "
        f"beside its optimisation, {measured.peak_mb / 1000:.1f} GB memory, {sum(measured.storage_mb.values()):.0f} MB "
        f"and {measured.files} files a subject, {measured.scheduling_ms:.0f} ms a task for handing it out",
        "assumed: "
        + ", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(assumed).items()),
        "",
        f"| {assumed.subjects} in {assumed.days:g} days | core-hours | GPU-hours | CPU machines | GPUs | cost |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows(measured, assumed):
        hours = f"{row.core_hours:.0f} | {row.gpu_hours:.0f}"
        lines.append(f"| {row.way} | {hours} | {row.cpu_machines} | {row.gpus} | {row.cost:.0f} |")
    month = found["without checkpoints"] * 1000 * assumed.gb_month_price
    millions = found.pop("million files")
    sizes = ", ".join(f"{name} {value:g}" for name, value in found.items())
    lines += [
        "",
        f"storage in TB: {sizes}; {millions:g} million files; without checkpoints {month:.0f} a month",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measured", type=Path, required=True, help="what benchmarks/scale.py --json wrote"
    )
    for field in dataclasses.fields(Assumed):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=field.default,
            metavar="N",
            help=f"assumed (default: {field.default})",
        )
    parser.add_argument("--json", type=Path, help="also write the plan here")
    args = parser.parse_args(argv)
    try:
        measured = Measured.of(read_json(args.measured, dict, "figures of benchmarks/scale.py"))
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{args.measured}: not what benchmarks/scale.py --json writes (misses {error})"
        ) from None
    assumed = Assumed(
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(Assumed)}
    )
    print(report(measured, assumed))
    if args.json:
        plan = {
            "measured": dataclasses.asdict(measured),
            "assumed": dataclasses.asdict(assumed),
            "rows": [dataclasses.asdict(row) for row in rows(measured, assumed)],
            "storage": storage(measured, assumed),
        }
        write_json(args.json, plan)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
