"""Shutdown of a worker: on a signal, after an idle time or at a maximum age, it drains and then ends.

Draining: take no new run, requeue at once the runs that are reserved but not started, finish the started
ones. A second SIGTERM requeues the started runs, too. Measured with kombu 5.7 on Redis: Celery's own warm
shutdown keeps the reserved runs until the started run ends, and may also keep one that Redis sent last.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from celery.worker.consumer.tasks import Tasks

_logger = logging.getLogger(__name__)

#: Seconds between two checks of the clock, of received signals and of a pending reply of Redis.
CHECK_SECONDS = 0.2
#: Seconds within which a second SIGTERM repeats the first (docs/contract.md#workflow-engines).
REPEATED_SIGNAL_SECONDS = 2.0


@dataclass(frozen=True)
class Lifetime:
    """When a worker ends by itself, seconds; None = never.

    ``idle``: without a run for so long, counted from the moment it is ready. ``longest``: since it started;
    from then on it drains, so that it ends at most the hard time limit of a run later.
    """

    idle: float | None = None
    longest: float | None = None


def install_drain(app: Celery, lifetime: Lifetime) -> None:
    """Limit the lifetime of the app's worker, and make it drain on SIGTERM."""
    drain = Drain(app.conf.task_default_queue, lifetime)

    class EndOfLife(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
        """Bootstep that Celery calls when the event loop starts and when the connection ends."""

        requires = (Tasks,)

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
            drain.watch(consumer, hub)

        def stop(self, consumer: Any) -> None:  # noqa: ARG002
            drain.unwatch()

    app.steps["consumer"].add(EndOfLife)


class Drain:
    """Checks in the worker's event loop whether the worker should end, and drains it."""

    def __init__(self, queue: str, lifetime: Lifetime) -> None:
        self._queue = queue
        self._lifetime = lifetime
        self._started = self._last_run = time.monotonic()
        self._started_runs = 0
        self._drain_since: float | None = None
        self._consumer: Any = None
        self._timer: Any = None
        self._celery_handler: Any = None
        self._cancelled = self._interrupted = False
        self._ending = False

    def watch(self, consumer: Any, hub: Any) -> None:
        """Start the checks; called when the worker is connected, before its event loop runs."""
        if self._celery_handler is None:
            self._celery_handler = signal.signal(signal.SIGTERM, self._on_signal)
            # Celery's own handler of Ctrl-C ends the worker with an error.
            signal.signal(signal.SIGINT, self._on_signal)
            self._last_run = time.monotonic()
        self._consumer = consumer
        self._timer = hub.call_repeatedly(CHECK_SECONDS, self._check)

    def unwatch(self) -> None:
        """Stop the checks; called when the worker stops or loses its connection and its reserved runs."""
        if self._consumer is None:
            return
        self._consumer = None
        self._timer.cancel()
        if self._drain_since is not None:
            self._finish()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._drain_since is None:
            self._drain_since = time.monotonic()
            self._interrupted = signum == signal.SIGINT
            if self._consumer is None:
                self._finish()
        elif time.monotonic() - self._drain_since > REPEATED_SIGNAL_SECONDS:
            os.kill(os.getpid(), signal.SIGQUIT)  # Celery's cold shutdown requeues the started runs

    def _check(self) -> None:
        if self._drain_since is None and (reason := self._reason()):
            _logger.info("%s: taking no new run", reason)
            self._drain_since = time.monotonic()
        if self._drain_since is None:
            return
        if self._interrupted:
            self._interrupted = False
            _logger.info("Ctrl-C: taking no new run; a second Ctrl-C requeues the active runs")
        if not self._cancelled:
            self._cancelled = True
            self._consumer.cancel_task_queue(self._queue)
        # A blocking pop still under way may bring a run; kombu puts it back, as the queue is cancelled.
        if not getattr(self._consumer.task_consumer.channel, "_in_poll", None):
            self._timer.cancel()
            self._requeue_reserved()
            self._finish()

    def _reason(self) -> str | None:
        """Why the worker should end by itself now, if it should."""
        now = time.monotonic()
        if state.reserved_requests or state.all_total_count[0] != self._started_runs:
            self._started_runs = state.all_total_count[0]
            self._last_run = now
        if self._lifetime.idle is not None and now - self._last_run >= self._lifetime.idle:
            return f"no run for {self._lifetime.idle:g} s"
        if self._lifetime.longest is not None and now - self._started >= self._lifetime.longest:
            return f"running for {self._lifetime.longest:g} s"
        return None

    def _requeue_reserved(self) -> None:
        """Requeue the reserved runs that no process has started."""
        self._consumer.controller.semaphore.clear()
        not_started = [request for request in state.reserved_requests if request._apply_result is None]
        for request in not_started:
            request.reject(requeue=True)
        if not_started:
            _logger.info("requeued %d reserved runs", len(not_started))

    def _finish(self) -> None:
        """Start Celery's warm shutdown: the worker ends once its started runs are finished."""
        if not self._ending:
            self._ending = True
            self._celery_handler(signal.SIGTERM, None)
