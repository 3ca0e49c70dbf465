"""What a worker does for one run: lock, annotate or ingest, publish. Knows no Celery; the tasks call it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.signals import worker_process_shutdown

from anyvar_step import pipeline, reference
from anyvar_step.errors import ConfigurationError, InvalidInput, RunCancelled, RunLost, StepError, from_os
from anyvar_step.files import remove_tree
from anyvar_step.models import AnnotateOptions, IngestOptions, Manifest, State
from anyvar_step.pipeline.assembly import SAMPLE, AssemblyCheck
from anyvar_step.runs.connection import LONG_RETRY
from anyvar_step.runs.state import RunState
from anyvar_step.runs.work_dir import (
    CONFLICTS_SUFFIX,
    MANIFEST,
    OUTPUT_SUFFIX,
    REPORT_SUFFIX,
    WorkDir,
    index_of,
)
from anyvar_step.runs.worker_lock import LeaseExpired, LockedElsewhere, RunLock
from anyvar_step.settings import Settings, chosen
from anyvar_step.store import open_store
from anyvar_step.store.registrar import Registrar, Registration

_logger = logging.getLogger(__name__)


def prepare_store(settings: Settings) -> None:
    """Make the tables of the configured store before the first run, and raise what would fail each run."""
    begin, store = time.monotonic(), open_store(settings)
    store.prepare()
    store.close()
    _logger.info("the store is ready in %.1f s", time.monotonic() - begin)


def check_store(settings: Settings) -> None:
    """Raise what would keep runs from registering alleles, as far as that can be seen beside runs at work.

    A DuckDB file belongs to the one process that has it open: asking for it here would disturb a run.
    """
    if settings.storage_uri and not settings.storage_uri.startswith("duckdb"):
        store = open_store(settings)
        store.prepare()
        store.close()


class Registrations:
    """The registrations of this process's runs; its writers start with the first one, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registrar: Registrar | None = None
        worker_process_shutdown.connect(self.drain)

    def begin(self, run_id: str) -> Registration | None:
        """The registration of that run; None where there is no store."""
        if not self._settings.storage_uri:
            return None
        if self._registrar is None:
            self._registrar = Registrar(
                lambda: open_store(self._settings), patience=self._settings.store_patience
            )
        return self._registrar.begin(f"run {run_id}")

    def drain(self, **_: Any) -> None:
        """Write what runs with ``allow_async_write`` have left; Celery calls this when the process ends."""
        if self._registrar is not None:
            self._registrar.close()
            self._registrar = None


References = Callable[[str], reference.Reference]
#: Called after each finished run with its options and its outcome.
Observe = Callable[[AnnotateOptions | IngestOptions, pipeline.Outcome], None]


def unobserved(options: AnnotateOptions | IngestOptions, outcome: pipeline.Outcome) -> None:
    """Do nothing: the ``Observe`` of a worker without metrics."""


class NothingToDo(Exception):
    """The run has ended elsewhere, is at work elsewhere or was cancelled: its state stays as it is."""


def fail_if_alleles_left_out(outcome: pipeline.Outcome) -> None:
    """Raise InvalidInput where an ingestion without validation left alleles out.

    Its caller is AnyVar's web API, which has no other way to report them (docs/anyvar.md).
    """
    if outcome.registered and (left_out := outcome.registered.conflicts):
        raise InvalidInput(
            f"{left_out} alleles were left out since their identifiers do not follow from their location and "
            f"state; the other {outcome.registered.alleles} are registered",
            "Ingest with require_validation=true, whose conflict log names them",
        )


