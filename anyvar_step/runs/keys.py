"""The names that step, workers and AnyVar share in Redis and Celery (CONTRACTS.md §2)."""

from __future__ import annotations

from anyvar_step.models import NAME

#: AnyVar's task names; its workers and ours serve them alike.
ANNOTATE_VCF = "anyvar.queueing.celery_worker.annotate_vcf"
INGEST_ANNOTATED_VCF = "anyvar.queueing.celery_worker.ingest_annotated_vcf"

#: The remote-control command by which our workers are asked what they see; AnyVar's do not know it.
LOOK = "anyvar_step_look"
#: The attribute of our workers' tasks that holds their version, by which they are told from AnyVar's.
VERSION_MARK = "anyvar_step"

#: Before every key in the result backend.
KEY_PREFIX = "anyvar_"


def meta_key(run_id: str) -> str:
    """The key under which Celery keeps the run's state and result."""
    return f"{KEY_PREFIX}celery-task-meta-{run_id}"


def step_key(kind: str, name: str) -> str:
    """A key of our own, beside Celery's."""
    return f"{KEY_PREFIX}step-{kind}-{name}"


def is_run_id(text: str) -> bool:
    """Whether the text can be a run id: it becomes a folder's name, a Redis key and a part of a URL."""
    return NAME.fullmatch(text) is not None and ".." not in text


def run_id_for(digest: str, attempt: int) -> str:
    """The id of the attempt-th run of that content; a revoked Celery id can never run again."""
    return f"{digest[:32]}-{attempt}"


def remote_run_id_for(digest: str, attempt: int) -> str:
    """The same for a step that sees no board, and so counts for itself: its ids must not meet the others."""
    return f"{digest[:32]}-http-{attempt}"
