"""The board: states, results and small flags of the runs, in the result backend, over one connection.

Celery's AsyncResult subscribes, holds four connections and can deadlock (PITFALLS.md 5, 6); a waiting step
needs no more than a GET. Celery's own result keys are read, and written only for the states SENT, PROGRESS
and REVOKED, in Celery's own form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, Self

import redis
from pydantic import ValidationError

from anyvar_step import errors
from anyvar_step.errors import RunLost
from anyvar_step.models import Progress, RunStatus, State
from anyvar_step.runs.connection import QUICK, connect, now, reaching
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.runs.lease import Leases
from anyvar_step.settings import Settings


def stated(run_id: str, state: State, result: Any = None) -> str:
    """What the result key of a run in that state holds, in Celery's own form."""
    return json.dumps(
        {"status": state, "result": result, "traceback": None, "children": [], "task_id": run_id}
    )


def stored_meta(run_id: str, raw: Any) -> dict[str, Any] | None:
    """The run's state and result in what its result key holds; None where there is no such key.

    Raises RunLost where that is not what Celery stores.
    """
    if not raw:
        return None
    try:
        meta = json.loads(raw)
    except (ValueError, RecursionError):
        meta = None
    if not (isinstance(meta, dict) and isinstance(meta.get("status"), str)):
        raise errors.RunLost(
            f"the state of run {run_id} in the result backend cannot be read",
            "Does another program write to that Redis database?",
        )
    return {"result": None, **meta}


def run_status(run_id: str, meta: dict[str, Any] | None, failure_code: int) -> RunStatus:
    """The status of a run whose result key holds ``meta`` (None where there is no such key)."""
    state = meta["status"] if meta else State.PENDING
    result = meta["result"] if meta else None
    if state == State.PENDING:
        return RunStatus(run_id=run_id, status_code=404, status="NOT_FOUND", message="Run not found")
    if state == State.SUCCESS:
        return RunStatus(
            run_id=run_id, status_code=200, status=state, message="Run completed", output=_path(result)
        )
    if state == State.REVOKED and not _says_lost(result):
        return RunStatus(
            run_id=run_id,
            status_code=failure_code,
            status=state,
            message="the run was cancelled",
            error_code=errors.RunCancelled.error_code,
            error_class=errors.RunCancelled.__name__,
        )
    if state in (State.FAILURE, State.REVOKED):
        return _failed(run_id, result, failure_code).model_copy(update={"status": state})
    progress = _progress(result) if state == State.PROGRESS else None
    return RunStatus(
        run_id=run_id, status_code=202, status=state, message="Run not completed", progress=progress
    )


def _says_lost(result: Any) -> bool:
    """Whether a run was revoked that nobody cancelled."""
    return isinstance(result, dict) and result.get("exc_type") == errors.RunLost.__name__


def _path(result: Any) -> str | None:
    return result if isinstance(result, str) and result else None


def _progress(result: Any) -> Progress | None:
    """How far the worker is; None where that is not as our workers say it: nothing hangs on it."""
    try:
        return Progress.model_validate(result)
    except ValidationError:
        return None


def _failed(run_id: str, result: Any, failure_code: int) -> RunStatus:
    """FAILURE with Celery's ``{"exc_type", "exc_message", "exc_module"}``."""
    details = result if isinstance(result, dict) else {"exc_type": "", "exc_message": [str(result)]}
    name = str(details.get("exc_type", ""))
    message = details.get("exc_message") or name
    if isinstance(message, list | tuple):
        message = " ".join(map(str, message))
    return RunStatus(
        run_id=run_id,
        status_code=failure_code,
        status=State.FAILURE,
        message=str(message) or name,
        error_code=errors.from_name(name).error_code,
        error_class=name,
    )


class DeliveryLog:
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


#: Seconds for which a worker's claim on a run stands without being renewed.
CLAIM_SECONDS = 20
#: Seconds for which an attempt number is remembered: no id may come again while a worker still knows it.
ATTEMPT_SECONDS = 14 * 86_400


