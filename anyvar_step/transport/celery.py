"""The Celery transport: the work dir carries the files, the broker the task, the board the state."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import BinaryIO

from anyvar_step.broker.board import Board
from anyvar_step.broker.connection import HASTY
from anyvar_step.errors import FileTrouble, Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import (
    IngestOptions,
    Manifest,
    RunReport,
    RunRequest,
    RunStatus,
    State,
)
from anyvar_step.transport import Fetched
from anyvar_step.transport.known import KnownRuns
from anyvar_step.transport.ticket import content_digest, manifest_of, named
from anyvar_step.vcf.check import check_input
from anyvar_step.workdir import CONFLICTS_SUFFIX, Staged, index_of

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
                manifest = named(
                    manifest_of(staged, name, request, digest), request.run_id or self._new_id(digest)
                )
                return self._start(manifest, staged, chosen=request.run_id is not None)
        except BaseException:
            remove_tree(staged.folder)
            raise
        remove_tree(staged.folder)
        return self._shared(running), True

    def _start(self, manifest: Manifest, staged: Staged, *, chosen: bool) -> tuple[Manifest, bool]:
        """Announce the run, then queue it; where another step was quicker, its run is ours too."""
        run_id, digest = manifest.run_id, manifest.digest
        before = self.board.current(digest)
        if not self.board.announce(run_id):
            remove_tree(staged.folder)
            return self._shared(self._given(run_id, digest)), True
        self._held[run_id] = manifest
        try:
            folder = self.workdir.commit(staged, manifest)
            self.board.put(run_id, State.SENT)
            self.board.leases.take(run_id, self._holder)
            if not chosen and self.board.make_current(digest, run_id, before) != run_id:
                self.board.forget(run_id, digest)
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
            if not self.board.begin(manifest.run_id):
                return False
            try:
                self.workdir.commit(staged, manifest)
                self.board.leases.take(manifest.run_id, self._holder)
                self._publish(manifest)
            except BaseException:
                self._unstart(manifest)
                raise
        finally:
            remove_tree(staged.folder)
        return True

    def _unstart(self, manifest: Manifest) -> None:
        remove_tree(self._folder(manifest))
        with contextlib.suppress(Unavailable), Board(self._settings, HASTY) as board:
            board.forget(manifest.run_id, manifest.digest)
        self._held.pop(manifest.run_id, None)

    def requeue(self, ticket: Manifest) -> None:
        """Put the run into the queue once more; a worker that has it already drops the second one."""
        self._publish(ticket)

    # -- status, fetch, forget, cancel -------------------------------------------------------------------

    def keep(self, ticket: Manifest) -> None:
        """Keep the run's state and our lease from expiring."""
        self.board.leases.take(ticket.run_id, self._holder)
        self.board.refresh(ticket.run_id)

    @contextlib.contextmanager
    def fetch(self, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
        """The output in the work dir, once this host sees it whole; of an ingestion, its conflict log.

        AnyVar's own worker writes no such log without validation, and then there is no file.
        """
        report = self._report(ticket)
        ingested = isinstance(ticket.options, IngestOptions)
        log = self._folder(ticket) / (ticket.staged_input + CONFLICTS_SUFFIX)
        path = log if ingested else self.workdir.as_step(status.output or "")

        def gone() -> bool:
            return self.board.meta(ticket.run_id) is None

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

        The lost run is told to stop, should its worker only have been slow. An id that the caller chose
        names one run: it is not attempted again. Where another step that shares the run was quicker, its
        attempt is ours, too. And where the input is gone since the worker died with its work done, the run is
        its own next attempt, once a shared filesystem shows the output.
        """
        run_id, digest = ticket.run_id, ticket.digest
        if not run_id.startswith(f"{digest[:32]}-"):
            return None
        following = named(ticket, self._new_id(digest))  # while the lost one's folder has its name
        staged = self.workdir.restage(self._folder(ticket), ticket)
        if staged is None:
            other = self._current(digest)
            if other and other.run_id != run_id:
                return self._shared(other)
            return ticket if self.finished_late(run_id) else None
        self.board.ask_to_stop(run_id)
        self.board.put_lost(run_id, f"attempted again as run {following.run_id}")
        return self._start(following, staged, chosen=False)[0]

    def forget(self, ticket: Manifest) -> None:
        """Drop the result and the run's folder, unless another step still wants them."""
        if self.board.leases.end(ticket.run_id, self._holder):
            self.drop(ticket)
        self._held.pop(ticket.run_id, None)

    def drop(self, ticket: Manifest) -> None:
        """Drop the result and the run's folder, whoever wants them: they are of no use."""
        self.board.forget(ticket.run_id, ticket.digest)
        remove_tree(self._folder(ticket))
        self._held.pop(ticket.run_id, None)

    def abandon(self, ticket: Manifest) -> bool:
        """Cancel the run, unless another step still wants it; False where one does."""
        self._held.pop(ticket.run_id, None)
        with Board(self._settings, HASTY) as board:
            last = board.leases.end(ticket.run_id, self._holder)
            if last:
                self.stop(ticket.run_id, self._folder(ticket), board)
        return last

    def held(self) -> list[Manifest]:
        """The runs that this transport started or joined, and neither forgot nor abandoned since."""
        return list(self._held.values())

    def cancel(self, ticket: Manifest) -> None:
        """Raise the cancel flag, revoke what is still queued, remove the folder.

        A worker of ours stops at the flag; AnyVar's own finds the input gone, or ends a run nobody reads.
        """
        self.stop(ticket.run_id, self._folder(ticket))
