"""The queue of runs on the broker: publish a run's message, remove it, count messages."""

from __future__ import annotations

import base64
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from anyvar_step.errors import Unavailable
from anyvar_step.runs.connection import (
    ANSWER_TIMEOUT,
    BRIEF_RETRY,
    CONNECT_TIMEOUT,
    TimedRetry,
    broker,
    celery_options,
    celery_url,
    is_sentinel,
    ping,
    translated,
    url_of_primary,
)
from anyvar_step.runs.keys import KEY_PREFIX, malformed_key
from anyvar_step.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def make_app(settings: Settings) -> Celery:
    """A Celery app for those settings; it connects when it is first used.

    Celery itself reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND from the environment and lets them win
    over its configuration, so that an option or a private server would be passed over. The read and write
    URLs and the backend's class have precedence over those.
    """
    from celery import Celery  # loading it takes 0.2 s; a step does without

    app = Celery("anyvar", set_as_current=False)
    app.backend_cls = _backend_url(settings)
    app.conf.update(celery_config(settings))
    return app


def _backend_url(settings: Settings) -> str:
    url = celery_url(settings.backend_url)
    return url if is_sentinel(url) else url.partition(";")[0]


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's settings for ours.

    The visibility timeout stands in three places: kombu reads the first, the Redis backend the second,
    and what is set in neither falls back to one hour, the shortest of all apps on a broker winning
    (docs/contract.md#environment). The restore options let a killed worker's run come back in about ten
    seconds after that timeout instead of a hundred (docs/contract.md#celery-messages).

    Storing a result is tried again for about a minute: a run that went well must not fail because Redis was
    away in the moment it ended. A half-open connection is replaced within half a minute; by default Celery
    waits on it for ever.
    """
    visible = {"visibility_timeout": settings.visibility_timeout}
    broker_options, broker_tls = celery_options(settings.broker_url)
    backend_options, backend_tls = celery_options(settings.backend_url)
    return {
        **({"broker_use_ssl": broker_tls} if broker_tls else {}),
        **({"redis_backend_use_ssl": backend_tls} if backend_tls else {}),
        "broker_url": celery_url(settings.broker_url),
        "broker_read_url": celery_url(settings.broker_url),
        "broker_write_url": celery_url(settings.broker_url),
        "result_backend": _backend_url(settings),
        "task_default_queue": settings.task_default_queue,
        "event_queue_prefix": settings.event_queue_prefix,
        "timezone": settings.timezone,
        "result_expires": settings.result_expires,
        "visibility_timeout": settings.visibility_timeout,
        "broker_transport_options": {
            **visible,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": ANSWER_TIMEOUT,
            "health_check_interval": HEALTH_CHECK_SECONDS,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            **broker_options,
        },
        "result_backend_transport_options": {
            **visible,
            "global_keyprefix": KEY_PREFIX,
            **backend_options,
        },
        "result_backend_always_retry": True,
        "result_backend_max_retries": 24,
        "redis_socket_connect_timeout": CONNECT_TIMEOUT,
        "redis_socket_timeout": ANSWER_TIMEOUT,
        "broker_connection_retry_on_startup": True,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["application/json"],
        "task_ignore_result": False,
        "task_acks_late": settings.task_acks_late,
        "task_reject_on_worker_lost": settings.task_reject_on_worker_lost,
        "task_time_limit": settings.task_time_limit,
        "task_soft_time_limit": settings.soft_time_limit,
        "worker_prefetch_multiplier": settings.worker_prefetch_multiplier,
        "worker_send_task_events": settings.worker_send_task_events,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


#: Seconds between kombu's health checks of the connection on which a worker waits for messages.
HEALTH_CHECK_SECONDS = 5
#: Seconds for which workers may answer a question that Celery's ``inspect`` broadcasts.
ANSWER_SECONDS = 1.0
#: Messages of the queue that are searched at once.
_PAGE = 1000
#: KEYS: queue. ARGV: run id, first message, number of messages. Publishers add at index 0: meanwhile a
#: message can move to a later page, never to an earlier one.
_REMOVE = """
local page = redis.call('LRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
for _, raw in ipairs(page) do
  if string.find(raw, ARGV[1], 1, true) then
    local ok, id = pcall(function() return cjson.decode(raw).headers.id end)
    if ok and id == ARGV[1] then
      return {redis.call('LREM', KEYS[1], 1, raw), #page}
    end
  end
end
return {0, #page}
"""


def encode_message(queue: str, task: str, arguments: dict[str, Any], run_id: str) -> str:
    """A task's message as Celery puts it into a Redis list (docs/contract.md#celery-messages).

    Loading Celery for this alone would double what a step costs.
    """
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[], arguments, embed]).encode()
    absent = ("shadow", "eta", "expires", "group", "group_index", "parent_id", "ignore_result")
    headers: dict[str, Any] = {
        **dict.fromkeys(absent),
        "lang": "py",
        "task": task,
        "id": run_id,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": run_id,
        "argsrepr": "()",
        "kwargsrepr": repr(arguments),
        "origin": f"gen{os.getpid()}@{socket.gethostname()}",
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = {
        "correlation_id": run_id,
        "reply_to": str(uuid.uuid4()),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


class Queue:
    """The queue of runs on the broker.

    Each method opens a connection and closes it, and raises Unavailable or AccessRefused where it cannot.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.task_default_queue
        self.retry = TimedRetry(BRIEF_RETRY)  # of ``ping`` and ``publish``

    def ping(self) -> None:
        """Raise where the broker cannot be reached, or takes no writes."""
        ping(self._settings.broker_url, "CELERY_BROKER_URL", self.retry.seconds)

    def publish(self, task: str, arguments: dict[str, Any], run_id: str) -> None:
        """Queue a run: ``arguments`` are the task's keyword arguments, the run id is the task's id.

        A message that is queued twice because a connection was lost runs once.
        """
        with broker(self._settings, self.retry) as client:
            client.lpush(self.name, encode_message(self.name, task, arguments, run_id))

    def length(self) -> int:
        """The number of runs in the queue; those that workers have received are not among them."""
        with broker(self._settings) as client:
            return int(client.llen(self.name))

    def delete_malformed(self, *, dry_run: bool = False) -> int:
        """Delete the messages that workers set aside as malformed; their number."""
        key = malformed_key(self.name)
        with broker(self._settings) as client:
            number = int(client.llen(key))
            if not dry_run:
                client.delete(key)
        return number

    def remove(self, run_id: str) -> bool:
        """Remove the run's message from the queue; False where no message of it waits there.

        Each page of the queue is searched by a script: a message that a worker takes meanwhile is either its
        or removed, never both.
        """
        with broker(self._settings) as client:
            remove, start = client.register_script(_REMOVE), 0
            while True:
                removed, seen = remove([self.name], [run_id, start, _PAGE])
                if removed or seen < _PAGE:
                    return bool(removed)
                start += _PAGE

    @contextmanager
    def celery(self) -> Iterator[Any]:
        """A Celery app, with kombu's exceptions translated (docs/contract.md#celery-messages)."""
        from kombu.exceptions import OperationalError  # loading it takes 0.2 s; most methods do not need it

        with translated(self._settings.broker_url, "CELERY_BROKER_URL"), make_app(self._settings) as app:
            url = celery_url(url_of_primary(self._settings.broker_url))
            app.conf.update(broker_url=url, broker_read_url=url, broker_write_url=url)
            app.conf.broker_pool_limit = 0  # a pool's connections outlive their app
            app.backend_cls = "disabled"  # else publishing subscribes to the result; RunState reads it
            try:
                yield app
            except (OperationalError, RuntimeError) as error:
                if isinstance(error.__cause__, redis.RedisError):
                    raise error.__cause__ from error
                self.ping()  # its error is more precise, where it fails, too
                raise Unavailable(f"the broker failed: {error}", "Run it again; see its log") from error
