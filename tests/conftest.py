"""What all tests share: few threads, fixed seeds, the shared clips."""

from __future__ import annotations

import os

# Before NumPy and torch start their thread pools: idle threads that spin would slow each other on
# small machines.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# No more threads than cores, shared by the test processes.
os.environ.setdefault(
    "OMP_NUM_THREADS",
    "2"
    if (os.cpu_count() or 1) >= 2 * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    else "1",
)
os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ.setdefault("LIKENESS_OFFLINE", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# A shell that starts the suite in the background has programs ignore Ctrl-C, which tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_DATA = Path(
    os.environ.get("LIKENESS_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data")
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what is marked `gpu` where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.compiling import compile_once

        compile_once(tmp_path_factory.getbasetemp().parent)


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    """The same random numbers and at most two threads in every test."""
    import random

    import numpy as np
    import torch

    torch.set_num_threads(min(2, torch.get_num_threads()))
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Gives the path of a file of the shared test data, or skips the test with the reason."""

    def find(name: str) -> Path:
        path = _DATA / name
        if not path.is_file():
            pytest.skip(f"shared test data absent: {path} (set LIKENESS_DATA)")
        return path

    return find


@pytest.fixture(scope="session")
def shared_clip(shared_data: Callable[[str], Path]) -> Callable[[str], Path]:
    """Gives the path of a clip of the shared test data by name (``subject_a`` ...), or skips with
    the reason."""
    return lambda name: shared_data(f"clips/{name}.mp4")


@pytest.fixture
def cuda(monkeypatch):
    """A simulated CUDA device (``tests.simulated_cuda``) with a simulated gsplat, for the length of
    a test."""
    from tests import simulated_gsplat
    from tests.simulated_cuda import simulated_cuda

    simulated_gsplat.install(monkeypatch)
    with simulated_cuda() as device:
        yield device
