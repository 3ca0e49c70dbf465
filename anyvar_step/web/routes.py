"""The endpoints: paths, parameters and codes (docs/contract.md#web-api, #newer-anyvar, docs/http.md)."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.errors import StepError
from anyvar_step.files import remove_tree
from anyvar_step.models import (
    DIGEST,
    ERROR_CLASS,
    HOLDER,
    PROGRESS,
    STATE,
    AnnotateOptions,
    CommandLine,
    CompressLevel,
    Existing,
    IngestOptions,
    RunRequest,
    RunStatus,
    is_holder,
)
from anyvar_step.runs.manifest import content_digest, manifest_of
from anyvar_step.runs.state import run_status
from anyvar_step.settings import Settings
from anyvar_step.web import responses, uploads
from anyvar_step.web.responses import Refused, ResultFile, invalid, location
from anyvar_step.web.run_access import Health, Runs, stored_run_id
from anyvar_step.web.uploads import Uploaded

router = APIRouter()

#: The longest run id, characters.
LONGEST_RUN_ID = 512
#: The largest list of variations, bytes.
LONGEST_VARIATIONS = 16 << 20
#: Seconds between two polls on behalf of a waiting client, first and last; and the longest Prefer: wait.
FIRST_PAUSE, LAST_PAUSE, LONGEST_WAIT = 0.02, 0.4, 20.0
#: Seconds for which an unknown registration is polled, and between two polls, as with AnyVar.
VARIATIONS_WAIT, VARIATIONS_PAUSE = 5.0, 0.5
#: Assemblies that need no configured reference here: workers may have it.
ASSEMBLIES = ("GRCh38", "GRCh37")

_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")

#: The lease holder; a name that can be none counts as not given.
Holder = Annotated[str, Header(alias=HOLDER), AfterValidator(lambda name: name if is_holder(name) else "")]


def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _checked_run_id(run_id: str | None) -> str:
    """The run id, or a new one. Raises Refused for one that no header, log line or path can hold."""
    run_id = run_id or str(uuid.uuid4())
    if len(run_id) > LONGEST_RUN_ID or not run_id.isprintable():
        raise Refused(400, f"a run id has up to {LONGEST_RUN_ID} printable characters")
    return run_id


def _in_use(run_id: str) -> Refused:
    return Refused(400, f"run id {run_id} is in use: fetch that run's result, or choose another id")


# -- runs ------------------------------------------------------------------------------------------------


@router.head("/vcf/{run_id}", include_in_schema=False, response_model=None)
@router.get("/vcf/{run_id}", summary="Status or result", response_model=None)
async def get_run(
    request: Request,
    run_id: str,
    holder: Holder = "",
    prefer: Annotated[str, Header(description="wait=N: answer once the run has ended, within N s")] = "",
) -> Response:
    """200 with the result, 202 while it runs, 404 for an unknown run, the failure code for a failed one."""
    wait = _PREFER_WAIT.search(prefer)
    seconds = min(float(wait[1]), LONGEST_WAIT) if wait else 0.0
    status = await _wait_for_end(request, run_id, holder, seconds)
    response = await _response_for(request, status)
    if request.method == "HEAD" and (
        digest := await run_in_threadpool(_runs(request).content_digest, run_id)
    ):
        response.headers[DIGEST] = digest
    return response


@router.get("/vcf/{run_id}/report", summary="The worker's report", response_model=None)
async def get_report(request: Request, run_id: str) -> Response:
    """Counts, timings and digests of a finished run; 404 where there is none, as with AnyVar's workers."""
    runs = _runs(request)
    status = await run_in_threadpool(runs.status, run_id)
    report = await run_in_threadpool(runs.report, run_id) if status.status_code == 200 else None
    return JSONResponse(report.model_dump(mode="json")) if report else responses.not_found(run_id)


@router.delete("/vcf/{run_id}", summary="Cancel or drop a run", response_model=None)
async def delete_run(request: Request, run_id: str, holder: Holder = "") -> Response:
    """204: the run is cancelled, or its result is gone; 404 for an unknown run."""
    known = await run_in_threadpool(_runs(request).delete, run_id, holder)
    return Response(status_code=204) if known else responses.not_found(run_id)


