"""What travels between step, transport and worker: requests, manifests, statuses, and reports."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from importlib import metadata
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.errors import RunLost


class KeptAllele(NamedTuple):
    """An allele as stores hold it; ``length`` is None for a literal state.

    ``id`` and ``location_id`` are ``ga4gh:VA.…`` and ``ga4gh:SL.…``, ``accession`` is ``SQ.…``; positions are
    inter-residue. ``sequence`` is None for a ReferenceLengthExpression longer than 50 bases.
    """

    id: str
    location_id: str
    accession: str
    start: int
    end: int
    sequence: str | None
    length: int | None
    repeat_subunit_length: int | None


#: A run id or a staged file: one part of a path, with no meaning to a shell or a glob.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

OutputFormat = Literal["v", "z"]
#: libdeflate's levels; 6 is bgzip's default, 1 is nearly twice as fast, 0 stores.
CompressLevel = Annotated[int, Field(ge=0, le=12)]

#: What to do with the VRS fields that an input has already.
Existing = Literal["replace", "keep", "error"]
#: Characters of a command in a header line.
LONGEST_COMMAND = 1000
#: One header line's worth of text.
CommandLine = Annotated[str, Field(max_length=LONGEST_COMMAND, pattern=r"^[^\x00-\x1f\x7f]*$")]


class State(StrEnum):
    """A run's state in the result backend: Celery's, and AnyVar's SENT (docs/contract.md#celery-messages)."""

    PENDING = "PENDING"  # what Celery calls the absence of a key
    SENT = "SENT"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


class Model(BaseModel):
    """Frozen. Fields of a later version are ignored.

    The published schemas allow no other fields, since they describe what this version writes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class AnnotateOptions(Model):
    """The keyword arguments of AnyVar's ``annotate_vcf`` task."""

    assembly: str = "GRCh38"
    for_ref: bool = True
    allow_async_write: bool = False
    add_vrs_attributes: bool = False


class IngestOptions(Model):
    """The keyword arguments of AnyVar's ``ingest_annotated_vcf`` task."""

    assembly: str = "GRCh38"
    allow_async_write: bool = False
    require_validation: bool = False


class WorkerOptions(Model):
    """Options that only our own worker reads, from the manifest."""

    output_format: OutputFormat = "v"
    compress_level: CompressLevel = 6
    force: bool = Field(default=False, description="go on although the input does not fit the reference")
    existing: Existing = Field(default="replace", description="what to do with VRS fields in the input")
    command: CommandLine = Field(default="", description="for the header's provenance lines; empty = none")
    piece: int = Field(
        default=0,
        ge=0,
        description="number of this piece of a VCF, 0 = a whole VCF; the assembly is judged on the whole, "
        "not on a piece",
    )
    index: bool = Field(default=False, description="whether to index a BGZF output where it lies, as .tbi")


class RunRequest(WorkerOptions):
    """The request of a step, besides the input itself."""

    options: AnnotateOptions | IngestOptions
    run_id: str | None = Field(default=None, description="the run id; None = derived from content")


class Manifest(WorkerOptions):
    """The description of a staged input: ``manifest.json`` beside it, and the content of a ticket.

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
    """The progress of a run: the result that its key holds in state PROGRESS."""

    records: int = 0
    fraction: float = Field(default=0.0, ge=0.0, le=1.0, description="of the input's bytes")
    seconds: float = 0.0
    worker: str = ""


class RunStatus(Model):
    """The answer of the run-status endpoint: 200, 202, 404 or the configured failure code."""

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
        """Whether the run is queued or at work."""
        return self.status_code == 202

    @property
    def lost(self) -> bool:
        """Whether the run's worker was lost."""
        return self.error_code == RunLost.error_code

    @property
    def missing(self) -> bool:
        """Whether the run is unknown; the failure code may be configured to be 404, too."""
        return self.status_code == 404 and self.error_code is None


#: Records with VRS_Error that are kept as examples, for each cause.
EXAMPLES = 5


