"""What the worker does beside its runs, now and then: sweep the work dir, one worker at a time for all.

The event loop starts a thread for it, which ends with the sweep: a slow filesystem stops no heartbeat, and
the pool's processes are hardly ever forked while a second thread is there.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.tasks import Tasks

from anyvar_step.errors import StepError
from anyvar_step.settings import Settings
from anyvar_step.sweep import SWEEP_EVERY, take_turn
from anyvar_step.workdir import WorkDir

_logger = logging.getLogger(__name__)


def keep_house(app: Celery, settings: Settings, workdir: WorkDir) -> None:
    """Make the app's worker sweep when it is ready, and then every SWEEP_EVERY seconds if no other has."""
    broom = Broom(settings, workdir)

    class Housekeeping(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
        """Celery's seam: told of the event loop, and of the end of a connection."""

        requires = (Tasks,)
        timer: Any = None

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:  # noqa: ARG002
            broom.take()
            self.timer = hub.call_repeatedly(SWEEP_EVERY, broom.take)

        def stop(self, consumer: Any) -> None:  # noqa: ARG002
            if self.timer is not None:
                self.timer.cancel()

    app.steps["consumer"].add(Housekeeping)


class Broom:
    """Sweeps in a thread of its own, one at a time."""

    def __init__(self, settings: Settings, workdir: WorkDir) -> None:
        self._settings = settings
        self._workdir = workdir
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Begin a sweep unless the last one has not ended; does not wait for it."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._sweep, name="sweep", daemon=True)
            self._thread.start()

    def _sweep(self) -> None:
        try:
            take_turn(self._settings, self._workdir)
        except (StepError, OSError) as trouble:
            _logger.warning("cannot sweep the work dir: %s", trouble)