class RunState:
    """States, results and flags of runs; not thread-safe, one for each thread."""

    def __init__(self, settings: Settings, tries: int = QUICK) -> None:
        self._expires = settings.result_expires
        self._redis = connect(settings.backend_url, tries)
        self._reaching = partial(reaching, settings.backend_url, "CELERY_BACKEND_URL")
        self.leases = Leases(self._redis, self._reaching)
        self.deliveries = DeliveryLog(self._redis, self._reaching, self._expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    # -- states and results, in Celery's keys ------------------------------------------------------------

    def meta(self, run_id: str) -> dict[str, Any] | None:
        """The run's state and result as Celery stored them, None where there is no such run."""
        with self._reaching():
            raw = self._redis.get(meta_key(run_id))
        return stored_meta(run_id, raw)

    def put(
        self, run_id: str, state: State, result: Any = None, *, only: Literal["known"] | None = None
    ) -> None:
        """Store a state that is ours to store; ``only`` if the run is known to the board.

        AnyVar's own SENT write can overwrite a finished run's state (CONTRACTS.md §2).
        """
        with self._reaching():
            self._redis.set(
                meta_key(run_id), stated(run_id, state, result), ex=self._expires, xx=only == "known"
            )

    def put_lost(self, run_id: str, why: str) -> None:
        """Revoke a run that nobody cancelled: whoever waits for it takes it for lost."""
        lost = {"exc_type": RunLost.__name__, "exc_message": [why], "exc_module": RunLost.__module__}
        self.put(run_id, State.REVOKED, lost, only="known")

    def begin(self, run_id: str) -> bool:
        """Note that a new run is SENT and about to be queued, or neither; False where the id is in use."""
        key = meta_key(run_id)

        def begin(pipe: Any) -> bool:
            known = pipe.exists(key)
            pipe.multi()
            if not known:
                pipe.set(key, stated(run_id, State.SENT), ex=self._expires)
                pipe.set(step_key("published", run_id), "0", ex=ATTEMPT_SECONDS)
            return not known

        with self._reaching():
            return bool(self._redis.transaction(begin, key, value_from_callable=True))  # type: ignore[arg-type]

    def refresh(self, run_id: str) -> None:
        """Keep a live run's state from expiring while somebody waits for it."""
        with self._reaching():
            self._redis.expire(meta_key(run_id), self._expires)

    def forget(self, run_id: str, digest: str) -> None:
        """Drop what the board says of a run; another run of the same content keeps its entry."""
        with self._reaching():
            self._redis.delete(
                meta_key(run_id),
                *(step_key(kind, run_id) for kind in ("cancel", "claim", "published", "leases", "sent")),
            )
            self._redis.zrem(step_key("told", ""), run_id)
            if self._redis.get(step_key("current", digest)) == run_id:
                self._redis.delete(step_key("current", digest))

    # -- which run is the current one of a content -------------------------------------------------------

    def current(self, digest: str) -> str | None:
        """The id of the newest run of that content."""
        with self._reaching():
            found = self._redis.get(step_key("current", digest))
        return str(found) if found else None

    def next_attempt(self, digest: str) -> int:
        """A number no earlier attempt at that content had, from 1."""
        key = step_key("attempts", digest)
        with self._reaching():
            pipe = self._redis.pipeline()
            pipe.incr(key)
            pipe.expire(key, ATTEMPT_SECONDS)
            return int(pipe.execute()[0])

    def make_current(self, digest: str, run_id: str, instead_of: str | None) -> str:
        """Make that run the current one if nobody was quicker; the id of the one that is."""
        key = step_key("current", digest)

        def swap(pipe: Any) -> str:
            now = pipe.get(key)
            pipe.multi()
            if now not in (instead_of, None):
                return str(now)
            pipe.set(key, run_id, ex=ATTEMPT_SECONDS)
            return run_id

        with self._reaching():
            winner = self._redis.transaction(swap, key, value_from_callable=True)  # type: ignore[arg-type]
        return str(winner)

    def announce(self, run_id: str) -> bool:
        """Note that the run is about to be queued; False where another step was quicker."""
        with self._reaching():
            return bool(self._redis.set(step_key("published", run_id), "0", ex=ATTEMPT_SECONDS, nx=True))

    def is_announced(self, run_id: str) -> bool:
        """Whether a step was about to queue the run, and has not yet; it may be dead."""
        with self._reaching():
            return self._redis.get(step_key("published", run_id)) == "0"

    def announced_for(self, run_id: str) -> float:
        """Seconds for which a step or web API has been about to queue the run; 0 where none is."""
        key = step_key("published", run_id)
        with self._reaching():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(key)
            pipe.ttl(key)
            told, left = pipe.execute()
        return float(ATTEMPT_SECONDS - left) if told == "0" else 0.0

    def mark_published(self, run_id: str) -> None:
        """Note that the run's message is in the queue; a step can be killed just before."""
        with self._reaching():
            self._redis.set(step_key("published", run_id), "1", ex=ATTEMPT_SECONDS)

    def is_published(self, run_id: str) -> bool:
        """Whether the run's message has been put into the queue."""
        with self._reaching():
            return self._redis.get(step_key("published", run_id)) == "1"

    # -- flags -------------------------------------------------------------------------------------------

    def ask_to_stop(self, run_id: str) -> None:
        """Raise the run's cancel flag; a worker looks at it between blocks, and before it begins."""
        with self._reaching():
            self._redis.set(step_key("cancel", run_id), "1", ex=ATTEMPT_SECONDS)

    def stop_asked(self, run_id: str) -> bool:
        """Whether somebody cancelled the run."""
        with self._reaching():
            return bool(self._redis.exists(step_key("cancel", run_id)))

    # -- claims ------------------------------------------------------------------------------------------

    def claim(self, run_id: str, worker: str) -> bool:
        """Take the run, or renew the claim on it; False while another worker has it."""
        key = step_key("claim", run_id)
        with self._reaching():
            if self._redis.set(key, worker, ex=CLAIM_SECONDS, nx=True):
                return True
            return self._redis.get(key) == worker and bool(self._redis.expire(key, CLAIM_SECONDS))

    def look(self, run_id: str) -> tuple[dict[str, Any] | None, float]:
        """The run's state as ``meta`` gives it, and the seconds its claim still stands (0 = none)."""
        with self._reaching():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(meta_key(run_id))
            pipe.pttl(step_key("claim", run_id))
            raw, left = pipe.execute()
        return stored_meta(run_id, raw), max(left, 0) / 1000

    def release(self, run_id: str, worker: str) -> None:
        """Give up that worker's claim on the run."""
        key = step_key("claim", run_id)
        with self._reaching():
            if self._redis.get(key) == worker:
                self._redis.delete(key)
