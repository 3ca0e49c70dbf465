"""Waiting for a run: until 200 or the failure code comes back, at next to no cost."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from anyvar_step.client.base import Transport
from anyvar_step.client.failure import failure, vanished
from anyvar_step.client.signals import raise_swallowed
from anyvar_step.errors import TimeLimitReached, Unavailable
from anyvar_step.models import Manifest, RunStatus, State

_logger = logging.getLogger(__name__)

#: Seconds in the queue after which it is worth a second to ask, and from one question to the next.
UNTOUCHED_SECONDS = 5.0
ASK_AGAIN_SECONDS = 30.0


class Serving:
    """Gives up after ``limit`` seconds without any worker, 0 = never; finds runs that were lost queued."""

    def __init__(self, transport: Transport, limit: float) -> None:
        self._transport = transport
        self._limit = limit
        self._begin = self._served = time.monotonic()
        self._asked = self._begin + UNTOUCHED_SECONDS - ASK_AGAIN_SECONDS
        self._unknown = Counter[str]()

    def look(self, queued: Sequence[Manifest], *, at_work: bool) -> None:
        """To be called with the runs that still stand in the queue, and whether others are at work.

        Raises Unavailable once patience ends.
        """
        now = time.monotonic()
        if at_work or not queued:
            self._served = now
        if not queued or now <= self._due():
            return
        first, self._asked = self._asked < self._begin, now
        try:
            if at_work or self._transport.worker_processes():
                self._served = time.monotonic()
                self._find(queued)
                return
        except Unavailable:
            return  # an outage is the next look's affair
        if self._limit and now - self._served > self._limit:
            raise Unavailable(
                "no worker serves the queue",
                "Start one with `anyvar-step worker`, or AnyVar's own; then run it again",
            )
        if first:
            _logger.warning("no worker answers on the queue yet; waiting up to %g s", self._limit)

    def _due(self) -> float:
        """When to ask next: at the end of patience, if that is earlier than usual."""
        usual = self._asked + ASK_AGAIN_SECONDS
        if not self._limit:
            return usual
        return min(usual, max(self._served + self._limit, self._asked + UNTOUCHED_SECONDS))

    def _find(self, queued: Sequence[Manifest]) -> None:
        """Queue runs again that twice nobody had: their worker died between receiving and beginning them.

        Redis would give them to another worker only after the visibility timeout (PITFALLS.md 3).
        """
        unknown = self._transport.unreceived([ticket.run_id for ticket in queued])
        self._unknown = Counter({run_id: self._unknown[run_id] + 1 for run_id in unknown})
        for ticket in queued:
            run_id = ticket.run_id
            if self._unknown[run_id] == 2 and self._transport.status(run_id).status == State.SENT:
                _logger.warning("run %s was lost before a worker began it; queued again", run_id)
                del self._unknown[run_id]
                self._transport.requeue(ticket)


#: Pauses between two looks, seconds: short runs are seen to end at once, long ones within half a second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.45
#: The same for each run that is waited for: looking takes a small part of the time, however many there are.
PAUSE_A_RUN = 0.0005
#: A run that the board does not know may just be on its way there (AnyVar's endpoint looks as long).
NOT_FOUND_SECONDS = 5.0
#: Seconds from one look to the next while the broker is away.
OUTAGE_PAUSE = 0.5
KEEP_SECONDS = 20.0

Watch = Callable[[RunStatus], None]


@dataclass(frozen=True)
class Patience:
    """How long to wait, seconds: for the whole run, for a worker to be there, for a broker to come back.

    ``resubmit`` is how often a lost run is attempted again.
    """

    timeout: float | None = None
    queue_timeout: float = 300.0
    outage: float = 60.0
    resubmit: int = 1


def wait_all(
    transport: Transport, tickets: list[Manifest], patience: Patience, watch: Watch
) -> Iterator[tuple[int, RunStatus]]:
    """The runs' places in the list and the statuses with which they end: 200 or the failure code.

    A lost run is attempted again from its staged input, ``patience.resubmit`` times; its new ticket takes
    the old one's place. Raises TimeLimitReached after ``patience.timeout``, and Unavailable when no worker
    serves the queue or the broker stays away.
    """
    waiting = {n: _Waiter(transport, ticket, patience) for n, ticket in enumerate(tickets)}
    left = dict.fromkeys(waiting, patience.resubmit)
    serving, pause = Serving(transport, patience.queue_timeout), SHORTEST_PAUSE
    while waiting:
        queued, at_work, away = list[Manifest](), False, False
        for n, waiter in list(waiting.items()):
            status = waiter.look()
            if status is None:
                away = True
                continue
            if status.running or status.missing:
                if status.status == State.SENT:
                    queued.append(tickets[n])
                at_work = at_work or (status.running and status.status != State.SENT)
                watch(status)
            elif status.lost and left[n] and (again := transport.resubmit(tickets[n])):
                if again.run_id != status.run_id:
                    _logger.warning("%s; submitted again as run %s", failure(status), again.run_id)
                left[n] -= 1
                tickets[n], waiting[n] = again, _Waiter(transport, again, patience)
            else:
                del waiting[n]
                yield n, status
                pause = max(SHORTEST_PAUSE, PAUSE_A_RUN * len(waiting))  # the next may be near its end
        serving.look(queued, at_work=at_work)
        raise_swallowed()
        if away:
            time.sleep(OUTAGE_PAUSE)
        time.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311  # jitter, so that many steps spread
        pause = min(pause * 1.3, LONGEST_PAUSE)


def wait(transport: Transport, ticket: Manifest, patience: Patience, watch: Watch) -> RunStatus:
    """The status with which this one attempt ends; raises as ``wait_all`` does."""
    _, status = next(wait_all(transport, [ticket], replace(patience, resubmit=0), watch))
    return status


class _Waiter:
    """The clocks of one wait."""

    def __init__(self, transport: Transport, ticket: Manifest, patience: Patience) -> None:
        self._transport = transport
        self._ticket = ticket
        self._patience = patience
        self._begin = self._answered = self._kept = time.monotonic()
        self._seen = False

    def look(self) -> RunStatus | None:
        """The status now, None while the broker is away; raises once patience ends."""
        now = time.monotonic()
        try:
            status = self._transport.status(self._ticket.run_id)
        except Unavailable as trouble:
            self._outage(now, trouble)
            return None
        self._answered = time.monotonic()
        return self._checked(status, now)

    def _outage(self, now: float, trouble: Unavailable) -> None:
        away = now - self._answered
        if away > self._patience.outage:
            raise trouble
        if away < 1:
            _logger.warning("%s; trying for %g s", trouble, self._patience.outage)

    def _checked(self, status: RunStatus, now: float) -> RunStatus:
        """The status, or that of a lost run where this one has vanished; raises once patience ends."""
        if status.missing and (self._seen or now - self._begin > NOT_FOUND_SECONDS):
            return vanished(status.run_id)
        self._seen = self._seen or not status.missing
        if self._patience.timeout is not None and now - self._begin > self._patience.timeout:
            raise TimeLimitReached(
                f"run {status.run_id} did not end within --timeout {self._patience.timeout:g} s",
                "Give it more time with a longer --timeout",
            )
        if now - self._kept > KEEP_SECONDS:
            with contextlib.suppress(Unavailable):  # an outage is the next look's affair
                self._transport.renew_lease(self._ticket)
                self._kept = now
        return status
