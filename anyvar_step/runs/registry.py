"""Asking workers what they see: who serves the queue, and what ours answer to a look at their surroundings.

Remote control, not a task: every worker answers at once, however busy and long its queue is, and AnyVar's
workers, who do not know our question, are never sent it. The answers come back through the result backend,
since a look at a slow filesystem must not stop a worker's event loop.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from anyvar_step.runs.connection import connect, translated
from anyvar_step.runs.keys import LOOK, VERSION_MARK, step_key
from anyvar_step.runs.queue import ANSWER_SECONDS, Queue
from anyvar_step.settings import Settings

#: Seconds for which an answer that nobody fetches is kept.
_KEPT = 120
_TOKEN = re.compile(r"[0-9a-f]{16}")
_MARK = re.compile(rf"\[{VERSION_MARK}=(\S+)\]")


@dataclass(frozen=True)
class Server:
    """A worker: its name, the queues it consumes, its processes, and our version where it is one of ours."""

    name: str
    queues: tuple[str, ...]
    processes: int
    version: str | None


class Trouble(BaseModel):
    """A StepError on its way from a worker: the name of its class, and its words."""

    kind: str
    what: str
    remedy: str = ""


class Known(BaseModel):
    """A reference that a worker can use: its contigs, and a digest over their names and accessions."""

    contigs: int
    digest: str


class Look(BaseModel):
    """What one worker sees. A newer worker may say more; that is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: str
    host: str
    user: str
    celery: str
    work_dir: str
    answer: str = ""  # the file that it wrote beside the probe
    work_dir_trouble: Trouble | None = None
    free: int | None = None  # bytes
    references: dict[str, Known | Trouble]
    seqrepo: str = ""  # where it looks for other assemblies
    seqrepo_trouble: Trouble | None = None
    store: str = ""  # the URI without its password
    store_trouble: Trouble | None = None
    limits: dict[str, int]  # by variable
    clock: float  # of its host, minus Redis's; seconds


def is_token(text: object) -> bool:
    """Whether the text can name a probe: it becomes a part of a path and of a Redis key."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def servers(settings: Settings) -> list[Server]:
    """All workers on the broker. Takes a second; raises Unavailable or AccessRefused."""
    with Queue(settings).celery() as app:
        queues = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
        if not queues:
            return []
        inspect = app.control.inspect(list(queues), timeout=ANSWER_SECONDS)
        tasks, stats = inspect.registered(VERSION_MARK) or {}, inspect.stats() or {}
    found = []
    for name, consumed in sorted(queues.items()):
        mark = _MARK.search(" ".join(map(str, tasks.get(name) or ())))
        pool = (stats.get(name) or {}).get("pool", {})
        found.append(
            Server(
                name,
                tuple(str(queue["name"]) for queue in consumed),
                int(pool.get("max-concurrency", 1)),
                mark[1] if mark else None,
            )
        )
    return found


def ask(settings: Settings, workers: list[str], token: str) -> dict[str, str]:
    """Have workers of ours look; what those say that refuse, by their names."""
    with Queue(settings).celery() as app:
        replies = app.control.broadcast(
            LOOK, arguments={"token": token}, destination=workers, reply=True, timeout=2 * ANSWER_SECONDS
        )
    said = {name: reply for each in replies or () for name, reply in each.items()}
    refused = {name: str(reply["error"]) for name, reply in said.items() if "error" in reply}
    return refused | {name: "it did not answer" for name in workers if name not in said}


def post(settings: Settings, token: str, look: Look) -> None:
    """A worker's answer, for whoever asked."""
    key = step_key("look", token)
    with translated(settings.backend_url, "CELERY_BACKEND_URL"), connect(settings.backend_url) as redis:
        pipe = redis.pipeline()
        pipe.rpush(key, look.model_dump_json())
        pipe.expire(key, _KEPT)
        pipe.execute()


def gather(settings: Settings, token: str, number: int, seconds: float) -> list[Look]:
    """The answers, once so many have come or the seconds have passed."""
    key, deadline = step_key("look", token), time.monotonic() + seconds
    looks: list[Look] = []
    with translated(settings.backend_url, "CELERY_BACKEND_URL"), connect(settings.backend_url) as redis:
        while len(looks) < number and time.monotonic() < deadline:
            raw = redis.lpop(key)
            if raw is None:
                time.sleep(0.05)
                continue
            try:
                looks.append(Look.model_validate_json(str(raw)))
            except ValidationError:
                number -= 1  # whoever put it there, it is no answer
        redis.delete(key)
    return looks
