"""One deployment as a step or web API sees it: its work dir, board and queue, and the runs in them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from anyvar_step.broker.board import Board
from anyvar_step.broker.queue import Queue
from anyvar_step.broker.status import run_status
from anyvar_step.errors import RunLost
from anyvar_step.files import remove_tree
from anyvar_step.models import IngestOptions, Manifest, RunStatus, State
from anyvar_step.settings import Settings
from anyvar_step.workdir import CONFLICTS_SUFFIX, OUTPUT_SUFFIX, WorkDir


class Deployment:
    """What is known of runs, whoever submitted them. ``holder`` names who wants them."""

    def __init__(self, settings: Settings, holder: str | None = None) -> None:
        self._settings = settings
        self._holder = holder or secrets.token_hex(8)
        self.workdir = WorkDir(
            settings.required_work_dir(),
            worker_root=settings.worker_work_dir,
            mode=settings.work_dir_mode,
            latency_wait=settings.latency_wait,
        )
        self.board = Board(settings)
        self.queue = Queue(settings)
        self._held: dict[str, Manifest] = {}

    def close(self) -> None:
        """Give back connections."""
        self.board.close()

    def status(self, run_id: str) -> RunStatus:
        """The run's status; where its worker's claim has lapsed, its files tell whether it is lost."""
        meta, claimed = self.board.look(run_id)
        if meta and meta["status"] == State.PROGRESS and not claimed:
            lost = {"exc_type": "WorkerLostError", "exc_message": "its worker gives no sign of life"}
            meta = {"status": State.FAILURE, "result": lost}
        if meta and meta["status"] == State.FAILURE and _was_killed(meta["result"]):
            meta = self._finished(run_id) or meta
        return run_status(run_id, meta, self._settings.failure_status_code)

    def _finished(self, run_id: str) -> dict[str, str] | None:
        """What the worker would have said had it not died between its last file and its last word."""
        folder, manifest = self.workdir.run(run_id)
        if folder is None or manifest is None or (folder / manifest.staged_input).exists():
            return None
        ingested = isinstance(manifest.options, IngestOptions)
        output = folder / (manifest.staged_input + (CONFLICTS_SUFFIX if ingested else OUTPUT_SUFFIX))
        return (
            {"status": State.SUCCESS, "result": self.workdir.as_worker(output)} if output.exists() else None
        )

    def finished_late(self, run_id: str) -> bool:
        """Whether the run's files say, as soon as a shared filesystem shows them, that it has ended well."""
        deadline = time.monotonic() + self._settings.latency_wait
        while (status := self.status(run_id)).lost and time.monotonic() < deadline:
            if self.workdir.find(run_id) is None:
                return False
            time.sleep(0.2)
        return status.status_code == 200

    def served(self) -> bool:
        """Whether any worker answers that it consumes the queue."""
        return self.queue.served()

    def queued(self) -> int | None:
        """How many runs stand in the queue."""
        return self.queue.length()

    def unknown(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that no worker says it has, once the queue is empty."""
        return self.queue.unknown(run_ids)

    def capacity(self) -> int:
        """How many worker processes consume the queue."""
        return self.queue.capacity()

    def find(self, run_id: str) -> Manifest:
        """The ticket of the run in the work dir."""
        _, ticket = self.workdir.run(run_id)
        if ticket is None:
            raise RunLost(
                f"no run {run_id} in the work dir {self.workdir.root}",
                "It has been collected or cancelled, or it ran in another work dir",
            )
        return ticket

    def stop(self, run_id: str, folder: Path | None, board: Board | None = None) -> None:
        """Cancel a run of which no more than its id is known, and its folder where it has one."""
        board = board or self.board
        board.ask_to_stop(run_id)
        board.put(run_id, State.REVOKED, only="known")
        if folder:
            remove_tree(folder)
        self.queue.revoke(run_id)

    def _folder(self, ticket: Manifest) -> Path:
        return self.workdir.folder(ticket)


def _was_killed(result: object) -> bool:
    """Whether a run failed because its worker's process was killed, which says nothing of its work."""
    killed = ("WorkerLostError", "TimeLimitExceeded")
    return isinstance(result, dict) and result.get("exc_type") in killed
