"""Culling: what nobody can see goes, what anybody sees stays, and the estimate is what leaving out
does."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.export import culling
from likeness.export.culling import FACT, MIN_DB, culled, removal_errors
from likeness.export.fidelity import agreement, images
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.loop import create_avatar
from likeness.head_models import shaped_head
from likeness.head_models.inside import TEETH
from likeness.renderers import create
from likeness.scene.frame_images import FrameStore
from likeness.seeding.config import SeedingConfig
from tests import toys
from tests.contract.test_avatars import COUNT, make
from tests.fitting.synthetic_run import make_capture

HIDDEN = 12


@pytest.fixture
def few_probes(monkeypatch) -> None:
    monkeypatch.setattr(culling, "_PROBES", 12)


def faint_bundle():
    """The first HIDDEN of COUNT Gaussians are never seen."""
    avatar = make("linear")
    with torch.no_grad():
        avatar.per_gaussian["base_looks"][:HIDDEN, 0] = -20.0
        avatar.per_gaussian["look_modes"][:HIDDEN] = 0.0
    return toys.bundle(avatar, size=48)


@pytest.mark.usefixtures("few_probes")
def test_the_estimate_is_the_change_of_the_pictures(monkeypatch):
    """Against leaving each Gaussian out in turn; over many seeds the random signs average out."""
    monkeypatch.setattr(
        culling, "_REACH", {"front": (0.0, 0.0), "side": (0.0, 0.0), "around": (0.0, 0.0)}
    )
    avatar = make("headgas").subset(torch.arange(8))
    bundle = toys.bundle(avatar, size=24, frames=12)
    found = torch.stack(
        [removal_errors(bundle, bundle.recording, seed) for seed in range(40)]
    ).mean(0)
    renderer, white = create("cpu"), torch.ones(3)
    expected = torch.zeros(8)
    with torch.no_grad():
        for state in map(bundle.recording.__getitem__, range(12)):
            view = bundle.default_camera.in_frame(state.T_world_head)
            cloud = avatar(state, view.center)
            whole = renderer.render(cloud, view).over(white)
            for index in range(8):
                others = avatar.subset(torch.arange(8)[torch.arange(8) != index])(
                    state, view.center
                )
                expected[index] += (
                    whole - renderer.render(others, view).over(white)
                ).square().mean() / 12
    assert expected.max() > 1e-5
    torch.testing.assert_close(found, expected, rtol=0.35, atol=1e-8)


@pytest.mark.usefixtures("few_probes")
def test_what_is_never_seen_is_left_out_and_the_pictures_stay():
    bundle = faint_bundle()
    smaller = culled(bundle)
    fact = smaller.facts[FACT]
    assert (
        fact["of"] == COUNT
        and smaller.avatar.num_gaussians == COUNT - fact["left_out"] <= COUNT - HIDDEN
    )
    assert (smaller.avatar.per_gaussian["base_looks"][:, 0] > -19).all()
    assert (
        agreement(images(smaller, bundle.recording), images(bundle, bundle.recording))
        > MIN_DB["front"] - 3
    )
    assert all(fact["psnr"][name] >= least for name, least in MIN_DB.items())
    assert culled(smaller) is smaller, "once is enough: the losses would add up"
    assert FACT not in bundle.facts and bundle.avatar.num_gaussians == COUNT


@pytest.mark.usefixtures("few_probes")
def test_where_all_are_needed_all_are_kept(monkeypatch):
    monkeypatch.setattr(culling, "MIN_DB", {"front": 200.0, "side": 200.0, "around": 200.0})
    bundle = toys.bundle(make("headgas"), size=32)
    assert culled(bundle) is bundle


@pytest.mark.usefixtures("few_probes")
def test_the_inside_of_a_mouth_that_never_opened_stays(tmp_path):
    """Exports of a person filmed with the mouth shut can speak, too."""
    capture = make_capture(tmp_path)
    calm = dataclasses.replace(
        capture.states, expression=torch.zeros_like(capture.states.expression)
    )
    capture = capture.with_states(calm)
    config = FitConfig(
        avatar="rigged", initializer="mesh", seeds=SeedingConfig(num_gaussians=3000, frames=2)
    )
    frames = FrameStore(capture, capture.train, "cpu")
    avatar = create_avatar(config, capture, frames, 0)
    bundle = AvatarBundle.from_fit(avatar.eval(), capture, {"shows_unseen": True})
    smaller = culled(bundle)
    assert smaller is not bundle
    model = shaped_head(capture).model
    teeth = [model.part_names.index(name) for name in TEETH]

    def front_teeth(some) -> int:
        corners = some.avatar.rig.vertices
        of = torch.isin(model.vertex_part[corners[:, 0]], torch.tensor(teeth))
        return int((of & (model.template[corners].mean(1)[:, 2] > 0.01)).sum())

    assert front_teeth(smaller) > 0.5 * front_teeth(bundle)
    wide = bundle.default_state.expression.clone()
    wide[model.expression_names.index("jawOpen")] = 1.0
    state = dataclasses.replace(bundle.default_state, expression=wide)
    view = bundle.default_camera.in_frame(state.T_world_head)
    renderer, white = create("cpu"), torch.ones(3)
    with torch.no_grad():
        drawn = [
            renderer.render(some.avatar(state, view.center), view).over(white)
            for some in (bundle, smaller)
        ]
    assert agreement(drawn[1], drawn[0]) > 40
