"""What every entry of MATTING promises: one matte a frame, in order, as the frames are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from likeness.preprocess import weights
from likeness.preprocess.matting import MATTING, MattingChoice, MattingModel

# Strips cost MODNet little: with a side of 512 and more it does not enlarge them.
SIZES = [(40, 520), (37, 515)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tests.preprocess.modnet_weights import synthetic_state_dict

    path = tmp_path_factory.mktemp("weights") / "modnet.ckpt"
    torch.save({f"module.{name}": tensor for name, tensor in synthetic_state_dict().items()}, path)
    return path


@pytest.fixture(params=sorted(MATTING))
def matting(request, checkpoint, monkeypatch) -> MattingModel:
    monkeypatch.setattr(weights, "find", lambda *_: checkpoint)
    model = MATTING[request.param](MattingChoice(request.param))
    assert model.name == request.param
    return model


def frames_of(size: tuple[int, int], count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, *size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_one_matte_for_each_frame(matting, size, count):
    mattes = list(matting.mattes(iter(frames_of(size, count))))
    assert len(mattes) == count
    for matte in mattes:
        assert matte.shape == size and matte.dtype == np.uint8


def test_ordinary_pictures_of_odd_size(matting):
    (matte,) = matting.mattes([frames_of((97, 131), 1)[0]])
    assert matte.shape == (97, 131) and matte.dtype == np.uint8


def test_no_frames_no_mattes(matting):
    assert list(matting.mattes([])) == []


def test_frames_are_read_no_further_ahead_than_said(matting):
    read = 0

    def frames():
        nonlocal read
        for frame in frames_of(SIZES[0], 24):
            read += 1
            yield frame

    given = 0
    for _ in matting.mattes(frames()):
        given += 1
        assert read <= given + matting.look_ahead
    assert given == 24 and 0 <= matting.look_ahead <= 16


def test_frames_are_not_changed(matting):
    frames = frames_of(SIZES[0], 3)
    before = frames.copy()
    list(matting.mattes(frames))
    assert (frames == before).all()


def test_mattes_come_in_order(matting):
    """Each frame's matte does not depend on frames far away, so that a mix-up shows."""
    frames = frames_of(SIZES[0], 10)
    alone = [next(iter(matting.mattes([frame]))) for frame in frames]
    together = list(matting.mattes(frames))
    for t, matte in enumerate(together):
        differences = [np.abs(matte.astype(int) - other.astype(int)).mean() for other in alone]
        assert differences[t] == min(differences)


def test_a_change_of_size_starts_anew(matting):
    frames = [*frames_of(SIZES[0], 3), *frames_of(SIZES[1], 2)]
    assert [matte.shape for matte in matting.mattes(frames)] == [SIZES[0]] * 3 + [SIZES[1]] * 2
