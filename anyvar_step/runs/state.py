"""The states of runs in the result backend, and what step, web API and worker keep beside them.

::

                 create                        worker: heartbeat
      (unknown) ────────► SENT ──────────────────────► PROGRESS ◄──┐ heartbeat, every 2 s
                           │  ▲                          │  │  │   │
                           │  └── worker hands it back ──┘  │  └───┘
                           │                                │
                           │     Celery's worker stores     │
                           ├──────────► SUCCESS ◄───────────┤
                           ├──────────► FAILURE ◄───────────┤
                           │               │                │
                           ▼               ▼                ▼
                 REVOKED (cancelled, or lost: attempted again under another id)

      forget: from every state to (unknown)

A run in PROGRESS whose lock has expired is *lost*: no state is stored for that, ``current_meta`` answers as
if Celery had stored a FAILURE with WorkerLostError. FAILURE goes back to PROGRESS when Redis delivers the run
of a killed worker again. Celery also stores STARTED (with ``task_track_started``), RECEIVED and RETRY (a
worker handed the run back): all three count as in progress. SUCCESS and FAILURE are written by Celery alone.
SENT, PROGRESS and REVOKED are ours; ``TRANSITIONS`` says from which states each may be written, and
``RunState.write`` is the one place that writes them.

Every change of more than one key, and every compare-and-set, is one Lua script, which Redis runs as a whole.
Facts and key names: docs/contract.md#redis-keys and docs/contract.md#celery-messages.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Self

import redis
from pydantic import ValidationError

from anyvar_step.errors import RunCancelled, RunLost, from_name
from anyvar_step.models import Progress, RunStatus, State
from anyvar_step.runs.connection import BRIEF_RETRY, TimedRetry, backend, now
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.runs.step_lease import RELEASE_LEASE, Leases
from anyvar_step.settings import Settings

#: Seconds for which a worker's lock on a run stands without being renewed.
LOCK_SECONDS = 20
#: Seconds for which an attempt number is remembered: an id must not come back while a worker still knows it.
ATTEMPT_SECONDS = 14 * 86_400

_IN_PROGRESS = frozenset({State.SENT, State.RECEIVED, State.STARTED, State.PROGRESS, State.RETRY})
#: For each state that we write: the states in which the run may be. A run without a state is never written.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.SENT: _IN_PROGRESS,
    State.PROGRESS: _IN_PROGRESS | {State.FAILURE},
    State.REVOKED: _IN_PROGRESS | {State.FAILURE, State.SUCCESS},
}
#: A run that has ended well is not lost.
_MAY_BE_LOST = _IN_PROGRESS | {State.FAILURE}


def encode_meta(run_id: str, state: State, result: Any = None) -> str:
    """What the result key of a run in that state holds, in Celery's own form."""
    return json.dumps(
        {"status": state, "result": result, "traceback": None, "children": [], "task_id": run_id}
    )


def decode_meta(run_id: str, raw: Any) -> dict[str, Any] | None:
    """The run's state and result from the content of its result key; None where there is no such key.

    Raises RunLost where the content is not what Celery stores.
    """
    if not raw:
        return None
    try:
        meta = json.loads(raw)
    except (ValueError, RecursionError):
        meta = None
    if not (isinstance(meta, dict) and isinstance(meta.get("status"), str)):
        raise RunLost(
            f"the state of run {run_id} in the result backend cannot be read",
            "Does another program write to that Redis database?",
        )
    return {"result": None, **meta}


def run_status(run_id: str, meta: dict[str, Any] | None, failure_code: int) -> RunStatus:
    """The status of a run whose result key holds ``meta`` (None where there is no such key)."""
    state = meta["status"] if meta else State.PENDING
    result = meta["result"] if meta else None
    answer = partial(RunStatus, run_id=run_id)
    if state == State.PENDING:
        return answer(status_code=404, status="NOT_FOUND", message="Run not found")
    if state == State.SUCCESS:
        path = result if isinstance(result, str) and result else None
        return answer(status_code=200, status=state, message="Run completed", output=path)
    if state == State.REVOKED and not _is_lost(result):
        return answer(
            status_code=failure_code,
            status=state,
            message="the run was cancelled",
            error_code=RunCancelled.error_code,
            error_class=RunCancelled.__name__,
        )
    if state in (State.FAILURE, State.REVOKED):
        message, name = _message_and_class(result)
        return answer(
            status_code=failure_code,
            status=state,
            message=message,
            error_code=from_name(name).error_code,
            error_class=name,
        )
    progress = _progress(result) if state == State.PROGRESS else None
    return answer(status_code=202, status=state, message="Run not completed", progress=progress)


