"""Waiting for runs: until 200 or the failure code is answered, at next to no cost."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from anyvar_step.client.cancellation import raise_swallowed
from anyvar_step.client.transport import Transport, error_of, vanished_status
from anyvar_step.errors import NoWorker, TimeLimitReached, Unavailable
from anyvar_step.models import Manifest, RunStatus, State

_logger = logging.getLogger(__name__)

#: Seconds in the queue after which workers are asked for, and from one question to the next.
FIRST_QUESTION_SECONDS = 5.0
QUESTION_SECONDS = 30.0
#: Pauses between two polls, seconds: the end of a short run is seen at once, of a long one in half a second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.45
#: The same for each run that is waited for: polling takes a small part of the time, however many there are.
PAUSE_A_RUN = 0.0005
#: Seconds for which a run may be unknown at first: AnyVar's endpoint looks as long for one just submitted.
NOT_FOUND_SECONDS = 5.0
#: Seconds from one poll to the next while the broker is away.
OUTAGE_PAUSE = 0.5
#: Seconds between two renewals of a lease.
RENEW_SECONDS = 20.0

#: Called with each status of a run.
Watch = Callable[[RunStatus], None]


@dataclass
class Patience:
    """How long a step waits, seconds: for the whole run, for a worker to serve the queue, for a broker.

    ``resubmit`` is the number of times that a lost run is attempted again.
    """

    timeout: float | None = None
    queue_timeout: float = 300.0
    outage: float = 60.0
    resubmit: int = 1
    #: When a worker was last known to serve the queue (monotonic clock), 0 = not asked yet. All attempts of a
    #: step have this in common: a worker that does not exist is waited for once.
    served_at: float = 0.0


class QueueWatch:
    """Raises NoWorker after ``patience.queue_timeout`` seconds without a worker, 0 = never.

    Also queues runs again whose worker died between receiving and beginning them.
    """

    def __init__(self, transport: Transport, patience: Patience) -> None:
        self._transport = transport
        self._patience = patience
        self._begin = time.monotonic()
        patience.served_at = patience.served_at or self._begin
        self._asked = self._begin + FIRST_QUESTION_SECONDS - QUESTION_SECONDS
        self._unreceived = Counter[str]()

    def check(self, queued: Sequence[Manifest], *, at_work: bool) -> None:
        """To be called with the runs that are still in the queue, and whether others are at work."""
        now, patience = time.monotonic(), self._patience
        if at_work or not queued:
            patience.served_at = now
        if not queued or now <= self._due():
            return
        first, self._asked = self._asked < self._begin, now
        try:
            if at_work or self._transport.worker_processes():
                patience.served_at = time.monotonic()
                self._requeue_lost(queued)
                return
        except Unavailable:
            return  # the next poll deals with an outage
        if patience.queue_timeout and now - patience.served_at > patience.queue_timeout:
            raise NoWorker(
                "no worker serves the queue",
                "Start one with `anyvar-step worker`, or AnyVar's own; then run it again",
            )
        if first:
            _logger.warning("no worker answers on the queue yet; waiting up to %g s", patience.queue_timeout)

    def _due(self) -> float:
        """When to ask next: when the limit is reached, if that is earlier than usual."""
        usual, limit = self._asked + QUESTION_SECONDS, self._patience.queue_timeout
        if not limit:
            return usual
        return min(usual, max(self._patience.served_at + limit, self._asked + FIRST_QUESTION_SECONDS))

    def _requeue_lost(self, queued: Sequence[Manifest]) -> None:
        """Queue runs again that no worker had received at two questions in succession.

        Redis would give them to another worker only after the visibility timeout
        (docs/contract.md#celery-messages).
        """
        unreceived = self._transport.unreceived([ticket.run_id for ticket in queued])
        self._unreceived = Counter({run_id: self._unreceived[run_id] + 1 for run_id in unreceived})
        for ticket in queued:
            run_id = ticket.run_id
            if self._unreceived[run_id] == 2 and self._transport.status(run_id).status == State.SENT:
                _logger.warning("run %s was lost before a worker began it; queued again", run_id)
                del self._unreceived[run_id]
                self._transport.requeue(ticket)


def wait_all(
    transport: Transport, tickets: list[Manifest], patience: Patience, watch: Watch
) -> Iterator[tuple[int, RunStatus]]:
    """The runs' places in the list and the statuses with which they end: 200 or the failure code.

    A lost run is attempted again from its staged input, ``patience.resubmit`` times; its new ticket takes
    the old one's place. Raises TimeLimitReached after ``patience.timeout``, NoWorker when no worker serves
    the queue, and Unavailable when the broker stays away.
    """
    waiting = {n: _Poller(transport, ticket, patience) for n, ticket in enumerate(tickets)}
    left = dict.fromkeys(waiting, patience.resubmit)
    queue, pause = QueueWatch(transport, patience), SHORTEST_PAUSE
    while waiting:
        queued, at_work, away = list[Manifest](), False, False
        for n, poller in list(waiting.items()):
            status = poller.poll()
            if status is None:
                away = True
                continue
            if status.running or status.missing:
                if status.status == State.SENT:
                    queued.append(tickets[n])
                at_work = at_work or (status.running and status.status != State.SENT)
                watch(status)
            elif status.lost and left[n] and (following := transport.resubmit(tickets[n])):
                if following.run_id != status.run_id:
                    _logger.warning("%s; submitted again as run %s", error_of(status), following.run_id)
                left[n] -= 1
                tickets[n], waiting[n] = following, _Poller(transport, following, patience)
            else:
                del waiting[n]
                yield n, status
                pause = max(SHORTEST_PAUSE, PAUSE_A_RUN * len(waiting))  # the next may be near its end
        queue.check(queued, at_work=at_work)
        raise_swallowed()
        if away:
            time.sleep(OUTAGE_PAUSE)
        time.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311  # jitter, so that many steps spread
        pause = min(pause * 1.3, LONGEST_PAUSE)


def wait(transport: Transport, ticket: Manifest, patience: Patience, watch: Watch) -> RunStatus:
    """The status with which this one attempt ends; raises as ``wait_all`` does."""
    _, status = next(wait_all(transport, [ticket], replace(patience, resubmit=0), watch))
    return status


class _Poller:
    """Polls one run, renews its lease, and measures the times that ``patience`` limits."""

    def __init__(self, transport: Transport, ticket: Manifest, patience: Patience) -> None:
        self._transport = transport
        self._ticket = ticket
        self._patience = patience
        self._begin = self._answered = self._renewed = time.monotonic()
        self._seen = False

    def poll(self) -> RunStatus | None:
        """The status now, that of a lost run where it has vanished; None while the broker is away.

        Raises when a limit is reached.
        """
        now, timeout = time.monotonic(), self._patience.timeout
        try:
            status = self._transport.status(self._ticket.run_id)
        except Unavailable as trouble:
            away = now - self._answered
            if away > self._patience.outage:
                raise
            if away < 1:
                _logger.warning("%s; trying for %g s", trouble, self._patience.outage)
            return None
        self._answered = time.monotonic()
        if status.missing and (self._seen or now - self._begin > NOT_FOUND_SECONDS):
            return vanished_status(status.run_id)
        self._seen = self._seen or not status.missing
        if timeout is not None and now - self._begin > timeout:
            raise TimeLimitReached(
                f"run {status.run_id} did not end within --timeout {timeout:g} s",
                "Give it more time with a longer --timeout",
            )
        if now - self._renewed > RENEW_SECONDS:
            with contextlib.suppress(Unavailable):  # the next poll deals with an outage
                self._transport.renew_lease(self._ticket)
                self._renewed = now
        return status