class Job:
    """One delivery of one run: the staged VCF at ``path`` is annotated or ingested, as its options say."""

    def __init__(
        self,
        settings: Settings,
        references: References,
        registrations: Registrations,
        run_id: str,
        path: Path,
        options: AnnotateOptions | IngestOptions,
        observe: Observe = unobserved,
        timed_out: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._references = references
        self._registrations = registrations
        self._run_id = run_id
        self._path = path
        self._options = options
        self._observe = observe
        self._timed_out = timed_out
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._workdir = WorkDir.of(settings)
        annotates = isinstance(options, AnnotateOptions)
        self._output = _with_suffix(path, OUTPUT_SUFFIX if annotates else CONFLICTS_SUFFIX)
        without_result = isinstance(options, IngestOptions) and not options.require_validation
        self._result = "" if without_result else str(self._output)

    def run(self) -> str:
        """Do the run, unless an earlier delivery has done it; the task's result, as AnyVar's tasks give it.

        That is the path of the published output or conflict log, and nothing after an ingestion without
        validation, whose log a step finds all the same.

        Raises NothingToDo for a duplicate delivery and for a cancelled run, StepErrors for a failed one.
        """
        self._workdir.contained(self._path)
        try:
            with RunLock(self._settings, self._run_id, self._worker, self._timed_out) as lock:
                if (finished := self._finished()) is not None:
                    return finished
                lock.start_heartbeat()
                return self._work_or_drop_input(lock)
        except (RunCancelled, LockedElsewhere, RunLost) as reason:
            if isinstance(reason, RunCancelled):
                with RunState(self._settings, LONG_RETRY) as state:
                    if isinstance(reason, LeaseExpired):  # a step that waits after all may attempt it again
                        state.mark_lost(self._run_id, str(reason))
                    else:
                        state.write(self._run_id, State.REVOKED)
                if self._path.parent.name == self._run_id:  # its step may have ended without cleaning up
                    remove_tree(self._path.parent)
            raise NothingToDo(str(reason)) from reason
        except OSError as error:
            raise from_os(error, f"run {self._run_id} failed on {socket.gethostname()}") from error

    def _finished(self) -> str | None:
        """The result if an earlier delivery has published it: SUCCESS must never become FAILURE."""
        with RunState(self._settings, LONG_RETRY) as state:
            meta = state.meta(self._run_id)
            if state.cancel_requested(self._run_id):
                raise RunCancelled(f"run {self._run_id} was cancelled")
        if meta and meta["status"] == State.SUCCESS:
            return str(meta["result"])
        return self._result if self._output.exists() and not self._path.exists() else None

    def _work_or_drop_input(self, lock: RunLock) -> str:
        try:
            return self._work(lock)
        except RunCancelled:
            raise
        except Exception as error:
            if self._was_cancelled():  # its files are removed at the same time, which is the error
                raise RunCancelled(f"run {self._run_id} was cancelled") from error
            if not (self._path.parent / MANIFEST).exists():
                # No step looks after this input, and AnyVar's web API leaves it behind.
                with contextlib.suppress(OSError):
                    self._path.unlink(missing_ok=True)
            raise

    def _was_cancelled(self) -> bool:
        try:
            with RunState(self._settings) as state:
                return state.cancel_requested(self._run_id)
        except StepError:
            return False

    def _work(self, lock: RunLock) -> str:
        path = self._path
        self._workdir.await_file(path, gone=self._forgotten)
        self._workdir.contained(path)  # now that it is there
        manifest = self._manifest()
        part = self._workdir.new_part(self._output)
        index = Path(f"{part}.tbi")
        _logger.info("run %s: working on %s", self._run_id, path)
        if manifest is None and not self._settings.storage_uri:
            _logger.warning("run %s of AnyVar's web API registers no alleles: no store", self._run_id)
        try:
            outcome = self._annotate_or_ingest(part, manifest, lock)
            lock.check()
            if manifest:
                report = outcome.report(manifest, self._worker, chosen(self._settings))
                self._workdir.write(_with_suffix(path, REPORT_SUFFIX), report.model_dump_json().encode())
            if index.exists():
                self._workdir.write(index_of(self._output, outcome.sha256), index.read_bytes())
            if manifest or self._result:
                self._publish(part)
        finally:
            for leftover in (part, index):
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
        path.unlink(missing_ok=True)  # only now, as AnyVar's worker does
        self._observe(self._options, outcome)
        _logger.info("run %s: %s", self._run_id, outcome.summary)
        return self._result

    def _annotate_or_ingest(self, part: Path, manifest: Manifest | None, lock: RunLock) -> pipeline.Outcome:
        if isinstance(self._options, AnnotateOptions):
            return self._annotate(self._options, part, manifest, lock)
        return self._ingest(self._options, part, manifest, lock)

    def _annotate(
        self, options: AnnotateOptions, part: Path, manifest: Manifest | None, lock: RunLock
    ) -> pipeline.Outcome:
        return pipeline.annotate_file(
            self._path,
            part,
            self._references(options.assembly),
            options,
            name=manifest.input_name if manifest else self._path.name,
            output_format=manifest.output_format if manifest else "v",
            level=manifest.compress_level if manifest else 6,
            existing=manifest.existing if manifest else "replace",
            command=manifest.command if manifest else "",
            check=self._assembly_check(manifest),
            index=bool(manifest and manifest.index),
            on_progress=lock.report,
            registration=self._registrations.begin(self._run_id),
            threads=self._settings.threads,
            engine=self._settings.engine,
        )

    def _ingest(
        self, options: IngestOptions, part: Path, manifest: Manifest | None, lock: RunLock
    ) -> pipeline.Outcome:
        registration = self._registrations.begin(self._run_id)
        if registration is None and not options.require_validation:
            raise ConfigurationError(
                "the worker has no store to ingest into", "Start it with ANYVAR_STORAGE_URI"
            )
        outcome = pipeline.ingest_file(
            self._path,
            part,
            self._references(options.assembly),
            options,
            name=manifest.input_name if manifest else self._path.name,
            check=self._assembly_check(manifest),
            on_progress=lock.report,
            registration=registration,
            engine=self._settings.engine,
        )
        if manifest is None and not options.require_validation:
            fail_if_alleles_left_out(outcome)
        return outcome

    def _assembly_check(self, manifest: Manifest | None) -> AssemblyCheck:
        """How the run is judged; one of AnyVar's own web API (no manifest) by its first records alone.

        AnyVar answers a smaller VCF of another assembly with VRS_Error in its records.
        """
        assembly = self._options.assembly
        if manifest is None:
            return AssemblyCheck(assembly, self._path.name, least=SAMPLE)
        return AssemblyCheck(assembly, manifest.input_name, force=manifest.force, piece=manifest.piece)

    def _publish(self, part: Path) -> None:
        try:
            self._workdir.publish(part, self._output)
        except FileNotFoundError:
            raise RunLost(f"the folder of run {self._run_id} was deleted while the run was active") from None

    def _manifest(self) -> Manifest | None:
        """The step's manifest; None for a run of AnyVar's own web API, which writes none."""
        path = self._path
        manifest = self._workdir.manifest(path.parent)
        if manifest is None or manifest.run_id != self._run_id:
            return None
        if path.stat().st_size != manifest.input_size:
            self._workdir.await_file(path, manifest.input_size, gone=self._forgotten)
        return manifest

    def _forgotten(self) -> bool:
        """Whether the step has collected or cancelled the run, so that its files may be gone for good."""
        with RunState(self._settings, LONG_RETRY) as state:
            return state.meta(self._run_id) is None or state.cancel_requested(self._run_id)


def _with_suffix(path: Path, suffix: str) -> Path:
    """The file that goes with the staged input: the suffix is appended to the whole name."""
    return path.with_name(path.name + suffix)