def _is_lost(result: Any) -> bool:
    """Whether the result of a REVOKED run says that it was lost, not cancelled."""
    return isinstance(result, dict) and result.get("exc_type") == RunLost.__name__


def _progress(result: Any) -> Progress | None:
    """The worker's progress; None where it does not have the form that our workers store."""
    try:
        return Progress.model_validate(result)
    except ValidationError:
        return None


def _message_and_class(result: Any) -> tuple[str, str]:
    """Of a failed or lost run, whose result is Celery's ``{"exc_type", "exc_message", "exc_module"}``."""
    details = result if isinstance(result, dict) else {"exc_type": "", "exc_message": [str(result)]}
    name = str(details.get("exc_type", ""))
    message = details.get("exc_message") or name
    if isinstance(message, list | tuple):
        message = " ".join(map(str, message))
    return str(message) or name, name


# The scripts. ``state_of`` is the state in the content of a result key: "" without one, "?" where unreadable.
_STATE_OF = """
local function state_of(raw)
  if not raw then return '' end
  local ok, meta = pcall(cjson.decode, raw)
  if ok and type(meta) == 'table' and type(meta.status) == 'string' then return meta.status end
  return '?'
end
local function is_one_of(state, first)
  for i = first, #ARGV do if ARGV[i] == state then return true end end
  return false
end
"""
#: KEYS: result. ARGV: content, seconds, states from which it may be written.
_WRITE = (
    _STATE_OF
    + """
if not is_one_of(state_of(redis.call('GET', KEYS[1])), 3) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
)
#: KEYS: result, published. ARGV: content, seconds, seconds of the second key.
_CREATE = """
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SET', KEYS[2], '0', 'EX', ARGV[3])
return 1
"""
#: KEYS: leases, current, delivered, and all keys of the run. ARGV: run id, holder or "".
_FORGET = (
    RELEASE_LEASE
    + """
if ARGV[2] ~= '' and release_lease(KEYS[1], ARGV[2]) > 0 then return 0 end
for i = 4, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""
)
#: KEYS: leases, cancel flag, result. ARGV: holder or "", seconds of the flag, content, seconds, states.
_CANCEL = (
    _STATE_OF
    + RELEASE_LEASE
    + """
if ARGV[1] ~= '' and release_lease(KEYS[1], ARGV[1]) > 0 then return 0 end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
if is_one_of(state_of(redis.call('GET', KEYS[3])), 5) then
  redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
end
return 1
"""
)
#: KEYS: current. ARGV: run id, expected run id or "", seconds.
_REPLACE_CURRENT = """
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[2] then return current end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
"""
#: KEYS: lock. ARGV: owner, seconds.
_ACQUIRE_LOCK = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
#: KEYS: lock. ARGV: owner.
_RELEASE_LOCK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
#: KEYS: bytes sent. ARGV: first byte, last byte (exclusive), seconds.
_RECORD_SENT = """
local sent = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) <= sent and sent < tonumber(ARGV[2]) then
  sent = tonumber(ARGV[2])
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return sent
"""


