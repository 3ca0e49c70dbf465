"""The clocks of one run: seconds by phase, and its progress, reported now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from anyvar_step.models import Progress

#: Seconds between two calls of on_progress, at least.
PROGRESS_EVERY = 0.5


class Stopwatch:
    """Wall-clock seconds by phase: ``lap`` gives the time since the last lap to a phase."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "annotate": 0.0, "write": 0.0}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The time since the last lap belongs to that phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


class Reporter:
    """Calls on_progress at the first call, then when PROGRESS_EVERY seconds have passed.

    ``again`` repeats the last call, for a caller that waits.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None, size: int) -> None:
        self._on_progress = on_progress
        self._size = size
        self._begin = time.monotonic()
        self._due = self._begin
        self._latest = (0, 0)

    def __call__(self, records: int, consumed: int) -> None:
        """Report that so many records are done and so many bytes read, when it is due."""
        self._latest = records, consumed
        now = time.monotonic()
        if self._on_progress is None or now < self._due:
            return
        self._due = now + PROGRESS_EVERY
        fraction = min(1.0, consumed / self._size) if self._size else 0.0
        self._on_progress(Progress(records=records, fraction=fraction, seconds=now - self._begin))

    def again(self) -> None:
        """Report the latest once more, when it is due."""
        self(*self._latest)
