"""Work beside the caller: one thread for what libraries do without the interpreter's lock."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from anyvar_step.machine import processors

#: Seconds for which a busy caller keeps the lock from the thread: about what a block takes to be compressed.
#: With Python's own 0.005 the thread spends most of its life waiting (measured).
SWITCHING = 0.0005


class Beside(ThreadPoolExecutor):
    """The thread, until ``close``; meanwhile all threads of the process switch more often."""

    def __init__(self) -> None:
        super().__init__(1, "beside")
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCHING)

    def close(self) -> None:
        """Drop what has not begun and wait for the rest."""
        self.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._before)


def beside() -> Beside | None:
    """A thread where it has a core of its own; None on a single one, where it would only cost."""
    return Beside() if processors() > 1 else None
