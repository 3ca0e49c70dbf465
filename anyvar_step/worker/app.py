"""Worker start-up: check the requirements, prepare the references and the store once, serve the queue."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker.consumer.tasks import Tasks

from anyvar_step import reference
from anyvar_step.errors import StepError, Unavailable
from anyvar_step.runs.connection import ping
from anyvar_step.runs.queue import make_app
from anyvar_step.runs.sweep import SWEEP_EVERY, sweep_if_due
from anyvar_step.runs.work_dir import WorkDir
from anyvar_step.runs.worker_registry import ReferenceRecord
from anyvar_step.settings import Settings, configure_logging
from anyvar_step.worker import broker
from anyvar_step.worker.job import Observe, prepare_store, unobserved
from anyvar_step.worker.registration import join_registry, reference_record
from anyvar_step.worker.shutdown import Lifetime, install_drain
from anyvar_step.worker.tasks import register

_logger = logging.getLogger(__name__)


def schedule_sweeps(app: Celery, settings: Settings, workdir: WorkDir) -> None:
    """Make the app's worker sweep when it is ready, and then every SWEEP_EVERY seconds if no other has.

    It does so in a thread of its own, one sweep at a time.
    """

    def sweep() -> None:
        try:
            sweep_if_due(settings, workdir)
        except (StepError, OSError) as trouble:
            _logger.warning("cannot sweep the work dir: %s", trouble)

    class Sweeping(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
        """Bootstep that Celery calls when the event loop starts and when the connection ends."""

        requires = (Tasks,)
        timer: Any = None
        thread: threading.Thread | None = None

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:  # noqa: ARG002
            self.begin_sweep()
            self.timer = hub.call_repeatedly(SWEEP_EVERY, self.begin_sweep)

        def begin_sweep(self) -> None:
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=sweep, name="sweep", daemon=True)
                self.thread.start()

        def stop(self, consumer: Any) -> None:  # noqa: ARG002
            if self.timer is not None:
                self.timer.cancel()

    app.steps["consumer"].add(Sweeping)


#: Seconds for which an answer to a probe waits for a shared file system to show it.
PROBE_LATENCY = 10.0


def serve(
    settings: Settings,
    *,
    concurrency: int,
    name: str,
    loglevel: str,
    lifetime: Lifetime,
    metrics_at: tuple[str, int] | None = None,
) -> None:
    """Serve AnyVar's tasks until the end of its lifetime or SIGTERM: what is at work is finished.

    A second SIGTERM requeues the started runs, too. ``metrics_at`` is the host and port of its metrics.

    Raises ConfigurationError, Unavailable or FileTrouble, before the first run, for what would fail each.
    """
    configure_logging(settings)
    workdir = WorkDir.of(settings, PROBE_LATENCY)
    workdir.check()
    settings.require_reference()
    ping(settings.broker_url, "CELERY_BROKER_URL")
    ping(settings.backend_url, "CELERY_BACKEND_URL")
    if settings.storage_uri:
        prepare_store(settings)
    else:
        _logger.warning("ANYVAR_STORAGE_URI is not set: this worker registers alleles nowhere")
    references = _prepare_references(settings)
    app = make_app(settings)
    broker.install(app, settings)
    # Gossip and mingle exchange messages between workers: not needed here, and each costs connections.
    quiet = ["--without-gossip", "--without-mingle"]
    arguments = ["--concurrency", str(concurrency), "--hostname", name, "--loglevel", loglevel]
    colours = ["--no-color"] if os.environ.get("NO_COLOR") else []
    observing: AbstractContextManager[Observe] = nullcontext(unobserved)
    if metrics_at is not None:
        from anyvar_step.worker.metrics import metrics

        observing = metrics(settings, *metrics_at, processes=concurrency)
    with observing as observe:
        register(app, settings, observe)
        install_drain(app, lifetime)
        schedule_sweeps(app, settings, workdir)
        join_registry(app, settings, workdir, processes=concurrency, references=references)
        _serve(app, [*colours, "worker", *arguments, *quiet, "--pool", "prefork"])


def _serve(app: Celery, arguments: list[str]) -> None:
    """Run Celery's worker until it ends. Celery logs a premature end but exits 0: raise instead."""
    workers: list[Any] = []
    signals.worker_init.connect(lambda sender, **_: workers.append(sender), weak=False)
    # Garbage collection would copy the pages of the objects that a process inherits from its parent.
    signals.worker_process_init.connect(lambda **_: gc.freeze(), weak=False)
    app.worker_main(arguments)
    if any(worker.exitcode == Unavailable.exit_code for worker in workers):
        raise Unavailable(
            "the broker has not served this worker for ANYVAR_STEP_BROKER_PATIENCE seconds",
            "Check Redis and its replication, then start the worker again",
        )
    if any(worker.exitcode for worker in workers):
        raise StepError("the worker has ended for the reason above", "Correct the cause and start it again")


def _prepare_references(settings: Settings) -> dict[str, ReferenceRecord]:
    """Index and digest each FASTA once, so that the worker's processes find it done; what they are.

    A SeqRepo for whatever assembly is asked for has nothing to prepare: it only must be there.
    """
    if not settings.references:
        reference.check(settings.seqrepo_uri)
    records = {}
    for assembly in settings.references:
        opened = reference.for_assembly(settings.references, assembly, aliases=settings.reference_aliases)
        begin = time.monotonic()
        contigs = opened.contigs()
        opened.close()
        records[assembly] = reference_record(contigs)
        _logger.info("%s: %d contigs, ready in %.1f s", assembly, len(contigs), time.monotonic() - begin)
    return records