class DeliveryLog:
    """Which results have been handed out over HTTP; an entry expires when its result does."""

    def __init__(self, client: redis.Redis, expires: int) -> None:
        self._redis = client
        self._expires = expires
        self._record_sent = client.register_script(_RECORD_SENT)

    def record_sent(self, run_id: str, start: int, end: int) -> int:
        """Record that bytes [start, end) of the result have been sent; the bytes sent from 0 on.

        A download that broke off and was resumed has sent all; the last byte alone has not.
        """
        return int(self._record_sent([step_key("sent", run_id)], [start, end, self._expires]))

    def mark_delivered(self, run_id: str) -> None:
        """Record that a client has the whole result, or the answer that the run failed."""
        pipe = self._redis.pipeline()
        pipe.zadd(step_key("told", ""), {run_id: now(self._redis)}, nx=True)
        pipe.expire(step_key("told", ""), self._expires)  # the results are gone by then
        pipe.execute()

    def is_delivered(self, run_id: str) -> bool:
        """Whether a client has the whole result, or the answer that the run failed."""
        return self._redis.zscore(step_key("told", ""), run_id) is not None

    def delivered_before(self, seconds: float) -> list[str]:
        """Runs that were delivered that many seconds ago, or earlier."""
        found = self._redis.zrange(step_key("told", ""), "-inf", now(self._redis) - seconds, byscore=True)
        return [str(run_id) for run_id in found]


