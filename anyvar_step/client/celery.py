"""The Celery transport: the work dir carries the files, the broker the message, the backend the state."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO

from anyvar_step.client.transport import Fetched, Transport, unusable_run_id
from anyvar_step.errors import FileTrouble, Interrupted, RunLost
from anyvar_step.files import remove_tree
from anyvar_step.models import IngestOptions, Manifest, RunReport, RunRequest, RunStatus, State
from anyvar_step.runs.connection import BRIEF_RETRY, NO_RETRY
from anyvar_step.runs.manifest import content_digest, manifest_of, with_run_id
from anyvar_step.runs.repository import PUBLISH_SECONDS, RunRepository
from anyvar_step.runs.state import RunState, run_status
from anyvar_step.runs.work_dir import CONFLICTS_SUFFIX, Staged, index_of
from anyvar_step.runs.worker_registry import WorkerRegistry
from anyvar_step.settings import Settings
from anyvar_step.vcf.reader import check_input


class CeleryTransport(Transport):
    """Runs on the workers behind a Celery broker, through a work dir that both sides see.

    Steps with the same input share a run: each holds a lease on it, and the last one removes it. ``holder``
    names this step in its leases.
    """

    def __init__(self, settings: Settings, holder: str | None = None, outage: float | None = None) -> None:
        self._holder = holder or secrets.token_hex(8)
        self._outage = BRIEF_RETRY if outage is None else outage
        self.runs = RunRepository(settings)
        self.workers = WorkerRegistry(settings)
        self.held = {}

    def close(self) -> None:
        """Give back connections."""
        self.runs.close()

    # -- submit ------------------------------------------------------------------------------------------

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Stage the input, then queue its run, or find the run of that content that is at work.

        A Redis that is away is waited for, as long as for an outage while the step waits.
        """
        with self.runs.bridging(self._outage):
            self.runs.queue.ping()
            gzipped = source.peek(2)[:2] == b"\x1f\x8b"  # type: ignore[attr-defined]
            staged = self.runs.workdir.stage(source, "input.vcf.gz" if gzipped else "input.vcf")
            try:
                check_input(staged.folder / staged.input_name, name)
                digest = content_digest(staged.sha256, request)
                chosen = request.run_id
                running = self._chosen(chosen, digest) if chosen else self.runs.current(digest)
                if running:
                    return self._join(running), True
                run_id = chosen or self.runs.new_id(digest)
                manifest = manifest_of(staged, name, request, digest, run_id)
                return self._start(manifest, staged, chosen=chosen is not None)
            finally:
                remove_tree(staged.folder)  # the run's own has another name by now

    def _chosen(self, run_id: str, digest: str) -> Manifest | None:
        """The live run of the caller's id; None when the id is free. An id names one content for good."""
        state, workdir = self.runs.state, self.runs.workdir
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (reserved := state.reserved_for(run_id)) and time.monotonic() < deadline:
            time.sleep(0.05)  # another step is about to queue it
        settings = self.runs.settings
        deadline = time.monotonic() + min(settings.latency_wait, PUBLISH_SECONDS)
        while True:
            folder, manifest = workdir.find_run(run_id)
            status = run_status(run_id, state.meta(run_id), settings.failure_status_code)
            taken = manifest is None and status.status_code in (200, 202)
            if not taken or time.monotonic() > deadline:
                break
            time.sleep(0.1)  # a shared file system shows the folder late, or the run ends meanwhile
        if taken or (manifest and manifest.digest != digest):
            raise unusable_run_id(run_id, "is in use by another input")
        if status.status == State.REVOKED:
            raise unusable_run_id(run_id, "was cancelled, and workers refuse a cancelled id")
        running = self.runs.live(run_id)
        if running is None and (folder or reserved):
            state.forget(run_id, digest)
            if folder:
                remove_tree(folder)
        return running

    def _start(self, manifest: Manifest, staged: Staged, *, chosen: bool) -> tuple[Manifest, bool]:
        """Reserve the id, then queue the run; where another step was quicker, its run is ours too."""
        state = self.runs.state
        run_id, digest = manifest.run_id, manifest.digest
        before = state.current_run(digest)
        if not state.create(run_id):
            remove_tree(staged.folder)
            return self._join(self._chosen(run_id, digest)), True
        self.held[run_id] = manifest
        try:
            folder = self.runs.workdir.commit(staged, manifest)
            state.leases.acquire(run_id, self._holder)
            if not chosen and state.replace_current(digest, run_id, before) != run_id:
                state.forget(run_id, digest)
                remove_tree(folder)
                del self.held[run_id]
                return self._join(self.runs.current(digest)), True
            self.runs.publish(manifest)
        except Interrupted:  # a worker may have the run by now: it is held, and will be cancelled
            raise
        except BaseException:
            self.runs.undo_start(manifest)
            self.held.pop(run_id, None)
            raise
        return manifest, False

    def _join(self, running: Manifest | None) -> Manifest:
        """Take a lease on a run that another step has begun; a predecessor's ends."""
        if running is not None:
            self.held[running.run_id] = running
            if self.runs.acquire_lease(running.run_id, self._holder):
                return running
            del self.held[running.run_id]
        raise RunLost("the run of another step with the same input has just ended", "Run it again")

    def resubmit(self, ticket: Manifest) -> Manifest | None:
        """A new attempt at a lost run, from its staged input as it lies; None where that is gone.

        The lost run is cancelled, should its worker only be slow. An id that the caller chose names one run:
        it is not attempted again. Where another step that shares the run was quicker, its attempt is ours,
        too. And where the input is gone since the worker died with its work done, the run is its own next
        attempt, once a shared filesystem shows the output.
        """
        run_id, digest, runs = ticket.run_id, ticket.digest, self.runs
        if not run_id.startswith(f"{digest[:32]}-"):
            return None
        following = with_run_id(ticket, runs.new_id(digest))  # while the lost one's folder has its name
        staged = runs.workdir.restage(runs.workdir.folder(ticket), ticket)
        if staged is None:
            other = runs.current(digest)
            if other and other.run_id != run_id:
                return self._join(other)
            return ticket if runs.finished_late(run_id) else None
        runs.state.mark_lost(run_id, f"attempted again as run {following.run_id}")
        runs.state.cancel(run_id)  # stops its worker, should that only be slow
        return self._start(following, staged, chosen=False)[0]

    # -- wait --------------------------------------------------------------------------------------------

    def status(self, run_id: str) -> RunStatus:
        """The run's status; of a run whose worker was killed, its files tell whether it has ended well."""
        return self.runs.status(run_id)

    def find(self, run_id: str) -> Manifest:
        """The ticket of the run in the work dir."""
        return self.runs.find(run_id)

    def renew_lease(self, ticket: Manifest) -> None:
        """Keep our lease and the run's state from expiring."""
        self.runs.state.leases.acquire(ticket.run_id, self._holder)
        self.runs.state.extend_expiry(ticket.run_id)

    def queue_length(self) -> int | None:
        """The number of runs in the queue; cancelled ones are not among them."""
        return self.runs.queue.length()

    def worker_processes(self) -> int:
        """The number of worker processes that serve the queue."""
        return self.workers.capacity()

    def only_anyvars_workers(self) -> bool:
        """Whether workers serve the queue and all of them are AnyVar's own."""
        return self.workers.only_anyvars()

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that no worker has received, once the queue is empty."""
        return self.workers.unreceived(run_ids)

    def requeue(self, ticket: Manifest) -> None:
        """Put the run into the queue once more; a worker that has it already drops the second one."""
        self.runs.publish(ticket)

    # -- fetch and end -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fetch(self, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
        """The output in the work dir, once this host sees it whole; of an ingestion, its conflict log.

        AnyVar's own worker writes no such log without validation, and then there is no file.
        """
        workdir, report = self.runs.workdir, self._report(ticket)
        ingested = isinstance(ticket.options, IngestOptions)
        log = workdir.folder(ticket) / (ticket.staged_input + CONFLICTS_SUFFIX)
        path = log if ingested else workdir.local_path(status.output or "")

        def gone() -> bool:
            return self.runs.state.meta(ticket.run_id) is None

        if not report and (status.output or not ingested):
            try:
                workdir.await_file(path, gone=gone)
            except FileTrouble:
                if self._report(ticket) is None:  # seen late: then the output is found to be corrupt below
                    raise
            report = self._report(ticket)  # published before the output: shown by now, where it is ours
        if report:
            workdir.await_file(path, report.output_size, gone=gone)
        yield Fetched(path, report, index_of(path, report.output_sha256) if report else None)

    def _report(self, ticket: Manifest) -> RunReport | None:
        return self.runs.workdir.report(self.runs.workdir.folder(ticket), ticket)

    def forget(self, ticket: Manifest, *, shared: bool = True) -> None:
        """Release our lease; delete result and folder of the ended run where no other lease stands.

        Not ``shared``: whatever leases stand.
        """
        holder = self._holder if shared else ""
        if self.runs.state.forget(ticket.run_id, ticket.digest, holder):
            remove_tree(self.runs.workdir.folder(ticket))
        self.held.pop(ticket.run_id, None)

    def cancel(self, ticket: Manifest, *, shared: bool = True) -> bool:
        """Release our lease; cancel the run where no other lease stands, and tell whether that was so.

        Not ``shared``: whatever leases stand. A worker of ours stops at the cancel flag. AnyVar's own finds
        the input gone and stores a failure. Redis is tried once only: a signal leaves little time.
        """
        self.held.pop(ticket.run_id, None)
        folder, holder = self.runs.workdir.folder(ticket), self._holder if shared else ""
        with RunState(self.runs.settings, NO_RETRY) as state:
            return self.runs.cancel(ticket.run_id, folder, holder, state)
