"""Silence for native libraries that write to the terminal past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keeps what native code writes to file descriptor 2 off the terminal; shows its end if an
    exception passes.

    MediaPipe and TensorFlow Lite log before any switch of theirs can be set, so the descriptor is
    the place to hold it.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            captured.seek(0)
            os.write(2, captured.read()[-4000:])
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
