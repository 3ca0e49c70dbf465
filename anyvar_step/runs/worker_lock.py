"""A worker's lock on one run, and the heartbeat that renews it and reads the run's cancel flag.

The heartbeat runs in a thread, so that the pipeline pays for it with one look at an attribute per block.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from anyvar_step.errors import RunCancelled, StepError, TimeLimitReached, Unavailable
from anyvar_step.models import Progress, State
from anyvar_step.runs.connection import LONG_RETRY
from anyvar_step.runs.state import LOCK_SECONDS, RunState
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Seconds between two heartbeats; a few may be lost before the lock expires.
HEARTBEAT_SECONDS = 2.0
#: Seconds, by our own clock, without any lease before a worker stops the run. Steps renew theirs every 20 s;
#: where Redis's clock jumps, or a host was suspended, all expire at once.
CONFIRM_SECONDS = 60.0


class LockedElsewhere(Exception):
    """Another worker has the lock on the run: this delivery is a duplicate."""


class LeaseExpired(RunCancelled):
    """All leases on the run expired long ago: its step was killed (docs/contract.md#workflow-engines)."""


class RunLock:
    """``with RunLock(…) as lock``: the run is this worker's until the block ends.

    Raises LockedElsewhere on entry where another worker renews its lock meanwhile, and takes the run over
    where that lock expires. ``lock.start_heartbeat()`` keeps it. After the end of a run the lock is left to
    expire: between that and the moment Celery stores the result, the run would look lost. ``timed_out`` tells
    whether the soft time limit of the run has passed.
    """

    def __init__(
        self, settings: Settings, run_id: str, owner: str, timed_out: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._owner = owner
        self._timed_out = timed_out
        self._latest = Progress(worker=owner)
        self._reason: RunCancelled | None = None
        self._expired_since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._heartbeats, name=f"heartbeat {run_id}", daemon=True)

    def __enter__(self) -> Self:
        with RunState(self._settings, LONG_RETRY) as state:
            self._acquire(state)
        return self

    def start_heartbeat(self) -> None:
        """Renew the lock and store the progress, now and every HEARTBEAT_SECONDS until the block ends."""
        with RunState(self._settings, LONG_RETRY) as state:
            self._heartbeat(state)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if kind is not None and not issubclass(kind, Exception):
            # The worker stops in the middle of the run. With late acknowledgement its message goes back to
            # the queue: SENT again, and free for the next worker. Else the message is gone, and the run lost.
            with RunState(self._settings) as state:
                if self._settings.task_acks_late:
                    state.write(self._run_id, State.SENT)
                state.release_lock(self._run_id, self._owner)

    def report(self, progress: Progress) -> None:
        """Set the progress that the next heartbeat stores; raises as ``check`` does."""
        self._latest = progress.model_copy(update={"worker": self._owner})
        self.check()

    def check(self) -> None:
        """Raise RunCancelled once the run is cancelled, LeaseExpired without leases, or TimeLimitReached."""
        if self._timed_out():
            raise TimeLimitReached(f"run {self._run_id} has reached the soft time limit")
        if self._reason is not None:
            raise self._reason

    def _acquire(self, state: RunState) -> None:
        """Take the lock; while another owner has it, wait until it expires or is renewed.

        A run that has ended well needs no lock: only its result is stored again.
        """
        meta, left = state.meta_and_lock(self._run_id)
        while not (meta and meta["status"] == State.SUCCESS) and not state.acquire_lock(
            self._run_id, self._owner
        ):
            time.sleep(0.5)
            meta, now = state.meta_and_lock(self._run_id)
            if now > left:
                raise LockedElsewhere(f"another worker has the lock on run {self._run_id}")
            left = now

    def _heartbeats(self) -> None:
        with RunState(self._settings) as state:
            while not self._ended.wait(HEARTBEAT_SECONDS):
                try:
                    self._heartbeat(state)
                except StepError as trouble:
                    _logger.warning("run %s: heartbeat missed: %s", self._run_id, trouble)

    def _heartbeat(self, state: RunState) -> None:
        self._reason = self._reason or self._reason_to_stop(state)
        if self._reason is not None:
            return
        if not state.acquire_lock(self._run_id, self._owner):
            raise Unavailable(f"the lock expired after {LOCK_SECONDS} s and another worker took it")
        if not self._ended.is_set():  # the result may be stored by now
            state.write(self._run_id, State.PROGRESS, self._latest.model_dump())

    def _reason_to_stop(self, state: RunState) -> RunCancelled | None:
        """Why the run should end before it is done; None where it should go on."""
        if state.cancel_requested(self._run_id):
            return RunCancelled(f"run {self._run_id} was cancelled")
        expired, now = state.leases.expired_for(self._run_id), time.monotonic()
        if not expired:
            self._expired_since = None
            return None
        self._expired_since = self._expired_since or now
        limit = self._settings.abandon_after
        if expired > limit and now - self._expired_since >= min(CONFIRM_SECONDS, limit):
            return LeaseExpired(f"no step has held a lease on run {self._run_id} for {expired:.0f} s")
        return None
