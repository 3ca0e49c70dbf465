"""The bodies of AnyVar's run endpoints, and what our own step reads beside them."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from anyvar_step.errors import StepError
from anyvar_step.models import Manifest, RunStatus
from anyvar_step.transport.rest import ERROR_CLASS, PROGRESS, RETRY_AFTER, STATE
from anyvar_step.web.handout import Handout
from anyvar_step.web.runs import Runs


def submitted(manifest: Manifest, seconds: int) -> JSONResponse:
    """202 for a run that has just been queued; ``seconds`` is how long it will take about."""
    where = f"/vcf/{manifest.run_id}"
    body = _status(manifest.run_id, "PENDING", f"Run submitted. Its status is at {where}")
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
    body = _status(status.run_id, "PENDING", f"Run not completed. Its status is at /vcf/{status.run_id}")
    more = {STATE: status.status, PROGRESS: progress}
    return JSONResponse(body | more, 202, headers={"Retry-After": str(RETRY_AFTER)})


async def _file(runs: Runs, status: RunStatus) -> Response:
    path = await run_in_threadpool(runs.result, status)

    async def on_sent(start: int, end: int, size: int) -> None:
        # A board that is away must not break the download: the result just stays until it expires.
        with contextlib.suppress(StepError):
            await run_in_threadpool(runs.sent, status.run_id, start, end, size)

    def make() -> Handout:
        with path.open("rb") as file:
            kind = "application/gzip" if file.read(2) == b"\x1f\x8b" else "text/plain"
        # A synchronous PUT is not told its run's id in the body.
        return Handout(path, kind, on_sent, {"Location": f"/vcf/{status.run_id}"})

    return await run_in_threadpool(make)


def _status(run_id: str, status: str, message: str) -> dict[str, Any]:
    return {"run_id": run_id, "status": status, "status_message": message}
