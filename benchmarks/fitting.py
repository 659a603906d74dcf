"""Whole training steps a second by preset, where the time of a step goes, and how near that is to
the machine's limits.

    python -m benchmarks.fitting [--presets headgas default] [--gaussians 20000] [--size 512]
    python -m benchmarks.fitting --batch 1 2 4 8

A step is what a fit does: frame, avatar, rendering, losses (without VGG), all gradients, the
optimizer. The scene is that of benchmarks.common.synthetic_head. The parts are timed with the graph
cut between them; their limit is what the bytes and the operations that they cannot do without would
take at the speeds measured in the same run. With several --batch: what steps of so many frames
(schedule.batch) gain, in images a second.
"""

from __future__ import annotations

import argparse
import itertools
import resource
from collections.abc import Sequence
from typing import Any

from benchmarks.common.device_times import PeakMemory, is_cuda, pipelined_ms, time_runs
from benchmarks.common.figures import Kept, announced, parser, table, with_load_after
from benchmarks.common.limits import least_ms, machine_limits
from benchmarks.common.training_step import PARTS, TrainingStep


def whole_steps(
    preset: str,
    size: int,
    count: int,
    threads: int,
    seconds: float,
    device: str = "cpu",
    batch: int = 1,
) -> dict[str, Any]:
    """How many steps and images a second, and the milliseconds of a step; on CUDA also of many in
    a row with one wait at the end, and the most memory that the GPU held."""
    memory = PeakMemory(device)
    step = TrainingStep(preset, size, count, threads, device=device, batch=batch)
    (times,) = time_runs(step.take, seconds, most=1000)
    on_cuda = {}
    if is_cuda(device):
        steps = max(10, min(500, round(1000 * seconds / times["median_ms"])))
        ms = pipelined_ms(lambda _: step.go_on(), device, steps)
        on_cuda = {
            "pipelined_ms": ms,
            "pipelined_steps_per_s": round(1000 / ms, 1),
            "peak_memory_mb": memory.mb(),
        }
    return {
        "preset": preset,
        "size": size,
        "gaussians": count,
        "threads": threads,
        "batch": batch,
        **times,
        "steps_per_s": round(1000 / times["median_ms"], 1),
        "best_steps_per_s": round(1000 / times["min_ms"], 1),
        "pictures_per_s": round(1000 * batch / times["median_ms"], 1),
        **on_cuda,
    }


def parts_of_a_step(
    preset: str,
    size: int,
    count: int,
    threads: int,
    seconds: float,
    limits: dict[str, float],
    device: str = "cpu",
    batch: int = 1,
) -> list[dict[str, Any]]:
    """One row per part of PARTS, of a step that densifies: milliseconds, its share of the step and
    of its limit.

    Milliseconds are the fastest; on a CPU of processor time over all threads: other work there does
    not count.
    """
    step = TrainingStep(preset, size, count, threads, densifying=True, device=device, batch=batch)
    on_cpu = device == "cpu"
    times = [
        row["cpu_ms" if on_cpu else "min_ms"]
        for row in time_runs(step.take_apart, seconds, most=1000)
    ]
    rows, work = [], step.work()
    for name, ms in zip(PARTS, times):
        row = {"part": name, "ms": ms, "share": round(ms / sum(times), 3)}
        if name in work:
            least = (threads if on_cpu else 1) * least_ms(work[name], limits)
            row |= {"least_ms": round(least, 2), "of_the_limit": round(least / ms, 2)}
        rows.append(row)
    return rows


def parts_table(preset: str, rows: Sequence[dict[str, Any]]) -> str:
    """The parts of one preset's step as a table."""
    lines = []
    for row in rows:
        limit = ("–", "–")
        if "of_the_limit" in row:
            limit = (f"{row['least_ms']:.1f}", f"{100 * row['of_the_limit']:.0f}%")
        lines.append((row["part"], f"{row['ms']:.1f}", f"{100 * row['share']:.0f}%", *limit))
    lines.append(("whole", f"{sum(row['ms'] for row in rows):.1f}", "", "", ""))
    return table((f"`{preset}`: part", "ms", "share", "limit, ms", "of the limit"), lines)


def batches_table(rows: Sequence[dict[str, Any]]) -> str:
    """Images a second of the fastest steps, and how many times those of the first batch of the same
    preset and number of Gaussians they are."""
    lines = []
    first: dict[tuple[str, int], float] = {}
    for row in rows:
        rate = 1000 * row["batch"] / row["min_ms"]
        gain = rate / first.setdefault((row["preset"], row["gaussians"]), rate)
        cells = (f"`{row['preset']}`", row["gaussians"], row["batch"], f"{row['min_ms']:.1f}")
        lines.append((*cells, f"{rate:.1f}", f"{gain:.2f}"))
    return table(("preset", "Gaussians", "batch", "step, ms", "images/s", "gain"), lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--presets", nargs="+", default=["headgas", "gaussianhead", "default"], metavar="NAME")
    add("--gaussians", type=int, nargs="+", default=[20_000], metavar="N", help="[20000]")
    add("--size", type=int, default=512, metavar="PIXELS", help="side of the image [512]")
    add("--threads", type=int, default=2, metavar="N", help="[2]")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="[cpu]")
    add("--batch", type=int, nargs="+", default=[1], metavar="N", help="frames of a step [1]")
    add("--seconds", type=float, default=8.0, help="time per preset [8]")
    options = options.parse_args(arguments)
    conditions = announced(device=options.device)
    kept = Kept(options.json, machine=conditions)
    _steps(options, kept)
    kept.note(machine=with_load_after(conditions))


def _steps(options: argparse.Namespace, kept: Kept) -> None:
    limits = machine_limits(options.threads, options.device)
    kept.note(limits=limits)
    print(f"at most {limits['gigabytes_per_s']} GB/s and {limits['gigaflops']} GFLOP/s", flush=True)
    for preset in options.presets:
        for count, batch in itertools.product(options.gaussians, options.batch):
            sizes = preset, options.size, count, options.threads
            row = whole_steps(*sizes, options.seconds, options.device, batch)
            kept.add(row)  # before the parts are timed: it stays if these do not end
            row["parts"] = parts_of_a_step(*sizes, options.seconds, limits, options.device, batch)
            row["peak_memory_gb"] = round(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2
            )
            kept.note()
            print(
                f"\n{preset}, {count} Gaussians, batches of {batch}: {row['steps_per_s']} steps/s "
                f"(best {row['best_steps_per_s']}, {row['cpu_ms']:.0f} ms of CPU each)\n"
            )
            print(parts_table(preset, row["parts"]), flush=True)
    if len(options.batch) > 1:
        print(f"\n{batches_table(kept.rows)}", flush=True)


if __name__ == "__main__":
    main()
