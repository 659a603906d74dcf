"""The exported page's frame in a real Chromium, split into the avatar's maths (a worker) and the
drawing.

likeness export runs/me --format web --out page
python -m benchmarks.page page [--sizes 512 1024] [--gpu] [--json FILE]

Medians of frames of the avatar's own recording, each brought to the screen and waited for. Maths
and drawing run side by side, so that a frame takes the longer of the two. node is needed; Chromium
and its driver are found or installed as for the tests. Without --gpu, Chromium draws in software,
as the tests have it: its drawing then says nothing about a graphics card, and the table names what
drew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.common.figures import announced, parser, table

# What the page's WebGL draws with, by the name that the graphics driver gives.
_DRAWS_WITH = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  const named = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return named ? gl.getParameter(named.UNMASKED_RENDERER_WEBGL) : "unknown";
}"""


def main() -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("page", type=Path, help="folder that likeness export --format web has made")
    add(
        "--sizes",
        type=int,
        nargs="+",
        default=[512, 1024],
        metavar="PIXELS",
        help="sides of the window; the canvas is what the page leaves of it [512 1024]",
    )
    add("--frames", type=int, default=20, metavar="N", help="frames of each size [20]")
    add("--gpu", action="store_true", help="let Chromium use the graphics card")
    args = options.parse_args()
    if not (args.page / "avatar.json").is_file():
        options.error(
            f"no avatar.json in {args.page}: make a page by likeness export RUN --format web"
        )

    import pytest

    from likeness.scene.files import write_json

    try:
        figures = {"machine": announced(), **measure(args.page, args.sizes, args.frames, args.gpu)}
    # what the tests would say: no node, or Chromium cannot be had
    except pytest.skip.Exception as reason:
        options.error(str(reason))
    print(markdown(figures))
    if args.json:
        write_json(args.json, figures)


def measure(page: Path, sizes: list[int], frames: int, gpu: bool) -> dict[str, Any]:
    """What draws, how many Gaussians, and milliseconds of maths and drawing per size of the
    image."""
    from tests.playback.chromium import Chromium, serve

    os.environ["LIKENESS_CHROMIUM_GPU"] = "1" if gpu else ""
    server, address = serve(page)
    browser = Chromium()
    try:
        rows = []
        for size in sizes:
            browser.ask("open", url=f"{address}index.html", width=size, height=size)
            browser.evaluate("() => avatar.ready")
            rows.append(
                {"size": size, **browser.evaluate("(count) => avatar.measure(count)", frames)}
            )
        return {
            "draws_with": browser.evaluate(_DRAWS_WITH),
            "gaussians": browser.evaluate("() => avatar.facts.num_gaussians"),
            "rows": rows,
        }
    finally:
        browser.close()
        server.shutdown()


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    titles = ("window", "canvas", "maths, ms", "drawing, ms", "maths alone, a second")
    rows = [
        (
            f"{row['size']}²",
            f"{row['width']} x {row['height']}",
            f"{row['maths']:.1f}",
            f"{row['drawing']:.1f}",
            f"{1000 / max(row['maths'], 1e-9):.0f}",
        )
        for row in figures["rows"]
    ]
    head = f"{figures['gaussians']} Gaussians, drawn with {figures['draws_with']}"
    return f"{head}\n\n{table(titles, rows)}"


if __name__ == "__main__":
    main()
