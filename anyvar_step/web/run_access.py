"""Runs as the endpoints see them: blocking calls on queue, result backend and work dir, for threads."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio

from anyvar_step.errors import AccessRefused, FileTrouble, RunLost, StepError
from anyvar_step.files import remove_tree
from anyvar_step.models import Manifest, RunReport, RunStatus, State
from anyvar_step.runs import sweep
from anyvar_step.runs.connection import ping
from anyvar_step.runs.keys import REGISTER_VARIATIONS, is_run_id
from anyvar_step.runs.repository import RunRepository
from anyvar_step.runs.state import run_status
from anyvar_step.runs.step_lease import DETACHED
from anyvar_step.runs.work_dir import Staged, WorkDir
from anyvar_step.runs.worker_registry import WorkerRegistry
from anyvar_step.settings import Settings

#: Seconds for which a delivered result or failure can be requested again.
DELIVERED_KEPT = 300.0
#: Seconds that a request waits for a shared file system; the client asks again, so it need not be long.
LATENCY_WAIT = 5.0


def stored_run_id(run_id: str) -> str:
    """The id under which a client's run is stored: it names a folder, Redis keys and the Celery task.

    A safe id is stored as it is, any other as a hash: no text of a client becomes a path.
    """
    return run_id if is_run_id(run_id) else f"id-{hashlib.sha256(run_id.encode()).hexdigest()}"


class Runs:
    """The runs of one result backend and work dir; thread-safe.

    Run ids are the client's; ``holder`` names the holder of a lease, "" = the request names none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[RunRepository] = queue.LifoQueue()
        self.workdir = WorkDir.of(settings, LATENCY_WAIT)

    @contextlib.contextmanager
    def _repository(self) -> Iterator[RunRepository]:
        """A repository for this thread alone while the block lasts."""
        try:
            repository = self._idle.get_nowait()
        except queue.Empty:
            repository = RunRepository(self._settings)
        try:
            yield repository
        finally:
            self._idle.put(repository)

    def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    # -- submit ------------------------------------------------------------------------------------------

    def is_free(self, run_id: str) -> bool:
        """Whether a new run may have that id; as with AnyVar, a run gives it up once its end is delivered.

        A cancelled run does not: workers refuse its id for long (docs/contract.md#celery-messages).
        """
        run_id = stored_run_id(run_id)
        with self._repository() as repository:
            if repository.state.cancel_requested(run_id):
                return False
            return repository.status(run_id).missing or repository.state.deliveries.is_delivered(run_id)

    def start(self, manifest: Manifest, staged: Staged, holder: str) -> bool:
        """Queue the staged upload; False where another request has taken the run id meanwhile.

        A delivered run of that id is dropped only now, so that no failed upload removes it.
        """
        with self._repository() as repository:
            if repository.state.deliveries.is_delivered(manifest.run_id):
                self._drop(repository, repository.status(manifest.run_id))
            return repository.start(manifest, staged, holder or DETACHED)

    # -- ask ---------------------------------------------------------------------------------------------

    def status(self, run_id: str, holder: str = "") -> RunStatus:
        """The run's status; a live run's state does not expire while clients ask for it."""
        stored = stored_run_id(run_id)
        with self._repository() as repository:
            status = repository.status(stored)
            if status.missing and repository.state.cancel_requested(stored):
                cancelled = {"status": State.REVOKED, "result": None}
                return run_status(run_id, cancelled, self._settings.failure_status_code)
            if status.status == State.SENT:
                repository.requeue_unpublished(stored)
            if status.running:
                repository.state.extend_expiry(stored)
            if holder and not status.missing:
                repository.acquire_lease(stored, holder)
            return status.model_copy(update={"run_id": run_id})

    def content_digest(self, run_id: str) -> str:
        """The digest of the run's content, empty where it is not known."""
        _, manifest = self.workdir.find_run(stored_run_id(run_id))
        return manifest.digest if manifest else ""

    def result_path(self, status: RunStatus) -> Path:
        """The finished run's file, whole. Raises RunLost where it is gone, FileTrouble until it is here."""
        path = self.workdir.local_path(status.output or "")
        report = self.report(status.run_id)
        try:
            self.workdir.await_file(path, report.output_size if report else None)
        except FileTrouble:
            if path.parent.exists():
                raise
            raise RunLost(f"the result of run {status.run_id} is gone", "Submit it again") from None
        return path

    def report(self, run_id: str) -> RunReport | None:
        """Our worker's report on the run; AnyVar's workers write none."""
        folder, manifest = self.workdir.find_run(stored_run_id(run_id))
        return self.workdir.report(folder, manifest) if folder and manifest else None

    # -- end ---------------------------------------------------------------------------------------------

    def record_sent(self, run_id: str, start: int, end: int, size: int) -> None:
        """Record that bytes [start, end) of a result were sent; it is delivered once all were."""
        with self._repository() as repository:
            deliveries = repository.state.deliveries
            if deliveries.record_sent(stored_run_id(run_id), start, end) >= size:
                deliveries.mark_delivered(stored_run_id(run_id))

    def record_failure_sent(self, run_id: str) -> None:
        """Delete the files of a failed run; its status stays for DELIVERED_KEPT seconds."""
        if folder := self.workdir.find(stored_run_id(run_id)):
            remove_tree(folder)
        with self._repository() as repository:
            repository.state.deliveries.mark_delivered(stored_run_id(run_id))

    def delete(self, run_id: str, holder: str = "") -> bool:
        """Cancel the run, or drop it where it has ended, unless others hold a lease; False = not known."""
        run_id = stored_run_id(run_id)
        with self._repository() as repository:
            status = repository.status(run_id)
            if status.running:
                repository.cancel(run_id, self.workdir.find(run_id), holder)
            elif not status.missing:
                self._drop(repository, status, holder)
            return not status.missing

    def _drop(self, repository: RunRepository, status: RunStatus, holder: str = "") -> None:
        """Forget the run and remove its files; those of AnyVar's own web API have no folder of their own.

        A run in another work dir belongs to another deployment on the same Redis, which drops it itself.
        """
        folder, manifest = self.workdir.find_run(status.run_id)
        output = None
        if folder is None and status.output:
            try:
                output = self.workdir.local_path(status.output)
            except (AccessRefused, FileTrouble):
                return
        if not repository.state.forget(status.run_id, manifest.digest if manifest else "", holder):
            return
        if folder:
            remove_tree(folder)
        elif output:
            output.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Drop delivered runs, and, where a sweep is due, what dead runs left and results that expired."""
        with self._repository() as repository:
            for run_id in repository.state.deliveries.delivered_before(DELIVERED_KEPT):
                self._drop(repository, repository.status(run_id))
        sweep.sweep_if_due(self._settings, self.workdir)

    # -- registrations of variations, whose worker is AnyVar's -------------------------------------------

    def start_variations(self, run_id: str, variations: list[Any]) -> bool:
        """Queue a registration of variations; False where its id is in use."""
        with self._repository() as repository:
            if not repository.state.create(run_id):
                return False
            try:
                arguments = {"variation_requests_json": variations}
                repository.queue.publish(REGISTER_VARIATIONS, arguments, run_id)
            except BaseException:
                repository.state.forget(run_id, "")
                raise
            repository.state.mark_published(run_id)
        return True

    def variations_meta(self, run_id: str) -> dict[str, Any] | None:
        """Celery's state and result of a registration; None where it is not known."""
        with self._repository() as repository, contextlib.suppress(RunLost):
            return repository.state.meta(run_id)
        return None

    def forget_variations(self, run_id: str) -> None:
        """Delete a registration's result, which is answered once."""
        with self._repository() as repository:
            repository.state.forget(run_id, "")


