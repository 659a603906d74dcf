"""The rasteriser alone: forward and backward by the device's own events, many images in a row,
peak memory.

    python -m benchmarks.renderer --device cuda [--gaussians 20000] [--batch 1 4] [--json FILE]

The scene is that of benchmarks.common.synthetic_head: a head of harmonics of degree 3. Forward and
backward are what a training step asks for (with the gradients of the screen means); "picture" is a
rendering without gradients, as in playback, one after the other with one wait at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.common.device_times import PeakMemory, between, pipelined_ms
from benchmarks.common.figures import Kept, announced, parser, table
from benchmarks.common.synthetic_head import head_like_scene
from likeness.renderers import Renderer, create
from likeness.scene.camera import Camera


def measure(
    renderer: Renderer,
    device: str,
    count: int,
    size: int,
    batch: int,
    rounds: int,
    screen: bool | str = True,
) -> dict[str, Any]:
    """Milliseconds of a step's forward and backward pass over ``batch`` images, and of one
    image in playback."""
    cloud, camera = (part.to(device) for part in head_like_scene(count, size))
    cameras = Camera.stack([camera] * batch) if batch > 1 else camera
    leaves = cloud.map(lambda tensor: tensor.clone().requires_grad_())
    weights = torch.rand(
        *cameras.batch_shape, size, size, 4, generator=torch.Generator().manual_seed(1)
    ).to(device)
    shown: list = []

    def forward() -> None:
        shown[:] = [renderer.render(leaves, cameras, screen=screen)]

    def backward() -> None:
        for tensor in leaves.fields().values():
            tensor.grad = None
        torch.autograd.backward(
            [shown[0].rgb, shown[0].alpha], [weights[..., :3], weights[..., 3:]]
        )

    @torch.no_grad()
    def image(index: int) -> None:
        renderer.render(cloud, cameras)

    memory = PeakMemory(device)
    forward_ms, backward_ms = between([forward, backward], device, rounds)
    return {
        "renderer": renderer.name,
        "gaussians": count,
        "size": size,
        "batch": batch,
        "screen": screen,
        "forward_ms": forward_ms,
        "backward_ms": backward_ms,
        "picture_ms": round(pipelined_ms(image, device, rounds) / batch, 4),
        "peak_memory_mb": memory.mb(),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    titles = ("renderer", "Gaussians", "size", "batch", "screen", "forward, ms", "backward, ms")
    lines = []
    for row in rows:
        peak = "–" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"
        cells = [row["renderer"], row["gaussians"], f"{row['size']}²", row["batch"], row["screen"]]
        cells += [f"{row[f'{part}_ms']:.3f}" for part in ("forward", "backward", "picture")]
        lines.append([*cells, peak])
    return table((*titles, "picture, ms", "peak, MB"), lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--device", choices=["cpu", "cuda"], default="cpu", help="[cpu]")
    add("--gaussians", type=int, nargs="+", default=[20_000, 50_000, 100_000], metavar="N")
    add("--size", type=int, default=512, metavar="PIXELS", help="side of the image [512]")
    add("--batch", type=int, nargs="+", default=[1, 4], metavar="N", help="images [1 4]")
    add("--rounds", type=int, default=50, metavar="N", help="per figure [50]")
    options = options.parse_args(arguments)
    kept, renderer = (
        Kept(options.json, machine=announced(device=options.device)),
        create("auto", options.device),
    )
    renderer.warm_up()
    for count, batch in itertools.product(options.gaussians, options.batch):
        for screen in (True, "absolute") if batch == options.batch[0] else (True,):
            kept.add(
                measure(
                    renderer, options.device, count, options.size, batch, options.rounds, screen
                )
            )
    print(f"\n{markdown(kept.rows)}")


if __name__ == "__main__":
    from likeness.cli import command_line

    command_line.run(main)
