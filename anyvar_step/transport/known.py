"""Runs that exist already: found by their content or by the caller's id, and joined where they are alive."""

from __future__ import annotations

import time

from anyvar_step.broker.names import ANNOTATE_VCF, INGEST_ANNOTATED_VCF, run_id_for
from anyvar_step.broker.status import run_status
from anyvar_step.errors import ConfigurationError, RunLost
from anyvar_step.files import remove_tree
from anyvar_step.models import AnnotateOptions, IngestOptions, Manifest, State
from anyvar_step.transport.deployment import Deployment
from anyvar_step.transport.holders import is_predecessor

#: Seconds that another step may take between announcing a run and queueing it.
PUBLISH_SECONDS = 5.0
#: Seconds after which a web API that announced a run and has not queued it was killed on the way.
KILLED_SECONDS = 30.0
#: The task that takes these options.
_TASKS = {AnnotateOptions: ANNOTATE_VCF, IngestOptions: INGEST_ANNOTATED_VCF}


class KnownRuns(Deployment):
    """Steps with the same input share a run: each holds a lease on it, and the last one removes it."""

    def _current(self, digest: str) -> Manifest | None:
        """The ticket of the live run of that content, queued again if its step died before it could."""
        run_id = self.board.current(digest)
        return self._live(run_id) if run_id else None

    def _given(self, run_id: str, digest: str) -> Manifest | None:
        """The live run of the caller's id; None when the id is free. An id names one content for good."""
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (announced := self.board.is_announced(run_id)) and time.monotonic() < deadline:
            time.sleep(0.05)  # another step is about to queue it
        folder, manifest = self.workdir.run(run_id)
        status = run_status(run_id, self.board.meta(run_id), self._settings.failure_status_code)
        taken = manifest is None and status.status_code in (200, 202)
        if taken or (manifest and manifest.digest != digest):
            raise ConfigurationError(
                f"run id {run_id} is in use by another input", "Choose another --run-id, or leave it out"
            )
        if status.status == State.REVOKED:
            raise ConfigurationError(
                f"run id {run_id} was cancelled, and workers refuse a cancelled id",
                "Choose another --run-id, or leave it out",
            )
        running = self._live(run_id)
        if running is None and (folder or announced):
            self.board.forget(run_id, digest)
            if folder:
                remove_tree(folder)
        return running

    def _live(self, run_id: str) -> Manifest | None:
        _, manifest = self.workdir.run(run_id)
        if manifest is None:
            return None
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (status := self.status(run_id)).status == State.SENT and not self.board.is_published(run_id):
            if time.monotonic() > deadline:
                self._publish(manifest)
                break
            time.sleep(0.05)
        return manifest if status.running or status.status_code == 200 else None

    def _shared(self, running: Manifest | None) -> Manifest:
        """Take a lease on a run that another step has begun; a predecessor's ends."""
        if running is None:
            raise RunLost("the run of another step with the same input has just ended", "Run it again")
        self._held[running.run_id] = running
        self.want(running.run_id, self._holder)
        return running

    def want(self, run_id: str, holder: str) -> None:
        """Take a lease for the holder, also for one behind the web API; a predecessor's on this host ends."""
        leases = self.board.leases
        leases.take(run_id, holder)
        for other in leases.holders(run_id):
            if is_predecessor(other, holder):
                leases.end(run_id, other)

    def _new_id(self, digest: str) -> str:
        """An id that no run of that content has had; a Redis that lost all counts from 1 again."""
        while True:
            run_id = run_id_for(digest, self.board.next_attempt(digest))
            if self.workdir.find(run_id) is None:
                return run_id

    def make_good(self, run_id: str) -> None:
        """Queue or forget a run whose web API was killed between announcing and queueing it."""
        if self.board.announced_for(run_id) < KILLED_SECONDS:
            return
        _, manifest = self.workdir.run(run_id)
        if manifest:
            self._publish(manifest)
        else:
            self.board.forget(run_id, "")

    def _publish(self, manifest: Manifest) -> None:
        """Put the run into the queue; SENT stands on the board already, so no finished state is lost."""
        options = manifest.options
        path = self.workdir.as_worker(self._folder(manifest) / manifest.staged_input)
        arguments = {"input_file_path": path, **options.model_dump()}
        self.queue.publish(_TASKS[type(options)], arguments, manifest.run_id)
        self.board.mark_published(manifest.run_id)
