"""Pictures at a part of their resolution, in numba. See ``likeness.scene.frame_images``."""

from __future__ import annotations

import numpy as np

from likeness.ops.compilation import kernel


@kernel()
def reduce_frames(first, last, frames, divisor, least, out):
    """Writes the frames ``first`` to ``last`` of out [T, H // d, W // d, 4] uint8: means of frames
    [T, H, W, 4] uint8 over blocks of d² pixels, of colours with alpha + ``least`` as weights
    (float32, in units of alpha, 0 to 255)."""
    one, area = np.float32(1), np.float32(divisor * divisor)
    for t in range(first, last):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                red = green = blue = total = np.float32(0)
                alpha = 0
                for i in range(y * divisor, (y + 1) * divisor):
                    for j in range(x * divisor, (x + 1) * divisor):
                        alpha += frames[t, i, j, 3]
                        weight = np.float32(frames[t, i, j, 3]) + least
                        red += weight * np.float32(frames[t, i, j, 0])
                        green += weight * np.float32(frames[t, i, j, 1])
                        blue += weight * np.float32(frames[t, i, j, 2])
                        total += weight
                inverse = one / total
                out[t, y, x, 0] = np.uint8(np.rint(red * inverse))
                out[t, y, x, 1] = np.uint8(np.rint(green * inverse))
                out[t, y, x, 2] = np.uint8(np.rint(blue * inverse))
                out[t, y, x, 3] = np.uint8(np.rint(np.float32(alpha) / area))
