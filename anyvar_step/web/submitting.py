"""AnyVar's two PUT endpoints: an upload becomes a run, or its result (CONTRACTS.md §3)."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from anyvar_step.broker.names import is_run_id
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
from anyvar_step.transport.rest import HOLDER
from anyvar_step.transport.ticket import content_digest, manifest_of
from anyvar_step.web import answers, header
from anyvar_step.web.asking import ended, runs_of, settings_of
from anyvar_step.web.refusal import Refused
from anyvar_step.web.upload import Uploaded, drop, receive_vcf

router = APIRouter()

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


@router.put("/vcf", summary="Annotate a VCF", openapi_extra=_FORM, response_model=None)
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
        run_id=run_id,
        **query.model_dump(include={"force", "compress_level", "existing", "command", "piece"}),
    )
    return await _run(request, query, uploaded, asked, holder, ids=2 if query.for_ref else 1)


@router.put("/annotated_vcf", summary="Ingest an annotated VCF", openapi_extra=_FORM, response_model=None)
async def ingest_annotated_vcf(request: Request, query: Annotated[Ingestion, Query()]) -> Response:
    """Register the alleles of a VCF that has the VRS fields; 200 with the conflicts as CSV, or 202."""
    run_id, uploaded = await _upload(request, query)
    if refusal := await run_in_threadpool(header.refusal_to_ingest, uploaded):
        await run_in_threadpool(drop, uploaded)
        raise Refused(400, refusal)
    options = IngestOptions.model_validate(
        query.model_dump(include={"assembly", "allow_async_write", "require_validation"})
    )
    return await _run(request, query, uploaded, RunRequest(options=options, run_id=run_id), "", ids=2)


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
    if not is_run_id(run_id):
        raise Refused(400, "a run id has up to 128 letters, digits, dots, dashes and underscores")
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
    uploaded: Uploaded,
    asked: RunRequest,
    holder: str,
    *,
    ids: int,
) -> Response:
    """Queue the run; answer 202, or wait for its end and answer with that."""
    runs = runs_of(request)
    rate = settings_of(request).expected_vrs_ids_per_second
    seconds = await run_in_threadpool(header.expected_seconds, uploaded, ids / rate)
    assert asked.run_id
    digest = content_digest(uploaded.staged.sha256, asked)
    manifest: Manifest = manifest_of(uploaded.staged, uploaded.name, asked, digest, asked.run_id)
    if not await run_in_threadpool(runs.start, manifest, uploaded.staged, holder):
        raise _in_use(asked.run_id)
    if query.run_async:
        return answers.submitted(manifest, seconds)
    status = await ended(request, asked.run_id, holder, None)
    if status.running:  # the client has hung up, and nobody else knows of the run
        await run_in_threadpool(runs.end, asked.run_id)
    return await answers.of(runs, status)
