"""What the endpoints do with runs: blocking work over the Celery transport, to be called in threads."""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Iterator
from pathlib import Path

from anyvar_step import sweep
from anyvar_step.broker.leases import DETACHED
from anyvar_step.broker.names import is_run_id
from anyvar_step.broker.status import run_status
from anyvar_step.errors import AccessRefused, FileTrouble, RunLost
from anyvar_step.files import remove_tree
from anyvar_step.models import Manifest, RunReport, RunStatus, State
from anyvar_step.settings import Settings
from anyvar_step.transport.celery import CeleryTransport
from anyvar_step.transport.rest import is_holder
from anyvar_step.workdir import Staged, WorkDir

_logger = logging.getLogger(__name__)

#: Seconds for which a result that was downloaded whole, or a failure that was told, can be asked for again.
GRACE = 300.0
#: Seconds that a request waits for a shared filesystem; the client asks again, so it need not be long.
LATENCY = 5.0


class Runs:
    """The runs that this deployment's board and work dir know; any number of threads may use it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[CeleryTransport] = queue.LifoQueue()
        self.workdir = WorkDir(
            settings.required_work_dir(),
            worker_root=settings.worker_work_dir,
            mode=settings.work_dir_mode,
            latency_wait=min(settings.latency_wait, LATENCY),
        )

    @contextlib.contextmanager
    def _transport(self) -> Iterator[CeleryTransport]:
        """A transport of one's own for a moment: its connection is not for two threads at once."""
        try:
            transport = self._idle.get_nowait()
        except queue.Empty:
            transport = CeleryTransport(self._settings, DETACHED)
        try:
            yield transport
        finally:
            self._idle.put(transport)

    def close(self) -> None:
        """Give back connections."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    # -- begin -------------------------------------------------------------------------------------------

    def free(self, run_id: str) -> bool:
        """Whether a new run may have that id; a run whose end has been told gives it up, as with AnyVar.

        A cancelled run does not: workers refuse its id for long (PITFALLS.md 1).
        """
        with self._transport() as transport:
            if transport.board.stop_asked(run_id):
                return False
            return transport.status(run_id).missing or transport.board.handouts.was_told(run_id)

    def start(self, manifest: Manifest, staged: Staged, holder: str) -> bool:
        """Queue the staged upload; False where somebody else has taken the run id meanwhile.

        An earlier run of that id, whose end has been told, is dropped only now: not for an upload that fails.
        """
        with self._transport() as transport:
            if transport.board.handouts.was_told(manifest.run_id):
                self._drop(transport, transport.status(manifest.run_id))
            if not transport.start(manifest, staged):
                return False
            if is_holder(holder) and holder != DETACHED:
                transport.board.leases.take(manifest.run_id, holder)
                transport.board.leases.end(manifest.run_id, DETACHED)
            return True

    # -- look --------------------------------------------------------------------------------------------

    def look(self, run_id: str, holder: str = "") -> RunStatus:
        """The run's status; a live run's state does not expire while somebody asks for it."""
        if not is_run_id(run_id):
            return RunStatus(run_id=run_id, status_code=404, status="NOT_FOUND", message="Run not found")
        with self._transport() as transport:
            status = transport.status(run_id)
            if status.missing and transport.board.stop_asked(run_id):
                cancelled = {"status": State.REVOKED, "result": None}
                return run_status(run_id, cancelled, self._settings.failure_status_code)
            if status.status == State.SENT:
                transport.make_good(run_id)
            if status.running:
                transport.board.refresh(run_id)
            if is_holder(holder) and not status.missing:
                transport.want(run_id, holder)
            return status

    def digest(self, run_id: str) -> str:
        """The digest of the run's content, empty where nobody can say."""
        folder = self.workdir.find(run_id) if is_run_id(run_id) else None
        manifest = self.workdir.manifest(folder) if folder else None
        return manifest.digest if manifest else ""

    def result(self, status: RunStatus) -> Path:
        """The finished run's file, whole. Raises RunLost where it is gone, FileTrouble until it is here."""
        path = self.workdir.as_step(status.output or "")
        report = self.report(status)
        try:
            self.workdir.await_file(path, report.output_size if report else None)
        except FileTrouble:
            if path.parent.exists():
                raise
            raise RunLost(f"the result of run {status.run_id} is gone", "Submit it again") from None
        return path

    def report(self, status: RunStatus) -> RunReport | None:
        """Our worker's report on the run; AnyVar's workers write none."""
        folder, manifest = self.workdir.run(status.run_id)
        if folder is None or manifest is None:
            return None
        return self.workdir.report(folder, manifest)

    # -- end ---------------------------------------------------------------------------------------------

    def sent(self, run_id: str, start: int, end: int, size: int) -> None:
        """Note what a client was sent; once that is all, the result stays for GRACE seconds more."""
        with self._transport() as transport:
            if transport.board.handouts.note_sent(run_id, start, end) >= size:
                transport.board.handouts.tell(run_id)

    def told_failure(self, run_id: str) -> None:
        """A client knows that the run failed: its files can go; its answer stays for GRACE seconds more."""
        folder = self.workdir.find(run_id)
        if folder:
            remove_tree(folder)
        with self._transport() as transport:
            transport.board.handouts.tell(run_id)

    def end(self, run_id: str, holder: str = "") -> bool:
        """Cancel the run, or drop it where it has ended, unless others hold it; False = not known."""
        if not is_run_id(run_id):
            return False
        with self._transport() as transport:
            status = transport.status(run_id)
            if status.missing:
                return False
            if is_holder(holder) and not transport.board.leases.end(run_id, holder):
                return True
            if status.running:
                transport.stop(run_id, self.workdir.find(run_id))
            else:
                self._drop(transport, status)
            return True

    def _drop(self, transport: CeleryTransport, status: RunStatus) -> None:
        """Forget the run and remove its files; those of AnyVar's own web API have no folder of their own.

        A run in another work dir belongs to another deployment on the same Redis, which looks after it.
        """
        folder, manifest = self.workdir.run(status.run_id)
        output = None
        if folder is None and status.output:
            try:
                output = self.workdir.as_step(status.output)
            except (AccessRefused, FileTrouble):
                return
        transport.board.forget(status.run_id, manifest.digest if manifest else "")
        if folder:
            remove_tree(folder)
        elif output:
            output.unlink(missing_ok=True)

    # -- what is left over -------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Drop what has been handed out, and, now and then, what dead runs left and results that expired."""
        with self._transport() as transport:
            for run_id in transport.board.handouts.told_before(GRACE):
                self._drop(transport, transport.status(run_id))
        sweep.take_turn(self._settings, self.workdir)

    def capacity(self) -> int:
        """How many worker processes serve the queue."""
        with self._transport() as transport:
            return transport.capacity() if transport.served() else 0
