"""A step over a transport: submit, wait, deliver, forget; for annotation and for ingestion."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from anyvar_step.client.deliver import Delivered, Target, deliver
from anyvar_step.client.signals import interruptible, settle
from anyvar_step.client.source import InputSource
from anyvar_step.client.transport import (
    Fetched,
    Transport,
    cancel_on_failure,
    end_failed,
    forget_delivered,
    forget_if_corrupt,
)
from anyvar_step.client.wait import Patience, Watch, wait_all
from anyvar_step.errors import (
    ConfigurationError,
    CorruptFile,
    FileTrouble,
    RunCancelled,
    RunLost,
    Unavailable,
)
from anyvar_step.files import copy_and_hash, publish, temporary
from anyvar_step.models import Counts, IngestOptions, Manifest, RunReport, RunRequest, RunStatus

_logger = logging.getLogger(__name__)

#: Attempts at a run that is shared: another step may collect or cancel it first.
SHARED_TRIES = 100

#: Delivers the output of a run that has ended well and forgets the run; its report.
Collect = Callable[[Manifest, RunStatus], RunReport]


def run(
    transport: Transport,
    source: InputSource,
    request: RunRequest,
    collect: Collect,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Submit, wait and collect; the run's report with the step's seconds.

    Where the run was another step's, too, and that one collected or cancelled it first, all over again.
    Raises a StepError; its exit code says whether to run it again.
    """
    with interruptible():
        for attempt in range(1, SHARED_TRIES + 1):
            begin, found = time.monotonic(), True
            try:
                with cancel_on_failure(transport):
                    ticket, found = submit(transport, source, request)
                    staged = time.monotonic()
                    ticket, status = finished(transport, ticket, patience, watch)
                    took = {"stage": staged - begin, "wait": time.monotonic() - staged}
                    report = collect(ticket, status)
                return report.model_copy(update={"seconds": {**report.seconds, **took}})
            except (RunLost, RunCancelled):
                if not found or source.is_stream or attempt == SHARED_TRIES:
                    raise
    raise AssertionError("the loop returns or raises")


def refuse_for_anyvars_workers(transport: Transport, request: RunRequest, *, ndjson: bool = False) -> None:
    """Raise ConfigurationError where only AnyVar's own workers serve the queue, and cannot do what is asked.

    Nothing is submitted then. Where no worker is there yet, the run fails at its end instead.
    """
    asked = {
        f"do --existing {request.existing}: they replace": request.existing != "replace",
        "tell the sequences that --ndjson needs": ndjson,
        "ingest literal alleles, so that any SNV fails the run": isinstance(request.options, IngestOptions),
    }
    cannot = [words for words, wanted in asked.items() if wanted]
    if cannot and transport.only_anyvars_workers():
        raise ConfigurationError(
            f"only AnyVar's own workers serve the queue, and they cannot {cannot[0]}",
            "Leave the option out, or start an anyvar-step worker on the queue"
            if not isinstance(request.options, IngestOptions)
            else "Start an anyvar-step worker on the queue",
        )


def submit(transport: Transport, source: InputSource, request: RunRequest) -> tuple[Manifest, bool]:
    """Check the input and hand it over; the ticket, and whether its run was at work already."""
    source.check()
    with source.open() as raw:
        ticket, found = transport.submit(raw, source.name, request)
    _logger.info("run %s %s", ticket.run_id, "found at work" if found else "submitted")
    return ticket, found


def finished(
    transport: Transport, ticket: Manifest, patience: Patience, watch: Watch
) -> tuple[Manifest, RunStatus]:
    """Wait until the run has ended well: the ticket of its last attempt, and the 200 it ended with."""
    tickets = [ticket]
    _, status = next(wait_all(transport, tickets, patience, watch))
    if status.status_code != 200:
        raise end_failed(transport, tickets[0], status)
    watch(status)
    return tickets[0], status


def log_notes(report: RunReport) -> None:
    """Log the notes on a run that went well; each names its VCF."""
    for note in report.notes:
        _logger.warning("%s", note)


