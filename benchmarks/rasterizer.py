"""How fast the CPU renderer is: milliseconds, ratios, and growth.

    python -m benchmarks.rasterizer [--json FILE] [--threads 1 2] [--quick]

The scene is that of benchmarks.common.synthetic_head. Backward includes the gradients of all
fields, of the camera's pose and of the screen means. Printed are the median, the fastest run, and
the processor time of the fastest run over all threads: on a machine with other work to do, the last
says most.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.common.device_times import Clock, clock, time_runs
from benchmarks.common.figures import announced, with_load_after
from benchmarks.common.synthetic_head import head_like_scene
from likeness.renderers import create
from likeness.renderers.cpu import CpuRenderer
from likeness.renderers.output import RenderOutput
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.files import write_json


def time_renderer(
    renderer, cloud: GaussianCloud, camera: Camera, seconds: float, screen: bool = False
) -> dict:
    """Forward, backward and playback (no gradients) of one scene."""
    leaves = cloud.map(lambda tensor: tensor.clone().requires_grad_())
    weights = (
        torch.rand(camera.height, camera.width, 4, generator=torch.Generator().manual_seed(1)) - 0.5
    )

    gradients = weights[..., :3].contiguous(), weights[..., 3:].contiguous()

    def forward_and_backward() -> list[Clock]:
        for tensor in leaves.fields().values():
            tensor.grad = None
        start = clock()
        output: RenderOutput = renderer.render(leaves, camera, screen=screen)
        middle = clock()
        torch.autograd.backward([output.rgb, output.alpha], gradients)
        return [start, middle, clock()]

    def play() -> list[Clock]:
        start = clock()
        renderer.render(cloud, camera)
        return [start, clock()]

    forward, backward = time_runs(forward_and_backward, seconds)
    (playback,) = time_runs(play, seconds / 2)
    return {"forward": forward, "backward": backward, "playback": playback}


def growth_table(
    sizes: list[int], counts: list[int], threads: list[int], seconds: float
) -> list[dict]:
    """One row per image size, number of Gaussians and number of threads."""
    rows = []
    for size in sizes:
        for count in counts:
            cloud, camera = head_like_scene(count, size)
            for number in threads:
                times = time_renderer(CpuRenderer(number), cloud, camera, seconds)
                rows.append({"size": size, "gaussians": count, "threads": number, **times})
                print(_line(rows[-1]), flush=True)
    return rows


def ratios(rows: list[dict]) -> dict[str, float]:
    """How the time of a rendering with its gradients grows: each figure is one change alone.

    Processor time, so that other work on the machine does not count; but time where threads are
    compared.
    """

    def total(size: int, gaussians: int, threads: int, key: str = "cpu_ms") -> float | None:
        for row in rows:
            if (row["size"], row["gaussians"], row["threads"]) == (size, gaussians, threads):
                return row["forward"][key] + row["backward"][key]
        return None

    sizes, counts, threads = (
        sorted({row[key] for row in rows}) for key in ("size", "gaussians", "threads")
    )
    middle, result = counts[len(counts) // 2], {}
    pairs = {
        f"{counts[-1]} against {counts[0]} Gaussians ({sizes[-1]}², {threads[-1]} threads)": (
            total(sizes[-1], counts[-1], threads[-1]),
            total(sizes[-1], counts[0], threads[-1]),
        ),
        f"{sizes[-1]}² against {sizes[0]}² pixels ({middle} Gaussians, {threads[-1]} threads)": (
            total(sizes[-1], middle, threads[-1]),
            total(sizes[0], middle, threads[-1]),
        ),
        f"{threads[0]} against {threads[-1]} threads ({sizes[-1]}², {middle} Gaussians)": (
            total(sizes[-1], middle, threads[0], "min_ms"),
            total(sizes[-1], middle, threads[-1], "min_ms"),
        ),
    }
    for name, (a, b) in pairs.items():
        if a and b and a != b:
            result[name] = round(a / b, 2)
    return result


def against_plain_torch(threads: int, seconds: float) -> dict:
    """A small image by the reference (plain PyTorch, per pixel, float64) and by the CPU
    renderer."""
    cloud, camera = head_like_scene(500, 64)
    torch.set_num_threads(threads)
    plain = time_renderer(create("reference"), cloud, camera, seconds)
    fast = time_renderer(CpuRenderer(threads), cloud, camera, seconds)
    keys = ("forward", "backward")
    ratio = sum(plain[key]["cpu_ms"] for key in keys) / sum(fast[key]["cpu_ms"] for key in keys)
    return {
        "size": 64,
        "gaussians": 500,
        "threads": threads,
        "plain": plain,
        "cpu": fast,
        "ratio": round(ratio, 1),
    }


def _line(row: dict) -> str:
    columns = [row[key] for key in ("forward", "backward", "playback")]
    cells = "".join(
        f"{column['median_ms']:9.2f}{column['min_ms']:9.2f}{column['cpu_ms']:9.2f}"
        for column in columns
    )
    return f"{row['size']:5d}²{row['gaussians']:10d}{row['threads']:9d}{cells}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file"
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1, 2],
        metavar="N",
        help="numbers of threads (default: 1 2)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the time per figure; coarser medians"
    )
    options = parser.parse_args()
    seconds, threads = (0.2 if options.quick else 2.0), sorted(set(options.threads))

    conditions = announced()
    start = time.perf_counter()
    CpuRenderer(1).warm_up()
    warm_up = time.perf_counter() - start
    print(f"compiled, or loaded from the disk, in {warm_up:.1f} s\n\nmilliseconds")
    print(f"{'':25}{'forward':>27}{'backward':>27}{'playback':>27}")
    print(
        f"{'size':>6}{'Gaussians':>10}{'threads':>9}" + f"{'median':>9}{'fastest':>9}{'CPU':>9}" * 3
    )
    torch.set_num_threads(1)
    rows = growth_table([256, 512], [5_000, 20_000, 50_000], threads, seconds)
    values = ratios(rows)
    print("\nratios of forward and backward together")
    for name, value in values.items():
        print(f"  {value:6.2f}  {name}")
    plain = against_plain_torch(threads[-1], seconds)
    print(
        f"  {plain['ratio']:6.1f}  plain PyTorch against this renderer "
        f"(64², 500 Gaussians, {threads[-1]} threads)"
    )
    if options.json:
        write_json(
            options.json,
            {
                "machine": with_load_after(conditions),
                "warm_up_s": round(warm_up, 2),
                "renderer": rows,
                "ratios": values,
                "plain_torch": plain,
            },
        )


if __name__ == "__main__":
    main()