async def _wait_for_end(request: Request, run_id: str, holder: str, seconds: float | None) -> RunStatus:
    """The status once the run has ended, the client has disconnected or the seconds have passed."""
    begin, pause = time.monotonic(), FIRST_PAUSE
    while True:
        status = await run_in_threadpool(_runs(request).status, run_id, holder)
        left = float("inf") if seconds is None else begin + seconds - time.monotonic()
        if not status.running or left <= 0 or await request.is_disconnected():
            return status
        await anyio.sleep(min(pause, left))
        pause = min(pause * 1.3, LAST_PAUSE)


async def _response_for(request: Request, status: RunStatus) -> Response:
    """The response for a run's status; records that a result or a failure is sent, except to HEAD."""
    runs, run_id = _runs(request), status.run_id
    if status.missing:
        return responses.not_found(run_id)
    if status.running:
        progress = status.progress.model_dump() if status.progress else None
        return responses.running(run_id, location(run_id), **{STATE: status.status, PROGRESS: progress})
    if status.error_code is not None:
        if request.method != "HEAD":
            await run_in_threadpool(runs.record_failure_sent, run_id)
        return responses.failed(status, **{ERROR_CLASS: status.error_class})
    if status.output is None:  # an ingestion
        if request.method != "HEAD":
            await run_in_threadpool(runs.record_sent, run_id, 0, 1, 1)
        report = await run_in_threadpool(runs.report, run_id)
        return responses.completed(run_id, report.registered.conflicts if report and report.registered else 0)

    async def on_sent(start: int, end: int, size: int) -> None:
        # Without Redis the download goes on, and the result stays until it expires.
        with contextlib.suppress(StepError):
            await run_in_threadpool(runs.record_sent, run_id, start, end, size)

    path = await run_in_threadpool(runs.result_path, status)
    return await run_in_threadpool(ResultFile, path, run_id, on_sent)


# -- uploads ---------------------------------------------------------------------------------------------

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


@router.put("/vcf", summary="Annotate a VCF", openapi_extra=_FORM, response_model=None)
async def annotate_vcf(
    request: Request, query: Annotated[Annotation, Query()], holder: Holder = ""
) -> Response:
    """Annotate the VCF in the multipart field ``vcf`` with VRS ids; 200 with the VCF, or 202."""
    run_id, uploaded = await _receive(request, query)
    gzipped = uploaded.staged.input_name.endswith(".gz")
    bgzf = query.output_format == "z" or (query.output_format == "same" and gzipped)
    run_request = RunRequest(
        options=AnnotateOptions(**query.model_dump(include=set(AnnotateOptions.model_fields))),
        output_format="z" if bgzf else "v",
        run_id=stored_run_id(run_id),
        **query.model_dump(include={"force", "compress_level", "existing", "command", "piece"}),
    )
    return await _run(request, query, run_id, uploaded, run_request, holder)


@router.put("/annotated_vcf", summary="Ingest an annotated VCF", openapi_extra=_FORM, response_model=None)
async def ingest_annotated_vcf(request: Request, query: Annotated[Ingestion, Query()]) -> Response:
    """Register the alleles of a VCF that has the VRS fields; 200 with the conflicts as CSV, or 202."""
    run_id, uploaded = await _receive(request, query)
    if why := await run_in_threadpool(uploads.refusal_to_ingest, uploaded):
        await run_in_threadpool(remove_tree, uploaded.staged.folder)
        raise Refused(400, why)
    options = IngestOptions(**query.model_dump(include=set(IngestOptions.model_fields)))
    run_request = RunRequest(options=options, run_id=stored_run_id(run_id))
    return await _run(request, query, run_id, uploaded, run_request, "")


async def _receive(request: Request, query: Submission) -> tuple[str, Uploaded]:
    """The run's id and the staged upload; what can be refused is refused before the upload is read."""
    settings, runs = _settings(request), _runs(request)
    known = {*ASSEMBLIES, *settings.references}
    if query.assembly not in known:
        raise invalid(
            ("query", "assembly"),
            "string_pattern_mismatch",
            f"String should be one of {', '.join(sorted(known))}",
            query.assembly,
        )
    run_id = _checked_run_id(query.run_id)
    if "/" in run_id or run_id in {".", ".."}:  # GET could not name it; nor can AnyVar's
        raise Refused(400, "a run id has no slash and is not a dot or two")
    if not await run_in_threadpool(runs.is_free, run_id):
        raise _in_use(run_id)
    return run_id, await uploads.receive_vcf(
        request, runs.workdir, settings.max_upload, settings.upload_patience
    )


