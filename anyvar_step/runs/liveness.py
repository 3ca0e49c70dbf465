"""Signs that a run lives: its state, claim and lease on the board, its message on the broker.

The state alone does not tell: that of a run which nobody asks for expires while its message still waits in a
long queue. Signs are looked at and never changed; who may sweep by them is written down.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from anyvar_step.runs.connection import connect, now, reaching
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.settings import Settings

#: Kombu's hash of the messages that workers have taken and not yet acknowledged.
UNACKED = "unacked"
#: Messages read from the queue at once.
_PIECE = 500
#: Seconds after its start from which a Redis shows all leases again: steps renew theirs every 20 s.
SETTLED = 30.0


class Liveness:
    """Looks for signs of life over two connections, opened at first use; not thread-safe.

    All methods raise Unavailable or AccessRefused where Redis cannot be asked: no answer is no sign of death.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backend = connect(settings.backend_url)
        self._broker = connect(settings.broker_url)
        self._queued: set[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        self._broker.close()

    def settled(self) -> bool:
        """Whether Redis has been up for long enough that every waiting step has renewed its lease.

        One that lost its data as it started again knows of no run for a moment, dead or alive.
        """
        with reaching(self._settings.backend_url, "CELERY_BACKEND_URL"):
            up: dict[str, Any] = self._backend.info("server")
        return float(up["uptime_in_seconds"]) >= SETTLED

    def wanted(self, run_id: str) -> bool:
        """Whether the run has a state, a worker's claim, or the lease of a step that waits for it.

        The lease of a run that was submitted without waiting stands for good, so it tells nothing.
        """
        with reaching(self._settings.backend_url, "CELERY_BACKEND_URL"):
            pipe = self._backend.pipeline(transaction=False)
            pipe.exists(meta_key(run_id))
            pipe.exists(step_key("claim", run_id))
            pipe.zcount(step_key("leases", run_id), f"({now(self._backend)}", "(+inf")
            return any(pipe.execute())

    def queued(self, name: str) -> bool:
        """Whether a message in the queue, or in a worker's hands, is of that run or names a file so called.

        The messages are read once, at the first question.
        """
        if self._queued is None:
            with reaching(self._settings.broker_url, "CELERY_BROKER_URL"):
                self._queued = set(self._names())
        return name in self._queued

    def take_turn(self, root: Path, seconds: int) -> bool:
        """Whether nobody else has had, for so long, the turn to sweep that work dir; it is ours now."""
        with reaching(self._settings.backend_url, "CELERY_BACKEND_URL"):
            return bool(self._backend.set(turn_key(root), int(time.time()), ex=seconds, nx=True))

    def _names(self) -> Iterator[str]:
        """Run ids and input file names; a message on the move is seen in one of the three looks."""
        yield from self._in_hands()
        queue, start = self._settings.task_default_queue, 0
        while piece := self._broker.lrange(queue, start, start + _PIECE - 1):
            for raw in piece:
                yield from _named_in(str(raw))
            start += _PIECE
        yield from self._in_hands()

    def _in_hands(self) -> Iterator[str]:
        for _, raw in self._broker.hscan_iter(UNACKED):
            yield from _named_in(str(raw))


def turn_key(root: Path) -> str:
    """The key that says when that work dir was swept last; it expires when the next turn is due."""
    return step_key("turn", hashlib.sha256(str(root).encode()).hexdigest()[:16])


def _named_in(raw: str) -> Iterator[str]:
    """The run id and the input's file name in one of kombu's messages; none in what is no message."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        message = json.loads(raw)
        if isinstance(message, list):  # in a worker's hands: [message, exchange, routing key]
            message = message[0]
        yield str(message["headers"]["id"])
        _, arguments, *_ = json.loads(base64.b64decode(message["body"]))
        yield Path(arguments["input_file_path"]).name