def report_of(
    ticket: Manifest, fetched: Fetched, delivered: Delivered, source: InputSource | None = None
) -> RunReport:
    """Our worker's report, or what OUT and ``source`` tell of AnyVar's run; with OUT's size and digest."""
    output = {"output_size": delivered.size, "output_sha256": delivered.sha256}
    if fetched.report:
        return fetched.report.model_copy(update=output)
    # Imported here: it needs the engine, and our own workers write reports.
    from anyvar_step.pipeline.assembly import notes_on

    counts = delivered.counts
    return RunReport.on(
        ticket,
        options=ticket.options,
        counts=counts,
        seconds={},
        notes=(
            *(source.check() if source else ()),
            *notes_on(counts, ticket.options.assembly, ticket.input_name),
        ),
        **output,
    )


def annotate(
    transport: Transport,
    source: InputSource,
    target: Target,
    request: RunRequest,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Annotate ``source`` into ``target``; the run's report.

    Raises a StepError, whose exit code says whether to run it again; OUT is then unchanged.
    """
    refuse_for_anyvars_workers(transport, request, ndjson=target.side_outputs.ndjson is not None)

    def collected(ticket: Manifest, status: RunStatus) -> RunReport:
        return collect(transport, ticket, status, target, source)

    return run(transport, source, request, collected, patience=patience, watch=watch)


def collect(
    transport: Transport, ticket: Manifest, status: RunStatus, target: Target, source: InputSource | None
) -> RunReport:
    """Deliver a finished run's output, and only then forget the run."""
    begin = time.monotonic()
    with forget_if_corrupt(transport, ticket), transport.fetch(ticket, status) as fetched:
        delivered = deliver(fetched, ticket, target, lambda: source.count() if source else None)
    forget_delivered(transport, ticket)
    report = report_of(ticket, fetched, delivered, source)
    log_notes(report)
    return report.model_copy(update={"seconds": {**report.seconds, "collect": time.monotonic() - begin}})


def collect_now(transport: Transport, ticket: Manifest, target: Target) -> RunReport:
    """Deliver the output of a run that has finished already; Unavailable where it has not."""
    status = transport.status(ticket.run_id)
    if status.running:
        raise Unavailable(f"run {ticket.run_id} has not ended yet", "Wait for it: anyvar-step wait")
    if status.missing:
        raise RunLost(f"run {ticket.run_id} is not known", "It was collected, cancelled, or has expired")
    if status.status_code != 200:
        raise end_failed(transport, ticket, status)
    report = collect(transport, ticket, status, target, None)
    return report.model_copy(update={"seconds": {**report.seconds, **_waited(ticket, report)}})


def _waited(ticket: Manifest, report: RunReport) -> dict[str, float]:
    """The seconds from submitting to the worker's end, where both are known; hosts' clocks may differ."""
    if not ticket.submitted or not report.finished:
        return {}
    took = datetime.fromisoformat(report.finished) - datetime.fromisoformat(ticket.submitted)
    return {"wait": max(0.0, took.total_seconds())}


def ingest(
    transport: Transport,
    source: InputSource,
    conflicts: Path | None,
    request: RunRequest,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Have the alleles of ``source`` registered; the run's report.

    The conflict log goes to ``conflicts``, if given. Raises a StepError; its exit code says whether to run it
    again.
    """
    refuse_for_anyvars_workers(transport, request)

    def collected(ticket: Manifest, status: RunStatus) -> RunReport:
        return _collect(transport, ticket, status, conflicts)

    return run(transport, source, request, collected, patience=patience, watch=watch)


def _collect(transport: Transport, ticket: Manifest, status: RunStatus, conflicts: Path | None) -> RunReport:
    """Deliver the conflict log, and only then forget the run."""
    with forget_if_corrupt(transport, ticket), transport.fetch(ticket, status) as fetched:
        delivered = _deliver(fetched, conflicts) if conflicts else Delivered(0, "", Counts())
    forget_delivered(transport, ticket)
    report = fetched.report or report_of(ticket, fetched, delivered)
    log_notes(report)
    return report


def _deliver(fetched: Fetched, conflicts: Path) -> Delivered:
    """Publish the conflict log as a whole."""
    with temporary(conflicts) as part:
        try:
            with fetched.path.open("rb") as log, part.open("wb") as out:
                size, sha256 = copy_and_hash(log, out)
        except FileNotFoundError:
            raise FileTrouble(
                "the worker wrote no conflict log", "AnyVar's own does so with --require-validation only"
            ) from None
        if fetched.report and sha256 != fetched.report.output_sha256:
            raise CorruptFile(
                f"{fetched.path} is not what the worker wrote", "Check the shared filesystem, run it again"
            )
        settle()
        publish(part, conflicts)
    return Delivered(size, sha256, Counts())
