"""The Celery transport: the work dir carries the files, the broker the message, the backend the state."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

from anyvar_step.client.base import Fetched
from anyvar_step.errors import ConfigurationError, FileTrouble, RunLost, Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import (
    AnnotateOptions,
    IngestOptions,
    Manifest,
    RunReport,
    RunRequest,
    RunStatus,
    State,
)
from anyvar_step.runs.connection import NO_RETRY
from anyvar_step.runs.keys import ANNOTATE_VCF, INGEST_ANNOTATED_VCF, run_id_for
from anyvar_step.runs.manifest import content_digest, manifest_of, with_run_id
from anyvar_step.runs.queue import Queue
from anyvar_step.runs.registry import WorkerRegistry
from anyvar_step.runs.state import RunState, run_status
from anyvar_step.runs.work_dir import CONFLICTS_SUFFIX, OUTPUT_SUFFIX, Staged, WorkDir, index_of
from anyvar_step.settings import Settings
from anyvar_step.vcf.reader import check_input

#: Hashes of the output's path and of the host, then the process's number and the tick at which it began.
_NAME = re.compile(r"([0-9a-f]{16})([0-9a-f]{16})p([0-9]{1,9})s([0-9]{1,18})")


def holder_for(output: Path) -> str:
    """The name of this process as the one that writes ``output``: letters and digits, as a header has."""
    began = _began(os.getpid())
    name = f"{_hash(str(output.absolute()))}{_host()}p{os.getpid()}s{began}"
    return name if began else secrets.token_hex(8)


def is_predecessor(other: str, holder: str) -> bool:
    """Whether ``other`` wrote the path of ``holder``, from the same host, and is no more.

    It was killed, or left its run for the next call. What ended on another host cannot be seen from here.
    """
    ours, theirs = _NAME.fullmatch(holder), _NAME.fullmatch(other)
    if ours is None or theirs is None or ours.group(1, 2) != theirs.group(1, 2):
        return False
    return not _lives(int(theirs[3]), theirs[4])


def _lives(pid: int, began: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, whose /proc may be hidden
        return True
    return _began(pid) == began


def _began(pid: int) -> str:
    """When that process began, in ticks of the kernel; empty where it is dead or there is no /proc."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


