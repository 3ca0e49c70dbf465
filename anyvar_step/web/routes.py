"""Runs as they are asked for and dropped: AnyVar's paths, bodies, headers and codes (CONTRACTS.md §3)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from anyvar_step.transport.rest import DIGEST, HOLDER
from anyvar_step.web import answers
from anyvar_step.web.asking import LONGEST_WAIT, ended, runs_of

router = APIRouter()

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")


@router.head("/vcf/{run_id}", include_in_schema=False, response_model=None)
@router.get("/vcf/{run_id}", summary="Status or result", response_model=None)
async def get_run(
    request: Request,
    run_id: str,
    holder: Annotated[str, Header(alias=HOLDER)] = "",
    prefer: Annotated[str, Header(description="wait=N: answer once the run has ended, within N s")] = "",
) -> Response:
    """200 with the result, 202 while it runs, 404 where nobody knows it, the failure code where it failed."""
    runs = runs_of(request)
    wait = _WAIT.search(prefer)
    seconds = min(float(wait[1]), LONGEST_WAIT) if wait else 0.0
    status = await ended(request, run_id, holder, seconds)
    answer = await answers.of(runs, status, tell=request.method == "GET")
    if request.method == "HEAD" and (digest := await run_in_threadpool(runs.digest, run_id)):
        answer.headers[DIGEST] = digest
    return answer


@router.get("/vcf/{run_id}/report", summary="The worker's report", response_model=None)
async def get_report(request: Request, run_id: str) -> Response:
    """Counts, timings and digests of a finished run; 404 where there is none, as with AnyVar's workers."""
    runs = runs_of(request)
    status = await run_in_threadpool(runs.look, run_id)
    if status.status_code != 200:
        return answers.not_found(run_id)
    report = await run_in_threadpool(runs.report, status)
    return JSONResponse(report.model_dump(mode="json")) if report else answers.not_found(run_id)


@router.delete("/vcf/{run_id}", summary="Cancel or drop a run", response_model=None)
async def delete_run(
    request: Request, run_id: str, holder: Annotated[str, Header(alias=HOLDER)] = ""
) -> Response:
    """204: the run is cancelled, or its result is gone; 404 where nobody knows it."""
    known = await run_in_threadpool(runs_of(request).end, run_id, holder)
    return Response(status_code=204) if known else answers.not_found(run_id)
