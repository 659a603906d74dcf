"""The same tasks on a Ray cluster. The folder of subjects, the videos and this project lie on
storage that all share.

Ray places tasks and starts them again when a worker dies; what is done, and by whom, is told by the
files of each task as everywhere else, so that nothing is done twice even where Ray would.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from likeness.collection import state, work
from likeness.collection.child import last_progress
from likeness.collection.claims import STALE_S
from likeness.collection.resources import EXPECTED_MB
from likeness.collection.state import TaskState
from likeness.collection.tasks import Task
from likeness.scene.errors import UserError

VERSION = "2.60.0"
_ROOT = Path(__file__).resolve().parent.parent
_THREADS = 4
_POLL_S = 0.5
_COUNT_AGAIN_S = 10.0
_STARTS = 3  # of a cluster on this machine, before we give up
# deaths of workers that one task survives; a task that kills its workers must end some time
_RETRIES = 10


class RayPool:
    """Tasks on the workers of a cluster.

    address: of a cluster that is there ("auto": of this machine, or RAY_ADDRESS), or "local" to
    start one here, of local_cores if not of all. threads: cores for each task; None: 4, or what the
    largest machine has. jobs: how many at most, None for all there is room for. gpus: for each task
    that wants one, where the cluster has any; may be a part of one. Raises UserError where Ray or
    the cluster is missing.
    """

    def __init__(
        self,
        address: str,
        threads: int | None = None,
        jobs: int | None = None,
        gpus: float = 1.0,
        stale_s: float = STALE_S,
        local_cores: int | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._jobs, self._gpus, self._stale_s = jobs, gpus, stale_s
        self._connect(address, local_cores)
        self._largest_memory = self._largest("memory")
        self._threads = threads_for(threads, self._largest("CPU"))
        self._running: list[RayHandle] = []
        self._ready: set[Any] = set()
        self._looked = self._counted = float("-inf")
        self._cluster: dict[str, float] = {}

    def has_room(self, task: Task) -> bool:
        """Twice what the cluster can take at once, apart for CPU and GPU tasks: workers never wait
        for us, and a queue of fits never keeps machines without a GPU idle."""
        if self._jobs is not None and len(self._running) >= self._jobs:
            return False
        like_it = sum(
            self._wants_gpu(handle.task) == self._wants_gpu(task) for handle in self._running
        )
        slots = self._resources().get("CPU", 0.0) / self._threads
        if self._wants_gpu(task):
            slots = self._resources()["GPU"] / self._gpus
        return like_it < max(2, 2 * int(slots))

    def start(self, task: Task) -> RayHandle:
        remote = self._ray.remote(_do).options(
            name=task.key,
            num_cpus=self._threads,
            num_gpus=self._gpus if self._wants_gpu(task) else 0,
            memory=int(min(EXPECTED_MB.get(task.stage, 0.0) * 1024**2, self._largest_memory)),
            max_retries=_RETRIES,
        )
        handle = RayHandle(task, remote.remote(task, self._threads, self._stale_s), self)
        self._running.append(handle)
        return handle

    def ended(self, handle: RayHandle, ended: TaskState) -> None:
        self._running.remove(handle)
        self._ready.discard(handle.reference)

    def progress(self, handle: RayHandle) -> str:
        return last_progress(handle.task.log)

    def is_ready(self, reference: Any) -> bool:
        """Asks Ray about all tasks at once, every now and then."""
        if time.monotonic() - self._looked > _POLL_S and self._running:
            self._looked = time.monotonic()
            references = [handle.reference for handle in self._running]
            self._ready.update(
                self._ray.wait(references, num_returns=len(references), timeout=0)[0]
            )
        return reference in self._ready

    def value(self, reference: Any) -> TaskState:
        """What came of a task whose reference is ready."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.TaskCancelledError:
            return TaskState(state.STOPPED)
        except errors.RayError as error:
            reason = " ".join(str(getattr(error, "cause", None) or error).split())[:300]
            return TaskState(
                state.FAILED, error=f"on the cluster: {type(error).__name__}: {reason}"
            )

    def cancel(self, reference: Any, force: bool) -> None:
        self._ray.cancel(reference, force=force)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _wants_gpu(self, task: Task) -> bool:
        return task.gpu and self._resources().get("GPU", 0.0) > 0

    def _resources(self) -> dict[str, float]:
        if time.monotonic() - self._counted > _COUNT_AGAIN_S:  # clusters grow and shrink
            self._counted = time.monotonic()
            self._cluster = self._ray.cluster_resources()
        return self._cluster

    def _largest(self, resource: str) -> float:
        """Of one machine of the cluster: a task must fit on one."""
        return max(
            (node["Resources"].get(resource, 0.0) for node in self._ray.nodes() if node["Alive"]),
            default=0.0,
        )

    def _connect(self, address: str, local_cores: int | None) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        attempts = _STARTS if address == "local" else 1
        for attempt in range(1, attempts + 1):
            try:
                self._init(address, local_cores)
                break
            # Ray raises bare ones, too, such as for a machine too busy to start it in time
            except Exception as error:
                self._ray.shutdown()
                if attempt == attempts:
                    raise UserError(_no_cluster(address, error)) from None
        if threading.current_thread() is threading.main_thread():
            # Ray puts its own there, which end us with a stack trace
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _init(self, address: str, local_cores: int | None) -> None:
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._ray.init(
            address=address,
            num_cpus=local_cores,
            log_to_driver=False,
            include_dashboard=False if address == "local" else None,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
            logging_level="error",
        )


