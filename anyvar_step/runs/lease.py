"""Who wants a run's output: leases that its steps renew while they wait, by Redis's clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import redis

from anyvar_step.runs.connection import now
from anyvar_step.runs.keys import step_key

#: Seconds for which a step's lease on a run stands without being renewed.
LEASE_SECONDS = 90
#: The holder of the lease on a run that was submitted without waiting for it; it ends with the collection.
DETACHED = "detached"
#: Seconds for which the leases of a run are remembered, all together.
REMEMBERED = 14 * 86_400


class Leases:
    """On the board's connection. The last step to end its lease on a run removes the run."""

    def __init__(self, client: redis.Redis, reaching: Callable[[], AbstractContextManager[None]]) -> None:
        self._redis = client
        self._reaching = reaching

    def take(self, run_id: str, holder: str) -> None:
        """Note, for the next LEASE_SECONDS, that somebody wants the run's output; DETACHED for good."""
        key = step_key("leases", run_id)
        with self._reaching():
            until = float("inf") if holder == DETACHED else now(self._redis) + LEASE_SECONDS
            pipe = self._redis.pipeline()
            pipe.zadd(key, {holder: until})
            pipe.expire(key, REMEMBERED)
            pipe.execute()

    def holders(self, run_id: str) -> list[str]:
        """Who has, or had, a lease on the run."""
        with self._reaching():
            return [str(holder) for holder in self._redis.zrange(step_key("leases", run_id), 0, -1)]

    def end(self, run_id: str, holder: str) -> bool:
        """Note that the holder is done with the run; whether it was the last one who wanted it."""
        key = step_key("leases", run_id)
        with self._reaching():
            pipe = self._redis.pipeline()
            pipe.zrem(key, holder)
            pipe.zremrangebyscore(key, "-inf", now(self._redis))
            pipe.zcard(key)
            return int(pipe.execute()[-1]) == 0

    def unwanted_for(self, run_id: str) -> float:
        """Seconds since the last lease on the run lapsed; 0 while one stands, and where none was ever taken.

        AnyVar's web API takes none: its runs are wanted whatever happens.
        """
        with self._reaching():
            last = self._redis.zrange(step_key("leases", run_id), -1, -1, withscores=True)
            return max(0.0, now(self._redis) - float(last[0][1])) if last else 0.0
