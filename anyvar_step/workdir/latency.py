"""Waiting for what another host has written, on a filesystem that is slow to show it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from anyvar_step.errors import FileSpoiled, FileTrouble, RunLost, from_os


def await_file(
    path: Path, seconds: float, size: int | None = None, gone: Callable[[], bool] | None = None
) -> None:
    """Wait until a shared filesystem shows the file, and in that size; RunLost when ``gone`` says so.

    Raises FileTrouble once so many seconds have passed, FileSpoiled where the size it must have is known.
    NFS clients cache "not there": listing the parent makes them look again (PITFALLS.md 15).
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not _shows(path, size):
        if pause > 1 and gone is not None and gone():
            raise RunLost(f"{path} is gone: the run has ended elsewhere")
        if time.monotonic() >= deadline:
            if size is not None:
                raise FileSpoiled(
                    f"{path} has not appeared whole ({size} bytes) within {seconds:g} s", "Run it again"
                )
            raise FileTrouble(
                f"{path} has not appeared within {seconds:g} s",
                "Is the work dir one and the same for step and workers? See ANYVAR_STEP_WORKER_WORK_DIR; "
                "a slow shared filesystem may need a longer --latency-wait",
            )
        time.sleep(pause)
        pause = min(pause * 2, 2.0)


def _shows(path: Path, size: int | None) -> bool:
    try:
        os.listdir(path.parent)  # noqa: PTH208  # for its effect on the NFS client, not for its answer
        # Without waiting for the other end of a FIFO.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return size is None or os.fstat(file.fileno()).st_size == size
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise from_os(error, f"cannot read {path}") from error
