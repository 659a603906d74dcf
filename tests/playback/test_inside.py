"""Pictures of what an avatar is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.fitting.avatars import AVATARS
from likeness.fitting.images import depth_map
from likeness.playback.inside import write_inside
from likeness.preprocess.frames import read_image
from tests import toys
from tests.contract.test_avatars import make


@pytest.mark.parametrize("kind", AVATARS)
def test_every_avatar_shows_depth_and_points(kind, tmp_path):
    avatar = make(kind)
    with torch.no_grad():
        avatar.per_gaussian["log_scales"].fill_(-4.0)
    state = toys.random_states(())
    write_inside(toys.bundle(avatar, 48), [state, state], [toys.camera(48)] * 2, tmp_path)
    found = {path.stem: read_image(path) for path in (tmp_path / "inside").iterdir()}
    assert {"depth_0", "depth_1", "points_canonical", "points_deformed"} <= set(found)
    assert found["points_canonical"].shape == (48, 96, 3)
    assert (found["points_canonical"] < 250).any() and (found["points_canonical"] == 255).any()
    assert {name for name in found if name.startswith("planes")} == {
        f"planes_{name}" for name in _scales(avatar)
    }


def _scales(avatar):
    return getattr(avatar.config, "scales", ())


def test_depth_is_bright_where_it_is_near_and_white_where_nothing_is():
    depth = np.tile(np.linspace(0.5, 1.0, 32, dtype=np.float32), (8, 1))
    alpha = np.ones_like(depth)
    alpha[:, :4] = 0
    picture = depth_map(depth, alpha)
    assert (picture[:, :4] == 255).all()
    assert picture[0, 5].astype(int).sum() > picture[0, 30].astype(int).sum()
    assert (depth_map(depth, 0 * alpha) == 255).all()
