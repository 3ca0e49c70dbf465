"""Redis: reachable and how fast, fit for Celery, and set so that it forgets no run."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Any

import redis

from anyvar_step.broker.connection import connect, reaching
from anyvar_step.broker.names import step_key
from anyvar_step.broker.signs import UNACKED
from anyvar_step.check.findings import Finding, failed
from anyvar_step.errors import AccessRefused, ConfigurationError, FileTrouble, StepError, Unavailable
from anyvar_step.settings import Settings
from anyvar_step.values import masked

#: Round trips of which the median is told, and the one from which on it is slow, seconds.
PINGS, SLOW = 9, 0.1
#: The share of memory or connections from which on there is little left.
NEARLY = 0.8


def look(settings: Settings) -> Iterator[Finding]:
    """The broker's Redis, its queue, and the backend's Redis, which may be the same."""
    yield from _look("broker", settings.broker_url, "CELERY_BROKER_URL", settings)
    if settings.backend_url != settings.broker_url:
        yield from _look("backend", settings.backend_url, "CELERY_BACKEND_URL", settings)


def _look(about: str, url: str, variable: str, settings: Settings) -> Iterator[Finding]:
    with connect(url) as client:
        try:
            with reaching(url, variable):
                seconds = _round_trip(client)
                _try_rights(client)
        except StepError as error:
            yield failed(about, error)
            return
        try:
            info: dict[str, Any] = client.info()
        except redis.RedisError as error:
            info = {}
            yield Finding(
                about,
                "warning",
                f"Redis does not say how it is set ({error}): neither eviction nor persistence could be seen",
                "Let this user call INFO: ACL SETUSER … +info",
            )
        yield _speed(about, url, seconds, info)
        if info:
            yield from kind(about, url, info)
            yield from eviction(about, info)
            yield from persistence(about, info, _saves(client))
            yield from room(about, info)
        if about == "broker":
            yield from _queue(client, settings)


def _round_trip(client: redis.Redis) -> float:
    """The median round trip, seconds."""
    client.ping()
    times = []
    for _ in range(PINGS):
        begin = time.perf_counter()
        client.ping()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _try_rights(client: redis.Redis) -> None:
    """Write, read and delete a key of ours."""
    key = step_key("check", secrets.token_hex(8))
    client.set(key, "1", ex=10)
    client.get(key)
    client.delete(key)


def _speed(about: str, url: str, seconds: float, info: dict[str, Any]) -> Finding:
    version = f", Redis {info['redis_version']}" if "redis_version" in info else ""
    what = f"{masked(url)} answers in {seconds * 1000:.1f} ms{version}"
    if seconds < SLOW:
        return Finding(about, "ok", what)
    return Finding(about, "warning", what, "Put Redis nearer to the workers; each run asks it some 100 times")


def kind(about: str, url: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Celery needs one server that may be written to."""
    if info.get("cluster_enabled"):
        error = ConfigurationError(f"{masked(url)} is a Redis Cluster, which Celery cannot use as a broker")
        yield failed(about, error)
    if info.get("role") in ("slave", "replica"):
        error = ConfigurationError(f"{masked(url)} is a read-only replica", "Name the primary server")
        yield failed(about, error)


def eviction(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Any policy but noeviction drops queues, bindings or states when memory runs out."""
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield Finding(about, "ok", "nothing is evicted (maxmemory-policy noeviction)")
        return
    what = f"maxmemory-policy is {policy}, which drops queued runs or their states when memory is short"
    remedy = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if most:
        yield failed(about, ConfigurationError(what, remedy))
    else:
        yield Finding(about, "warning", f"{what}; no limit (maxmemory) is set yet", remedy)


def persistence(about: str, info: dict[str, Any], saves: str | None) -> Iterator[Finding]:
    """Whether runs outlive a restart. ``saves`` are the snapshots' times, None where that is not told."""
    remedy = "redis-cli CONFIG SET appendonly yes, and the same in redis.conf"
    if info.get("aof_last_write_status", "ok") != "ok" or (
        saves != "" and info.get("rdb_last_bgsave_status", "ok") != "ok"
    ):
        trouble = "Redis cannot write to its disk, and may refuse what steps and workers write"
        yield failed(about, FileTrouble(trouble, "Make room in its dir, and see its log"))
    if info.get("aof_enabled"):
        yield Finding(about, "ok", "runs outlive a restart of Redis (appendonly yes)")
    elif saves == "":
        yield Finding(about, "warning", "a restart of Redis loses all queued and running runs", remedy)
    else:
        kept = "what came after its last snapshot" if saves else "runs, unless it takes snapshots"
        yield Finding(about, "warning", f"a crash of Redis loses {kept}: appendonly is off", remedy)


def room(about: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Memory and connections."""
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used >= most:
        error = Unavailable(f"Redis is full: {used} of {most} bytes", "Raise maxmemory")
        yield failed(about, error)
    elif most and used > NEARLY * most:
        yield Finding(about, "warning", f"{used} of {most} bytes of memory are in use", "Raise maxmemory")
    clients, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if limit and clients > NEARLY * limit:
        what = f"{clients} of {limit} connections are in use"
        yield Finding(about, "warning", what, "Raise maxclients: a waiting step takes one, a worker some ten")


def _saves(client: redis.Redis) -> str | None:
    """The ``save`` setting; None where CONFIG is not allowed, as with rented servers."""
    try:
        return str(client.config_get("save").get("save", ""))
    except redis.RedisError:
        return None


def _queue(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    name = settings.task_default_queue
    try:
        with reaching(settings.broker_url, "CELERY_BROKER_URL"):
            waiting, taken = client.llen(name), client.hlen(UNACKED)
    except AccessRefused as error:
        yield failed("queue", error)
        return
    yield Finding("queue", "ok", f"{waiting} runs wait in {name}; workers of this Redis hold {taken}")
