"""What only the CPU renderer promises: reproducible bits, safe use from several threads, clear
refusals."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

from likeness.renderers import create
from likeness.renderers.cpu import THREADS_VARIABLE, CpuRenderer, default_threads
from likeness.renderers.cpu_kernels import workspace
from likeness.scene.camera import Camera
from likeness.scene.cloud import GaussianCloud
from likeness.scene.errors import UserError
from tests.renderers.scenes import SCENES, random_camera, random_cloud


def render(renderer: CpuRenderer, cloud: GaussianCloud, camera: Camera) -> list[torch.Tensor]:
    """Images and gradients."""
    cloud = cloud.map(lambda tensor: tensor.detach().clone().requires_grad_())
    output = renderer.render(cloud, camera, depth=True, screen="absolute")
    (output.rgb.square().sum() + output.depth.sum() + output.alpha.sum()).backward()
    gradients = [tensor.grad for tensor in cloud.fields().values()]
    images = [output.rgb, output.alpha, output.depth]
    screen = output.screen.means2d.grad, output.screen.absgrad
    return [t.detach().clone() for t in (*images, *gradients, *screen)]


def same_bits(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_threads_same_bits(threads: int) -> None:
    cloud, camera = random_cloud(2000, 0), random_camera(100, 90, 0)
    renderer = CpuRenderer(threads)
    first = render(renderer, cloud, camera)
    # leaves other numbers in the memory
    render(renderer, random_cloud(500, 1), random_camera(50, 40, 1))
    assert same_bits(first, render(renderer, cloud, camera))
    assert same_bits(first, render(CpuRenderer(threads), cloud, camera))


def test_thread_count_changes_gradients_only_in_the_last_digits() -> None:
    cloud, camera = random_cloud(2000, 0), random_camera(100, 90, 0)
    one, three = render(CpuRenderer(1), cloud, camera), render(CpuRenderer(3), cloud, camera)
    assert same_bits(one[:3], three[:3])
    for a, b in zip(one[3:], three[3:]):
        assert (a - b).norm() <= 1e-5 * a.norm()


def test_pictures_side_by_side_are_those_one_after_another() -> None:
    """Whatever the threads: more of them than pictures, fewer, and pictures that take turns in one
    memory."""
    scenes = [(random_cloud(300, seed), random_camera(45, 38, seed)) for seed in range(5)]
    wanted = [render(CpuRenderer(1), *scene) for scene in scenes]
    clouds, cameras = (list(part) for part in zip(*scenes))
    cloud = GaussianCloud(
        *(torch.stack(fields) for fields in zip(*(c.fields().values() for c in clouds)))
    )
    camera = Camera.stack(cameras)
    for threads in (1, 2, 5, 12):
        renderer = CpuRenderer(threads)
        got = render(renderer, cloud, camera)
        for index, single in enumerate(wanted):
            for k, (a, b) in enumerate(zip(got, single)):
                # Where several threads share a picture, sums of gradients have other roundings.
                assert (
                    torch.equal(a[index], b)
                    if k < 3 or threads < 10
                    else (a[index] - b).norm() <= 1e-5 * b.norm()
                )
        with torch.no_grad():
            assert torch.equal(renderer.render(cloud, camera).rgb, got[0])


def test_one_renderer_in_several_python_threads() -> None:
    renderer = CpuRenderer(2)
    scenes = [(random_cloud(800, seed), random_camera(70 + seed, 60, seed)) for seed in range(4)]
    wanted = [render(CpuRenderer(2), *scene) for scene in scenes]
    failures: list[int] = []

    def work(index: int) -> None:
        for _ in range(10):
            if not same_bits(render(renderer, *scenes[index]), wanted[index]):
                failures.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert not failures


def test_renderings_between_forward_and_backward_disturb_nothing() -> None:
    renderer, (cloud, camera) = CpuRenderer(2), SCENES["ordinary"](0)
    wanted = render(renderer, cloud, camera)
    cloud = cloud.map(lambda tensor: tensor.clone().requires_grad_())
    output = renderer.render(cloud, camera, depth=True, screen=True)
    render(renderer, random_cloud(300, 3), random_camera(64, 64, 3))
    renderer.render(random_cloud(300, 4), random_camera(64, 64, 4))
    (output.rgb.square().sum() + output.depth.sum() + output.alpha.sum()).backward()
    assert torch.equal(cloud.means.grad, wanted[3]) and torch.equal(cloud.sh.grad, wanted[7])


def test_backward_twice() -> None:
    renderer, (cloud, camera) = CpuRenderer(1), SCENES["ordinary"](0)
    cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    output = renderer.render(cloud, camera, screen=True)
    loss = output.rgb.sum()
    loss.backward(retain_graph=True)
    once, screen = cloud.means.grad.clone(), output.screen.means2d.grad.clone()
    loss.backward()
    torch.testing.assert_close(cloud.means.grad, 2 * once)
    torch.testing.assert_close(output.screen.means2d.grad, 2 * screen)


def test_memory_is_given_back_and_used_again(monkeypatch) -> None:
    created = []
    make = workspace.Workspace
    monkeypatch.setattr(
        workspace, "Workspace", lambda threads: created.append(make(threads)) or created[-1]
    )
    renderer, (cloud, camera) = CpuRenderer(1), SCENES["ordinary"](0)
    cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    for _ in range(5):
        output = renderer.render(cloud, camera)
        output.rgb.sum().backward()
        with torch.no_grad():
            renderer.render(cloud, camera)
    del output
    gc.collect()
    assert len(created) <= 3
    assert len(renderer._free[1]) == len(created)


def test_playback_needs_no_graph() -> None:
    cloud, camera = SCENES["ordinary"](0)
    cloud = cloud.map(lambda tensor: tensor.requires_grad_())
    with torch.no_grad():
        output = CpuRenderer(1).render(cloud, camera)
    assert not output.rgb.requires_grad
    assert torch.equal(output.rgb, CpuRenderer(1).render(cloud, camera).rgb.detach())


def test_views_and_expanded_tensors() -> None:
    """Tensors that are not contiguous, among inputs and gradients."""
    cloud, camera = SCENES["ordinary"](2)
    wanted = CpuRenderer(1).render(cloud, camera).rgb
    strided = cloud.map(lambda tensor: torch.stack([tensor, tensor], -1)[..., 0].requires_grad_())
    output = CpuRenderer(1).render(strided, camera)
    output.rgb.permute(2, 0, 1).sum().backward()
    assert torch.equal(output.rgb.detach(), wanted)


def test_broken_gaussians_are_not_drawn() -> None:
    cloud, camera = SCENES["ordinary"](0)
    keep = torch.ones(100, dtype=torch.bool)
    keep[[3, 10, 20, 30]] = False
    means, quats, scales, opacities = (
        t.clone() for t in (cloud.means, cloud.quats, cloud.scales, cloud.opacities)
    )
    means[3], quats[10], scales[20], opacities[30] = (
        float("nan"),
        float("nan"),
        float("inf"),
        float("nan"),
    )
    output = CpuRenderer(1).render(GaussianCloud(means, quats, scales, opacities, cloud.sh), camera)
    assert torch.equal(
        output.rgb, CpuRenderer(1).render(cloud.map(lambda tensor: tensor[keep]), camera).rgb
    )


def test_refusals() -> None:
    cloud, camera = SCENES["ordinary"](0)
    with pytest.raises(ValueError, match="float32 on the CPU, got means as torch.float64"):
        CpuRenderer(1).render(cloud.to(torch.float64), camera)
    with pytest.raises(ValueError, match="camera.K"):
        CpuRenderer(1).render(
            cloud, Camera(camera.K.clone().requires_grad_(), camera.T_cam_world, 8, 8)
        )
    with pytest.raises(ValueError, match="at least 1 thread"):
        CpuRenderer(0)


def test_thread_count_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert default_threads() == 3 and CpuRenderer().threads == 3
    for text in ("0", "many", "-1", ""):
        monkeypatch.setenv(THREADS_VARIABLE, text)
        with pytest.raises(UserError, match=THREADS_VARIABLE):
            default_threads()


def test_create() -> None:
    assert create("auto", "cpu").name == "cpu"
    with pytest.raises(UserError, match="unknown"):
        create("opengl")
    with pytest.raises(UserError, match="CPU only"):
        create("cpu", "cuda")
    with pytest.raises(UserError, match="CUDA"):
        create("gsplat", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_gsplat_without_cuda_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="no CUDA device") as caught:
        create("auto", "cuda")
    assert "\n" not in str(caught.value)


def test_many_renderers_load_the_kernels_once_in_a_process(monkeypatch):
    from likeness.renderers import cpu

    renders = []
    monkeypatch.setattr(cpu.CpuRenderer, "render", lambda self, *_, **__: renders.append(self))
    cpu._load_kernels.cache_clear()
    try:
        for _ in range(3):
            cpu.CpuRenderer(1).warm_up(gradients=False)
        assert len(renders) == 1
    finally:
        cpu._load_kernels.cache_clear()
