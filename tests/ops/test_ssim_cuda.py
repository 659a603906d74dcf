"""Packages for SSIM on CUDA, stood in for on the simulated device: taken where they agree, else
done without."""

import sys
import types

import pytest
import torch

from likeness.ops import ssim, ssim_cuda


@pytest.fixture(autouse=True)
def forgotten():
    ssim_cuda.choose.cache_clear()
    yield
    ssim_cuda.choose.cache_clear()


def package(calls: list, scale: float = 1.0, offset: float = 0.0):
    """A stand-in by fused-ssim's interface."""

    def function(image, target, padding="same", train=True):
        assert (
            image.shape[1] == 3
            and image.is_contiguous()
            and target.is_contiguous()
            and padding == "same"
        )
        calls.append(image.shape)
        value = ssim.ssim_reference(image.movedim(1, -1), target.movedim(1, -1))
        return scale * value + (1 - scale) * value.detach() + offset

    module = types.ModuleType("package")
    module.fused_ssim = function
    return module


def gradient(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    image = image.detach().requires_grad_()
    ssim.dssim(image, target).backward()
    return image.grad


@pytest.fixture
def pictures(cuda):
    generator = torch.Generator().manual_seed(1)
    image, target = torch.rand(2, 1, 24, 31, 3, generator=generator)
    return image.to("cuda"), target.to("cuda")


@pytest.mark.parametrize("name", ssim_cuda.PACKAGES)
def test_an_agreeing_package_is_taken_for_fits(name, pictures, monkeypatch):
    expected, calls = gradient(*pictures), []
    ssim_cuda.choose.cache_clear()
    monkeypatch.setitem(sys.modules, name, package(calls))
    found = gradient(*pictures)
    # the trial, then the picture
    assert [tuple(shape) for shape in calls] == [(2, 3, 37, 53), (1, 3, 24, 31)]
    torch.testing.assert_close(found.cpu(), expected.cpu())
    assert name in ssim.choose_package("cuda:0").reason
    ssim.ssim(*pictures)  # measuring asks for no gradient, and stays what it was
    assert len(calls) == 2


@pytest.mark.parametrize(
    "wrong, said", [({"scale": 1.01}, "differs by 0.01"), ({"offset": 0.1}, "differs by 0.1")]
)
def test_one_that_differs_is_not(wrong, said, pictures, monkeypatch, caplog):
    calls = []
    monkeypatch.setitem(sys.modules, "fussim", package(calls, **wrong))
    gradient(*pictures)
    gradient(*pictures)
    assert len(calls) == 1  # the trial alone
    assert said in ssim.choose_package("cuda:0").reason and caplog.text.count(said) == 1


def test_one_that_fails_is_said_once_and_the_next_is_tried(pictures, monkeypatch, caplog):
    def fails(*_, **__):
        raise RuntimeError("no kernel image\nis available")

    broken, calls = types.ModuleType("fussim"), []
    broken.fused_ssim = fails
    monkeypatch.setitem(sys.modules, "fussim", broken)
    monkeypatch.setitem(sys.modules, "fused_ssim", package(calls))
    gradient(*pictures)
    assert len(calls) == 2 and "fussim failed (no kernel image is available)" in caplog.text


def test_without_a_package_pytorch_does_it(pictures):
    gradient(*pictures)
    chosen = ssim.choose_package("cuda:0")
    assert chosen.function is None and "no package" in chosen.reason
    assert ssim.choose_package("cpu") is None


def test_a_device_with_and_without_its_number_is_tried_once(cuda, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "fussim", package(calls))
    assert ssim.choose_package("cuda") is ssim.choose_package("cuda:0") and len(calls) == 1