async def _run(
    request: Request,
    query: Submission,
    run_id: str,
    uploaded: Uploaded,
    run_request: RunRequest,
    holder: str,
) -> Response:
    """Queue the run; answer 202, or wait for its end and answer with its result."""
    runs = _runs(request)
    ids = 1 if isinstance(query, Annotation) and not query.for_ref else 2
    per_record = ids / _settings(request).expected_vrs_ids_per_second
    seconds = await run_in_threadpool(uploads.expected_seconds, uploaded, per_record)
    assert run_request.run_id
    digest = content_digest(uploaded.staged.sha256, run_request)
    manifest = manifest_of(uploaded.staged, uploaded.name, run_request, digest, run_request.run_id)
    if not await run_in_threadpool(runs.start, manifest, uploaded.staged, holder):
        raise _in_use(run_id)
    if query.run_async:
        return responses.submitted(run_id, location(run_id), seconds)
    status = await _wait_for_end(request, run_id, holder, None)
    if status.running:  # the client has disconnected, and no other knows of the run
        await run_in_threadpool(runs.delete, run_id)
    return await _response_for(request, status)


# -- variations: queued for AnyVar's own workers (docs/contract.md#newer-anyvar) -------------------------


@router.put("/variations", summary="Register variations", response_model=None)
async def register_variations(
    request: Request,
    run_async: Annotated[bool, Query(description="Answer 202 at once; required here")] = False,
    run_id: Annotated[str | None, Query(description="The run's id; without it a random one")] = None,
) -> Response:
    """Queue the JSON list of variation requests for one of AnyVar's workers; 202 with the run's id."""
    if not run_async:
        raise Refused(
            400, "variations are registered with run_async=true only; AnyVar's own web API does both"
        )
    run_id = _checked_run_id(run_id)
    variations = await _read_variations(request)
    if not await run_in_threadpool(_runs(request).start_variations, run_id, variations):
        # AnyVar's answer has no error_code here.
        return JSONResponse({"error": str(_in_use(run_id))}, 400)
    seconds = round(len(variations) / _settings(request).expected_variations_per_second)
    return responses.submitted(run_id, f"/variations/{run_id}", max(1, seconds))


@router.get("/variations/{run_id:path}", summary="Status or result of a registration", response_model=None)
async def get_variations_run(request: Request, run_id: str) -> Response:
    """200 with the worker's list, 202 while it works, 404 for an unknown run, or the failure code."""
    runs, run_id = _runs(request), _checked_run_id(run_id)
    deadline = time.monotonic() + VARIATIONS_WAIT
    while (meta := await run_in_threadpool(runs.variations_meta, run_id)) is None:
        if time.monotonic() > deadline or await request.is_disconnected():
            break
        await anyio.sleep(VARIATIONS_PAUSE)
    status = run_status(run_id, meta, _settings(request).variations_failure_status_code)
    if status.missing or meta is None:
        return responses.not_found(run_id)
    if status.running:
        return responses.running(run_id, f"/variations/{run_id}")
    await run_in_threadpool(runs.forget_variations, run_id)
    return JSONResponse(meta["result"]) if status.error_code is None else responses.failed(status)


async def _read_variations(request: Request) -> list[Any]:
    """The list in the request's body."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_VARIATIONS:
            raise Refused(413, f"the list of variations is larger than {LONGEST_VARIATIONS} bytes")
    try:
        variations = json.loads(body)
    except (ValueError, RecursionError):
        variations = None
    if not isinstance(variations, list):
        raise invalid(("body",), "list_type", "Input should be a JSON list of variation requests")
    for index, each in enumerate(variations):
        if not isinstance(each, dict):
            raise invalid(("body", index), "dict_type", "Input should be a variation request")
        if not isinstance(each.get("definition"), str):
            raise invalid(("body", index, "definition"), "string_type", "Input should be a valid string")
    return variations


# -- the service -----------------------------------------------------------------------------------------


@router.get("/healthz", summary="Whether broker, backend and work dir are there", response_model=None)
async def healthz(request: Request) -> JSONResponse:
    """200, or 503 where one of them is not; without workers runs wait in the queue, which is no failure."""
    health: Health = request.app.state.health
    found = await anyio.to_thread.run_sync(health.check, limiter=health.limiter)
    if found["status"] == "ok":
        return JSONResponse(found)
    return JSONResponse(found, 503, headers={"Retry-After": "5"})


@router.get("/service-info", summary="GA4GH service info")
async def service_info(request: Request) -> dict[str, Any]:
    """The service in the form of the GA4GH Service Info specification 1.0.0, as AnyVar has it.

    The fields of ANYVAR_SERVICE_INFO replace these.
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