class RunState:
    """The run states of one result backend, over one connection; not thread-safe, one for each thread.

    Celery's AsyncResult subscribes, holds four connections and can deadlock; a waiting step needs no more
    than a GET (docs/contract.md#celery-messages). All methods raise Unavailable or AccessRefused where Redis
    does not answer within ``retry`` seconds.
    """

    def __init__(self, settings: Settings, retry: float = BRIEF_RETRY) -> None:
        self._expires = settings.result_expires
        self.retry = TimedRetry(retry)
        self._redis = backend(settings, self.retry)
        self.leases = Leases(self._redis)
        self.deliveries = DeliveryLog(self._redis, self._expires)
        script = self._redis.register_script
        self._write, self._create = script(_WRITE), script(_CREATE)
        self._forget, self._cancel = script(_FORGET), script(_CANCEL)
        self._replace_current = script(_REPLACE_CURRENT)
        self._acquire_lock, self._release_lock = script(_ACQUIRE_LOCK), script(_RELEASE_LOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    # -- states ------------------------------------------------------------------------------------------

    def meta(self, run_id: str) -> dict[str, Any] | None:
        """The run's state and result as they are stored, None where there is no such run."""
        raw = self._redis.get(meta_key(run_id))
        return decode_meta(run_id, raw)

    def current_meta(self, run_id: str) -> dict[str, Any] | None:
        """As ``meta``, but a run in PROGRESS whose lock has expired is a FAILURE by WorkerLostError."""
        meta, locked = self.meta_and_lock(run_id)
        if meta and meta["status"] == State.PROGRESS and not locked:
            lost = {"exc_type": "WorkerLostError", "exc_message": "its worker sends no heartbeat"}
            meta = {"status": State.FAILURE, "result": lost}
        return meta

    def meta_and_lock(self, run_id: str) -> tuple[dict[str, Any] | None, float]:
        """The run's state as ``meta`` gives it, and the seconds until its lock expires (0 = none)."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(meta_key(run_id))
        pipe.pttl(step_key("claim", run_id))
        raw, left = pipe.execute()
        return decode_meta(run_id, raw), max(left, 0) / 1000

    def create(self, run_id: str) -> bool:
        """Reserve the id for a new run in state SENT, whose message is about to be queued.

        False where the id is in use; then nothing changes. SENT stands before the message is queued: AnyVar
        writes it afterwards and can overwrite a finished run's state (docs/contract.md#celery-messages).
        """
        sent = encode_meta(run_id, State.SENT)
        keys = [meta_key(run_id), step_key("published", run_id)]
        return bool(self._create(keys, [sent, self._expires, ATTEMPT_SECONDS]))

    def write(self, run_id: str, state: State, result: Any = None) -> bool:
        """Store one of our states if TRANSITIONS allow it; whether it was stored.

        An unknown run stays unknown, and one that has ended or was cancelled keeps its end.
        """
        return self._write_from(TRANSITIONS[state], run_id, state, result)

    def _write_from(self, sources: frozenset[State], run_id: str, state: State, result: Any) -> bool:
        content = encode_meta(run_id, state, result)
        return bool(self._write([meta_key(run_id)], [content, self._expires, *sorted(sources)]))

    def extend_expiry(self, run_id: str) -> None:
        """Keep a run's state for another CELERY_RESULT_EXPIRES seconds, counted from now."""
        self._redis.expire(meta_key(run_id), self._expires)

    # -- the three ends of a run -------------------------------------------------------------------------

    def forget(self, run_id: str, digest: str, holder: str = "") -> bool:
        """Delete all that Redis holds of an ended run; another current run of the content keeps its entry.

        With a ``holder``: release that lease, and delete only if no other lease stands; whether it did.
        """
        kinds = ("cancel", "claim", "published", "leases", "sent")
        keys = [step_key("leases", run_id), step_key("current", digest), step_key("told", "")]
        keys += [meta_key(run_id), *(step_key(kind, run_id) for kind in kinds)]
        return bool(self._forget(keys, [run_id, holder]))

    def cancel(self, run_id: str, holder: str = "") -> bool:
        """Set the run's cancel flag, and its state to REVOKED where it has one.

        Its worker reads the flag between blocks, and before it begins. With a ``holder``: release that lease,
        and cancel only if no other lease stands; whether it did.
        """
        keys = [step_key("leases", run_id), step_key("cancel", run_id), meta_key(run_id)]
        content = encode_meta(run_id, State.REVOKED)
        sources = sorted(TRANSITIONS[State.REVOKED])
        return bool(self._cancel(keys, [holder, ATTEMPT_SECONDS, content, self._expires, *sources]))

    def mark_lost(self, run_id: str, why: str) -> bool:
        """Set the state to REVOKED for a run that was lost, so that steps that wait for it attempt it again.

        False where it has ended well, was cancelled or is unknown; then nothing changes.
        """
        lost = {"exc_type": RunLost.__name__, "exc_message": [why], "exc_module": RunLost.__module__}
        return self._write_from(_MAY_BE_LOST, run_id, State.REVOKED, lost)

    def cancel_requested(self, run_id: str) -> bool:
        """Whether the run's cancel flag is set."""
        return bool(self._redis.exists(step_key("cancel", run_id)))

    # -- the message -------------------------------------------------------------------------------------

    def reserved_for(self, run_id: str) -> float:
        """Seconds since the id was reserved for a run whose message is not queued yet; else 0."""
        key = step_key("published", run_id)
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(key)
        pipe.ttl(key)
        published, left = pipe.execute()
        return max(0.001, float(ATTEMPT_SECONDS - left)) if published == "0" else 0.0

    def mark_published(self, run_id: str) -> None:
        """Record that the run's message is in the queue; a step can be killed just before."""
        self._redis.set(step_key("published", run_id), "1", ex=ATTEMPT_SECONDS)

    def is_published(self, run_id: str) -> bool:
        """Whether the run's message has been put into the queue."""
        return self._redis.get(step_key("published", run_id)) == "1"

    # -- the current run of a content --------------------------------------------------------------------

    def current_run(self, digest: str) -> str | None:
        """The id of the newest run of that content."""
        found = self._redis.get(step_key("current", digest))
        return str(found) if found else None

    def next_attempt(self, digest: str) -> int:
        """A number no earlier attempt at that content had, from 1."""
        key = step_key("attempts", digest)
        pipe = self._redis.pipeline()
        pipe.incr(key)
        pipe.expire(key, ATTEMPT_SECONDS)
        return int(pipe.execute()[0])

    def replace_current(self, digest: str, run_id: str, expected: str | None) -> str:
        """Make the run the current one of its content if ``expected`` still is; the id of the current one."""
        found = self._replace_current(
            [step_key("current", digest)], [run_id, expected or "", ATTEMPT_SECONDS]
        )
        return str(found)

    # -- the lock ----------------------------------------------------------------------------------------

    def acquire_lock(self, run_id: str, owner: str) -> bool:
        """Take the run's lock for LOCK_SECONDS, or renew it; False while another owner has it."""
        return bool(self._acquire_lock([step_key("claim", run_id)], [owner, LOCK_SECONDS]))

    def release_lock(self, run_id: str, owner: str) -> None:
        """Give the lock back if that owner has it."""
        self._release_lock([step_key("claim", run_id)], [owner])
