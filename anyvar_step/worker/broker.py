"""Celery's side of the broker: outages, malformed messages, and tasks that this worker does not serve.

``install`` makes an app's worker use the classes here in place of Celery's and kombu's own:

- an error reply of a Redis that will serve again counts as a lost connection, and the worker reconnects with
  back-off until its patience ends (docs/contract.md#redis-errors);
- a message that is none is moved to a bounded list beside its queue (docs/contract.md#celery-messages);
- a message of a task that only other workers serve goes back to the end of the queue.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import redis
from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.exceptions import NotRegistered
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from anyvar_step.errors import AccessRefused, Unavailable
from anyvar_step.runs.connection import MOST_DOUBLINGS, failing_over, is_list, is_outage, to_primary
from anyvar_step.runs.keys import MALFORMED_KEPT, TASK_RETURNS_EXPIRE, malformed_key, step_key
from anyvar_step.runs.worker_registry import OtherWorker, WorkerRecord, WorkerRegistry
from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)

#: Bytes of a malformed message that the log shows.
SHOWN_BYTES = 200
#: Seconds of the shortest and of the longest pause before a worker connects again.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
#: Seconds for which a message of another worker's task is held before it goes back: at first, and at most.
SHORTEST_RETURN, LONGEST_RETURN = 0.25, 1.0
#: Messages of other workers' tasks that are held at a time; beyond that the worker takes no further message.
MOST_FOREIGN = 64
#: How often a message goes back to the queue before its task is failed: more than an hour.
MOST_RETURNS = 5000
#: Seconds for which the answer of the workers is used, and for which a worker that no longer answers still
#: counts as serving its tasks: with Celery's solo pool a worker at work does not answer.
ANSWER_VALID, REMEMBERED = 5.0, 600.0


# -- outages ---------------------------------------------------------------------------------------------


@cache
def _with_outages(kind: type[Any]) -> type[Any]:
    """A redis-py connection class that reports the error replies of an outage as a lost connection."""

    class Outages(kind):  # type: ignore[misc]
        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().read_response(*args, **kwargs)
            except redis.ResponseError as error:
                if not is_outage(error):
                    raise
                self.disconnect()
                raise redis.ConnectionError(str(error)) from error

    Outages.__name__ = kind.__name__
    return Outages


class _Backend(RedisBackend):  # type: ignore[misc]
    """Celery's result backend; storing a result is tried again over an outage."""

    def _get_pool(self, **params: Any) -> Any:
        kind: Any = params.get("connection_class", redis.Connection)
        params["connection_class"] = _with_outages(failing_over(kind, _Shared.settings.backend_url))
        return super()._get_pool(**params)


class _SentinelBackend(SentinelBackend):  # type: ignore[misc]
    """The same through Redis Sentinel."""

    def _get_pool(self, **params: Any) -> Any:
        pool = super()._get_pool(**params)
        pool.connection_class = _with_outages(pool.connection_class)
        return pool


class Outage:
    """How long this worker's broker has not served it; the process's parent has one.

    A worker whose patience ends stops as after SIGTERM, with exit code 69.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._timer: threading.Timer | None = None
        self._failures = 0

    def pause(self, error: BaseException) -> None:
        """Wait before the next connection: longer each time, and not beyond the worker's end."""
        if self._timer is None:
            self._timer = threading.Timer(self._patience, self._end, [error])
            self._timer.daemon = True
            self._timer.start()
        pause = min(SHORTEST_PAUSE * 2 ** min(self._failures, MOST_DOUBLINGS), LONGEST_PAUSE)
        pause *= random.uniform(0.5, 1)  # noqa: S311  # no secret: workers must not connect all at once
        self._failures += 1
        _logger.warning("the broker does not serve this worker: %s; next try in %.1f s", error, pause)
        until = time.monotonic() + pause
        while time.monotonic() < until:
            state.maybe_shutdown()
            time.sleep(0.1)

    def over(self) -> None:
        """The broker has served the worker."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._failures = None, 0
            _logger.warning("the broker serves this worker again")

    def _end(self, error: BaseException) -> None:
        _logger.error("the broker has not served this worker for %g s: %s", self._patience, error)
        state.should_stop = Unavailable.exit_code


def parsed(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    """The message that a queue's entry holds, or None and what is wrong with it.

    docs/contract.md#celery-messages has the form: protocol 2, JSON.
    """
    try:
        message = json.loads(raw)
        headers, properties = message["headers"], message["properties"]
        body = base64.b64decode(message["body"], validate=True)
        arguments, named, _ = json.loads(body)
        texts = (headers["id"], headers["task"], properties["delivery_tag"])
        forms = isinstance(arguments, list) and isinstance(named, dict)
        if not (forms and all(isinstance(text, str) for text in texts)):
            return None, "is no task's message"
        if not isinstance(properties["delivery_info"], dict) or message["content-type"] != "application/json":
            return None, "is no JSON task's message"
    except (ValueError, TypeError, LookupError, binascii.Error, RecursionError) as error:
        return None, f"is no task's message ({type(error).__name__})"
    return message, ""


class _Shared:
    """What the classes that Celery and kombu construct share: set by ``install``."""

    settings: Settings
    outage = Outage(0)
    #: Messages that left their queue as the broker failed, as (list, message); they go back after it.
    undelivered: list[tuple[str, bytes]] = []  # noqa: RUF012  # one process, one list


def _checking(kind: type[Any]) -> type[Any]:
    """A redis-py client class that lets no malformed message of the worker's queue through."""

    class Checking(kind):  # type: ignore[misc]
        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            answer = super().parse_response(connection, command_name, **options)
            if command_name != "BRPOP":
                return answer
            if not answer:
                _Shared.outage.over()
                return answer
            name, raw = answer[0].decode(), answer[1]
            # Replies to remote control come by other lists.
            if name.startswith(_Shared.settings.task_default_queue):
                message, fault = parsed(raw)
                if message is None:
                    self._move_to_malformed(name, raw, fault)
                    return None
            return answer

        def _move_to_malformed(self, name: str, raw: bytes, fault: str) -> None:
            """Move a message to the list beside its queue, which keeps the newest ones."""
            malformed = malformed_key(_Shared.settings.task_default_queue)
            shown = raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
            _logger.error("an entry of %s %s, and is now in %s: %r", name, fault, malformed, shown)
            with redis.Redis(connection_pool=self.connection_pool).pipeline() as pipe:
                pipe.lpush(malformed, raw)
                pipe.ltrim(malformed, 0, MALFORMED_KEPT - 1)
                pipe.execute()

    return Checking


