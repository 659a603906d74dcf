"""The one-shot network with a screen refiner: its features, its weights, its training, and avatars
of pictures."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace

import pytest
import torch

from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.config import FitConfig
from likeness.fitting.image_fit import fit_pictures
from likeness.fitting.loop import Budget, create_avatar, make_seeds
from likeness.one_shot import weights
from likeness.one_shot.infer import merged
from likeness.one_shot.network import is_of_refiner
from likeness.one_shot.seeds import _of_queries, _unprojected
from likeness.renderers import create
from likeness.renderers.screen_refiner import RefinerConfig
from likeness.scene.config_files import load_preset
from likeness.scene.errors import UserError
from likeness.scene.frame_images import FrameStore
from likeness.scene.rig_binding import RigBinding
from likeness.training.processes import Processes
from likeness.training.run import set_up, write_weights
from likeness.training.trainer import Trainer, TrainingStopped
from tests import toys
from tests.one_shot import tiny

REFINER = RefinerConfig(enabled=True, features=4, width=4, size=32)
MODEL = dataclasses.replace(tiny.MODEL, refiner=REFINER)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return toys.make_capture(tmp_path_factory.mktemp("toy") / "capture", frames=6, size=32, test=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of the same network without a refiner, and with one that changes pictures."""
    folder = tmp_path_factory.mktemp("weights")
    plain, refined = tiny.network(), tiny.network(refiner=REFINER)
    refined.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.normal_(refined.refiner.exit.weight, std=0.1)
    for name, net in (("plain", plain), ("refined", refined)):
        weights.save(folder / f"{name}.safetensors", net.state_dict(), net.config, "anny", {})
    return folder / "plain.safetensors", folder / "refined.safetensors"


def config(path, **changes):
    return dataclasses.replace(
        tiny.TRAIN, model=MODEL, start=path, trained="refiner", half_until=0.0, rate=3e-3, **changes
    )


def trainer(capture, path, **changes) -> Trainer:
    settings = config(path, **changes)
    return set_up(settings, [capture.root], torch.device("cpu"), 0, Processes(), None, False)


def test_every_gaussian_has_features_and_is_as_without(capture, files):
    surface, person, views = tiny.views(capture, [0, 1])
    plain, refined = (weights.load(path)[0] for path in files)
    assert plain.refiner is None and refined.config == MODEL
    for without, found in zip(*(tiny.ask(net, surface, person, views) for net in (plain, refined))):
        assert without.features is None and found.features.shape == (found.cloud.num_gaussians, 4)
        assert 0 < found.features.min() and found.features.max() < 1
        for name, value in without.cloud.fields().items():
            assert torch.equal(value, found.cloud.fields()[name]), name
    blind = tiny.network(refiner=dataclasses.replace(REFINER, features=0))
    assert tiny.ask(blind, surface, person, views)[0].features is None


def test_features_stay_with_their_gaussians(capture):
    surface, person, views = tiny.views(capture, [0, 1])
    found = tiny.ask(tiny.network(refiner=REFINER), surface, person, views)
    marked = [dataclasses.replace(p, features=p.cloud.means) for p in found]
    head, shapes = person.head, person.shapes
    rig = RigBinding(shapes, surface.corners, surface.barycentrics).select(slice(50))
    own = _of_queries(marked[0], rig)
    assert torch.equal(own.features, own.cloud.means) and len(own.features) == 50
    drawn = _unprojected(marked[0], head, shapes, 7, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.features, drawn.cloud.means) and len(drawn.features) == 7
    both = merged(marked)
    torch.testing.assert_close(both.features, both.cloud.means)


def test_weights_to_start_from(capture, files, tmp_path):
    net = tiny.network(seed=1, refiner=REFINER)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weights.start_from(files[0], net, "anny")
    expected = weights.load(files[0])[0].state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name] if is_of_refiner(name) else expected[name]), name
    weights.start_from(files[1], net, "anny")
    assert torch.equal(net.refiner.exit.weight, weights.load(files[1])[0].refiner.exit.weight)
    for path, other, head_model, message in (
        (tmp_path / "none", net, "anny", "not found"),
        (files[0], net, "flame2023", "head model anny"),
        (files[1], tiny.network(), "anny", "not of this network"),
        (files[0], tiny.network(hidden=24), "anny", "size mismatch"),
        (files[0], tiny.network(blocks=2), "anny", "is missing"),
    ):
        with pytest.raises(UserError, match=message):
            weights.start_from(path, other, head_model)


def test_weights_that_say_refiner_and_have_none_are_refused(files, tmp_path):
    net = weights.load(files[0])[0]
    weights.save(tmp_path / "w.safetensors", net.state_dict(), MODEL, "anny", {})
    with pytest.raises(UserError, match="do not fit its configuration .*feature_head"):
        weights.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("features", [0, 4])
