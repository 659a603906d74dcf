"""Seeds that are an image unprojected onto the head: cells, what is seen, and what is guessed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from likeness.head_models import shaped_head
from likeness.head_models.regions import lid_vertices
from likeness.ops.deform import deform, displacement
from likeness.preprocess.portraits.capture import PortraitOptions, build_capture
from likeness.renderers import create
from likeness.scene.frame_images import FrameStore, composite, load_rgba
from likeness.seeding.config import SeedingConfig
from likeness.seeding.source_view import SourceView
from likeness.seeding.unprojection import unprojected_seeds
from likeness.seeding.unprojection.cells import divide
from likeness.seeding.unprojection.curtain import curtain_seeds
from likeness.seeding.unprojection.lids import lid_seeds
from likeness.seeding.unprojection.outline import pulled_in, raised
from likeness.seeding.unprojection.trunk import trunk_depths
from likeness.seeding.vertex_colours import vertex_colours
from tests import synthetic_images


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifting")
    path = synthetic_images.save(folder / "me.png", synthetic_images.picture())
    return build_capture(
        [path],
        folder / "capture",
        PortraitOptions(192, synthetic_images.FOCAL, "selfie"),
        download=False,
    )


@pytest.fixture(scope="module")
def frames(capture):
    return FrameStore(capture, capture.train)


@pytest.fixture(scope="module")
def seeds(capture, frames):
    return unprojected_seeds(capture, frames, SeedingConfig(12_000), 0)


class TestCells:
    def test_they_tile_the_mask_and_are_as_many_as_asked_for(self):
        rng = np.random.default_rng(0)
        picture = np.zeros((64, 96, 3))
        picture[20:50, 30:70] = rng.random((30, 40, 3))  # busy in the middle
        mask = np.zeros((64, 96), bool)
        mask[5:60, 9:90] = True
        corners, sides = divide(picture, mask, 1500)
        covered = np.zeros(mask.shape, int)
        for (x, y), side in zip(corners, sides):
            covered[y : y + side, x : x + side] += 1
        assert (covered == mask).all()
        assert len(sides) <= 1500
        busy = (
            (corners[:, 0] >= 32)
            & (corners[:, 0] < 64)
            & (corners[:, 1] >= 24)
            & (corners[:, 1] < 48)
        )
        assert sides[busy].mean() < 2 and sides.max() == 8

    def test_an_empty_mask_gives_none(self):
        corners, sides = divide(np.zeros((16, 16, 3)), np.zeros((16, 16), bool), 10)
        assert len(corners) == len(sides) == 0


class TestSeeds:
    def test_show_the_picture_they_are_lifted_from(self, capture, seeds):
        frame = capture.frames[0]
        moved = displacement(frame.state.expression, seeds.rig)
        cloud = deform(seeds.cloud, displacement=moved)
        camera = frame.camera.in_frame(frame.state.T_world_head)
        shown = create("cpu", "cpu").render(cloud, camera).over(torch.ones(3))
        error = (shown - composite(load_rgba(frame))).square().mean()
        assert -10 * torch.log10(error) > 20

    def test_are_well_formed_and_the_same_again(self, capture, frames, seeds):
        count = seeds.cloud.num_gaussians
        assert 9_000 < count < 16_000 and seeds.head_weights.shape == (count,)
        assert (seeds.rig.vertices >= 0).all() and (seeds.rig.weights >= 0).all()
        assert (seeds.rig.weights.sum(-1) < 1 + 1e-4).all()
        for name, value in seeds.cloud.fields().items():
            assert torch.isfinite(value).all(), name
        assert (seeds.cloud.scales > 0).all()
        again = unprojected_seeds(capture, frames, SeedingConfig(12_000), 0)
        assert torch.equal(again.cloud.means, seeds.cloud.means)

    def test_reach_round_the_head(self, seeds):
        means = seeds.cloud.means
        assert means[:, 2].min() < -0.14 and means[:, 2].max() > 0.02
        assert (seeds.head_weights[means[:, 1] > 0] > 0.9).all()

    def test_nothing_hangs_over_the_outline(self, capture, seeds):
        """Places that the picture shows as background stay empty."""
        frame = capture.frames[0]
        camera = frame.camera.in_frame(frame.state.T_world_head)
        alpha = create("cpu", "cpu").render(seeds.cloud, camera).alpha[..., 0]
        import cv2

        matte = load_rgba(frame)[..., 3]
        far = cv2.dilate((matte > 20).astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
        assert alpha[torch.from_numpy(far)].mean() < 0.02


class TestGuesses:
    @pytest.fixture(scope="class")
    @classmethod
    def view(cls, capture, frames):
        shaped = shaped_head(capture)
        return shaped, SourceView.of(capture.frames[0], frames.get(0), shaped)

    def test_colours_of_hidden_vertices(self, view):
        shaped, seen = view
        colours = vertex_colours(shaped, [seen])
        assert np.isfinite(colours.rgb).all() and colours.rgb.min() >= 0 and colours.rgb.max() <= 1
        back = (shaped.vertices[:, 2] < -0.14).numpy() & (shaped.vertices[:, 1] > 0.03).numpy()
        assert (colours.weight[back] == 0).all()
        hair = np.median(colours.rgb[back], 0)
        cheek = colours.rgb[
            (shaped.vertices - torch.tensor([0.035, -0.04, 0.015])).norm(dim=-1).argmin()
        ]
        assert hair.sum() < cheek.sum()  # the person has dark hair, behind as above the brow

    def test_the_hidden_half_of_a_turned_face_is_its_mirror_image(self, tmp_path):
        path = synthetic_images.save(tmp_path / "turned.png", synthetic_images.picture(yaw=35))
        options = PortraitOptions(192, synthetic_images.FOCAL, "selfie")
        capture = build_capture([path], tmp_path / "capture", options, download=False)
        shaped = shaped_head(capture)
        seen = SourceView.of(capture.frames[0], FrameStore(capture, capture.train).get(0), shaped)
        colours = vertex_colours(shaped, [seen])
        mirror = shaped.model.mirror.numpy()
        guessed = (colours.weight == 0) & (colours.weight[mirror] > 0.1)
        guessed &= (shaped.model.vertex_part == 0).numpy() & ~lid_vertices(shaped.model).numpy()
        assert guessed.sum() > 50
        assert np.abs(colours.rgb[guessed] - colours.rgb[mirror][guessed]).mean() < 0.15

    def test_hair_raises_the_scalp_alone(self, view):
        shaped, seen = view
        moved = (raised(shaped, seen).vertices - shaped.vertices).norm(dim=-1)
        face = (shaped.vertices[:, 2] > -0.01) & (shaped.vertices[:, 1] < 0.03)
        assert moved[face].max() < 1e-6 and 0.003 < moved.max() < 0.06

    def test_what_stands_out_is_pulled_in(self, view):
        shaped, seen = view
        narrow = seen.matte.copy()
        narrow[:, : narrow.shape[1] // 3] = 0
        import dataclasses

        cut = dataclasses.replace(seen, matte=narrow)
        moved = pulled_in(shaped, cut).vertices - shaped.vertices
        assert moved.norm(dim=-1).max() > 1e-3 and moved.norm(dim=-1).max() < 0.025

    def test_lids_cover_the_shut_eye(self, view):
        shaped, _ = view
        grey = torch.full((len(shaped.vertices), 3), 0.5)
        generator = torch.Generator().manual_seed(0)
        rig = lid_seeds(shaped, shaped.expression_shapes(), grey, generator).rig
        assert len(rig.weights) > 200
        assert lid_vertices(shaped.model)[rig.vertices].any(-1).all()


class TestLongHair:
    """A matte as wide as long hair beside the jaw."""

    @pytest.fixture
    def view(self, capture, frames):
        return SourceView.of(capture.frames[0], frames.get(0), shaped_head(capture))

    def haired(self, view: SourceView, width_m: float) -> SourceView:
        rows, columns = np.mgrid[: view.camera.height, : view.camera.width]
        depth = float(view.camera.center[2])
        x = (columns + 0.5 - float(view.camera.K[0, 2])) * depth / float(view.camera.K[0, 0])
        hair = (np.abs(x) < width_m) & (rows > 0.2 * view.camera.height)
        return dataclasses.replace(
            view, matte=np.maximum(hair, view.raster.mask).astype(np.float32)
        )

    def test_goes_round_behind_the_neck(self, capture, view):
        head = shaped_head(capture)
        hair = curtain_seeds(self.haired(view, 0.105), head, head.expression_shapes(), 1000)
        assert hair is not None and 300 < len(hair.head_weights) < 1500
        means = hair.cloud.means
        behind = head.vertices[head.vertices[:, 1] > -0.08, 2].min()
        assert means[:, 2].min() < behind and means[:, 0].abs().max() < 0.115
        # all round the back, as low as the neck
        angles = torch.rad2deg(torch.atan2(means[:, 0], means[:, 2] + 0.083))
        counts = torch.histc(angles[angles.abs() > 90].abs(), 9, 90, 180)
        assert (counts > 10).all() and means[:, 1].min() < -0.11
        # nothing of it is before the face
        assert (means[:, 2] < 0).all()

    def test_is_none_where_hair_is_short(self, capture, view):
        head = shaped_head(capture)
        bare = dataclasses.replace(view, matte=view.raster.mask.astype(np.float32))
        assert curtain_seeds(bare, head, head.expression_shapes(), 1000) is None


class TestTrunk:
    def test_is_closed_and_as_deep_as_people_are(self, capture, frames):
        view = SourceView.of(capture.frames[0], frames.get(0), shaped_head(capture))
        depth = float(view.camera.center[2])
        rows, columns = np.mgrid[: view.camera.height, : view.camera.width]
        x = (columns + 0.5 - float(view.camera.K[0, 2])) * depth / float(view.camera.K[0, 0])
        wide = dataclasses.replace(view, matte=(np.abs(x) < 0.15).astype(np.float32))
        enters, leaves = trunk_depths(wide, float(shaped_head(capture).vertices[:, 1].min()))
        bottom = view.camera.height - 3
        thickness = (leaves - enters)[bottom]
        middle = thickness[np.abs(x[bottom]) < 0.02]
        assert (np.abs(middle - 0.17) < 0.03).all()  # 15 cm to either side
        assert thickness[np.abs(x[bottom]) > 0.19].max() < 1e-3
        assert (thickness >= 0).all()


class TestContinued:
    def test_shows_the_same_and_goes_on(self, capture, frames):
        view = SourceView.of(capture.frames[0], frames.get(0), shaped_head(capture))
        wider = view.continued(0.03)
        pad = (wider.camera.width - view.camera.width) // 2
        assert pad > 0 and wider.rgb.shape[:2] == (wider.camera.height, wider.camera.width)
        inner = (slice(pad, -pad), slice(pad, -pad))
        assert np.array_equal(wider.rgb[inner], view.rgb)
        assert np.array_equal(wider.matte[-1, pad:-pad], view.matte[-1])
        assert (wider.raster.mask[inner] == view.raster.mask).mean() > 0.999
        point = torch.tensor([[0.02, -0.03, 0.0]])
        shift = wider.camera.project(point)[0] - view.camera.project(point)[0]
        torch.testing.assert_close(shift, torch.full((1, 2), float(pad)), atol=1e-3, rtol=0)
