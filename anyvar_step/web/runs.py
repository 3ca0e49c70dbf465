"""What the endpoints do with runs: blocking work over the Celery transport, to be called in threads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import queue
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from anyvar_step.client.http import ERROR_CLASS, PROGRESS, RETRY_AFTER, STATE, is_holder
from anyvar_step.errors import AccessRefused, FileTrouble, RunLost, StepError
from anyvar_step.files import remove_tree
from anyvar_step.models import Manifest, RunReport, RunStatus, State
from anyvar_step.runs import sweep
from anyvar_step.runs.keys import is_run_id
from anyvar_step.runs.lease import DETACHED
from anyvar_step.runs.registry import WorkerRegistry
from anyvar_step.runs.repository import RunRepository
from anyvar_step.runs.state import run_status
from anyvar_step.runs.work_dir import Staged, WorkDir
from anyvar_step.settings import Settings

#: Characters of a client's run id.
LONGEST_RUN_ID = 512


def check_run_id(run_id: str) -> None:
    """Raise Refused for a run id that no header, log line or path can hold; AnyVar takes any text."""
    if len(run_id) > LONGEST_RUN_ID or not run_id.isprintable():
        raise Refused(400, f"a run id has up to {LONGEST_RUN_ID} printable characters")


def stored_run_id(run_id: str) -> str:
    """The id under which a client's run is stored: it names a folder, Redis keys and the Celery task.

    A safe id is stored as it is, any other as a hash: no text of a client's becomes a path.
    """
    return run_id if is_run_id(run_id) else f"id-{hashlib.sha256(run_id.encode()).hexdigest()}"


def location(run_id: str) -> str:
    """The path of a run."""
    return f"/vcf/{quote(run_id, safe='')}"


def submitted(run_id: str, seconds: int) -> JSONResponse:
    """202 for a run that has just been queued; ``seconds`` is how long it will take about."""
    where = location(run_id)
    body = _status(run_id, "PENDING", f"Run submitted. Its status is at {where}")
    return JSONResponse(body, 202, headers={"Location": where, "Retry-After": str(seconds)})


def not_found(run_id: str) -> JSONResponse:
    """404 for a run that nobody knows."""
    return JSONResponse(_status(run_id, "NOT_FOUND", "Run not found"), 404)


async def of(runs: Runs, status: RunStatus, *, tell: bool = True) -> Response:
    """The answer to a question for a run's status; ``tell`` is False where the client gets no body."""
    if status.missing:
        return not_found(status.run_id)
    if status.running:
        return _running(status)
    if status.error_code is not None:
        if tell:
            await run_in_threadpool(runs.told_failure, status.run_id)
        body = {"error": status.message, "error_code": status.error_code, ERROR_CLASS: status.error_class}
        return JSONResponse(body, status.status_code)
    if status.output is None:
        if tell:
            await run_in_threadpool(runs.sent, status.run_id, 0, 1, 1)
        return JSONResponse(
            _status(status.run_id, "SUCCESS", await run_in_threadpool(_completed, runs, status))
        )
    return await _file(runs, status)


def _completed(runs: Runs, status: RunStatus) -> str:
    """What to say of a run without a file, an ingestion: also what it left out."""
    report = runs.report(status)
    wrong = report.registered.conflicts if report and report.registered else 0
    return (
        f"Run completed. Alleles left out, whose identifiers do not match them: {wrong}"
        if wrong
        else "Run completed"
    )


def _running(status: RunStatus) -> JSONResponse:
    progress = status.progress.model_dump() if status.progress else None
    body = _status(status.run_id, "PENDING", f"Run not completed. Its status is at {location(status.run_id)}")
    more = {STATE: status.status, PROGRESS: progress}
    return JSONResponse(body | more, 202, headers={"Retry-After": str(RETRY_AFTER)})


async def _file(runs: Runs, status: RunStatus) -> Response:
    path = await run_in_threadpool(runs.result, status)

    async def on_sent(start: int, end: int, size: int) -> None:
        # A Redis that is away must not break the download: then the result stays until it expires.
        with contextlib.suppress(StepError):
            await run_in_threadpool(runs.sent, status.run_id, start, end, size)

    def make() -> Handout:
        with path.open("rb") as file:
            kind = "application/gzip" if file.read(2) == b"\x1f\x8b" else "text/plain"
        # A synchronous PUT is not told its run's id in the body.
        return Handout(path, kind, on_sent, {"Location": location(status.run_id)})

    return await run_in_threadpool(make)


def _status(run_id: str, status: str, message: str) -> dict[str, Any]:
    return {"run_id": run_id, "status": status, "status_message": message}


