"""The endpoints of VCF runs: paths, bodies, headers and codes as in docs/contract.md#web-api."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.client.http import DIGEST, HOLDER
from anyvar_step.errors import StepError
from anyvar_step.models import (
    AnnotateOptions,
    CommandLine,
    CompressLevel,
    Existing,
    IngestOptions,
    Manifest,
    OutputFormat,
    RunRequest,
)
from anyvar_step.runs.connection import ping
from anyvar_step.runs.manifest import content_digest, manifest_of
from anyvar_step.settings import Settings
from anyvar_step.web import runs as answers
from anyvar_step.web import uploads
from anyvar_step.web.runs import (
    LONGEST_WAIT,
    Refused,
    Runs,
    check_run_id,
    ended,
    runs_of,
    settings_of,
    stored_run_id,
)
from anyvar_step.web.uploads import Uploaded, drop, receive_vcf

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


service_router = APIRouter()

#: Seconds for which an answer of the workers is good, and for which the first one is waited for.
WORKERS_FOR, FIRST_ANSWER = 10.0, 5.0


class Health:
    """Looks at what the web API needs; says no more than ok or unavailable, since anybody may ask."""

    def __init__(self, settings: Settings, runs: Runs) -> None:
        self._settings = settings
        self._runs = runs
        self._lock = threading.Lock()
        self._asking: Future[int] | None = None
        self._asked = float("-inf")
        self._processes: int | None = None
        self._pool = ThreadPoolExecutor(1, "workers")
        # Threads of its own: a probe must be answered while all others wait for a slow disk.
        self.limiter = anyio.CapacityLimiter(4)

    def close(self) -> None:
        """End its thread."""
        self._pool.shutdown(cancel_futures=True)

    def look(self) -> dict[str, str | int]:
        """Each part's state, and the number of worker processes."""
        parts = {
            "broker": _works(lambda: ping(self._settings.broker_url, "CELERY_BROKER_URL")),
            "backend": _works(lambda: ping(self._settings.backend_url, "CELERY_BACKEND_URL")),
            "work_dir": _works(self._runs.workdir.check),
        }
        whole = all(parts.values())
        processes = self._workers() if whole else 0
        parts["workers"] = processes > 0
        shown = {name: "ok" if works else "unavailable" for name, works in parts.items()}
        return {"status": "ok" if whole else "unavailable", **shown, "processes": processes}

    def _workers(self) -> int:
        """Worker processes as of the last time they were asked, in a thread: it takes them two seconds."""
        with self._lock:
            if self._asking is None and time.monotonic() - self._asked > WORKERS_FOR:
                self._asking = self._pool.submit(self._runs.capacity)
            if self._asking and (self._processes is None or self._asking.done()):
                try:
                    self._processes = self._asking.result(timeout=FIRST_ANSWER)
                except (StepError, TimeoutError):
                    self._processes = 0
                self._asking, self._asked = None, time.monotonic()
            return self._processes or 0


def _works(look: Callable[[], None]) -> bool:
    try:
        look()
    except StepError:
        return False
    return True


@service_router.get("/healthz", summary="Whether broker, backend and work dir are there", response_model=None)
async def healthz(request: Request) -> JSONResponse:
    """200, or 503 where one of them is not; without workers runs wait in the queue, which is no failure."""
    health: Health = request.app.state.health
    found = await anyio.to_thread.run_sync(health.look, limiter=health.limiter)
    if found["status"] == "ok":
        return JSONResponse(found)
    return JSONResponse(found, 503, headers={"Retry-After": "5"})


@service_router.get("/service-info", summary="GA4GH service info")
async def service_info(request: Request) -> dict[str, Any]:
    """What serves here, in the form of the GA4GH Service Info specification 1.0.0, as AnyVar has it.

    The mapping of ANYVAR_SERVICE_INFO replaces what it names.
    """
    described: dict[str, Any] = {
        "id": "org.biocommons.anyvar.step",
        "name": "anyvar-step",
        "type": {"group": "org.biocommons", "artifact": "anyvar", "version": __version__},
        "description": "AnyVar's VCF endpoints: annotate VCFs with GA4GH VRS identifiers.",
        "organization": {"name": "biocommons", "url": "https://biocommons.org"},
        "contactUrl": "https://github.com/biocommons/anyvar/issues",
        "documentationUrl": "https://github.com/biocommons/anyvar",
        "createdAt": "2025-06-01T00:00:00Z",
        "updatedAt": "2025-06-01T00:00:00Z",
        "environment": "prod",
        "version": __version__,
        "spec_metadata": {"vrs_version": VRS_VERSION},
        "impl_metadata": {"anyvar_step_version": __version__, "vrs_python_version": None},
    }
    configured: dict[str, Any] = request.app.state.service_info
    return described | configured


upload_router = APIRouter()

