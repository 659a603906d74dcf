"""Films hold the pictures that were written, transparency included, and are whole or not there."""

from __future__ import annotations

import os

import av
import numpy as np
import pytest

from likeness.playback.films import fill_hidden, open_film
from likeness.scene.errors import UserError

WIDTH, HEIGHT = 66, 48
COLOUR = np.array([0.8, 0.2, 0.4])


def disc(step: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A soft disc [H, W, 4] in one colour that moves to the right, with nothing around it."""
    y, x = np.mgrid[:height, :width] + 0.5
    alpha = np.clip((14 - np.hypot(x - 25 - step, y - height / 2)) / 4 + 0.5, 0, 1)[..., None]
    return np.concatenate([np.where(alpha > 0, COLOUR, 0), alpha], -1)


def decoded(path, codec: str, layout: str) -> list[np.ndarray]:
    """The frames by a codec's own decoder: FFmpeg's native one for VP9 drops the alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create(codec, "r")
        decoder.extradata = stream.codec_context.extradata
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(
            None
        )
        if layout == "rgba":
            return [
                np.concatenate([frame.to_ndarray(format="rgb24"), _alpha(frame)], -1)
                for frame in frames
            ]
        return [frame.to_ndarray(format=layout) for frame in frames]


def _alpha(frame) -> np.ndarray:
    """The plane as it is: FFmpeg's conversion to RGBA leaves the last columns undefined at some
    widths."""
    plane = frame.planes[3]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[
        :, : plane.width, None
    ]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_film_whose_name_is_no_text(tmp_path):
    path = tmp_path / os.fsdecode(b"gr\xfcn.mp4")
    with open_film(path, 25.0) as film:
        film.write(disc(0)[..., :3])
    assert path.read_bytes()[4:8] == b"ftyp" and b"moov" in path.read_bytes()


def test_webm_keeps_transparency(tmp_path):
    path = tmp_path / "disc.webm"
    with open_film(path, 25, alpha=True) as film:
        for step in range(8):
            film.write(disc(step))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.metadata.get("ALPHA_MODE", stream.metadata.get("alpha_mode")) == "1"
        assert float(stream.average_rate) == 25
    frames = decoded(path, "libvpx-vp9", "rgba")
    assert len(frames) == 8
    for step, frame in enumerate(frames):
        expected = disc(step) * 255
        assert np.abs(frame[..., 3] - expected[..., 3]).max() < 8
        visible = expected[..., 3] > 64
        assert np.abs(frame[visible][:, :3] - expected[visible][:, :3]).max() < 6  # no dark rim


@pytest.mark.parametrize("suffix, codec", [(".mp4", "h264"), (".webm", "libvpx-vp9")])
def test_opaque_films_hold_their_pictures_at_their_rate(tmp_path, suffix, codec):
    path = tmp_path / f"disc{suffix}"
    pictures = [
        disc(step)[..., :3] * disc(step)[..., 3:] + 1 - disc(step)[..., 3:] for step in range(6)
    ]
    with open_film(path, 30000 / 1001) as film:
        for picture in pictures:
            film.write(picture)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (
            stream.codec_context.name in ("h264", "vp9")
            and abs(float(stream.average_rate) - 29.97) < 0.01
        )
        assert stream.codec_context.pix_fmt == "yuv420p"
    frames = decoded(path, codec, "rgb24")
    assert len(frames) == 6
    for frame, picture in zip(frames, pictures):
        assert frame.shape == picture.shape and np.abs(frame - 255 * picture).mean() < 3
        assert np.abs(frame[24, 25] - 255 * COLOUR).max() < 5


def test_odd_sizes_are_padded(tmp_path):
    with open_film(tmp_path / "odd.mp4", 25) as film:
        film.write(np.full((31, 33, 3), 200, np.uint8))
    (frame,) = decoded(tmp_path / "odd.mp4", "h264", "rgb24")
    assert frame.shape == (32, 34, 3) and abs(int(frame[-1, -1, 0]) - 200) < 4


def test_a_film_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), open_film(tmp_path / "x.mp4", 25) as film:
        film.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError
    with pytest.raises(ValueError, match="no images"), open_film(tmp_path / "x.mp4", 25):
        pass
    with pytest.raises(ValueError, match=r"shape \[32, 32, 3\], got \[32, 34, 3\]"):
        with open_film(tmp_path / "x.mp4", 25) as film:
            film.write(np.zeros((32, 32, 3), np.uint8))
            film.write(np.zeros((32, 34, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, alpha, words",
    [
        ("a.avi", False, "films are .mp4 or .webm, not .avi"),
        ("a", False, "without an ending"),
        ("a.mp4", True, "holds no transparency; write a .webm"),
    ],
)
def test_other_films_are_refused(tmp_path, name, alpha, words):
    with pytest.raises(UserError, match=words), open_film(tmp_path / name, 25, alpha=alpha):
        pass


def test_hidden_colours_are_those_nearby():
    picture = (disc(0) * 255).astype(np.uint8)
    filled = fill_hidden(picture)
    hidden = picture[..., 3] == 0
    assert (filled[~hidden] == picture[~hidden]).all() and (filled[..., 3] == picture[..., 3]).all()
    assert np.abs(filled[hidden][:, :3] - COLOUR * 255).max() < 4
    empty = np.zeros((8, 8, 4), np.uint8)
    assert (fill_hidden(empty) == empty).all()
