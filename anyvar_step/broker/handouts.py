"""What the web API has handed out of its runs' results, so that it knows whose files may go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import redis

from anyvar_step.broker.connection import now
from anyvar_step.broker.names import step_key


class Handouts:
    """On the board's connection; a result expires from here when it expires there."""

    def __init__(
        self, client: redis.Redis, reaching: Callable[[], AbstractContextManager[None]], expires: int
    ) -> None:
        self._redis = client
        self._reaching = reaching
        self._expires = expires

    def note_sent(self, run_id: str, start: int, end: int) -> int:
        """Note that bytes [start, end) of the run's result have been sent; the bytes sent from 0 on.

        A download that broke off and was resumed has sent all; the last byte alone has not.
        """
        key = step_key("sent", run_id)
        with self._reaching():
            until = int(str(self._redis.get(key) or 0))
            if start <= until < end:
                self._redis.set(key, end, ex=self._expires)
                until = end
        return until

    def tell(self, run_id: str) -> None:
        """Note that somebody has the run's result whole, or knows of its failure."""
        with self._reaching():
            pipe = self._redis.pipeline()
            pipe.zadd(step_key("told", ""), {run_id: now(self._redis)}, nx=True)
            pipe.expire(step_key("told", ""), self._expires)  # the results are gone by then
            pipe.execute()

    def was_told(self, run_id: str) -> bool:
        """Whether somebody has the run's result or knows of its failure."""
        with self._reaching():
            return self._redis.zscore(step_key("told", ""), run_id) is not None

    def told_before(self, seconds: float) -> list[str]:
        """Runs whose result was handed out that many seconds ago, or earlier."""
        with self._reaching():
            found = self._redis.zrange(step_key("told", ""), "-inf", now(self._redis) - seconds, byscore=True)
        return [str(run_id) for run_id in found]
