"""Still images: every kind that people have, the face in them, and the capture that they
become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.preprocess.portraits.capture import PortraitOptions, build_capture
from likeness.preprocess.portraits.faces import find_face, open_detector
from likeness.preprocess.portraits.reading import read_still
from likeness.preprocess.quality import head_angles
from likeness.scene.capture import Capture
from likeness.scene.errors import UserError
from likeness.scene.frame_images import load_rgba
from tests import synthetic_images

OPTIONS = PortraitOptions(size=192, focal=synthetic_images.FOCAL, matting="selfie")


def coloured(width: int = 96, height: int = 80) -> np.ndarray:
    """Red above, green below left, blue below right: tells up from down and left from right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, :, 0] = 200
    picture[height // 2 :, : width // 2, 1] = 200
    picture[height // 2 :, width // 2 :, 2] = 200
    return picture


def corners(still) -> list[list[int]]:
    return still.rgb[[5, 5, -5, -5], [5, -5, 5, -5]].astype(int).tolist()


class TestReading:
    @pytest.mark.parametrize(
        "suffix, tolerance", [("jpg", 12), ("png", 0), ("webp", 12), ("tif", 0), ("bmp", 0)]
    )
    def test_usual_files(self, tmp_path, suffix, tolerance):
        still = read_still(synthetic_images.save(tmp_path / f"a.{suffix}", coloured()))
        assert (
            (still.width, still.height) == (96, 80)
            and still.alpha is None
            and still.focal_35mm is None
        )
        expected = [[200, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200]]
        assert np.abs(np.array(corners(still)) - expected).max() <= tolerance

    def test_exif_turns_it_and_gives_the_focal_length(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        exif.get_ifd(0x8769)[0xA405] = 50
        still = read_still(
            synthetic_images.save(tmp_path / "a.png", np.rot90(coloured()).copy(), exif=exif)
        )
        assert (still.width, still.height) == still.original == (96, 80) and still.focal_35mm == 50
        assert corners(still)[0] == [200, 0, 0] and corners(still)[3] == [0, 0, 200]

    def test_cmyk_grey_and_palettes(self, tmp_path):
        image = Image.fromarray(coloured())
        for mode, suffix in (("CMYK", "jpg"), ("L", "png"), ("P", "png"), ("1", "png")):
            image.convert(mode).save(tmp_path / f"{mode}.{suffix}")
            still = read_still(tmp_path / f"{mode}.{suffix}")
            assert still.rgb.shape == (80, 96, 3) and still.mode == mode
        assert (
            np.abs(np.array(corners(read_still(tmp_path / "CMYK.jpg"))[0]) - [200, 0, 0]).max() < 25
        )

    def test_sixteen_bits(self, tmp_path):
        import cv2

        grey = (np.linspace(0, 65535, 96)[None].repeat(80, 0)).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        still = read_still(tmp_path / "grey.png")
        assert still.rgb[0, 0].tolist() == [0, 0, 0] and still.rgb[0, -1].tolist() == [
            255,
            255,
            255,
        ]
        deep = coloured().astype(np.uint16)[..., ::-1] * 257
        for name in ("rgb.tif", "rgb.png"):
            cv2.imwrite(str(tmp_path / name), deep)
            assert corners(read_still(tmp_path / name))[0] == [200, 0, 0]

    def test_alpha_is_kept_unless_it_says_nothing(self, tmp_path):
        alpha = np.full((80, 96, 1), 255, np.uint8)
        opaque = read_still(
            synthetic_images.save(tmp_path / "o.png", np.concatenate([coloured(), alpha], -1))
        )
        alpha[:, :40] = 0
        cut = read_still(
            synthetic_images.save(tmp_path / "c.png", np.concatenate([coloured(), alpha], -1))
        )
        assert opaque.alpha is None
        assert (cut.alpha[:, :40] == 0).all() and (cut.alpha[:, 40:] == 255).all()

    def test_a_huge_picture_is_reduced(self, tmp_path):
        still = read_still(synthetic_images.save(tmp_path / "h.png", coloured(9000, 300)))
        assert still.original == (9000, 300) and (still.width, still.height) == (4096, 137)

    def test_what_cannot_be_used_is_said(self, tmp_path):
        from io import BytesIO

        stream = BytesIO()
        Image.fromarray(coloured()).save(stream, "PNG")
        frames = [Image.fromarray(coloured()), Image.fromarray(255 - coloured())]
        frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
        clear = np.concatenate([coloured(), np.zeros((80, 96, 1), np.uint8)], -1)
        files = {
            "text.jpg": (b"no image at all", "no image that can be read"),
            "empty.jpg": (b"", "empty"),
            "cut.png": (stream.getvalue()[:200], "damaged"),
            "a.heic": (b"\0\0\0\x18ftypheic" + bytes(64), "pillow-heif"),
        }
        for name, (data, _) in files.items():
            (tmp_path / name).write_bytes(data)
        synthetic_images.save(tmp_path / "small.png", coloured(40, 60))
        synthetic_images.save(tmp_path / "clear.png", clear)
        expected = {name: words for name, (_, words) in files.items()} | {
            "moving.gif": "moving",
            "small.png": "40x60",
            "clear.png": "transparent",
            "absent.png": "no such file",
        }
        pytest.importorskip("PIL")
        for name, words in expected.items():
            if name == "a.heic":
                try:
                    import pillow_heif  # noqa: F401

                    words = "damaged"
                except ImportError:
                    pass
            with pytest.raises(UserError, match=words):
                read_still(tmp_path / name)
        with pytest.raises(UserError, match="folder"):
            read_still(tmp_path)


@pytest.fixture(scope="module")
def detector():
    with open_detector() as opened:
        yield opened


class TestFaces:
    def still(self, tmp_path, array):
        return read_still(synthetic_images.save(tmp_path / "face.png", array))

    def test_the_largest_of_several_is_taken_and_said(self, tmp_path, detector, caplog):
        face = synthetic_images.picture()
        small = face[::2, ::2]
        both = np.full((320, 500, 3), 180, np.uint8)
        both[:, 180:], both[80 : 80 + len(small), : small.shape[1]] = face, small
        found = find_face(self.still(tmp_path, both), detector)
        assert found.others == 1 and found.points[:, 0].min() > 180
        assert "2 faces; the largest is taken" in caplog.text

    def test_a_small_face_in_a_large_picture_is_found(self, tmp_path, detector):
        large = np.full((1800, 2400, 3), 180, np.uint8)
        large[1300:1620, 1900:2220] = synthetic_images.picture()
        found = find_face(self.still(tmp_path, large), detector)
        assert 1900 < found.points[:, 0].min() and found.points[:, 1].max() < 1620

    def test_none_and_tiny_ones_are_refused(self, tmp_path, detector):
        with pytest.raises(UserError, match="no face was found"):
            find_face(self.still(tmp_path, np.full((300, 300, 3), 128, np.uint8)), detector)
        with pytest.raises(UserError, match="only .* pixels wide; expected at least 64"):
            find_face(self.still(tmp_path, synthetic_images.picture()[::3, ::3]), detector)

    def test_an_animal_is_no_face(self, shared_data, detector):
        with pytest.raises(UserError, match="no animal"):
            find_face(read_still(shared_data("portraits/not_a_face.jpg")), detector)


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Capture:
    folder = tmp_path_factory.mktemp("one")
    path = synthetic_images.save(folder / "me.png", synthetic_images.picture(yaw=10, jawOpen=0.5))
    build_capture([path], folder / "capture", OPTIONS, download=False)
    return Capture.load(folder / "capture")


class TestCaptures:
    def test_one_picture_is_a_capture_with_nothing_held_out(self, captured):
        assert captured.train == (0,) and captured.test == () and len(captured.frames) == 1
        assert captured.report["kind"] == "pictures" and captured.report["seconds"]["total"] > 0
        rgba = load_rgba(captured.frames[0])
        truth = synthetic_images.alpha(yaw=10)
        crop = captured.report["pictures"][0]["crop"]
        window = truth[
            crop["top"] : crop["top"] + crop["side"], crop["left"] : crop["left"] + crop["side"]
        ]
        found = np.asarray(Image.fromarray(rgba[..., 3]).resize(window.shape[::-1]))
        assert np.abs(found.astype(float) - window).mean() < 20

    def test_pose_mouth_and_distance_are_those_of_the_truth(self, captured):
        truth, found = synthetic_images.state(10, jawOpen=0.5), captured.frames[0].state
        angles = head_angles(torch.stack([truth.T_world_head, found.T_world_head]).numpy())
        assert abs(np.diff(angles["yaw"])[0]) < 4 and abs(np.diff(angles["roll"])[0]) < 2
        assert torch.dist(truth.T_world_head[:3, 3], found.T_world_head[:3, 3]) < 0.08
        jaw = captured.expression_names.index("jawOpen")
        smile = captured.expression_names.index("mouthSmileLeft")
        assert 0.2 < found.expression[jaw] < 0.8 and found.expression[smile] < 0.25

    def test_landmarks_are_met(self, captured):
        assert captured.report["pictures"][0]["residual_percent"] < 1.5

    def test_several_pictures_share_one_identity(self, tmp_path):
        paths = [
            synthetic_images.save(tmp_path / f"{yaw}.png", synthetic_images.picture(yaw=yaw))
            for yaw in (-20, 20)
        ]
        capture = build_capture(paths, tmp_path / "capture", OPTIONS, download=False)
        yaws = head_angles(capture.states.T_world_head.numpy())["yaw"]
        assert capture.train == (0, 1) and yaws == pytest.approx([-20, 20], abs=5)
        assert torch.equal(
            capture.frames[0].state.T_world_body, capture.frames[0].state.T_world_head
        )

    def test_a_known_identity_is_kept(self, captured, tmp_path):
        path = synthetic_images.save(tmp_path / "me.png", synthetic_images.picture(yaw=-10))
        again = build_capture(
            [path], tmp_path / "capture", OPTIONS, identity=captured.identity, download=False
        )
        assert torch.equal(again.identity.coefficients, captured.identity.coefficients)
        assert head_angles(again.states.T_world_head.numpy())["yaw"][0] == pytest.approx(-10, abs=4)

    def test_a_cut_out_brings_its_own_matte(self, tmp_path):
        cut = np.dstack([synthetic_images.picture(), synthetic_images.alpha()])
        path = synthetic_images.save(tmp_path / "cut.png", cut)
        capture = build_capture(
            [path], tmp_path / "capture", PortraitOptions(320, None, "selfie"), download=False
        )
        assert (
            np.abs(
                load_rgba(capture.frames[0])[..., 3].astype(int) - synthetic_images.alpha()
            ).mean()
            < 3
        )

    @pytest.mark.parametrize("yaw", [70, 85])
    def test_a_profile_is_refused(self, tmp_path, yaw):
        path = synthetic_images.save(tmp_path / "profile.png", synthetic_images.picture(yaw=yaw))
        with pytest.raises(
            UserError, match="no face was found|turned by|does not follow|from the side"
        ):
            build_capture([path], tmp_path / "capture", OPTIONS, download=False)

    @pytest.mark.parametrize("name", ["portrait_a", "portrait_b"])
    def test_paintings_can_be_followed(self, shared_data, tmp_path, name):
        path = shared_data(f"portraits/{name}.jpg")
        capture = build_capture(
            [path], tmp_path / "capture", PortraitOptions(matting="selfie"), download=False
        )
        assert capture.report["pictures"][0]["residual_percent"] < 2.0
