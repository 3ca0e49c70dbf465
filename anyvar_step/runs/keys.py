"""The names that step, workers and AnyVar share in Redis and Celery (docs/contract.md#redis-keys).

Kinds of our own keys, ``anyvar_step-<kind>-<name>``; 1.1.0 has the same names and formats:

==========  =========================================================================================
attempts    by content digest: number of the last attempt
cancel      by run id: the cancel flag, 1
claim       by run id: the owner of the lock
current     by content digest: the current run of that content
leases      by run id: sorted set of holders by the time at which the lease expires; +inf for detached ones
published   by run id: 0 while the id is reserved, 1 once the message is queued
sent        by run id: bytes of the result that were sent over HTTP, from 0 on
told        sorted set of delivered runs by the time of the delivery
turn        by digest of the work dir's path: when it was swept last
==========  =========================================================================================

The registry of workers, which 1.1.0 does not know:

============  ===================================================================================
worker        by worker id: its record as JSON; expires without a heartbeat
workers       by queue: set of worker ids
queues        set of queues
worker-names  set of the names in Celery of all workers that ever registered
probe         by worker id: list of tokens of probes that it is to answer
answers       by token: list of answers
============  ===================================================================================
"""

from __future__ import annotations

from anyvar_step.models import NAME

#: AnyVar's task names; its workers and ours serve them alike.
ANNOTATE_VCF = "anyvar.queueing.celery_worker.annotate_vcf"
INGEST_ANNOTATED_VCF = "anyvar.queueing.celery_worker.ingest_annotated_vcf"
#: AnyVar's workers alone serve this one.
REGISTER_VARIATIONS = "anyvar.queueing.celery_worker.register_variations"

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
    """The same for a step that reaches no Redis and counts for itself: its ids differ from the others."""
    return f"{digest[:32]}-http-{attempt}"


#: Entries that the list of malformed messages keeps, the newest ones.
MALFORMED_KEPT = 1000
#: Seconds for which the number of a message's returns to the queue is remembered.
TASK_RETURNS_EXPIRE = 86_400


def malformed_key(queue: str) -> str:
    """The list, on the broker, of entries of that queue that are no messages."""
    return f"{queue}.malformed"