ASSEMBLIES = ("GRCh38", "GRCh37")

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["vcf"],
                    "properties": {"vcf": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class Submission(BaseModel):
    """What both PUTs take."""

    assembly: str = Field("GRCh38", description="The VCF's reference assembly")
    allow_async_write: bool = Field(False, description="End the run before the store has written all")
    run_async: bool = Field(False, description="Answer 202 at once instead of the result")
    run_id: str | None = Field(None, description="The run's id; without it a random one")


class Annotation(Submission):
    """What ``PUT /vcf`` takes; ``output_format`` and what follows is ours."""

    for_ref: bool = Field(True, description="Ids for REF alleles too")
    add_vrs_attributes: bool = Field(False, description="Location and state beside the ids")
    output_format: Literal["v", "z", "same"] = Field(
        "v", description="The answer as text, as BGZF, or as BGZF where the upload is compressed"
    )
    compress_level: CompressLevel = Field(6, description="BGZF level of the answer")
    force: bool = Field(False, description="Go on although the reference seems to be another one")
    existing: Existing = Field("replace", description="What becomes of VRS fields that the VCF has already")
    command: CommandLine = Field("", description="For provenance lines in the header; empty = none")
    piece: int = Field(0, ge=0, description="Number of this piece of a VCF, 0 = a whole one")


class Ingestion(Submission):
    """What ``PUT /annotated_vcf`` takes."""

    require_validation: bool = Field(False, description="Compute the ids anew and answer with the conflicts")


@upload_router.put("/vcf", summary="Annotate a VCF", openapi_extra=_FORM, response_model=None)
async def annotate_vcf(
    request: Request, query: Annotated[Annotation, Query()], holder: Annotated[str, Header(alias=HOLDER)] = ""
) -> Response:
    """Annotate the VCF in the multipart field ``vcf`` with VRS ids; 200 with the VCF, or 202."""
    run_id, uploaded = await _upload(request, query)
    gzipped = uploaded.staged.input_name.endswith(".gz")
    wanted: OutputFormat = (
        "z" if query.output_format == "z" or (query.output_format == "same" and gzipped) else "v"
    )
    options = AnnotateOptions.model_validate(
        query.model_dump(include={"assembly", "for_ref", "allow_async_write", "add_vrs_attributes"})
    )
    asked = RunRequest(
        options=options,
        output_format=wanted,
        run_id=stored_run_id(run_id),
        **query.model_dump(include={"force", "compress_level", "existing", "command", "piece"}),
    )
    return await _run(request, query, run_id, uploaded, asked, holder, ids=2 if query.for_ref else 1)


@upload_router.put(
    "/annotated_vcf", summary="Ingest an annotated VCF", openapi_extra=_FORM, response_model=None
)
async def ingest_annotated_vcf(request: Request, query: Annotated[Ingestion, Query()]) -> Response:
    """Register the alleles of a VCF that has the VRS fields; 200 with the conflicts as CSV, or 202."""
    run_id, uploaded = await _upload(request, query)
    if refusal := await run_in_threadpool(uploads.refusal_to_ingest, uploaded):
        await run_in_threadpool(drop, uploaded)
        raise Refused(400, refusal)
    options = IngestOptions.model_validate(
        query.model_dump(include={"assembly", "allow_async_write", "require_validation"})
    )
    asked = RunRequest(options=options, run_id=stored_run_id(run_id))
    return await _run(request, query, run_id, uploaded, asked, "", ids=2)


async def _upload(request: Request, query: Submission) -> tuple[str, Uploaded]:
    """The run's id, and the staged upload; what can be refused is refused before anything is read."""
    known = {*ASSEMBLIES, *settings_of(request).references}
    if query.assembly not in known:
        message = f"String should be one of {', '.join(sorted(known))}"
        where = ("query", "assembly")
        raise RequestValidationError(
            [{"type": "string_pattern_mismatch", "loc": where, "msg": message, "input": query.assembly}]
        )
    run_id = query.run_id or str(uuid.uuid4())
    check_run_id(run_id)
    if "/" in run_id or run_id in {".", ".."}:  # its path would be another one; AnyVar cannot find it either
        raise Refused(400, "a run id has no slash and is not a dot or two")
    runs = runs_of(request)
    if not await run_in_threadpool(runs.free, run_id):
        raise _in_use(run_id)
    return run_id, await receive_vcf(
        request, runs.workdir, settings_of(request).max_upload, settings_of(request).upload_patience
    )


def _in_use(run_id: str) -> Refused:
    return Refused(400, f"run id {run_id} is in use: fetch that run's result, or choose another id")


async def _run(
    request: Request,
    query: Submission,
    run_id: str,
    uploaded: Uploaded,
    asked: RunRequest,
    holder: str,
    *,
    ids: int,
) -> Response:
    """Queue the run; answer 202, or wait for its end and answer with that."""
    runs = runs_of(request)
    rate = settings_of(request).expected_vrs_ids_per_second
    seconds = await run_in_threadpool(uploads.expected_seconds, uploaded, ids / rate)
    assert asked.run_id
    digest = content_digest(uploaded.staged.sha256, asked)
    manifest: Manifest = manifest_of(uploaded.staged, uploaded.name, asked, digest, asked.run_id)
    if not await run_in_threadpool(runs.start, manifest, uploaded.staged, holder):
        raise _in_use(run_id)
    if query.run_async:
        return answers.submitted(run_id, seconds)
    status = await ended(request, run_id, holder, None)
    if status.running:  # the client has hung up, and nobody else knows of the run
        await run_in_threadpool(runs.end, run_id)
    return await answers.of(runs, status)
