"""The contract of every avatar listed in AVATARS."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from likeness.fitting.avatars import AVATARS, AvatarShape, TrainingStates
from likeness.fitting.avatars.anchoring import AnchoringConfig
from likeness.fitting.bundle import AvatarBundle
from likeness.fitting.optimizers import OptimizerConfig, Surgery, make_optimizer, operate
from likeness.scene.cloud import GaussianCloud
from likeness.scene.seeds import Seeds
from tests import toys

COUNT, EXPRESSIONS, JOINTS = 40, 52, 2
EYE = (toys.camera(32).in_frame(toys.head_pose())).center
# planes of its own size are slow to make and show nothing more
SMALLER = {"gaussianhead": {"resolution": 8}}
EXTENDED = AnchoringConfig(two_frames=True, rigged=True, swaying=True, pose_correction=True)


def make(kind: str, anchoring: AnchoringConfig = AnchoringConfig(), seed: int = 0, **changes):
    """An initialised avatar whose parameters are all disturbed, so that nothing is at a stationary
    start."""
    config = dataclasses.replace(
        AVATARS[kind].Config(), anchoring=anchoring, **{**SMALLER.get(kind, {}), **changes}
    )
    torch.manual_seed(seed)
    avatar = AVATARS[kind](config, AvatarShape(COUNT, EXPRESSIONS, JOINTS, toys.RIG_VERTICES))
    states = toys.random_states((30,), seed=seed)
    weights = torch.linspace(0, 1, COUNT)
    seeds = Seeds(toys.blob(COUNT, seed), weights, toys.rig(COUNT, EXPRESSIONS, seed))
    avatar.initialize(seeds, TrainingStates(states.expression, states.T_head_body))
    with torch.no_grad():
        for parameter in avatar.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn_like(parameter)
    return avatar


def fields_close(a: GaussianCloud, b: GaussianCloud, tolerance: float = 1e-6) -> None:
    for name, value in a.fields().items():
        torch.testing.assert_close(
            value, b.fields()[name], atol=tolerance, rtol=tolerance, msg=name
        )


@pytest.mark.parametrize("anchoring", [AnchoringConfig(), EXTENDED], ids=["head", "two_frames"])
@pytest.mark.parametrize("kind", AVATARS)
class TestEveryAvatar:
    def test_gives_a_valid_cloud(self, kind, anchoring):
        cloud = make(kind, anchoring)(toys.random_states(()), EYE)
        assert cloud.num_gaussians == COUNT and cloud.batch_shape == ()
        assert (cloud.scales > 0).all()
        assert ((cloud.opacities >= 0) & (cloud.opacities <= 1)).all()

    def test_is_pure(self, kind, anchoring):
        avatar = make(kind, anchoring)
        state, other = toys.random_states((), seed=1), toys.random_states((), seed=2)
        before = {name: value.clone() for name, value in avatar.state_dict().items()}
        first = avatar(state, EYE)
        avatar(other, EYE)
        fields_close(first, avatar(state, EYE), 0)
        for name, value in avatar.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_reads_the_expression(self, kind, anchoring):
        if kind == "rigged" and not anchoring.rigged:
            pytest.skip("the rig is all that moves it")
        avatar = make(kind, anchoring)
        state = toys.random_states(())
        other = dataclasses.replace(state, expression=1 - state.expression)
        a, b = avatar(state, EYE), avatar(other, EYE)
        assert any((a.fields()[name] - b.fields()[name]).abs().max() > 1e-5 for name in a.fields())

    def test_a_subset_shows_the_chosen_gaussians_as_they_were(self, kind, anchoring):
        avatar = make(kind, anchoring)
        chosen = torch.tensor([1, 4, 5, 30])
        state = toys.random_states(())
        part, whole = avatar.subset(chosen), avatar(state, EYE)
        assert part.num_gaussians == 4 and avatar.num_gaussians == COUNT
        fields_close(whole.map(lambda value: value[chosen]), part(state, EYE), 1e-5)

    def test_compiled_for_playback_it_is_the_same(self, kind, anchoring):
        avatar = make(kind, anchoring)
        before = {name: value.clone() for name, value in avatar.state_dict().items()}
        frozen = avatar.compile()
        for seed in range(2):
            state = toys.random_states((), seed=seed)
            cloud = frozen(state, EYE)
            fields_close(avatar(state, EYE), cloud, 1e-5)
            assert not any(value.requires_grad for value in cloud.fields().values())
        for name, value in avatar.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
        assert avatar.training and avatar.per_gaussian["means"].requires_grad

    def test_warming_up_leaves_no_trace(self, kind, anchoring):
        avatar = make(kind, anchoring)
        before = {name: value.clone() for name, value in avatar.state_dict().items()}
        drawn = torch.get_rng_state()
        avatar.warm_up()
        assert torch.equal(torch.get_rng_state(), drawn)
        for name, value in avatar.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(parameter.grad is None for parameter in avatar.parameters())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernels", "operations"])
    def test_batches_equal_singles(self, kind, anchoring, dtype):
        avatar, states = make(kind, anchoring).to(dtype), toys.random_states((2, 3)).to(dtype)
        eyes = EYE.to(dtype) + torch.linspace(0, 0.2, 18, dtype=dtype).view(2, 3, 3)
        batch = avatar(states, eyes)
        assert batch.batch_shape == (2, 3)
        for i in range(2):
            for j in range(3):
                fields_close(batch[i, j], avatar(states[i, j], eyes[i, j]), 1e-5)

    def test_gradients_reach_every_parameter(self, kind, anchoring):
        avatar = make(kind, anchoring)
        cloud = avatar(toys.random_states(()), EYE)
        generator = torch.Generator().manual_seed(3)
        loss = sum(
            (value * torch.randn(value.shape, generator=generator)).sum()
            for value in cloud.fields().values()
        )
        loss.backward()
        for name, parameter in avatar.named_parameters():
            if not parameter.requires_grad:
                continue  # what is fixed from the start on, such as the rig's bindings
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_per_gaussian_parameters_resize_and_keep_their_rows(self, kind, anchoring):
        avatar = make(kind, anchoring)
        assert all(parameter.shape[0] == COUNT for parameter in avatar.per_gaussian.values())
        state = toys.random_states(())
        before = avatar(state, EYE)
        source = torch.tensor([3, 3, 0, 39])
        operate(
            avatar,
            make_optimizer(avatar, OptimizerConfig()),
            Surgery(source, torch.zeros(4, dtype=torch.bool)),
        )
        fields_close(avatar(state, EYE), before.map(lambda value: value[source]), 1e-6)

    def test_bundle_round_trip(self, kind, anchoring, tmp_path):
        avatar = make(kind, anchoring)
        saved = toys.bundle(avatar)
        saved.save(tmp_path)
        loaded = AvatarBundle.load(tmp_path)
        state = toys.random_states((), seed=5)
        fields_close(loaded.avatar(state, EYE), avatar(state, EYE), 1e-6)
        assert loaded.expression_names == saved.expression_names
        assert torch.equal(loaded.recording.T_world_head, saved.recording.T_world_head)
        assert torch.equal(loaded.times, saved.times)

    def test_an_expression_out_of_range_stays_finite(self, kind, anchoring):
        avatar = make(kind, anchoring)
        state = toys.random_states(())
        for value in (-5.0, 50.0):
            wild = dataclasses.replace(state, expression=torch.full_like(state.expression, value))
            for name, field in avatar(wild, EYE).fields().items():
                assert torch.isfinite(field).all(), name

    def test_moves_between_devices_and_dtypes(self, kind, anchoring):
        avatar, state = make(kind, anchoring), toys.random_states(())
        double = avatar.double()(state.to(torch.float64), EYE.double())
        assert all(value.dtype == torch.float64 for value in double.fields().values())
        if not torch.cuda.is_available():
            return
        cloud = avatar.float().cuda()(state.to("cuda"), EYE.cuda())
        assert cloud.means.is_cuda

    def test_regularizers_are_named_scalars(self, kind, anchoring):
        for name, value in make(kind, anchoring).regularizers().items():
            assert (
                isinstance(name, str) and value.shape == () and torch.isfinite(value) and value >= 0
            )
