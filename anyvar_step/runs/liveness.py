"""Whether a run is live: it has a state, a lock or a step's lease in the backend, or a message on the broker.

The state alone does not tell: without a step that polls the run, it expires while the message still waits.
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

from anyvar_step.runs.connection import backend, broker, now
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.settings import Settings

#: Kombu's hash of the messages that workers have taken and not yet acknowledged.
UNACKED = "unacked"
#: Messages read from the queue at once.
_PAGE = 500
#: Seconds after its start from which a Redis has all leases again: steps renew theirs every 20 s.
SETTLED_SECONDS = 30.0


class Liveness:
    """Reads backend and broker over two connections, opened at first use; not thread-safe.

    All methods raise Unavailable or AccessRefused where Redis does not answer: then a run counts as live.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backend = backend(settings)
        self._broker = broker(settings)
        self._messages: set[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        self._broker.close()

    def settled(self) -> bool:
        """Whether Redis has been up for long enough that every waiting step has renewed its lease.

        A Redis that lost its data at a restart knows of no run at first.
        """
        up: dict[str, Any] = self._backend.info("server")
        return float(up["uptime_in_seconds"]) >= SETTLED_SECONDS

    def is_live(self, run_id: str) -> bool:
        """Whether the run has a state, a lock, or the lease of a waiting step.

        The lease of a run that was submitted without waiting never expires, so it does not count.
        """
        pipe = self._backend.pipeline(transaction=False)
        pipe.exists(meta_key(run_id))
        pipe.exists(step_key("claim", run_id))
        pipe.zcount(step_key("leases", run_id), f"({now(self._backend)}", "(+inf")
        return any(pipe.execute())

    def has_message(self, name: str) -> bool:
        """Whether a message, queued or taken by a worker, is of that run or names an input file of that name.

        The messages are read once, at the first call.
        """
        if self._messages is None:
            self._messages = set(self._names())
        return name in self._messages

    def reserve_sweep(self, root: Path, seconds: int) -> bool:
        """Reserve the next sweep of that work dir; False where another process did within ``seconds``."""
        return bool(self._backend.set(sweep_key(root), int(time.time()), ex=seconds, nx=True))

    def _names(self) -> Iterator[str]:
        """Run ids and input file names; a message that moves meanwhile is seen in one of the three reads."""
        yield from self._taken()
        queue, start = self._settings.task_default_queue, 0
        while page := self._broker.lrange(queue, start, start + _PAGE - 1):
            for raw in page:
                yield from _names_in(str(raw))
            start += _PAGE
        yield from self._taken()

    def _taken(self) -> Iterator[str]:
        for _, raw in self._broker.hscan_iter(UNACKED):
            yield from _names_in(str(raw))


def sweep_key(root: Path) -> str:
    """The key that stands while no sweep of that work dir is due."""
    return step_key("turn", hashlib.sha256(str(root).encode()).hexdigest()[:16])


def _names_in(raw: str) -> Iterator[str]:
    """The run id and the input's file name in one of kombu's messages; nothing where it is malformed."""
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        message = json.loads(raw)
        if isinstance(message, list):  # taken: [message, exchange, routing key]
            message = message[0]
        yield str(message["headers"]["id"])
        _, arguments, *_ = json.loads(base64.b64decode(message["body"]))
        yield Path(arguments["input_file_path"]).name
