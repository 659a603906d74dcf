"""Test processes that run side by side compile each kernel once, not once each: the second one
waits, then loads it."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path


def compile_once(folder: Path) -> None:
    """From here on numba compiles a function only while this process holds its lock, a file in
    ``folder``.

    numba looks for a compiled function on the disk before it compiles, and writes it there
    afterwards; both happen within the lock.
    """
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_alone, held = Dispatcher.compile, set()

    def compile(self, signature):
        name = hashlib.sha1(
            f"{self.py_func.__module__}.{self.py_func.__qualname__}".encode()
        ).hexdigest()
        # first, so that two threads of one process never wait for each other
        with global_compiler_lock:
            if name in held:
                return compile_alone(self, signature)
            with (folder / f"{name}.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                held.add(name)
                try:
                    return compile_alone(self, signature)
                finally:
                    held.remove(name)

    Dispatcher.compile = compile
