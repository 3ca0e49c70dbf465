"""A worker's entry in the registry, and its answers to the probes of ``anyvar-step check``."""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import celery
from celery import signals
from celery.worker import state

from anyvar_step import __version__, reference
from anyvar_step.errors import StepError, from_os
from anyvar_step.runs.connection import backend, now
from anyvar_step.runs.work_dir import WorkDir, answer
from anyvar_step.runs.worker_registry import (
    ProbeAnswer,
    ReferenceRecord,
    RegistryHeartbeat,
    Trouble,
    WorkerRecord,
    WorkerRegistry,
)
from anyvar_step.settings import Settings, masked
from anyvar_step.vrs.engine import engine_name
from anyvar_step.worker.job import check_store

_logger = logging.getLogger(__name__)

#: Probes that are answered at once; one that hangs on a dead file system must not be joined by ever more.
MOST_ANSWERS = 4

Found = TypeVar("Found")


def join_registry(
    app: celery.Celery,
    settings: Settings,
    workdir: WorkDir,
    *,
    processes: int,
    references: dict[str, ReferenceRecord],
) -> None:
    """Make the app's worker register when it is ready, and unregister when it ends."""
    record = WorkerRecord(
        id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        name="",
        host=socket.gethostname(),
        user=_user(),
        pid=os.getpid(),
        processes=processes,
        queues=(settings.task_default_queue,),
        tasks=tuple(sorted(task for task in app.tasks if not task.startswith("celery."))),
        version=__version__,
        engine=engine_name(settings.engine),
        celery=celery.__version__,
        work_dir=str(workdir.root),
        references=references,
        seqrepo=masked(settings.seqrepo_uri),
        store=masked(settings.storage_uri),
        limits=settings.limits(),
    )
    answerer = ProbeAnswerer(settings, workdir, record.id)
    heartbeat = RegistryHeartbeat(settings, record, _received, answerer.begin)

    signals.worker_ready.connect(lambda sender, **_: heartbeat.start(str(sender.hostname)), weak=False)
    signals.worker_shutdown.connect(lambda **_: heartbeat.stop(), weak=False)


def _received() -> list[str]:
    """The ids of the runs that this worker has received and not finished."""
    for _ in range(10):
        try:
            return [str(request.id) for request in state.reserved_requests]
        except RuntimeError:  # the event loop changed the set meanwhile
            continue
    return []


def reference_record(contigs: list[Any]) -> ReferenceRecord:
    """What the registry says of a reference with these contigs."""
    lines = "\n".join(sorted(f"{contig.name} {contig.accession}" for contig in contigs))
    return ReferenceRecord(contigs=len(contigs), digest=hashlib.sha256(lines.encode()).hexdigest())


class ProbeAnswerer:
    """Answers probes in threads of its own: the heartbeat goes on, whatever the file system does."""

    def __init__(self, settings: Settings, workdir: WorkDir, worker_id: str) -> None:
        self._settings = settings
        self._workdir = workdir
        self._id = worker_id
        self._threads: list[threading.Thread] = []

    def begin(self, token: str) -> None:
        """Begin to answer the probe of that token."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MOST_ANSWERS:
            _logger.warning("%d earlier probes are not answered yet; does a file system hang?", MOST_ANSWERS)
            return
        thread = threading.Thread(target=self._answer, args=(token,), name="probe", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _answer(self, token: str) -> None:
        try:
            WorkerRegistry(self._settings).post_answer(token, self._examine(token))
        except StepError as trouble:
            _logger.warning("cannot answer a check: %s", trouble)

    def _examine(self, token: str) -> ProbeAnswer:
        name, trouble = _attempt(lambda: answer(self._workdir, token))
        _, store_trouble = _attempt(lambda: check_store(self._settings))
        _, seqrepo_trouble = _attempt(self._check_seqrepo)
        opened = {assembly: _attempt(partial(self._open, assembly)) for assembly in self._settings.references}
        return ProbeAnswer(
            id=self._id,
            answer=name or "",
            work_dir_trouble=trouble,
            reference_troubles={assembly: wrong for assembly, (_, wrong) in opened.items() if wrong},
            seqrepo_trouble=seqrepo_trouble,
            store_trouble=store_trouble,
            clock=self._clock(),
        )

    def _check_seqrepo(self) -> None:
        if self._settings.seqrepo_uri:
            reference.check(self._settings.seqrepo_uri)

    def _open(self, assembly: str) -> None:
        reference.for_assembly(
            self._settings.references, assembly, aliases=self._settings.reference_aliases
        ).close()

    def _clock(self) -> float:
        with backend(self._settings) as client:
            return time.time() - now(client)


def _attempt(examine: Callable[[], Found]) -> tuple[Found | None, Trouble | None]:
    """The result, or the failure."""
    try:
        return examine(), None
    except (StepError, OSError) as error:
        failed = from_os(error, "the worker failed to examine this") if isinstance(error, OSError) else error
        return None, Trouble(kind=type(failed).__name__, what=failed.what, remedy=failed.remedy)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
