"""A step in this process: the pipeline reads IN and writes OUT itself, without Redis, worker or work dir.

Outputs, reports and exit codes are those of a run on a worker of ours. What needs a worker or a queue has no
effect here: chunks, leases, resubmission, time limits of workers.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvar_step import pipeline, reference, store
from anyvar_step.client.cancellation import interruptible, raise_swallowed, settle
from anyvar_step.client.deliver import Target, become_bcf, published, side_outputs
from anyvar_step.client.source import InputSource
from anyvar_step.client.step import log_notes
from anyvar_step.client.wait import Watch
from anyvar_step.errors import ConfigurationError, TimeLimitReached
from anyvar_step.files import publish, temporary
from anyvar_step.models import Progress, RunReport, RunRequest, RunStatus, State
from anyvar_step.pipeline.assembly import AssemblyCheck
from anyvar_step.runs.keys import run_id_for
from anyvar_step.runs.manifest import content_digest, manifest_of
from anyvar_step.runs.work_dir import Staged
from anyvar_step.settings import Settings, chosen

if TYPE_CHECKING:
    from anyvar_step.store.registrar import Registration

_logger = logging.getLogger(__name__)


@dataclass
class LocalRun:
    """One run in this process. ``timeout``: seconds after which it ends, None = never."""

    settings: Settings
    source: InputSource
    request: RunRequest
    timeout: float | None
    watch: Watch

    def __post_init__(self) -> None:
        self._begin = time.monotonic()
        self._size, self._sha256 = 0, hashlib.sha256()  # of the input, as far as it was read
        self._run_id = self.request.run_id or "local"  # made from the input, once all of it was read
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """The arguments that annotate_file and ingest_file have in common, while the block lasts."""
        settings, options = self.settings, self.request.options
        with (
            closing(
                reference.for_assembly(
                    settings.references,
                    options.assembly,
                    seqrepo=settings.seqrepo_uri,
                    aliases=settings.reference_aliases,
                )
            ) as opened,
            self._registering() as registration,
            self.source.open() as raw,
        ):
            yield {
                "source": raw,
                "reference": opened,
                "options": options,
                "name": self.source.name,
                "check": AssemblyCheck(options.assembly, self.source.name, force=self.request.force),
                "on_progress": self._follow,
                "registration": registration,
                "engine": settings.engine,
                "on_read": self._on_read,
            }

    @contextmanager
    def _registering(self) -> Iterator[Registration | None]:
        """The registration in the store, if there is one; its writers end with the block."""
        settings = self.settings
        if not settings.storage_uri:
            yield None
            return
        from anyvar_step.store.registrar import Registrar

        with closing(store.open_store(settings)) as prepared:
            prepared.prepare()
        registrar = Registrar(lambda: store.open_store(settings), patience=settings.store_patience)
        with closing(registrar):
            yield registrar.begin(f"the run of {self.source.name}")

    def _on_read(self, data: bytes) -> None:
        self._size += len(data)
        self._sha256.update(data)

    def _follow(self, progress: Progress) -> None:
        """Show the progress; raises where a signal was swallowed or the time is up."""
        raise_swallowed()
        if self.timeout is not None and time.monotonic() - self._begin > self.timeout:
            raise TimeLimitReached(
                f"the run of {self.source.name} did not end within --timeout {self.timeout:g} s",
                "Give it more time with a longer --timeout",
            )
        self.watch(
            RunStatus(
                run_id=self._run_id,
                status_code=202,
                status=State.PROGRESS,
                progress=progress.model_copy(update={"worker": self._worker}),
            )
        )

    def report(self, outcome: pipeline.Outcome) -> RunReport:
        """The report on the run."""
        raise_swallowed()
        self.watch(RunStatus(run_id=self._run_id, status_code=200, status=State.SUCCESS))
        _logger.info("%s: %s", self.source.name, outcome.summary)
        staged = Staged(Path(), "", self._size, self._sha256.hexdigest())
        content = content_digest(staged.sha256, self.request)
        run_id = self.request.run_id or run_id_for(content, 1)
        ticket = manifest_of(staged, self.source.name, self.request, content, run_id)
        report = outcome.report(ticket, self._worker, chosen(self.settings))
        return report.with_seconds(stage=0.0, wait=time.monotonic() - self._begin)


def annotate(
    settings: Settings,
    source: InputSource,
    target: Target,
    request: RunRequest,
    *,
    timeout: float | None = None,
    watch: Watch,
) -> RunReport:
    """Annotate ``source`` into ``target``; the run's report.

    ``settings`` name references, store, engine and threads. Raises a StepError, whose exit code says whether
    to run it again; OUT is then unchanged.
    """
    with interruptible():
        source.check()
        run = LocalRun(settings, source, request, timeout, watch)
        with side_outputs(target.side_outputs) as fill, published(target) as part:
            with run.opened() as arguments:
                outcome = pipeline.annotate_file(
                    target=part,
                    target_name=str(target.path or "standard output"),
                    output_format=request.output_format,
                    level=request.compress_level,
                    index=request.index,
                    existing=request.existing,
                    command=request.command,
                    threads=settings.threads,
                    **arguments,
                )
            report = run.report(outcome)
            fill(part, report)
            if target.bcf:
                size, sha256 = become_bcf(part, target, outcome.counts)
                report = report.model_copy(update={"output_size": size, "output_sha256": sha256})
            before = time.monotonic()
    report = report.with_seconds(collect=time.monotonic() - before)
    log_notes(report)
    return report


def ingest(
    settings: Settings,
    source: InputSource,
    conflicts: Path | None,
    request: RunRequest,
    *,
    timeout: float | None = None,
    watch: Watch,
) -> RunReport:
    """Register the alleles of ``source``; the run's report. Arguments and errors as ``annotate`` has them.

    The conflict log goes to ``conflicts``, if given.
    """
    if not (settings.storage_uri or request.options.model_dump().get("require_validation")):
        raise ConfigurationError(
            "there is no store to ingest into", "Name one with --store FILE.duckdb or ANYVAR_STORAGE_URI"
        )
    with interruptible():
        source.check()
        run = LocalRun(settings, source, request, timeout, watch)
        with temporary(conflicts) as part:
            with run.opened() as arguments:
                outcome = pipeline.ingest_file(target=part, **arguments)
            report = run.report(outcome)
            settle()
            if conflicts:
                publish(part, conflicts)
    log_notes(report)
    return report
