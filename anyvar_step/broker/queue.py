"""The queue: runs are put in and taken back, its workers asked who they are; Celery for a moment each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anyvar_step.broker.connection import connect, ping, reaching
from anyvar_step.errors import Unavailable
from anyvar_step.settings import Settings

#: Seconds for which workers may answer a question to all of them.
ANSWER_SECONDS = 1.0


class Queue:
    """The queue of runs on the broker.

    Each act makes a Celery app and closes it: a waiting step holds one Redis connection, not Celery's four
    (PITFALLS.md 6). All raise Unavailable or AccessRefused where the broker cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.task_default_queue

    def ping(self) -> None:
        """Raise at once where the broker is dead; publishing would take 19 s to find out (PITFALLS.md 7)."""
        ping(self._settings.broker_url, "CELERY_BROKER_URL")

    def publish(self, task: str, arguments: dict[str, Any], run_id: str) -> None:
        """Queue a run: ``arguments`` are the task's keyword arguments, the run id is the task's id."""
        with self.celery() as app:
            app.send_task(task, kwargs=arguments, task_id=run_id, queue=self.name, retry=False)

    def length(self) -> int:
        """How many runs wait in the queue; those that workers have reserved are not among them."""
        with reaching(self._settings.broker_url, "CELERY_BROKER_URL"):
            client = connect(self._settings.broker_url)
            try:
                return int(client.llen(self.name))
            finally:
                client.close()

    def revoke(self, run_id: str) -> None:
        """Have workers drop the run if it is still queued."""
        with self.celery() as app:
            app.control.revoke(run_id)

    def served(self) -> bool:
        """Whether any worker answers that it consumes the queue."""
        with self.celery() as app:
            return bool(self._servers(app))

    def unknown(self, run_ids: Sequence[str]) -> set[str]:
        """Those that no worker answers it has received; none while runs are queued, which may be they."""
        if self.length():
            return set()
        with self.celery() as app:
            answers = app.control.inspect(timeout=ANSWER_SECONDS).query_task(*run_ids) or {}
        return {*run_ids}.difference(*answers.values())

    def capacity(self) -> int:
        """How many worker processes consume the queue."""
        with self.celery() as app:
            stats = app.control.inspect(self._servers(app), timeout=ANSWER_SECONDS).stats() or {}
        return sum(int(each.get("pool", {}).get("max-concurrency", 1)) for each in stats.values())

    def _servers(self, app: Any) -> list[str]:
        """The names of the workers that consume the queue."""
        answers = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
        return [worker for worker, queues in answers.items() if any(q["name"] == self.name for q in queues)]

    @contextmanager
    def celery(self) -> Iterator[Any]:
        """A Celery app; kombu's words for a dead broker differ by version, ours is one (PITFALLS.md 7)."""
        from kombu.exceptions import OperationalError  # 0.2 s that most looks at a run never need

        from anyvar_step.broker.app import make_app

        with reaching(self._settings.broker_url, "CELERY_BROKER_URL"), make_app(self._settings) as app:
            app.conf.broker_pool_limit = 0  # a pool's connections outlive their app
            app.backend_cls = "disabled"  # else publishing subscribes to the result; the board reads it
            try:
                yield app
            except (OperationalError, RuntimeError) as error:
                self.ping()  # says it better, where it fails too
                raise Unavailable(f"the broker failed: {error}", "Run it again; see its log") from error
