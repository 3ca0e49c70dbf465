"""A worker's hold on one run: the claim that keeps others off, the heartbeat, and the cancel flag.

The heartbeat runs in a thread, so that the hot loop pays for it with one look at an Event.
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
from anyvar_step.runs.connection import PATIENT
from anyvar_step.runs.state import CLAIM_SECONDS, RunState
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Seconds between two heartbeats; a few may be lost before the claim lapses.
BEAT_SECONDS = 2.0
#: Seconds, by our own clock, for which we must have seen that nobody wants the run before we drop it. Steps
#: renew their leases every 20 s; where Redis's clock jumps, or a host was suspended, all seem gone at once.
SURE_SECONDS = 60.0


class LockedElsewhere(Exception):
    """Another worker is at work on the run: this delivery is a duplicate."""


class Abandoned(RunCancelled):
    """The step that wanted the run is long gone: killed, it could not cancel it (PITFALLS 20)."""


class RunLock:
    """``with Hold(…) as hold``: the run is ours until the block ends; ``hold.keep()`` starts the heartbeat.

    Raises TakenElsewhere when another worker renews its claim meanwhile, and takes the run over when that
    claim lapses. A claim is never given back after a run's end: between that and the moment Celery stores
    the result, the run would look abandoned. ``overdue`` says whether the run's time is up.
    """

    def __init__(
        self, settings: Settings, run_id: str, worker: str, overdue: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._worker = worker
        self._overdue = overdue
        self._latest = Progress(worker=worker)
        self._reason: RunCancelled | None = None
        self._unwanted_since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"hold {run_id}", daemon=True)

    def __enter__(self) -> Self:
        with RunState(self._settings, PATIENT) as board:
            self._take(board)
        return self

    def keep(self) -> None:
        """Renew the claim and publish the progress, now and from now on, until the block ends."""
        with RunState(self._settings, PATIENT) as board:
            self._beat_once(board)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if kind is not None and not issubclass(kind, Exception):
            # The worker is told to stop in the middle: whoever gets the run next need not wait for us, and
            # until then it is queued again, not lost; but one acknowledged as it began never comes back.
            with RunState(self._settings) as board:
                if self._settings.task_acks_late:
                    board.put(self._run_id, State.SENT, only="known")
                board.release(self._run_id, self._worker)

    def tell(self, progress: Progress) -> None:
        """Note how far the run is; raises as ``check`` does."""
        self._latest = progress.model_copy(update={"worker": self._worker})
        self.check()

    def check(self) -> None:
        """Raise RunCancelled once the run is cancelled or abandoned, TimeLimitReached once its time is up."""
        if self._overdue():
            raise TimeLimitReached(f"run {self._run_id} has reached the soft time limit")
        if self._reason is not None:
            raise self._reason

    def _take(self, board: RunState) -> None:
        """Claim the run; while another's claim stands, wait until it lapses or is seen to be renewed.

        A run that has ended meanwhile needs no claim: its result only has to be said again.
        """
        meta, left = board.look(self._run_id)
        while not (meta and meta["status"] == State.SUCCESS) and not board.claim(self._run_id, self._worker):
            time.sleep(0.5)
            meta, now = board.look(self._run_id)
            if now > left:
                raise LockedElsewhere(f"run {self._run_id} is at work on another worker")
            left = now

    def _beat(self) -> None:
        with RunState(self._settings) as board:
            while not self._ended.wait(BEAT_SECONDS):
                try:
                    self._beat_once(board)
                except StepError as trouble:
                    _logger.warning("run %s: heartbeat missed: %s", self._run_id, trouble)

    def _why_to_end(self, board: RunState) -> RunCancelled | None:
        """Why the run should end before it is done, if it should."""
        if board.stop_asked(self._run_id):
            return RunCancelled(f"run {self._run_id} was cancelled")
        unwanted, now = board.leases.unwanted_for(self._run_id), time.monotonic()
        if not unwanted:
            self._unwanted_since = None
            return None
        self._unwanted_since = self._unwanted_since or now
        patience = self._settings.abandon_after
        if unwanted > patience and now - self._unwanted_since >= min(SURE_SECONDS, patience):
            return Abandoned(f"nobody has waited for run {self._run_id} for {unwanted:.0f} s")
        return None

    def _beat_once(self, board: RunState) -> None:
        self._reason = self._reason or self._why_to_end(board)
        if self._reason is not None:
            return
        if not board.claim(self._run_id, self._worker):
            raise Unavailable(f"the claim lapsed for over {CLAIM_SECONDS} s and another worker took it")
        if not self._ended.is_set():  # the result may be stored by now
            board.put(self._run_id, State.PROGRESS, self._latest.model_dump(), only="known")
