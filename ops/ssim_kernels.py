"""The fused SSIM of likeness.fitting.losses in numba: a band of an image's rows, value and gradient
of the mean together."""

from __future__ import annotations

from likeness.ops import ssim_rows as sweep
from likeness.ops.compilation import AS_WRITTEN, kernel
from likeness.ops.ssim_rows import RADIUS, STEP


@kernel(AS_WRITTEN)
def ssim_band(x, y, first, last, taps, constants, margin, sums, gradient):
    """Rows from ``first`` to ``last`` of the mean SSIM of x and y [H, W * 3]: each row's part of it
    into ``sums`` [H], and the gradient by x into ``gradient`` [H, W * 3]; without one, where this
    is None, none is even compiled.

    taps: [6] half of the window from its centre. constants: [4] C1, C2, 2 and 1 / (number of
    values), in x's dtype, since a literal would turn float32 arithmetic into float64. margin:
    pixels at each border that do not count. What a row gets does not depend on the band that it is
    in.
    """
    height, length = x.shape
    kept = sweep.scratch(length, taps)
    reach = 0 if gradient is None else RADIUS
    wanted = max(first - reach, margin), min(last + reach, height - margin)
    for row in range(sweep.first_step(first - reach), last + reach + RADIUS, STEP):
        for r in range(row, row + STEP):
            if r < 0 or r >= height:
                sweep.skip_row(kept, r, length)
                continue
            sweep.copy(x[r], sweep.row_of(kept[0], r, length))
            sweep.copy(y[r], sweep.row_of(kept[1], r, length))
            sweep.note_span(kept, r, length)
        sweep.derivatives(
            kept, row - RADIUS, wanted, (first, last), length, taps, constants, margin, sums
        )
        if gradient is not None and row - 2 * RADIUS + STEP > first:
            start, stop = sweep.blur_derivatives(kept, row - 2 * RADIUS, length)
            for r in range(max(row - 2 * RADIUS, first), min(row - 2 * RADIUS + STEP, last)):
                own = sweep.gradient_row(
                    kept, r - row + 2 * RADIUS, r, start, stop, length, taps, constants[2]
                )
                sweep.copy(own, gradient[r])
