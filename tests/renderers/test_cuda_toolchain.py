"""The tools for CUDA code are found where they lie, and what is missing is said in one line."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from likeness.renderers import cuda_toolchain
from likeness.scene.errors import UserError

VARIABLES = (
    "PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "CPATH",
    "LIBRARY_PATH",
    "MAX_JOBS",
    "CXX",
    "XDG_CACHE_HOME",
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """One without a toolkit, on which programs lie in ``bin`` alone."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda_toolchain.sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setattr(
        cuda_toolchain.sysconfig, "get_path", lambda name: str(tmp_path / "venv" / "bin")
    )
    monkeypatch.setattr(cuda_toolchain.sys, "path", [str(tmp_path / "site")])
    monkeypatch.setattr(cuda_toolchain.sys, "platform", "linux")
    monkeypatch.setattr(cuda_toolchain, "_cuda_major", lambda: 13)
    monkeypatch.setattr(cuda_toolchain, "_installed_homes", cuda_toolchain._named_homes)
    monkeypatch.setattr(cuda_toolchain, "_wheel_folders", lambda: [])
    program(tmp_path / "bin" / "c++")
    return tmp_path


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def file(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def toolkit(home: Path, version: int = 13000) -> Path:
    """As an installer leaves it."""
    program(home / "bin" / "nvcc")
    file(home / "include" / "cuda.h", f"/* */\n#define CUDA_VERSION {version}\n")
    file(home / "include" / "cuda_runtime.h")
    file(home / "lib64" / "libcudart.so")
    return home


def wheels(home: Path, compiler: bool = True, runtime: bool = True) -> Path:
    """As the registry's packages leave it: PyTorch's the runtime, the others the compiler."""
    if compiler:
        program(home / "bin" / "nvcc")
        program(home / "nvvm" / "bin" / "cicc")
        file(home / "include" / "crt" / "host_config.h")
        file(home / "include" / "cccl" / "cub" / "cub.cuh")
    if runtime:
        file(home / "include" / "cuda.h", "#define CUDA_VERSION 13000\n")
        file(home / "include" / "cuda_runtime.h")
        file(home / "lib" / "libcudart.so.13")
    return home


@pytest.mark.parametrize("place", ["venv/bin", "site/bin"])
def test_ninja_beside_the_interpreter_or_in_a_folder_of_packages_is_put_on_path(machine, place):
    toolkit(machine / "cuda")
    os.environ["CUDA_HOME"] = str(machine / "cuda")
    program(machine / place / "ninja")
    cuda_toolchain.provide_tools("x")
    assert str(machine / place) in os.environ["PATH"].split(os.pathsep)


def test_a_toolkit_of_wheels_is_used(machine, monkeypatch):
    program(machine / "bin" / "ninja")
    home = wheels(machine / "nvidia" / "cu13")
    monkeypatch.setattr(cuda_toolchain, "_wheel_folders", lambda: [home])
    builder = type("builder", (), {"CUDA_HOME": None})
    monkeypatch.setitem(cuda_toolchain.sys.modules, "torch.utils.cpp_extension", builder)
    for _ in range(2):
        cuda_toolchain.provide_tools("x")
        assert os.environ["CUDA_HOME"] == builder.CUDA_HOME == str(home)
        assert (
            os.environ["PATH"].split(os.pathsep)[0] == str(home / "bin")
            and "CPATH" not in os.environ
        )
        link = Path(os.environ["LIBRARY_PATH"]) / "libcudart.so"
        assert (
            link.resolve() == home / "lib" / "libcudart.so.13"
            and not (home / "lib" / "libcudart.so").exists()
        )


def test_wheels_in_two_folders_are_one_toolkit(machine, monkeypatch):
    program(machine / "bin" / "ninja")
    runtime = wheels(machine / "torch" / "cu13", compiler=False)
    home = wheels(machine / "extra" / "cu13", runtime=False)
    monkeypatch.setattr(cuda_toolchain, "_wheel_folders", lambda: [runtime, home])
    cuda_toolchain.provide_tools("x")
    assert os.environ["CUDA_HOME"] == str(home)
    assert os.environ["CPATH"].split(os.pathsep)[0] == str(runtime / "include")
    assert (
        Path(os.environ["LIBRARY_PATH"]) / "libcudart.so"
    ).resolve() == runtime / "lib" / "libcudart.so.13"


def test_an_installed_toolkit_of_another_version_is_passed_over(machine, monkeypatch):
    program(machine / "bin" / "ninja")
    os.environ["CUDA_HOME"] = str(toolkit(machine / "old", 12040))
    with pytest.raises(UserError, match=r"old is of CUDA 12\.4"):
        cuda_toolchain.provide_tools("x")
    home = wheels(machine / "nvidia" / "cu13")
    monkeypatch.setattr(cuda_toolchain, "_wheel_folders", lambda: [home])
    cuda_toolchain.provide_tools("x")
    assert os.environ["CUDA_HOME"] == str(home)


def test_what_is_missing_is_said_in_one_line_with_what_it_costs(machine):
    (machine / "bin" / "c++").unlink()
    with pytest.raises(UserError) as caught:
        cuda_toolchain.provide_tools("renderer 'gsplat'")
    message = str(caught.value)
    assert message.startswith("renderer 'gsplat': ") and "\n" not in message and len(message) < 500
    assert all(
        words in message
        for words in ("ninja", "CUDA 13 toolkit (nvcc)", "C++ compiler (c++)", "102 MB", "cpu")
    )
    program(machine / "bin" / "ninja")
    program(machine / "bin" / "my++")
    os.environ["CXX"] = "my++ -O1"
    os.environ["CUDA_HOME"] = str(machine / "nothing")
    with pytest.raises(UserError, match="nothing has no bin/nvcc") as caught:
        cuda_toolchain.provide_tools("x")
    assert "ninja" not in str(caught.value) and "C++" not in str(caught.value)


def test_wheels_that_lack_a_part_are_named(machine, monkeypatch):
    program(machine / "bin" / "ninja")
    home = wheels(machine / "cu13")
    (home / "include" / "cccl" / "cub" / "cub.cuh").unlink()
    monkeypatch.setattr(cuda_toolchain, "_wheel_folders", lambda: [home])
    with pytest.raises(UserError, match=r"lack cub/cub\.cuh"):
        cuda_toolchain.provide_tools("x")


def test_a_build_that_fails_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_toolchain, "provide_tools", lambda who: None)
    monkeypatch.setattr(cuda_toolchain.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    log = (
        "Error building extension 'x': [1/28] nvcc ...\n"
        "FAILED: a.o\na.cu:3:10: fatal error: y.h: No such file\n"
    ) * 9
    for error, expected in (
        (RuntimeError(log), "y.h: No such file"),
        (AttributeError("'NoneType' has no attribute 'fwd'"), "NoneType"),
        (OSError(), "OSError"),
    ):
        with (
            pytest.raises(UserError, match=expected) as caught,
            cuda_toolchain.building("x", "renderer 'x'"),
        ):
            raise error
        assert (
            "\n" not in str(caught.value)
            and len(str(caught.value)) < 500
            and "MAX_JOBS" not in os.environ
        )


def test_what_was_compiled_at_its_installation_needs_no_tools(monkeypatch, tmp_path):
    monkeypatch.setattr(
        cuda_toolchain, "provide_tools", lambda who: pytest.fail("tools were looked for")
    )
    monkeypatch.setattr(
        cuda_toolchain.importlib.util, "find_spec", lambda name: name == "x.csrc" or None
    )
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    with cuda_toolchain.building("x", "renderer 'x'"):
        pass


@pytest.mark.parametrize("gib, jobs", [(100.0, 4), (4.0, 2), (0.1, 1)])
def test_jobs_fit_into_cores_and_memory(monkeypatch, gib, jobs):
    monkeypatch.setattr(cuda_toolchain.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr(cuda_toolchain, "_available_gib", lambda: gib)
    monkeypatch.delenv("MAX_JOBS", raising=False)
    with cuda_toolchain._limited_jobs():
        assert os.environ["MAX_JOBS"] == str(jobs)
    monkeypatch.setenv("MAX_JOBS", "7")
    with cuda_toolchain._limited_jobs():
        assert os.environ["MAX_JOBS"] == "7"
    assert os.environ["MAX_JOBS"] == "7"


def _build(folder: str, events: str) -> None:
    """Two of these at once would each see the other's file."""
    os.environ["TORCH_EXTENSIONS_DIR"] = folder
    with cuda_toolchain._alone("x"):
        mark = Path(events) / "building"
        with open(mark, "x"):
            time.sleep(0.2)
        mark.unlink()
    (Path(events) / f"done-{os.getpid()}").touch()


def test_processes_build_one_after_the_other(tmp_path):
    context = multiprocessing.get_context("fork")
    (tmp_path / "events").mkdir()
    processes = [
        context.Process(target=_build, args=(str(tmp_path / "built"), str(tmp_path / "events")))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "events").glob("done-*"))) == 3