def _no_cluster(address: str, error: Exception) -> str:
    remedy = (
        "start one with `ray start --head` and `ray start --address=HEAD:6379` on the others, or give --ray-address, "
        "or --ray-address local"
    )
    if address == "local":
        remedy = "try again when the machine is less busy, or do without --cluster"
    reason = " ".join(str(error).split())[:200]
    return f"--cluster ray: cannot use the cluster {address!r} ({reason}); {remedy}"


class RayHandle:
    """A task that is handed to the cluster."""

    def __init__(self, task: Task, reference: Any, pool: RayPool) -> None:
        self.task, self.reference, self._pool = task, reference, pool

    def poll(self) -> TaskState | None:
        return self._pool.value(self.reference) if self._pool.is_ready(self.reference) else None

    def stop(self) -> None:
        self._pool.cancel(self.reference, force=False)

    def abandon(self) -> TaskState:
        self._pool.cancel(self.reference, force=True)
        return TaskState(state.STOPPED)


def _do(task: Task, threads: int, stale_s: float) -> TaskState:
    """On a worker: does the task, waits while somebody else does it, or takes over from one who is
    gone."""
    # What Ray cancels a task with; workers of a cluster that was started in the background are deaf
    # to it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gpu = None if task.gpu else ""  # Ray says which; tasks that asked for none must not find any
    while (running := work.start(task, threads, gpu, beat_s=stale_s / 6, stale_s=stale_s)) is None:
        time.sleep(1.0)
    if isinstance(running, TaskState):
        return running
    try:
        while (ended := running.poll()) is None:
            time.sleep(_POLL_S)
        return ended
    except BaseException:  # cancelled: let it save itself
        running.stop()
        while running.poll() is None:
            time.sleep(_POLL_S)
        raise


def threads_for(asked: int | None, cores: float) -> int:
    """Cores for each task where the largest machine has so many. Raises UserError where more are
    asked for: such tasks would wait for ever."""
    if asked is not None and asked > cores:
        raise UserError(
            f"--threads {asked}: no machine of the cluster has more than {cores:g} cores; give fewer"
        )
    return asked or max(1, min(_THREADS, int(cores)))


def _import_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            f"--cluster ray: the package ray is not installed; install it on every machine with "
            f'`.venv/bin/python -m pip install "ray=={VERSION}"`'
        ) from None
    return ray