#: Seconds for which the rest of a refused upload is read and thrown away.
LINGER = 10.0
#: Bytes of it at most.
LINGER_BYTES = 1 << 20


class Refused(Exception):
    """The request is refused with that status code; ``message`` becomes AnyVar's ``error``."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


class Refusal(JSONResponse):
    """A JSON answer that is sent at once, while the request's body may still be coming.

    A server that closes such a connection resets it, and a client in the middle of its upload sees the reset
    instead of the answer: so what comes is read for a while. A client that waits for "100 Continue" has not
    begun to send, and must not be made to.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then let the upload run out."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if (b"expect", b"100-continue") not in scope["headers"]:
            await _let_run_out(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _let_run_out(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER):
            left = LINGER_BYTES
            while left > 0 and (message := await receive()).get("more_body", False):
                left -= len(message["body"])
    except TimeoutError:
        pass


def refusal(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """AnyVar's error body; no ``error_code``, since no run failed."""
    return Refusal({"error": message, "error_code": None}, status_code, headers=headers)


#: Called with the first and the last byte (exclusive) that were sent, and the file's size.
OnSent = Callable[[int, int, int], Awaitable[None]]

_RANGE = re.compile(r"bytes (\d+)-\d+/\d+")


class Handout(FileResponse):
    """The result as a file that can be had in parts (Range, If-Range)."""

    chunk_size = 1 << 20

    def __init__(self, path: Path, media_type: str, on_sent: OnSent, headers: dict[str, str]) -> None:
        stat_result = os.stat(path)  # noqa: PTH116  # what FileResponse itself would do later, in a thread
        super().__init__(path, media_type=media_type, stat_result=stat_result, headers=headers)
        self._size = stat_result.st_size
        self._on_sent = on_sent
        self._start: int | None = None
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; say how much of it went out, also when the client hangs up in between.

        That is said before the last piece goes: a client that has it may submit under the same id at once.
        """
        told = False

        async def tell() -> None:
            nonlocal told
            if scope["method"] != "HEAD" and self._start is not None and not told:
                told = True
                await self._on_sent(self._start, self._start + self._sent, self._size)

        async def counting(message: Message) -> None:
            self._count(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await tell()
            await send(message)

        try:
            await super().__call__(scope, receive, counting)
        finally:
            await tell()

    def _count(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._sent += len(message.get("body", b""))
        elif message["status"] == 200:
            self._start = 0
        elif message["status"] == 206:
            # An answer of several ranges has no Content-Range, and does not count.
            span = MutableHeaders(raw=list(message["headers"])).get("content-range", "")
            if match := _RANGE.fullmatch(span):
                self._start = int(match[1])


_logger = logging.getLogger(__name__)

#: Seconds for which a result that was downloaded whole, or a failure that was told, can be asked for again.
GRACE = 300.0
#: Seconds that a request waits for a shared filesystem; the client asks again, so it need not be long.
LATENCY = 5.0


class Runs:
    """The runs of one result backend and work dir; any number of threads may use it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = WorkerRegistry(settings)
        self._idle: queue.LifoQueue[RunRepository] = queue.LifoQueue()
        self.workdir = WorkDir(
            settings.required_work_dir(),
            worker_root=settings.worker_work_dir,
            mode=settings.work_dir_mode,
            latency_wait=min(settings.latency_wait, LATENCY),
        )

    @contextlib.contextmanager
    def _transport(self) -> Iterator[RunRepository]:
        """A transport of one's own for a moment: its connection is not for two threads at once."""
        try:
            transport = self._idle.get_nowait()
        except queue.Empty:
            transport = RunRepository(self._settings)
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

        A cancelled run does not: workers refuse its id for long (docs/contract.md#celery-messages).
        """
        run_id = stored_run_id(run_id)
        with self._transport() as transport:
            if transport.state.cancel_requested(run_id):
                return False
            return transport.status(run_id).missing or transport.state.deliveries.is_delivered(run_id)

    def start(self, manifest: Manifest, staged: Staged, holder: str) -> bool:
        """Queue the staged upload; False where somebody else has taken the run id meanwhile.

        An earlier run of that id, whose end has been told, is dropped only now: not for an upload that fails.
        """
        with self._transport() as transport:
            if transport.state.deliveries.is_delivered(manifest.run_id):
                self._drop(transport, transport.status(manifest.run_id))
            if not transport.start(manifest, staged, DETACHED):
                return False
            if is_holder(holder) and holder != DETACHED:
                transport.state.leases.acquire(manifest.run_id, holder)
                transport.state.leases.release(manifest.run_id, DETACHED)
            return True

    # -- look --------------------------------------------------------------------------------------------

    def look(self, run_id: str, holder: str = "") -> RunStatus:
        """The run's status; a live run's state does not expire while somebody asks for it."""
        return self._look(stored_run_id(run_id), holder).model_copy(update={"run_id": run_id})

    def _look(self, run_id: str, holder: str) -> RunStatus:
        with self._transport() as transport:
            status = transport.status(run_id)
            if status.missing and transport.state.cancel_requested(run_id):
                cancelled = {"status": State.REVOKED, "result": None}
                return run_status(run_id, cancelled, self._settings.failure_status_code)
            if status.status == State.SENT:
                transport.requeue_unpublished(run_id)
            if status.running:
                transport.state.extend_expiry(run_id)
            if is_holder(holder) and not status.missing:
                transport.acquire_lease(run_id, holder)
            return status

    def digest(self, run_id: str) -> str:
        """The digest of the run's content, empty where nobody can say."""
        folder = self.workdir.find(stored_run_id(run_id))
        manifest = self.workdir.manifest(folder) if folder else None
        return manifest.digest if manifest else ""

    def result(self, status: RunStatus) -> Path:
        """The finished run's file, whole. Raises RunLost where it is gone, FileTrouble until it is here."""
        path = self.workdir.local_path(status.output or "")
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
        folder, manifest = self.workdir.find_run(stored_run_id(status.run_id))
        if folder is None or manifest is None:
            return None
        return self.workdir.report(folder, manifest)

    # -- end ---------------------------------------------------------------------------------------------

    def sent(self, run_id: str, start: int, end: int, size: int) -> None:
        """Note what a client was sent; once that is all, the result stays for GRACE seconds more."""
        run_id = stored_run_id(run_id)
        with self._transport() as transport:
            if transport.state.deliveries.record_sent(run_id, start, end) >= size:
                transport.state.deliveries.mark_delivered(run_id)

    def told_failure(self, run_id: str) -> None:
        """A client knows that the run failed: its files can go; its answer stays for GRACE seconds more."""
        run_id = stored_run_id(run_id)
        folder = self.workdir.find(run_id)
        if folder:
            remove_tree(folder)
        with self._transport() as transport:
            transport.state.deliveries.mark_delivered(run_id)

    def end(self, run_id: str, holder: str = "") -> bool:
        """Cancel the run, or drop it where it has ended, unless others hold a lease; False = not known."""
        run_id = stored_run_id(run_id)
        with self._transport() as transport:
            status = transport.status(run_id)
            if status.missing:
                return False
            holder = holder if is_holder(holder) else ""
            if status.running:
                transport.cancel(run_id, self.workdir.find(run_id), holder)
            else:
                self._drop(transport, status, holder)
            return True

    def _drop(self, transport: RunRepository, status: RunStatus, holder: str = "") -> None:
        """Forget the run and remove its files; those of AnyVar's own web API have no folder of their own.

        A run in another work dir belongs to another deployment on the same Redis, which looks after it.
        """
        folder, manifest = self.workdir.find_run(status.run_id)
        output = None
        if folder is None and status.output:
            try:
                output = self.workdir.local_path(status.output)
            except (AccessRefused, FileTrouble):
                return
        if not transport.state.forget(status.run_id, manifest.digest if manifest else "", holder):
            return
        if folder:
            remove_tree(folder)
        elif output:
            output.unlink(missing_ok=True)

    # -- what is left over -------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Drop what has been handed out, and, now and then, what dead runs left and results that expired."""
        with self._transport() as transport:
            for run_id in transport.state.deliveries.delivered_before(GRACE):
                self._drop(transport, transport.status(run_id))
        sweep.sweep_if_due(self._settings, self.workdir)

    def capacity(self) -> int:
        """How many worker processes serve the queue."""
        return self._workers.capacity()


#: Seconds between two looks at a run on behalf of a waiting client, first and last; and the longest wait.
FIRST_PAUSE, LAST_PAUSE, LONGEST_WAIT = 0.02, 0.4, 20.0


def runs_of(request: Request) -> Runs:
    """What does the endpoints' work."""
    runs: Runs = request.app.state.runs
    return runs


def settings_of(request: Request) -> Settings:
    """The web API's settings."""
    settings: Settings = request.app.state.settings
    return settings


async def ended(request: Request, run_id: str, holder: str, seconds: float | None) -> RunStatus:
    """The status as soon as the run has ended, as the client hangs up, or after so many seconds."""
    begin, pause = time.monotonic(), FIRST_PAUSE
    while True:
        status = await run_in_threadpool(runs_of(request).look, run_id, holder)
        left = None if seconds is None else begin + seconds - time.monotonic()
        if not status.running or (left is not None and left <= 0) or await request.is_disconnected():
            return status
        await anyio.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.3, LAST_PAUSE)
