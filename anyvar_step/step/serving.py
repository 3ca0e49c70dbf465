"""Whether anybody serves the queue in which a step's runs stand, asked for all of them together.

Workers take a second to answer. A step with many pieces that asked for each of them would do nothing else.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

from anyvar_step.errors import Unavailable
from anyvar_step.models import Manifest, State
from anyvar_step.transport import Transport

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
            if at_work or self._transport.served():
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
        unknown = self._transport.unknown([ticket.run_id for ticket in queued])
        self._unknown = Counter({run_id: self._unknown[run_id] + 1 for run_id in unknown})
        for ticket in queued:
            run_id = ticket.run_id
            if self._unknown[run_id] == 2 and self._transport.status(run_id).status == State.SENT:
                _logger.warning("run %s was lost before a worker began it; queued again", run_id)
                del self._unknown[run_id]
                self._transport.requeue(ticket)
