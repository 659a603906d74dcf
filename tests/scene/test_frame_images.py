"""Frames at a part of their resolution."""

import pytest
import torch

from likeness.scene.frame_images import _reduce


@pytest.mark.parametrize("divisor, height, width", [(2, 16, 24), (4, 17, 23), (8, 8, 8)])
def test_pixels_are_the_means_of_blocks_weighted_by_the_matte(divisor, height, width):
    g = torch.Generator().manual_seed(divisor)
    frames = torch.randint(0, 256, (3, height, width, 4), generator=g, dtype=torch.uint8)
    frames[0, ..., 3], frames[1, : height // 2, :, 3] = 0, 255
    reduced = torch.stack([_reduce(frame, divisor) for frame in frames])
    assert (
        reduced.shape == (3, height // divisor, width // divisor, 4)
        and reduced.dtype == torch.uint8
    )
    block = frames[:, -divisor - height % divisor :][:, :divisor, :divisor].double().flatten(1, 2)
    alpha = block[..., 3]
    weights = alpha / 255 + 1e-3
    colour = (block[..., :3] * weights[..., None]).sum(1) / weights.sum(1)[:, None]
    expected = torch.cat([colour, alpha.mean(1, keepdim=True)], 1)
    assert (reduced[:, -1, 0] - expected).abs().max() <= 1


def test_no_background_bleeds_into_what_is_opaque():
    frame = torch.zeros(1, 2, 2, 4, dtype=torch.uint8)
    # the others are black and transparent
    frame[0, 0, 0] = torch.tensor([200, 100, 50, 255], dtype=torch.uint8)
    red, green, blue, alpha = _reduce(frame[0], 2)[0, 0].tolist()
    assert (red, green, blue, alpha) == (199, 100, 50, 64)


def test_what_is_transparent_has_the_mean_colour():
    frame = torch.zeros(1, 2, 2, 4, dtype=torch.uint8)
    frame[0, 0, :, :3] = 100
    assert _reduce(frame[0], 2)[0, 0].tolist() == [50, 50, 50, 0]