#: Seconds for which a count of worker processes is used, and for which the first one is waited for.
WORKERS_CACHED, FIRST_COUNT_WAIT = 10.0, 5.0


class Health:
    """Whether broker, backend, work dir and workers can be used; "ok" or "unavailable", no details.

    Workers are counted in a thread: with AnyVar's own it takes two seconds, and a probe must not wait.
    """

    def __init__(self, settings: Settings, runs: Runs) -> None:
        self._settings = settings
        self._runs = runs
        self._registry = WorkerRegistry(settings)
        self._thread = ThreadPoolExecutor(1, "workers")
        self._lock = threading.Lock()
        self._counted = threading.Event()
        self._next_count = 0.0  # by the monotonic clock; infinite while one is under way
        self._processes = 0
        #: For its callers: a probe must be answered while all other threads wait for a slow disk.
        self.limiter = anyio.CapacityLimiter(4)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def check(self) -> dict[str, str | int]:
        """The state of each part, and the number of worker processes."""
        parts = {
            "broker": _works(lambda: ping(self._settings.broker_url, "CELERY_BROKER_URL")),
            "backend": _works(lambda: ping(self._settings.backend_url, "CELERY_BACKEND_URL")),
            "work_dir": _works(self._runs.workdir.check),
        }
        ok = all(parts.values())
        processes = self._worker_processes() if ok else 0
        parts["workers"] = processes > 0
        words = {name: "ok" if works else "unavailable" for name, works in parts.items()}
        return {"status": "ok" if ok else "unavailable", **words, "processes": processes}

    def _worker_processes(self) -> int:
        """The last count; only the first one is waited for."""
        with self._lock:
            if time.monotonic() >= self._next_count:
                self._next_count = float("inf")
                self._thread.submit(self._count)
        self._counted.wait(FIRST_COUNT_WAIT)
        return self._processes

    def _count(self) -> None:
        try:
            self._processes = self._registry.capacity()
        except StepError:
            self._processes = 0
        finally:
            self._next_count = time.monotonic() + WORKERS_CACHED
            self._counted.set()


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except StepError:
        return False
    return True