class Counts(Model):
    """Counts over one VCF, added up block by block."""

    model_config = ConfigDict(frozen=False)

    records: int = 0
    ids: int = Field(default=0, description="VRS ids written, REF and ALT")
    kept: int = Field(default=0, description="records that keep the VRS fields they had")
    alleles: dict[str, int] = Field(
        default_factory=dict,
        description="ALT alleles by kind: snv, mnv, insertion, deletion, delins, same_as_ref, "
        "symbolic, breakend, overlapping, missing, other",
    )
    contigs: dict[str, int] = Field(default_factory=dict, description="records, by contig name")
    errors: dict[str, int] = Field(
        default_factory=dict,
        description="records with VRS_Error, by cause: ref_mismatch, ref_n (REF is N), position, other",
    )
    examples: dict[str, list[str]] = Field(
        default_factory=dict, description="the first few records with VRS_Error, by cause"
    )
    unknown_contigs: dict[str, int] = Field(
        default_factory=dict, description="records on contigs that the reference lacks, by contig name"
    )
    undeclared: dict[str, int] = Field(
        default_factory=dict,
        description="bases of contigs that records name and the header does not declare, 0 = unknown",
    )
    uneven: int = Field(
        default=0, description="records whose genotype columns do not match those of the header"
    )

    def add(self, other: Counts) -> None:
        """Add the counts of another part of the same VCF."""
        self.records += other.records
        self.ids += other.ids
        self.kept += other.kept
        self.uneven += other.uneven
        self.undeclared.update(other.undeclared)
        for mine, theirs in (
            (self.alleles, other.alleles),
            (self.contigs, other.contigs),
            (self.errors, other.errors),
            (self.unknown_contigs, other.unknown_contigs),
        ):
            for key, number in theirs.items():
                mine[key] = mine.get(key, 0) + number
        for cause, records in other.examples.items():
            for record in records:
                self.exemplify(cause, record)

    def exemplify(self, cause: str, record: str) -> None:
        """Keep the record as an example of that cause of VRS_Error, if it is among the first EXAMPLES."""
        kept = self.examples.setdefault(cause, [])
        if len(kept) < EXAMPLES:
            kept.append(record)


class Registered(Model):
    """What one run registered in the store."""

    alleles: int = Field(description="handed to the store, repeats left out where they are near each other")
    added: int | None = Field(description="of these, new to the store; None = written after the run")
    conflicts: int = Field(default=0, description="alleles of an ingested VCF whose VRS fields are wrong")

    @classmethod
    def total(cls, parts: Sequence[Registered]) -> Registered | None:
        """The sum of the parts; None for none."""
        if not parts:
            return None
        added = [part.added for part in parts if part.added is not None]
        return cls(
            alleles=sum(part.alleles for part in parts),
            added=sum(added) if len(added) == len(parts) else None,
            conflicts=sum(part.conflicts for part in parts),
        )


#: The worker's phases of a run; the other phases in ``seconds`` are the step's.
WORK = ("read", "annotate", "write", "register")