class _QoS(kombu_redis.QoS):
    """kombu's record of the messages that the worker has; ending one outlives the loss of a connection.

    Celery logs an acknowledgement that fails and goes on. The message would then count as at work for good,
    and a worker that takes one at a time would take no other.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge the message."""
        self._retry_once(super().ack, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop the message, or return it to its queue."""
        self._retry_once(super().reject, delivery_tag, requeue)

    def _retry_once(self, end: Callable[..., None], *arguments: Any) -> None:
        """Try it again over a new connection; the consumer starts anew where that fails, too."""
        errors = self.channel.connection_errors
        try:
            end(*arguments)
        except errors:
            try:
                end(*arguments)
            except errors as error:
                if (hub := get_event_loop()) is not None:
                    hub.call_soon(_raise, error)  # type: ignore[no-untyped-call]
                raise


def _raise(error: Exception) -> None:
    raise error


class _Channel(kombu_redis.Channel):
    """kombu's channel with clients that know outages and check messages."""

    QoS = _QoS

    def _get_client(self) -> type[Any]:
        return _checking(super()._get_client())  # type: ignore[no-untyped-call]

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        kind, url = params["connection_class"], _Shared.settings.broker_url
        if is_list(url):  # kombu tries the next one only where a connection fails
            kind = to_primary(kind)
        params["connection_class"] = _with_outages(kind)
        return params


class _SentinelChannel(_Channel, kombu_redis.SentinelChannel):
    """The same through Redis Sentinel."""


class _Delivering:
    """A transport that keeps a message which it has taken, and the broker did not accept as taken."""

    def _deliver(self, message: dict[str, Any], queue: str) -> None:
        try:
            super()._deliver(message, queue)  # type: ignore[misc]
        except self.connection_errors:  # type: ignore[attr-defined]
            _Shared.undelivered.append((queue, json.dumps(message).encode()))
            raise
        _Shared.outage.over()


class Transport(_Delivering, kombu_redis.Transport):
    """kombu's transport over the channel above."""

    Channel = _Channel


class SentinelTransport(_Delivering, kombu_redis.SentinelTransport):
    """The same through Redis Sentinel."""

    Channel = _SentinelChannel


# -- tasks of other workers ------------------------------------------------------------------------------


class OtherWorkers:
    """Which tasks the other workers of the queue serve, asked of the worker registry in a thread."""

    def __init__(self, settings: Settings, own: str) -> None:
        self._settings = settings
        self._own = own
        #: By worker: when it was seen last (monotonic clock), and its tasks.
        self._seen: dict[str, tuple[float, frozenset[str]]] = {}
        self._answers = 0
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    def serve(self, task: str) -> bool | None:
        """Whether one of them serves the task; None while that is not known: then ask again soon.

        That none does is known after two answers.
        """
        now = time.monotonic()
        if now - self._asked_at > ANSWER_VALID and not (self._thread and self._thread.is_alive()):
            self._asked_at = now
            self._thread = threading.Thread(target=self._ask, name="other workers", daemon=True)
            self._thread.start()
        recent = (tasks for seen, tasks in [*self._seen.values()] if now - seen < REMEMBERED)
        if any(task in tasks for tasks in recent):
            return True
        return False if self._answers >= 2 else None

    def _ask(self) -> None:
        queue = self._settings.task_default_queue
        try:
            for _ in range(2 if self._answers < 2 else 1):
                registry = WorkerRegistry(self._settings)  # one keeps the answers of ``inspect`` for a while
                workers: list[WorkerRecord | OtherWorker] = [*registry.workers_of(queue)]
                with contextlib.suppress(AccessRefused):  # this user may not broadcast
                    workers += [worker for worker in registry.others() if queue in worker.queues]
                for worker in workers:
                    if worker.name != self._own:
                        self._seen[worker.name] = (time.monotonic(), frozenset(worker.tasks))
                self._answers += 1
        except Exception as error:  # the next message asks again
            _logger.warning("the other workers of %s cannot be asked: %s", queue, error)


class _Consumer(Consumer):  # type: ignore[misc]
    """Celery's consumer: waits through outages, and returns messages of tasks that it does not serve."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._others = OtherWorkers(_Shared.settings, self.hostname)
        #: Messages of other workers' tasks, by delivery tag.
        self._foreign: dict[str, Any] = {}

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Wait before the next try."""
        super().on_connection_error_before_connected(exc)
        _Shared.outage.pause(exc)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Wait before the next connection."""
        super().on_connection_error_after_connected(exc)
        _Shared.outage.pause(exc)

    def on_ready(self) -> None:
        """The worker consumes again: messages that it held when the broker failed go back to the queue."""
        super().on_ready()
        channel = self.task_consumer.channel
        with channel.conn_or_acquire() as client:
            while _Shared.undelivered:
                client.rpush(*_Shared.undelivered[0])
                del _Shared.undelivered[0]
        for tag in [*self._foreign]:
            channel.qos.restore_by_tag(tag, leftmost=True)
            del self._foreign[tag]

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002
        """Hold the message for a moment; then it goes back to the queue, or its task fails."""
        tag = message.delivery_tag
        self._foreign[tag] = message
        if len(self._foreign) <= MOST_FOREIGN:
            self.qos.increment_eventually()  # a held message must not keep a run of ours waiting
        with message.channel.conn_or_acquire() as client:
            key = step_key("returned", message.headers["id"])
            returns = client.incr(key)
            client.expire(key, TASK_RETURNS_EXPIRE)
        delay = min(SHORTEST_RETURN * 1.1 ** min(returns, 100), LONGEST_RETURN)
        self.hub.call_later(delay, self._return_or_fail, tag, returns)

    def _return_or_fail(self, tag: str, returns: int) -> None:
        """Return the message if another worker serves its task, and fail the task if none does."""
        message = self._foreign.get(tag)
        if message is None:  # the connection was lost meanwhile, and on_ready has returned it
            return
        name = message.headers["task"]
        served = self._others.serve(name)
        if served is None:
            self.hub.call_later(SHORTEST_RETURN, self._return_or_fail, tag, returns)
            return
        if len(self._foreign) <= MOST_FOREIGN:
            self.qos.decrement_eventually()
        del self._foreign[tag]
        if served and returns < MOST_RETURNS:
            message.requeue()
            return
        why = (
            f"was returned to the queue {returns} times" if served else "is served by no worker of the queue"
        )
        self._fail(message, f"task {name} {why} {_Shared.settings.task_default_queue}: {_remedy(name)}")

    def _fail(self, message: Any, why: str) -> None:
        _logger.error("%s", why)
        message.reject_log_error(_logger, self.connection_errors)
        self.app.backend.mark_as_failure(message.headers["id"], NotRegistered(why))


def _remedy(task: str) -> str:
    """Which workers serve the task."""
    if task.startswith("anyvar."):
        return "start one of AnyVar's own workers, of a version that has it"
    return "start a worker that has it, or give it a queue of its own"


def install(app: Celery, settings: Settings) -> None:
    """Have the app's worker use these classes; to be called in the worker's process before it starts."""
    _Shared.settings = settings
    _Shared.outage = Outage(settings.broker_patience)
    TRANSPORT_ALIASES.update(
        dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"), sentinel=f"{__name__}:SentinelTransport"
    )
    app.loader.override_backends = {
        **app.loader.override_backends,
        **dict.fromkeys(("redis", "rediss", "socket"), f"{__name__}:_Backend"),
        "sentinel": f"{__name__}:_SentinelBackend",
    }
    app.conf.worker_consumer = f"{__name__}:_Consumer"
    app.conf.broker_connection_max_retries = None  # the patience ends it