def test_it_alone_learns(capture, files, features, tmp_path):
    model = dataclasses.replace(MODEL, refiner=dataclasses.replace(REFINER, features=features))
    settings = dataclasses.replace(config(files[0]), model=model)
    made = set_up(settings, [capture.root], torch.device("cpu"), 0, Processes(), None, False)
    probe = [made.samples[2**20 + k] for k in range(2)]
    before, terms = made.loss(probe, 1)
    picture = sum(
        getattr(made.config.loss, name) * terms[name] for name in ("l1", "dssim", "matte")
    )
    assert terms["refined"] == pytest.approx(picture, rel=1e-5)  # the identity
    batches = itertools.cycle(probe)
    for _ in range(12):
        made.step(batches, 1e-2, 1.0)
    after, learned = made.loss(probe, 1)
    assert learned["refined"] < 0.95 * terms["refined"] and float(after.detach()) < float(
        before.detach()
    )
    assert learned["l1"] == pytest.approx(terms["l1"], rel=1e-6)
    write_weights(tmp_path / "w.safetensors", made)
    found, start = (
        weights.load(tmp_path / "w.safetensors")[0],
        weights.load(files[0])[0].state_dict(),
    )
    assert found.config == model
    moved = {
        name
        for name, value in found.state_dict().items()
        if not torch.equal(value, start.get(name, value + 1))
    }
    assert moved and all(is_of_refiner(name) for name in moved)


def test_all_learn_together(capture):
    """Both pictures teach: at the identity the refined one adds to the Gaussians the gradient of
    the coarse one."""
    found = []
    for refined in (0.0, 1.0, 3.0):
        loss = dataclasses.replace(
            tiny.TRAIN.loss, matte=0.0, offsets=0.0, departures=0.0, refined=refined
        )  # the losses of pictures alone
        made = Trainer(
            dataclasses.replace(tiny.TRAIN, model=MODEL, loss=loss), [capture.root], create("cpu")
        )
        made.loss([made.samples[0]], 1)[0].backward()
        assert bool(made.network.refiner.exit.weight.grad.abs().max() > 0) == (refined > 0)
        found.append(made.network.decoder[-1].weight.grad)
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], 2 * found[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[2], 4 * found[0], rtol=1e-3, atol=1e-6)


def test_a_stopped_run_resumes_exactly(capture, files, tmp_path):
    whole, first, second = (trainer(capture, files[0]) for _ in range(3))
    whole.train(Budget(iterations=4))
    with pytest.raises(TrainingStopped):
        first.train(
            Budget(iterations=4),
            tmp_path / "c.safetensors",
            should_stop=lambda: first.progress.step == 2,
        )
    second.train(Budget(iterations=4), tmp_path / "c.safetensors")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name
    everything = Trainer(
        dataclasses.replace(config(files[0]), trained="all"), [capture.root], create("cpu")
    )
    with pytest.raises(UserError, match="other settings"):
        everything.train(Budget(iterations=5), tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"start": None}, "trained=refiner: needs start=FILE"),
        ({"model": tiny.MODEL}, "trained=refiner: needs model.refiner.enabled=true"),
    ],
)
def test_what_the_refiner_alone_needs(capture, files, changes, message):
    settings = dataclasses.replace(config(files[0]), **changes)
    with pytest.raises(UserError, match=message):
        set_up(settings, [capture.root], torch.device("cpu"), 0, Processes(), None, False)


def picture_config(path) -> FitConfig:
    overrides = ["initializer=one_shot", "seeds.num_gaussians=300", f"seeds.weights={path}"]
    return load_preset("one-picture", FitConfig, overrides)


def test_avatars_of_pictures_have_it_and_fits_do_not(capture, files, tmp_path):
    run = SimpleNamespace(bundle=tmp_path / "bundle")
    result = fit_pictures(run, capture, picture_config(files[1]))
    seeds = make_seeds(picture_config(files[1]), capture, FrameStore(capture, capture.train), 0)
    found = AvatarBundle.load(run.bundle).refinement
    assert torch.equal(found.features, seeds.features) and found.network.config == REFINER
    assert torch.equal(found.network.exit.weight, weights.load(files[1])[0].refiner.exit.weight)
    assert "leave it out" in result.notes["screen_refiner"]
    refined = fit_pictures(run, capture, picture_config(files[1]), refine_s=0.01)
    assert refined.bundle.refinement is None and refined.notes["screen_refiner"].startswith(
        "left out"
    )
    plain = fit_pictures(run, capture, picture_config(files[0]))
    assert plain.bundle.refinement is None and "screen_refiner" not in plain.notes
    avatar = create_avatar(picture_config(files[1]), capture, FrameStore(capture, capture.train), 0)
    assert not any("feature" in name for name in avatar.state_dict())