class RunReport(Model):
    """The report of a run; written beside the output, and to the ``--report`` file.

    ``docs/run-report-1.schema.json`` is this class as a JSON Schema.
    """

    schema_version: Literal[1] = 1  # an incompatible change adds one
    run_id: str
    input_name: str = Field(description="the file name of IN, or what stands for it")
    input_size: int = Field(description="bytes")
    input_sha256: str = Field(description="hex")
    output: str = Field(default="", description="OUT as the step was given it; empty = a stream")
    output_size: int = Field(description="bytes")
    output_sha256: str = Field(description="hex")
    options: AnnotateOptions | IngestOptions
    counts: Counts
    registered: Registered | None = Field(default=None, description="None where the worker has no store")
    seconds: dict[str, float] = Field(
        description="wall-clock seconds by phase. The worker's: read, annotate, write, register; of a VCF in "
        "pieces, their sums. The step's: stage, wait (the worker's are a part of it), collect"
    )
    records_per_second: float | None = Field(
        default=None, description="of the worker's phases; None = not reported, or too short to measure"
    )
    finished: str = Field(default="", description="when the worker was done: UTC, ISO 8601")
    worker: str = Field(default="", description="host, process and a token of the process that did it")
    versions: dict[str, str] = Field(default_factory=dict, description="of programs, by name")
    settings: dict[str, str] = Field(
        default_factory=dict, description="the worker's, by variable; no defaults, and no secrets"
    )
    sequences: dict[str, str] = Field(
        default_factory=dict,
        description="refget accession (SQ.…) of the reference's sequence, by contig name",
    )
    notes: tuple[str, ...] = Field(default=(), description="what the user should know")

    @classmethod
    def on(cls, ticket: Manifest, **found: Any) -> RunReport:
        """A report by this version of the program on the run of that ticket; ``found`` are further fields."""
        return cls(
            run_id=ticket.run_id,
            input_name=ticket.input_name,
            input_size=ticket.input_size,
            input_sha256=ticket.input_sha256,
            **{"versions": versions(), **found},
        )

    @classmethod
    def merged(cls, pieces: Sequence[RunReport], **whole: Any) -> RunReport:
        """One report on a VCF that was annotated in pieces; ``whole`` are the fields of the whole VCF.

        Counts and seconds are sums; of other fields that differ between pieces all values are listed.
        """
        counts, seconds = Counts(), Counter[str]()
        for piece in pieces:
            counts.add(piece.counts)
            seconds.update(piece.seconds)
        timed = sum(piece.counts.records for piece in pieces if piece.seconds.keys() & set(WORK))
        found: dict[str, Any] = {
            "run_id": _listed(piece.run_id for piece in pieces),
            "options": pieces[0].options,
            "counts": counts,
            "registered": Registered.total([piece.registered for piece in pieces if piece.registered]),
            "seconds": dict(seconds),
            "records_per_second": throughput(timed, seconds),
            "finished": max(piece.finished for piece in pieces),
            "worker": _listed(piece.worker for piece in pieces),
            "versions": _listed_by_key([piece.versions for piece in pieces]),
            "settings": _listed_by_key([piece.settings for piece in pieces]),
            "sequences": {name: sq for piece in pieces for name, sq in piece.sequences.items()},
            "notes": tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),
        }
        return cls(**{**found, **whole})

    def with_seconds(self, **seconds: float) -> RunReport:
        """The report with the seconds of further phases."""
        return self.model_copy(update={"seconds": {**self.seconds, **seconds}})


def _listed(values: Iterable[str]) -> str:
    """The distinct values, in the order of the pieces."""
    return ", ".join(dict.fromkeys(filter(None, values)))


def _listed_by_key(pieces: Sequence[Mapping[str, str]]) -> dict[str, str]:
    keys = dict.fromkeys(key for piece in pieces for key in piece)
    return {key: _listed(piece.get(key, "") for piece in pieces) for key in keys}


@cache
def versions() -> dict[str, str]:
    """The versions of this program, of VRS, of Python and of the main dependencies."""
    packages = {name: metadata.version(name) for name in ("celery", "pysam")}
    return {
        "anyvar-step": __version__,
        "vrs": VRS_VERSION,
        "python": platform.python_version(),
        **packages,
    }


def throughput(records: int, seconds: Mapping[str, float]) -> float | None:
    """Records per second of the worker's phases; None where these are not known or took no time."""
    work = sum(seconds.get(phase, 0.0) for phase in WORK)
    return round(records / work, 1) if work > 0 else None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a run's report."""
    version = RunReport.model_fields["schema_version"].default
    made = RunReport.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:anyvar-step:run-report:{version}",
        **made,
        "title": f"anyvar-step run report, version {version}",
    }


# -- what our web API adds to AnyVar's -------------------------------------------------------------------

#: Request header: the lease holder. Steps with the same input share a run; the last one's DELETE ends it.
HOLDER = "Anyvar-Step-Holder"
#: Response header to HEAD: the digest of the run's content, so that a caller's own run id names one input.
DIGEST = "Anyvar-Step-Digest"
#: Field of a failed run's body beside ``error`` and ``error_code``: the exception's name, for the exit code.
ERROR_CLASS = "error_class"
#: Fields of a 202's body beside AnyVar's, whose ``status`` is always PENDING: Celery's state, and progress.
STATE, PROGRESS = "state", "progress"
#: ``Retry-After`` of a 202, seconds, as AnyVar sends it.
RETRY_AFTER = 2

_HOLDER = re.compile(r"[A-Za-z0-9]{1,64}")


def is_holder(text: str) -> bool:
    """Whether the text can name a lease holder."""
    return _HOLDER.fullmatch(text) is not None


def run_path(run_id: str) -> str:
    """The path of a run, relative to the web API's address."""
    return f"vcf/{quote(run_id, safe='')}"
