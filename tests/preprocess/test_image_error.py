"""The kernel of photometric errors is its reference, values and gradients."""

from __future__ import annotations

import pytest
import torch

from likeness.preprocess.photometric.image_error import image_errors, image_errors_reference


@pytest.mark.parametrize("weighted", [False, True])
def test_image_errors_are_the_twins(weighted):
    g = torch.Generator().manual_seed(0)
    rgba = torch.randint(0, 256, (3, 9, 7, 4), generator=g, dtype=torch.uint8)
    rgba[:, :3] = 0
    rgb, alpha = torch.rand(3, 9, 7, 3, generator=g), torch.rand(3, 9, 7, 1, generator=g)
    rgb[:, :2], alpha[:, :2] = 0, 0  # nothing where nothing is: no error, no gradient
    background, weights = torch.rand(3, 3, generator=g), torch.rand(3, generator=g)
    found = []
    for function in (image_errors, image_errors_reference):
        leaves = rgb.clone().requires_grad_(), alpha.clone().requires_grad_()
        errors = function(*leaves, rgba, background, 0.3)
        loss = (errors * weights).sum() if weighted else errors.mean()
        found.append((errors, *torch.autograd.grad(loss, leaves)))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    assert not found[0][1][:, :2].any() and not found[0][2][:, :2].any()
