"""The fused Adam is PyTorch's, on dense gradients and on those that come as factors, through
surgery too."""

from __future__ import annotations

import copy

import pytest
import torch

from likeness.fitting.optimizers import OptimizerConfig, Surgery, make_optimizer, operate, set_rates
from likeness.ops import adam as adam_module
from likeness.ops.adam import Adam, RowAdam, make_adam
from likeness.ops.blend import BlendBasis, collect_factors, factors_of
from tests import toys
from tests.contract.test_avatars import EXTENDED, EYE, make

EPSILON = 1e-15


def both(*shapes):
    """Equal parameters, for PyTorch's Adam and the fused one."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    return [[torch.nn.Parameter(value.clone()) for value in values] for _ in range(2)]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("in_kernels", [True, False])
def test_dense_updates_are_pytorchs(in_kernels, monkeypatch):
    monkeypatch.setattr(adam_module, "_in_kernels", lambda tensor: in_kernels)
    plain, fused = both((7, 3), (20_011,), (2, 40, 40, 8), ())
    optimizers = [torch.optim.Adam(plain, eps=EPSILON), Adam([{"params": fused}], eps=EPSILON)]
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
        for a, b in zip(plain, fused):
            a.grad = torch.randn(a.shape, generator=generator) * 10.0 ** (step % 5 - 4)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(plain, fused):
        close(b, a)
        for key in ("exp_avg", "exp_avg_sq", "step"):
            close(optimizers[1].state[b][key], optimizers[0].state[a][key])


@pytest.mark.parametrize("in_kernels", [True, False])
@pytest.mark.parametrize("states, dense", [(1, False), (3, False), (2, True)])
def test_factored_gradients_update_as_whole_ones(states, dense, in_kernels, monkeypatch):
    monkeypatch.setattr(adam_module, "_in_kernels", lambda tensor: in_kernels)
    (plain,), (fused,) = both((301, 5, 6))
    optimizers = [torch.optim.Adam([plain], eps=EPSILON), Adam([{"params": [fused]}], eps=EPSILON)]
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        codes, weights = (
            torch.rand(states, 5, generator=generator),
            torch.randn(301, 6, generator=generator),
        )
        for parameter, optimizer in zip((plain, fused), optimizers):
            blends = [BlendBasis.apply(parameter, code) for code in codes]
            loss = sum((blend.square() * weights).sum() for blend in blends)
            loss = loss + parameter.square().sum() if dense else loss
            optimizer.zero_grad()  # after the forward pass, as the training loop does
            loss.backward()
        assert len(factors_of(fused)) == states and (fused.grad is not None) == dense
        total = sum(code[None, :, None] * column[:, None] for code, column in factors_of(fused))
        torch.testing.assert_close(
            total + (fused.grad if dense else 0), plain.grad, rtol=1e-5, atol=1e-5
        )
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)


def test_what_has_no_gradient_is_left_alone():
    _, (first, second) = both((4, 2, 3), (5,))
    before, optimizer = (first.detach().clone(), Adam([{"params": [first, second]}], eps=EPSILON))
    optimizer.zero_grad()
    second.grad = torch.ones(5)
    optimizer.step()
    assert torch.equal(first, before) and first not in optimizer.state


@pytest.mark.parametrize("kind", ["headgas", "linear"])
def test_a_fit_with_surgery_goes_as_with_pytorchs(kind):
    first = make(kind, EXTENDED)
    avatars = [first, copy.deepcopy(first)]
    optimizers = [make_optimizer(avatar, OptimizerConfig()) for avatar in avatars]
    assert isinstance(optimizers[0], Adam)
    optimizers[1] = torch.optim.Adam(optimizers[1].param_groups, eps=EPSILON)
    surgery = Surgery(
        torch.tensor([5, 5, 7, 1, 0]), torch.tensor([False, True, False, True, False])
    )
    for step in range(4):
        for avatar, optimizer in zip(avatars, optimizers):
            set_rates(optimizer, step / 4, 0.1)
            cloud = avatar(toys.random_states((), seed=step), EYE)
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(step)
            weighted = [
                v * torch.randn(v.shape, generator=generator) for v in cloud.fields().values()
            ]
            sum(value.sum() for value in weighted).backward()
            optimizer.step()
            if step == 1:
                operate(avatar, optimizer, surgery)
    for (name, a), b in zip(avatars[0].named_parameters(), avatars[1].parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5, msg=name)


def test_other_precisions_and_devices_have_pytorchs():
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = make_adam([{"params": [parameter]}], torch.device("cpu"), torch.float64, EPSILON)
    assert type(adam) is torch.optim.Adam


def test_moments_and_gradients_of_other_shapes_are_refused_before_a_kernel_runs():
    """The kernels trust their arrays: a moment that is too short is memory that is not ours."""
    for key, moment in (
        ("exp_avg", torch.zeros(2, 3, 4)),
        ("exp_avg_sq", torch.zeros(5, 3, 4).double()),
    ):
        basis = torch.nn.Parameter(torch.zeros(5, 3, 4))
        optimizer = Adam([{"params": [basis]}], eps=1e-15)
        basis.grad = torch.ones(5, 3, 4)
        optimizer.step()
        optimizer.state[basis][key] = moment
        with pytest.raises(ValueError, match=f"{key}: expected torch.float32 .5, 3, 4., got"):
            optimizer.step()
    basis = torch.nn.Parameter(torch.zeros(5, 3, 4))
    optimizer = Adam([{"params": [basis]}], eps=1e-15)
    collect_factors(basis)
    factors_of(basis).append((torch.ones(3), torch.ones(4, 4)))
    with pytest.raises(ValueError, match="expected factors of"):
        optimizer.step()


@pytest.mark.parametrize("in_kernels", [True, False])
def test_row_adam_is_adam_on_the_rows_it_is_given(in_kernels, monkeypatch):
    monkeypatch.setattr(adam_module, "_in_kernels", lambda tensor: in_kernels)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(6, 3, generator=generator)
    reference = [torch.nn.Parameter(row.clone()) for row in table]
    adams = [torch.optim.Adam([row], lr=0.1, betas=(0.6, 0.85), eps=1e-6) for row in reference]
    ours = RowAdam(table.clone(), epsilon=1e-6)
    for _ in range(7):
        rows = torch.randperm(5, generator=generator)[:3]  # never the last one
        gradient = torch.randn(3, 3, generator=generator)
        ours.step(rows, gradient, 0.1)
        for row, value in zip(rows.tolist(), gradient):
            reference[row].grad = value
            adams[row].step()
    torch.testing.assert_close(ours.table, torch.stack([row.detach() for row in reference]))
    assert ours.table[5].equal(table[5])


def test_row_adam_stays_where_nothing_is_seen():
    ours = RowAdam(torch.zeros(1, 2), epsilon=1e-4)
    for _ in range(50):
        ours.step(torch.tensor([0]), torch.tensor([[1e-7, 1e-1]]), 0.01)
    assert abs(float(ours.table[0, 0])) < 1e-3 and float(ours.table[0, 1]) < -0.4
