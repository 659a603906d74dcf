"""The CPU renderer's parts, each against the obvious."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from likeness.ops import simd
from likeness.ops.simd import WIDTH
from likeness.renderers.cpu_kernels.binning import bin_rows, fill_lists
from likeness.renderers.cpu_kernels.exponential import exp2
from likeness.renderers.cpu_kernels.layout import (
    DEPTH,
    EXTENT_X,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    TILE,
    XX,
    XY,
    YY,
    F,
)
from likeness.renderers.cpu_kernels.passes import run_forward
from likeness.renderers.cpu_kernels.projection import pack_cameras
from likeness.renderers.cpu_kernels.records import Cloud
from likeness.renderers.cpu_kernels.rounding import ceil, floor
from likeness.renderers.cpu_kernels.sorting import sort_by_depth
from likeness.renderers.cpu_kernels.tiles import ROWS, store_colours, store_rows
from likeness.renderers.cpu_kernels.workspace import Workspace, aligned
from tests.renderers.scenes import SCENES, random_camera, random_cloud


def test_exp2() -> None:
    @numba.njit
    def apply(values, out):
        for i in range(0, values.shape[0], WIDTH):
            simd.store(out, i, exp2(simd.load(values, i)))

    x = np.concatenate([np.linspace(-20, 5, 20001), np.arange(-125, 126)]).astype(np.float32)
    x = np.resize(x, len(x) + -len(x) % WIDTH)
    out = np.empty_like(x)
    apply(x, out)
    exact = np.exp2(x.astype(np.float64))
    assert np.abs(out / exact - 1).max() < 4e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_differ_in_any_lane(dtype) -> None:
    @numba.njit
    def apply(a, b):
        return simd.differ(simd.load(a, 0), simd.load(b, 0)), simd.lanes(a)

    a = np.arange(WIDTH, dtype=dtype)
    differs, lanes = apply(a, a.copy())
    assert not differs and lanes == (WIDTH if dtype == np.float32 else 1)
    for lane in (0, lanes - 1):
        for value in (-1, np.nan):
            b = a.copy()
            b[lane] = value
            assert apply(a, b)[0] and apply(b, a)[0]
        assert apply(b, b)[0]  # what is not a number


def test_vectors() -> None:
    """Every operation, lane by lane, with numbers whose sums and products are exact. Quotients may
    be by estimates of reciprocals, as AVX2 has them."""

    @numba.njit
    def apply(a, b, out):
        x, y, row = simd.load(a, 0), simd.load(b, 0), 0
        zero, one = simd.broadcast(F(0)), simd.broadcast(F(1))
        for value in (
            x + y,
            x - y,
            x * y,
            x / y,
            -x,
            abs(x),
            simd.muladd(x, y, x),
            simd.smaller(x, y),
            simd.larger(x, y),
            simd.where(x < y, one, zero),
            simd.where(x <= y, one, zero),
            simd.where(x > y, one, zero),
            simd.where(x >= y, one, zero),
            simd.where((x > zero) & (y > zero), x, y),
        ):
            simd.store(out, row * WIDTH, value)
            row += 1
        return simd.any_lane(x > y), simd.any_lane(x > x)

    rng = np.random.default_rng(0)
    a = rng.integers(-50, 50, WIDTH).astype(np.float32)
    b = np.exp2(rng.integers(0, 5, WIDTH)).astype(np.float32) * rng.choice([-1, 1], WIDTH).astype(
        np.float32
    )
    a[:3] = b[:3]
    wanted = np.stack(
        [
            a + b,
            a - b,
            a * b,
            a / b,
            -a,
            abs(a),
            a * b + a,
            np.minimum(a, b),
            np.maximum(a, b),
            a < b,
            a <= b,
            a > b,
            a >= b,
            np.where((a > 0) & (b > 0), a, b),
        ]
    )
    out = np.empty((len(wanted), WIDTH), np.float32)
    assert apply(a, b, out.reshape(-1)) == (True, False)
    quotients = 3
    np.testing.assert_allclose(out[quotients], wanted[quotients], rtol=2.4e-7)
    out[quotients] = wanted[quotients]
    np.testing.assert_array_equal(out, wanted)


def test_reciprocals_and_masks() -> None:
    @numba.njit
    def apply(values, reciprocals, chosen):
        low, high = simd.broadcast(F(0.25)), simd.broadcast(F(0.75))
        zero, one = simd.broadcast(F(0)), simd.broadcast(F(1))
        for i in range(0, values.shape[0], WIDTH):
            x = simd.load(values, i)
            simd.store(reciprocals, i, simd.reciprocal(x))
            outside, above = (x < low) | (x > high), x > high
            simd.store(chosen, i, simd.where(simd.without(outside, above), one, zero))

    x = np.linspace(0.001, 1, 32 * WIDTH, dtype=np.float32)  # what 1 - alpha can be
    reciprocals, chosen = np.empty_like(x), np.empty_like(x)
    apply(x, reciprocals, chosen)
    assert np.abs(reciprocals * x.astype(np.float64) - 1).max() < 2.5e-7
    assert np.array_equal(chosen, x < 0.25)


def test_rows_of_a_tile_go_to_their_places() -> None:
    @numba.njit
    def apply(values, first, length, alpha, rgb):
        red = simd.load(values, 0)
        green, blue = red + simd.broadcast(F(1000)), red + simd.broadcast(F(2000))
        store_rows(alpha, first, length, red)
        store_colours(rgb, 3 * first, 3 * length, (red, green, blue))

    values, length, top, left = np.arange(WIDTH, dtype=np.float32), 21, 2, 9
    alpha, rgb = (
        np.full((ROWS + 3, length), -1, np.float32),
        np.full((ROWS + 3, length, 3), -1, np.float32),
    )
    apply(values, top * length + left, length, alpha.reshape(-1), rgb.reshape(-1))
    expected = np.full_like(alpha, -1)
    expected[top : top + ROWS, left : left + TILE] = values.reshape(ROWS, TILE)
    assert np.array_equal(alpha, expected)
    outside = expected < 0
    for channel in range(3):
        assert np.array_equal(rgb[..., channel], np.where(outside, -1, expected + 1000 * channel))


def test_sums_over_lanes() -> None:
    @numba.njit
    def apply(a, out):
        x = simd.load(a, 0)
        x2, x3, x4, one = x + x, x + x + x, x * x, simd.broadcast(F(1))
        simd.add_lane_sums(
            out,
            1,
            x,
            x2,
            x3,
            x4,
            x4 + x,
            x4 + x2,
            x4 + x3,
            x4 + x4,
            -x,
            -x2,
            -x3,
            -x4,
            x * x4,
            one,
            one - x,
            one + x,
        )

    a = np.random.default_rng(0).integers(-9, 9, WIDTH).astype(np.float32)
    square, one = a * a, np.ones_like(a)
    wanted = np.stack(
        [
            a,
            2 * a,
            3 * a,
            square,
            square + a,
            square + 2 * a,
            square + 3 * a,
            2 * square,
            -a,
            -2 * a,
            -3 * a,
            -square,
            a * square,
            one,
            one - a,
            one + a,
        ]
    ).sum(1)
    out = np.arange(18, dtype=np.float32)
    apply(a, out)
    np.testing.assert_array_equal(out, np.arange(18) + np.concatenate([[0], wanted, [0]]))


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_sorting_is_stable_and_leaves_out_what_is_not_drawn(count: int) -> None:
    rng = np.random.default_rng(count)
    workspace = Workspace(1)
    workspace.prepare(count, 8, 8)
    splats = workspace.splats
    splats[:, DEPTH] = np.round(np.exp(rng.normal(0, 3, count)), 1) + 0.05  # with ties
    splats[:, EXTENT_X] = rng.integers(0, 2, count)
    drawn, row = sort_by_depth(splats, workspace.keys, workspace.indices)
    wanted = np.nonzero(splats[:, EXTENT_X])[0]
    wanted = wanted[np.argsort(splats[wanted, DEPTH], kind="stable")]
    assert drawn == len(wanted)
    assert (workspace.indices[row, :drawn] == wanted).all()


def forward(workspace, cloud, camera, depth=False):
    cameras = pack_cameras(
        camera.K[None].double().numpy(),
        camera.T_cam_world[None].double().numpy(),
        camera.width,
        camera.height,
    )
    arrays = [tensor.numpy() for tensor in cloud.fields().values()]
    size = camera.width, camera.height
    return run_forward(
        [workspace], [Cloud(*arrays)], cameras, size, depth, depth, workspace.threads
    )


@pytest.mark.parametrize(
    "scene",
    ["ordinary", "image border", "needles", "degenerate scales", "opacities 0 and 1", "odd size"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_tile_lists_hold_exactly_what_reaches_a_tile(scene: str, threads: int) -> None:
    cloud, camera = SCENES[scene](0)
    workspace = Workspace(threads)
    forward(workspace, cloud, camera)
    splats = workspace.splats
    drawn, row = sort_by_depth(splats, workspace.keys, workspace.indices)
    order = workspace.indices[row]
    listed: dict[tuple[int, int], list[int]] = {}
    for t in range(threads):
        spans, entries = bin_rows(
            t,
            threads,
            splats,
            order,
            drawn,
            camera.width,
            camera.height,
            workspace.spans[t],
            workspace.starts,
            workspace.counts,
        )
        out = np.full(entries, -1, np.int32)
        fill_lists(t, threads, workspace.spans[t], spans, workspace.starts, workspace.counts, out)
        for y in range(t, workspace.counts.shape[0], threads):
            for x in range(workspace.counts.shape[1] - 1):
                start, count = workspace.starts[y, x], workspace.counts[y, x]
                listed[y, x] = out[start : start + count].tolist()

    ys, xs = np.mgrid[: camera.height, : camera.width] + 0.5
    rank = {g: k for k, g in enumerate(order[:drawn])}
    superfluous, needed_count = 0, 0
    for (y, x), got in listed.items():
        px, py = (
            xs[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].ravel(),
            ys[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].ravel(),
        )
        s = splats[order[:drawn]].astype(np.float64)
        dx, dy = s[:, MEAN_X, None] - px, s[:, MEAN_Y, None] - py
        exponent = (
            s[:, LOG2_OPACITY, None]
            + s[:, XX, None] * dx**2
            + s[:, XY, None] * dx * dy
            + s[:, YY, None] * dy**2
        )
        needed = set(order[:drawn][(exponent >= np.log2(1 / 255) + 1e-5).any(1)].tolist())
        assert needed <= set(got)
        assert [rank[g] for g in got] == sorted(rank[g] for g in got)
        superfluous, needed_count = superfluous + len(set(got) - needed), needed_count + len(needed)
    assert superfluous <= 5 + 0.08 * needed_count


def test_lists_grow_when_they_are_too_small() -> None:
    cloud, camera = random_cloud(400, 0), random_camera(64, 64, 0)
    wanted = forward(Workspace(2), cloud, camera, depth=True)
    small = Workspace(2)
    small.spans = [aligned((3, 4), np.int32) for _ in range(2)]
    small.entries = [aligned((5,), np.int32) for _ in range(2)]
    got = forward(small, cloud, camera, depth=True)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted))


def test_whole_numbers() -> None:
    @numba.njit
    def apply(values, below, above):
        for i in range(values.shape[0]):
            below[i], above[i] = floor(values[i]), ceil(values[i])

    values = np.concatenate(
        [np.arange(-40, 41) / 8, [-1e9, -0.999999, -1e-30, 0.0, 1e-30, 0.999999, 16777215.0, 1e15]]
    )
    values = values.astype(np.float32)
    below, above = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    apply(values, below, above)
    assert np.array_equal(below, np.floor(values)) and np.array_equal(above, np.ceil(values))