@cache
def _host() -> str:
    """The host since it booted, and the namespace of its process numbers: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return _hash(f"{boot} {Path('/proc/self/ns/pid').readlink()}")
    except OSError:
        return secrets.token_hex(8)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


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
        self.state = RunState(settings)
        self.queue = Queue(settings)
        self.workers = WorkerRegistry(settings)
        self._held: dict[str, Manifest] = {}

    def close(self) -> None:
        """Give back connections."""
        self.state.close()

    def status(self, run_id: str) -> RunStatus:
        """The run's status; of a run whose worker was killed, its files tell whether it has ended well."""
        meta = self.state.current_meta(run_id)
        if meta and meta["status"] == State.FAILURE and _was_killed(meta["result"]):
            meta = self._finished(run_id) or meta
        return run_status(run_id, meta, self._settings.failure_status_code)

    def _finished(self, run_id: str) -> dict[str, str] | None:
        """What the worker would have said had it not died between its last file and its last word."""
        folder, manifest = self.workdir.find_run(run_id)
        if folder is None or manifest is None or (folder / manifest.staged_input).exists():
            return None
        ingested = isinstance(manifest.options, IngestOptions)
        output = folder / (manifest.staged_input + (CONFLICTS_SUFFIX if ingested else OUTPUT_SUFFIX))
        return (
            {"status": State.SUCCESS, "result": self.workdir.worker_path(output)} if output.exists() else None
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
        """Whether a worker serves the queue."""
        return self.workers.served()

    def queued(self) -> int | None:
        """The number of runs in the queue; cancelled ones are not among them."""
        return self.queue.length()

    def unknown(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that no worker has received, once the queue is empty."""
        return self.workers.unreceived(run_ids)

    def capacity(self) -> int:
        """The number of worker processes that serve the queue."""
        return self.workers.capacity()

    def find(self, run_id: str) -> Manifest:
        """The ticket of the run in the work dir."""
        _, ticket = self.workdir.find_run(run_id)
        if ticket is None:
            raise RunLost(
                f"no run {run_id} in the work dir {self.workdir.root}",
                "It has been collected or cancelled, or it ran in another work dir",
            )
        return ticket

    def stop(self, run_id: str, folder: Path | None, holder: str = "", state: RunState | None = None) -> bool:
        """Cancel a run, take its message from the queue and remove its folder, if it has one.

        With a ``holder``: release that lease, and cancel only if no other lease stands; whether it did.
        """
        if not (state or self.state).cancel(run_id, holder):
            return False
        if folder:
            remove_tree(folder)
        self.queue.remove(run_id)
        return True

    def _folder(self, ticket: Manifest) -> Path:
        return self.workdir.folder(ticket)


def _was_killed(result: object) -> bool:
    """Whether a run failed because its worker's process was killed, which says nothing of its work."""
    killed = ("WorkerLostError", "TimeLimitExceeded")
    return isinstance(result, dict) and result.get("exc_type") in killed


#: Seconds that another step may take between reserving a run's id and queueing it.
PUBLISH_SECONDS = 5.0
#: Seconds after which a web API that has reserved an id and not queued its run was killed on the way.
KILLED_SECONDS = 30.0
#: The task that takes these options.
_TASKS = {AnnotateOptions: ANNOTATE_VCF, IngestOptions: INGEST_ANNOTATED_VCF}


class KnownRuns(Deployment):
    """Steps with the same input share a run: each holds a lease on it, and the last one removes it."""

    def _current(self, digest: str) -> Manifest | None:
        """The ticket of the live run of that content, queued again if its step died before it could."""
        run_id = self.state.current_run(digest)
        return self._live(run_id) if run_id else None

    def _given(self, run_id: str, digest: str) -> Manifest | None:
        """The live run of the caller's id; None when the id is free. An id names one content for good."""
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (reserved := self.state.reserved_for(run_id)) and time.monotonic() < deadline:
            time.sleep(0.05)  # another step is about to queue it
        folder, manifest = self.workdir.find_run(run_id)
        status = run_status(run_id, self.state.meta(run_id), self._settings.failure_status_code)
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
        if running is None and (folder or reserved):
            self.state.forget(run_id, digest)
            if folder:
                remove_tree(folder)
        return running

    def _live(self, run_id: str) -> Manifest | None:
        _, manifest = self.workdir.find_run(run_id)
        if manifest is None:
            return None
        deadline = time.monotonic() + PUBLISH_SECONDS
        while (status := self.status(run_id)).status == State.SENT and not self.state.is_published(run_id):
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
        if not self.acquire_lease(running.run_id, self._holder):
            del self._held[running.run_id]
            raise RunLost("the run of another step with the same input has just ended", "Run it again")
        return running

    def acquire_lease(self, run_id: str, holder: str) -> bool:
        """Take a lease for the holder, also for one behind the web API; a predecessor's on this host ends.

        False where the run is not known any more.
        """
        leases = self.state.leases
        if not leases.acquire(run_id, holder):
            return False
        for other in leases.holders(run_id):
            if is_predecessor(other, holder):
                leases.release(run_id, other)
        return True

    def _new_id(self, digest: str) -> str:
        """An id that no run of that content has had; a Redis that lost all counts from 1 again."""
        while True:
            run_id = run_id_for(digest, self.state.next_attempt(digest))
            if self.workdir.find(run_id) is None:
                return run_id

    def requeue_unpublished(self, run_id: str) -> None:
        """Queue or forget a run whose web API was killed between reserving its id and queueing it."""
        if self.state.reserved_for(run_id) < KILLED_SECONDS:
            return
        _, manifest = self.workdir.find_run(run_id)
        if manifest:
            self._publish(manifest)
        else:
            self.state.forget(run_id, "")

    def _publish(self, manifest: Manifest) -> None:
        """Put the run into the queue; its state is SENT already, so no finished state is overwritten."""
        options = manifest.options
        path = self.workdir.worker_path(self._folder(manifest) / manifest.staged_input)
        arguments = {"input_file_path": path, **options.model_dump()}
        self.queue.publish(_TASKS[type(options)], arguments, manifest.run_id)
        self.state.mark_published(manifest.run_id)


_logger = logging.getLogger(__name__)


class CeleryTransport(KnownRuns):
    """Runs on the workers behind a Celery broker, through a work dir that both sides see."""

    # -- submit ------------------------------------------------------------------------------------------

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Stage the input, then queue its run, or find the run of that content that is at work."""
        self.queue.ping()
        gzipped = source.peek(2)[:2] == b"\x1f\x8b"  # type: ignore[attr-defined]
        staged = self.workdir.stage(source, "input.vcf.gz" if gzipped else "input.vcf")
        try:
            check_input(staged.folder / staged.input_name, name)
            digest = content_digest(staged.sha256, request)
            running = self._given(request.run_id, digest) if request.run_id else self._current(digest)
            if running is None:
                manifest = with_run_id(
                    manifest_of(staged, name, request, digest), request.run_id or self._new_id(digest)
                )
                return self._start(manifest, staged, chosen=request.run_id is not None)
        except BaseException:
            remove_tree(staged.folder)
            raise
        remove_tree(staged.folder)
        return self._shared(running), True

    def _start(self, manifest: Manifest, staged: Staged, *, chosen: bool) -> tuple[Manifest, bool]:
        """Reserve the id, then queue the run; where another step was quicker, its run is ours too."""
        run_id, digest = manifest.run_id, manifest.digest
        before = self.state.current_run(digest)
        if not self.state.create(run_id):
            remove_tree(staged.folder)
            return self._shared(self._given(run_id, digest)), True
        self._held[run_id] = manifest
        try:
            folder = self.workdir.commit(staged, manifest)
            self.state.leases.acquire(run_id, self._holder)
            if not chosen and self.state.replace_current(digest, run_id, before) != run_id:
                self.state.forget(run_id, digest)
                remove_tree(folder)
                del self._held[run_id]
                return self._shared(self._current(digest)), True
            self._publish(manifest)
        except BaseException:
            self._unstart(manifest)
            raise
        return manifest, False

    def start(self, manifest: Manifest, staged: Staged) -> bool:
        """Queue a staged input under the manifest's run id; False where that id is in use.

        For the web API, whose callers choose run ids. Raises Unavailable, FileTrouble, AccessRefused; the
        staged folder is gone then, as with False.
        """
        try:
            if not self.state.create(manifest.run_id):
                return False
            try:
                self.workdir.commit(staged, manifest)
                self.state.leases.acquire(manifest.run_id, self._holder)
                self._publish(manifest)
            except BaseException:
                self._unstart(manifest)
                raise
        finally:
            remove_tree(staged.folder)
        return True

    def _unstart(self, manifest: Manifest) -> None:
        remove_tree(self._folder(manifest))
        with contextlib.suppress(Unavailable), RunState(self._settings, NO_RETRY) as state:
            state.forget(manifest.run_id, manifest.digest)
        self._held.pop(manifest.run_id, None)

    def requeue(self, ticket: Manifest) -> None:
        """Put the run into the queue once more; a worker that has it already drops the second one."""
        self._publish(ticket)

    # -- status, fetch, forget, cancel -------------------------------------------------------------------

    def keep(self, ticket: Manifest) -> None:
        """Keep the run's state and our lease from expiring."""
        self.state.leases.acquire(ticket.run_id, self._holder)
        self.state.extend_expiry(ticket.run_id)

    @contextlib.contextmanager
    def fetch(self, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
        """The output in the work dir, once this host sees it whole; of an ingestion, its conflict log.

        AnyVar's own worker writes no such log without validation, and then there is no file.
        """
        report = self._report(ticket)
        ingested = isinstance(ticket.options, IngestOptions)
        log = self._folder(ticket) / (ticket.staged_input + CONFLICTS_SUFFIX)
        path = log if ingested else self.workdir.local_path(status.output or "")

        def gone() -> bool:
            return self.state.meta(ticket.run_id) is None

        if not report and (status.output or not ingested):
            try:
                self.workdir.await_file(path, gone=gone)
            except FileTrouble:
                if self._report(ticket) is None:  # seen late: then it says below that the output is spoiled
                    raise
            report = self._report(ticket)  # published before the output: shown by now, where it is ours
        if report:
            self.workdir.await_file(path, report.output_size, gone=gone)
        yield Fetched(path, report, index_of(path, report.output_sha256) if report else None)

    def _report(self, ticket: Manifest) -> RunReport | None:
        return self.workdir.report(self._folder(ticket), ticket)

    def again(self, ticket: Manifest) -> Manifest | None:
        """A new attempt at a lost run, from its staged input as it lies; None where that is gone.

        The lost run is cancelled, should its worker only be slow. An id that the caller chose
        names one run: it is not attempted again. Where another step that shares the run was quicker, its
        attempt is ours, too. And where the input is gone since the worker died with its work done, the run is
        its own next attempt, once a shared filesystem shows the output.
        """
        run_id, digest = ticket.run_id, ticket.digest
        if not run_id.startswith(f"{digest[:32]}-"):
            return None
        following = with_run_id(ticket, self._new_id(digest))  # while the lost one's folder has its name
        staged = self.workdir.restage(self._folder(ticket), ticket)
        if staged is None:
            other = self._current(digest)
            if other and other.run_id != run_id:
                return self._shared(other)
            return ticket if self.finished_late(run_id) else None
        self.state.mark_lost(run_id, f"attempted again as run {following.run_id}")
        self.state.cancel(run_id)  # stops its worker, should that only be slow
        return self._start(following, staged, chosen=False)[0]

    def forget(self, ticket: Manifest) -> None:
        """Release our lease; delete result and folder of the run where no other lease stands."""
        if self.state.forget(ticket.run_id, ticket.digest, self._holder):
            remove_tree(self._folder(ticket))
        self._held.pop(ticket.run_id, None)

    def drop(self, ticket: Manifest) -> None:
        """Delete result and folder of the run, whatever leases stand: its output is of no use."""
        self.state.forget(ticket.run_id, ticket.digest)
        remove_tree(self._folder(ticket))
        self._held.pop(ticket.run_id, None)

    def abandon(self, ticket: Manifest) -> bool:
        """Release our lease; cancel the run where no other lease stands, and tell whether that was so."""
        self._held.pop(ticket.run_id, None)
        with RunState(self._settings, NO_RETRY) as state:
            return self.stop(ticket.run_id, self._folder(ticket), self._holder, state)

    def held(self) -> list[Manifest]:
        """The runs that this transport started or joined and has not ended since."""
        return list(self._held.values())

    def cancel(self, ticket: Manifest) -> None:
        """Cancel the run, whatever leases stand.

        A worker of ours stops at the cancel flag. AnyVar's own finds the input gone and stores a failure.
        """
        self.stop(ticket.run_id, self._folder(ticket))
