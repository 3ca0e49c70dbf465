"""The runs of one deployment: what its work dir, result backend and queue together say of a run.

Steps, web API and sweep go through here. A run's end has two forms: ``RunState.forget`` for one that has
ended, ``cancel`` for one that may be in the queue or at work.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from anyvar_step.errors import RunLost, Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import AnnotateOptions, IngestOptions, Manifest, RunStatus, State
from anyvar_step.runs.connection import NO_RETRY
from anyvar_step.runs.keys import ANNOTATE_VCF, INGEST_ANNOTATED_VCF, run_id_for
from anyvar_step.runs.queue import Queue
from anyvar_step.runs.state import RunState, run_status
from anyvar_step.runs.step_lease import is_predecessor
from anyvar_step.runs.work_dir import CONFLICTS_SUFFIX, OUTPUT_SUFFIX, Staged, WorkDir
from anyvar_step.settings import Settings

#: Seconds that another step may take between reserving a run's id and queueing it.
PUBLISH_SECONDS = 5.0
#: Seconds after which a web API that has reserved an id and not queued its run was killed on the way.
KILLED_SECONDS = 30.0
#: The task that takes these options.
_TASKS = {AnnotateOptions: ANNOTATE_VCF, IngestOptions: INGEST_ANNOTATED_VCF}


class RunRepository:
    """The runs in one work dir, result backend and queue, whoever submitted them.

    For one thread. Raises Unavailable or AccessRefused where Redis does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workdir = WorkDir.of(settings)
        self.state = RunState(settings)
        self.queue = Queue(settings)

    def close(self) -> None:
        """Give back connections."""
        self.state.close()

    @contextlib.contextmanager
    def bridging(self, seconds: float) -> Iterator[None]:
        """Within the block, an outage of Redis is bridged for that many seconds."""
        with self.state.retry.bridging(seconds), self.queue.retry.bridging(seconds):
            yield

    # -- status ------------------------------------------------------------------------------------------

    def status(self, run_id: str) -> RunStatus:
        """The run's status; of a run whose worker was killed, its files tell whether it has ended well."""
        meta = self.state.current_meta(run_id)
        if meta and meta["status"] == State.FAILURE and _was_killed(meta["result"]):
            meta = self._finished(run_id) or meta
        return run_status(run_id, meta, self.settings.failure_status_code)

    def _finished(self, run_id: str) -> dict[str, str] | None:
        """The result of a run whose worker died after it had published the output; None otherwise."""
        folder, manifest = self.workdir.find_run(run_id)
        if folder is None or manifest is None or (folder / manifest.staged_input).exists():
            return None
        ingested = isinstance(manifest.options, IngestOptions)
        output = folder / (manifest.staged_input + (CONFLICTS_SUFFIX if ingested else OUTPUT_SUFFIX))
        if not output.exists():
            return None
        return {"status": State.SUCCESS, "result": self.workdir.worker_path(output)}

    def finished_late(self, run_id: str) -> bool:
        """Whether the run's files, as soon as a shared filesystem shows them, say that it has ended well."""
        deadline = time.monotonic() + self.settings.latency_wait
        while (status := self.status(run_id)).lost and time.monotonic() < deadline:
            if self.workdir.find(run_id) is None:
                return False
            time.sleep(0.2)
        return status.status_code == 200

    def find(self, run_id: str) -> Manifest:
        """The ticket of the run in the work dir. Raises RunLost where there is none."""
        _, ticket = self.workdir.find_run(run_id)
        if ticket is None:
            raise RunLost(
                f"no run {run_id} in the work dir {self.workdir.root}",
                "It has been collected or cancelled, or it ran in another work dir",
            )
        return ticket

    def current(self, digest: str) -> Manifest | None:
        """The ticket of the live run of that content; queued now if its step died before it could."""
        run_id = self.state.current_run(digest)
        return self.live(run_id) if run_id else None

    def live(self, run_id: str) -> Manifest | None:
        """The ticket of the run if it is queued, at work or has ended well; None otherwise."""
        _, manifest = self.workdir.find_run(run_id)
        if manifest is None:
            return None
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (status := self.status(run_id)).status == State.SENT and not self.state.is_published(run_id):
            if time.monotonic() > deadline:
                self.publish(manifest)
                break
            time.sleep(0.05)
        return manifest if status.running or status.status_code == 200 else None

    def new_id(self, digest: str) -> str:
        """An id that no run of that content has had; a Redis that lost all counts from 1 again."""
        while True:
            run_id = run_id_for(digest, self.state.next_attempt(digest))
            if self.workdir.find(run_id) is None:
                return run_id

    # -- begin -------------------------------------------------------------------------------------------

    def start(self, manifest: Manifest, staged: Staged, holder: str) -> bool:
        """Queue a staged input under the manifest's run id, with a lease; False where that id is in use.

        For the web API, whose callers choose run ids. Raises Unavailable, FileTrouble, AccessRefused; the
        staged folder is gone then, as with False.
        """
        try:
            if not self.state.create(manifest.run_id):
                return False
            try:
                self.workdir.commit(staged, manifest)
                self.state.leases.acquire(manifest.run_id, holder)
                self.publish(manifest)
            except BaseException:
                self.undo_start(manifest)
                raise
        finally:
            remove_tree(staged.folder)
        return True

    def undo_start(self, manifest: Manifest) -> None:
        """Remove what there is of a run that could not be queued."""
        remove_tree(self.workdir.folder(manifest))
        with contextlib.suppress(Unavailable), RunState(self.settings, NO_RETRY) as state:
            state.forget(manifest.run_id, manifest.digest)

    def publish(self, manifest: Manifest) -> None:
        """Put the run into the queue; its state is SENT already, so no finished state is overwritten."""
        options = manifest.options
        path = self.workdir.worker_path(self.workdir.folder(manifest) / manifest.staged_input)
        arguments = {"input_file_path": path, **options.model_dump()}
        self.queue.publish(_TASKS[type(options)], arguments, manifest.run_id)
        self.state.mark_published(manifest.run_id)

    def requeue_unpublished(self, run_id: str) -> None:
        """Queue or forget a run whose web API was killed between reserving its id and queueing it."""
        if self.state.reserved_for(run_id) < KILLED_SECONDS:
            return
        _, manifest = self.workdir.find_run(run_id)
        if manifest:
            self.publish(manifest)
        else:
            self.state.forget(run_id, "")

    # -- leases and the end ------------------------------------------------------------------------------

    def acquire_lease(self, run_id: str, holder: str) -> bool:
        """Take a lease for the holder; that of a killed predecessor on this host ends.

        False where the run is not known any more.
        """
        leases = self.state.leases
        if not leases.acquire(run_id, holder):
            return False
        for other in leases.holders(run_id):
            if is_predecessor(other, holder):
                leases.release(run_id, other)
        return True

    def cancel(
        self, run_id: str, folder: Path | None, holder: str = "", state: RunState | None = None
    ) -> bool:
        """Cancel a run, take its message from the queue and remove its folder, if it has one.

        With a ``holder``: release that lease, and cancel only if no other lease stands; whether it did.
        """
        if not (state or self.state).cancel(run_id, holder):
            return False
        if folder:
            remove_tree(folder)
        self.queue.remove(run_id)
        return True


def _was_killed(result: object) -> bool:
    """Whether a run failed because its worker's process was killed, which says nothing of its work."""
    killed = ("WorkerLostError", "TimeLimitExceeded")
    return isinstance(result, dict) and result.get("exc_type") in killed
