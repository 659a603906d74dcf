"""The same tasks on a Ray cluster, which places them and starts them again when a machine dies. The
folder of subjects and the videos lie on storage that all its machines share."""

from __future__ import annotations

import os
import signal
from typing import Any

from likeness.collection import state
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.collection.work import LocalWorkers
from likeness.scene.errors import UserError, one_line

VERSION = "2.60.0"
_THREADS = 4
_MAX_JOBS = 1000  # threads here that wait for the cluster
_RETRIES = 10  # deaths of machines that one task survives; one that kills its machines must end


class RayWorkers:
    """Tasks on the machines of a cluster.

    address: of the cluster ("auto": of this machine, or RAY_ADDRESS), or "local" to start one here,
    of ``local_cores`` if not of all. threads: cores for each task; None: 4, or what the largest
    machine has. jobs: tasks handed to the cluster at once; None: four times what it can run. Raises
    UserError where Ray or the cluster is missing.
    """

    def __init__(
        self,
        address: str,
        threads: int | None = None,
        jobs: int | None = None,
        local_cores: int | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._connect(address, local_cores)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._threads = threads_for(threads, max(node.get("CPU", 0.0) for node in nodes))
        slots = sum(node.get("CPU", 0.0) // self._threads for node in nodes)
        self.jobs = jobs or min(_MAX_JOBS, max(1, 4 * int(slots)))
        self._has_gpus = any(node.get("GPU", 0.0) for node in nodes)
        self._running: set[Any] = set()
        self._stopping = False

    def do(self, task: Task) -> TaskState:
        """Runs a task on the cluster to its end."""
        if self._stopping:
            return TaskState(state.STOPPED)
        remote = self._ray.remote(_do).options(
            name=task.key,
            num_cpus=self._threads,
            num_gpus=int(task.gpu and self._has_gpus),
            max_retries=_RETRIES,
        )
        reference = remote.remote(task, self._threads)
        self._running.add(reference)
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return state.load(task) or TaskState(state.STOPPED)
        except self._ray.exceptions.RayError as error:
            if self._stopping:
                return TaskState(state.STOPPED)
            cause = one_line(str(getattr(error, "cause", None) or error), 300)
            error_line = f"on the cluster: {type(error).__name__}: {cause}"
            return TaskState(state.FAILED, error=error_line)
        finally:
            self._running.discard(reference)

    def stop(self) -> None:
        """Asks what is running to save itself and end."""
        self._cancel(force=False)

    def kill(self) -> None:
        """Ends what is running at once."""
        self._cancel(force=True)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _cancel(self, force: bool) -> None:
        self._stopping = True
        for reference in list(self._running):
            self._ray.cancel(reference, force=force)

    def _connect(self, address: str, local_cores: int | None) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._ray.init(
                address=address,
                num_cpus=local_cores,
                log_to_driver=False,
                include_dashboard=False if address == "local" else None,
                logging_level="error",
            )
        except Exception as error:  # Ray raises bare ones, too, such as for a busy machine
            self._ray.shutdown()
            raise UserError(_no_cluster(address, error)) from None
        for number, handler in handlers.items():  # Ray puts its own there, which end us
            signal.signal(number, handler)


def _do(task: Task, threads: int) -> TaskState:
    """On a machine of the cluster."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what Ray cancels a task with
    # Ray says which GPU; tasks that asked for none must find none
    return LocalWorkers(1, threads).do_on(task, None if task.gpu else "")


def threads_for(asked: int | None, cores: float) -> int:
    """Cores for each task where the largest machine has so many. Raises UserError where more are
    asked for: such tasks would wait for ever."""
    if asked is not None and asked > cores:
        raise UserError(
            f"--threads {asked}: no machine of the cluster has more than {cores:g} cores; "
            "give fewer"
        )
    return asked or max(1, min(_THREADS, int(cores)))


def _no_cluster(address: str, error: Exception) -> str:
    remedy = (
        "try again when the machine is less busy, or do without --cluster"
        if address == "local"
        else "start one with `ray start --head` and `ray start --address=HEAD:6379` on the others, "
        "or give --ray-address, or --ray-address local"
    )
    reason = one_line(str(error), 200)
    return f"--cluster ray: cannot use the cluster {address!r} ({reason}); {remedy}"


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        raise UserError(
            "--cluster ray: the package ray is not installed; install it on every machine with "
            f'`.venv/bin/python -m pip install "ray=={VERSION}"`'
        ) from None
    return ray
