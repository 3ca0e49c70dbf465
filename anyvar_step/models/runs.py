"""A run on its way: what is asked for, the ticket, the state, the status that the endpoint would answer."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: A run id or a staged file: one part of a path, with no meaning to a shell or a glob.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

OutputFormat = Literal["v", "z"]
#: libdeflate's levels; 6 is bgzip's own default, 1 is nearly twice as fast.
CompressLevel = Annotated[int, Field(ge=1, le=12)]

#: What becomes of the VRS fields that an input has already.
Existing = Literal["replace", "keep", "error"]
#: Characters of a command in a header line.
LONGEST_COMMAND = 1000
#: One header line's worth of text.
CommandLine = Annotated[str, Field(max_length=LONGEST_COMMAND, pattern=r"^[^\x00-\x1f\x7f]*$")]


class State(StrEnum):
    """A run's state in the result backend: Celery's own, and AnyVar's SENT (CONTRACTS.md §2)."""

    PENDING = "PENDING"  # Celery's word for "no such key"
    SENT = "SENT"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


class Model(BaseModel):
    """Frozen. A later version may say more: what we do not know is passed over.

    The published schemas are strict all the same, since they say what this version writes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class AnnotateOptions(Model):
    """What AnyVar's ``annotate_vcf`` task is asked for; the same words as its keyword arguments."""

    assembly: str = "GRCh38"
    for_ref: bool = True
    allow_async_write: bool = False
    add_vrs_attributes: bool = False


class IngestOptions(Model):
    """What AnyVar's ``ingest_annotated_vcf`` task is asked for; the same words as its keyword arguments."""

    assembly: str = "GRCh38"
    allow_async_write: bool = False
    require_validation: bool = False


class Wishes(Model):
    """What our own worker is told beside the task's arguments; AnyVar's knows nothing of it."""

    output_format: OutputFormat = "v"
    compress_level: CompressLevel = 6
    force: bool = Field(default=False, description="go on although the reference seems to be another one")
    existing: Existing = Field(default="replace", description="what becomes of VRS fields in the input")
    command: CommandLine = Field(default="", description="for the header's provenance lines; empty = none")
    piece: int = Field(
        default=0,
        ge=0,
        description="number of this piece of a VCF, 0 = a whole one; whether a reference fits is not told by "
        "a piece alone",
    )
    index: bool = Field(default=False, description="whether to index a BGZF output where it lies, as .tbi")


class RunRequest(Wishes):
    """What a step asks for, besides the input itself."""

    options: AnnotateOptions | IngestOptions
    run_id: str | None = Field(default=None, description="an id of the caller's; None = derived from content")


class Manifest(Wishes):
    """What the step says of a staged input; ``manifest.json`` beside it, and the body of a ticket.

    AnyVar's web API stages no manifest, and its workers do not read one.
    """

    run_id: str
    digest: str = Field(description="hex SHA-256 of the input's, the options' and the programs' identity")
    input_name: str = Field(description="the file name of IN, for messages")
    input_size: int = Field(description="bytes")
    input_sha256: str
    options: AnnotateOptions | IngestOptions
    folder: str = Field(description="the run's folder below the work dir, as <yyyymmdd>/<run id>")
    staged_input: str = Field(description="the staged input's file name in that folder")
    submitted: str = Field(description="UTC time, ISO 8601")


class Progress(Model):
    """How far a running worker is; it travels as the meta of state PROGRESS."""

    records: int = 0
    fraction: float = Field(default=0.0, ge=0.0, le=1.0, description="of the input's bytes")
    seconds: float = 0.0
    worker: str = ""


class RunStatus(Model):
    """What the run-status endpoint answers: 200, 202, 404 or the configured failure code."""

    run_id: str
    status_code: int
    status: str
    message: str = ""
    error_code: str | None = None
    error_class: str | None = Field(default=None, description="the exception's name, where known")
    output: str | None = Field(default=None, description="path of the result, as the worker names it")
    progress: Progress | None = None

    @property
    def running(self) -> bool:
        """Queued or at work."""
        return self.status_code == 202

    @property
    def lost(self) -> bool:
        """Its worker is gone."""
        return self.error_code == "WORKER_LOST_ERROR"

    @property
    def missing(self) -> bool:
        """Nobody knows the run; the failure code may be configured to be 404 as well."""
        return self.status_code == 404 and self.error_code is None
