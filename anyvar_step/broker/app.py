"""The Celery app, made from settings: every variable of CONTRACTS.md §1 reaches its Celery setting here."""

from __future__ import annotations

from typing import Any

from celery import Celery

from anyvar_step.broker.connection import CONNECT_TIMEOUT, celery_url
from anyvar_step.broker.names import KEY_PREFIX
from anyvar_step.settings import Settings


def make_app(settings: Settings) -> Celery:
    """A Celery app for those settings; it connects when it is first used.

    Celery itself reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND from the environment and lets them win
    over its configuration, so that an option or a private server would be passed over. The read and write
    URLs and the backend's class are asked before those.
    """
    app = Celery("anyvar", set_as_current=False)
    app.backend_cls = celery_url(settings.backend_url)
    app.conf.update(celery_config(settings))
    return app


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's settings for ours.

    The visibility timeout stands in three places: kombu reads the first, the Redis backend the second,
    and what is set in neither falls back to one hour, the shortest of all apps on a broker winning
    (PITFALLS.md 4). The restore options let a killed worker's run come back in about ten seconds after
    that timeout instead of a hundred (PITFALLS.md 29).

    Storing a result is tried again for about a minute: a run that went well must not fail because Redis was
    away in the moment it ended.
    """
    visible = {"visibility_timeout": settings.visibility_timeout}
    return {
        "broker_url": celery_url(settings.broker_url),
        "broker_read_url": celery_url(settings.broker_url),
        "broker_write_url": celery_url(settings.broker_url),
        "result_backend": celery_url(settings.backend_url),
        "task_default_queue": settings.task_default_queue,
        "event_queue_prefix": settings.event_queue_prefix,
        "timezone": settings.timezone,
        "result_expires": settings.result_expires,
        "visibility_timeout": settings.visibility_timeout,
        "broker_transport_options": {
            **visible,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
        },
        "result_backend_transport_options": {**visible, "global_keyprefix": KEY_PREFIX},
        "result_backend_always_retry": True,
        "result_backend_max_retries": 24,
        "redis_socket_connect_timeout": CONNECT_TIMEOUT,
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
    }
