"""What travels between the rooms: runs, alleles and reports; typed, and frozen but for counts."""

from anyvar_step.models.alleles import KeptAllele
from anyvar_step.models.report import EXAMPLES, WORK, Counts, Registered, RunReport, throughput, versions
from anyvar_step.models.runs import (
    LONGEST_COMMAND,
    NAME,
    AnnotateOptions,
    CommandLine,
    CompressLevel,
    Existing,
    IngestOptions,
    Manifest,
    Model,
    OutputFormat,
    Progress,
    RunRequest,
    RunStatus,
    State,
    Wishes,
)

__all__ = [
    "EXAMPLES",
    "LONGEST_COMMAND",
    "NAME",
    "WORK",
    "AnnotateOptions",
    "CommandLine",
    "CompressLevel",
    "Counts",
    "Existing",
    "IngestOptions",
    "KeptAllele",
    "Manifest",
    "Model",
    "OutputFormat",
    "Progress",
    "Registered",
    "RunReport",
    "RunRequest",
    "RunStatus",
    "State",
    "Wishes",
    "throughput",
    "versions",
]
