"""The simulated CUDA device refuses what CUDA refuses, and knows where the host waits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.renderers.scenes import SCENES
from tests.simulated_cuda import DeviceError


def test_values_and_gradients_are_those_of_the_cpu(cuda):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(5, 3)
    network(x).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    there = copy.deepcopy(network).to("cuda")
    there.zero_grad()
    there(x.to("cuda")).square().sum().backward()
    for parameter, gradient in zip(there.parameters(), expected):
        assert parameter.device == parameter.grad.device == torch.device("cuda", 0)
        torch.testing.assert_close(parameter.grad.cpu(), gradient)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.stack([x, torch.ones(3)]),
        lambda x: torch.ones(2, 3) @ x,
        lambda x: torch.where(torch.ones(3) > 0, x, 0.0),
        lambda x: torch.ones(3)[x > 0],
        lambda x: torch.randn(3, generator=torch.Generator(), device="cuda"),
        lambda x: x.pin_memory(),
    ],
)
def test_what_cuda_refuses(cuda, wrong):
    with pytest.raises(DeviceError):
        wrong(torch.ones(3, device="cuda"))


def test_no_array_looks_into_a_device(cuda):
    x = torch.ones(3).to("cuda")
    for look in (lambda: x.numpy(), lambda: np.asarray(x), lambda: torch.from_numpy(np.array(x))):
        with pytest.raises(TypeError, match="cuda:0"):
            look()


def test_numbers_of_the_host_are_taken(cuda):
    x = torch.ones(3, device="cuda")
    y = (x * torch.tensor(2.0) + 1).lerp(x, 0.5)
    assert y.device.type == "cuda" and y.cpu().tolist() == [2.0] * 3


@pytest.mark.parametrize(
    "waits, act",
    [
        (1, lambda x: float(x.sum())),
        (1, lambda x: bool((x > 0).all())),
        (1, lambda x: x.tolist()),
        (1, lambda x: x.cpu()),
        (1, lambda x: x.nonzero()),
        (1, lambda x: x[x > 0]),
        (1, lambda x: x[[0, 2]]),
        (1, lambda x: torch.unique(x)),
        (1, lambda x: torch.ones(3).to("cuda")),
        (1, lambda x: torch.tensor([1.0, 2.0], device="cuda")),
        (1, lambda x: x.new_tensor([1.0])),
        (1, lambda x: torch.ones(3).to("cuda", non_blocking=True)),
        (1, lambda x: torch.linalg.inv(x.diag())),
        (0, lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True)),
        (0, lambda x: x[1:].sum().sqrt() + x.new_zeros(3)),
        (0, lambda x: x.masked_fill(x > 0, 0.0)),
        (0, lambda x: torch.arange(3, device="cuda")),
    ],
)
def test_waits_are_counted_and_refused(cuda, waits, act):
    x = torch.rand(3, device="cuda")
    before = len(cuda.waits)
    act(x)
    assert len(cuda.waits) - before == waits
    with cuda.refusing_waits():
        if waits:
            with pytest.raises(DeviceError, match="tests/test_simulated_cuda.py"):
                act(x)
        else:
            act(x)


def test_operations_are_counted_and_views_are_not(cuda):
    x = torch.ones(3, 2, device="cuda")
    before = cuda.operations
    (x.T[1] * 2).view(3, 1).sum()
    torch.ones(3) * 2
    assert cuda.operations - before == 2


def test_a_graph_repeats_its_operations(cuda):
    x, graph, stream = torch.ones(3, device="cuda"), torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x.sum()
    with torch.cuda.graph(graph, stream=stream):
        y = (2 * x).view(3, 1) + x.sum()
    x.fill_(5)
    assert y.flatten().tolist() == [5.0] * 3
    graph.replay()
    assert y.flatten().tolist() == [25.0] * 3
    with (
        pytest.raises(DeviceError, match="waits"),
        torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream),
    ):
        float(x.sum())


@pytest.mark.parametrize("given", [{}, {"stream": None}, {"stream": "fresh"}])
def test_a_stream_first_seen_in_a_capture_is_refused(cuda, given):
    if given.get("stream"):
        given = {"stream": torch.cuda.Stream()}
    with torch.cuda.stream(torch.cuda.Stream()):
        x = torch.ones(3, device="cuda")  # on another one
    with (
        pytest.raises(DeviceError, match="first seen in a capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph(), **given),
    ):
        x.sum()


def test_a_wait_inside_a_foreign_package_is_counted_but_not_refused(cuda):
    x, stream = torch.ones(3, device="cuda"), torch.cuda.Stream()
    with cuda.refusing_waits():
        cuda.wait("a package", helpless=True)
    assert len(cuda.waits) == 1 and cuda.waits[0].startswith("a package")
    with torch.cuda.stream(stream):
        x.sum()
    with pytest.raises(DeviceError), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
        cuda.wait("a package", helpless=True)


def test_parameters_on_manifolds(cuda):
    import geoopt

    start = torch.nn.functional.normalize(torch.rand(5, 4), dim=-1)
    found = []
    for place in ("cpu", "cuda"):
        parameter = geoopt.ManifoldParameter(start.clone().to(place), manifold=geoopt.Sphere())
        optimizer = geoopt.optim.RiemannianAdam([parameter], lr=0.1)
        (parameter * torch.arange(4.0).to(place)).sum().backward()
        optimizer.step()
        assert isinstance(
            type(parameter)(parameter.detach(), manifold=parameter.manifold),
            geoopt.ManifoldParameter,
        )
        found.append(parameter.detach().cpu())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("harmonics, waits", [(False, 1), (True, 2)])
def test_gsplat_waits_once_and_once_more_for_harmonics(cuda, harmonics, waits):
    """As its sources do: for the number of tiles, and for the inverse of the pose."""
    import gsplat

    cloud, camera = (part.to("cuda") for part in SCENES["ordinary"](0))
    colours = cloud.sh if harmonics else torch.rand(cloud.num_gaussians, 3, device="cuda")
    before = len(cuda.waits)
    images, *_ = gsplat.rasterization(
        cloud.means,
        cloud.quats,
        cloud.scales,
        cloud.opacities,
        colours,
        camera.T_cam_world[None],
        camera.K[None],
        camera.width,
        camera.height,
        near_plane=0.01,
        far_plane=1e10,
        eps2d=0.3,
        sh_degree=3 if harmonics else None,
        packed=False,
        render_mode="RGB",
        absgrad=False,
        rasterize_mode="classic",
    )
    assert images.shape == (1, camera.height, camera.width, 3) and len(cuda.waits) - before == waits
