from __future__ import annotations

import numpy as np
import torch

from likeness.fitting.images import error_map, to_uint8


def test_error_map_is_dark_where_equal_and_bright_where_not():
    truth = torch.full((8, 8, 3), 0.5)
    avatar = truth.clone()
    avatar[:, 4:] = 0.9
    heat = error_map(truth, avatar)
    assert heat.dtype == np.uint8 and heat[:, :4].max() < 10 and heat[:, 4:].mean() > 150


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]
