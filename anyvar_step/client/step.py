"""A step over a transport: submit, wait, deliver, forget; for annotation and for ingestion."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from anyvar_step.client.cancellation import cancel_on_failure, interruptible
from anyvar_step.client.deliver import Delivered, Target, deliver, deliver_conflicts
from anyvar_step.client.source import InputSource
from anyvar_step.client.transport import (
    Fetched,
    Transport,
    end_failed,
    fetch_or_forget,
    forget_delivered,
)
from anyvar_step.client.wait import Patience, Watch, wait_all
from anyvar_step.errors import ConfigurationError, RunCancelled, RunLost, Unavailable
from anyvar_step.models import IngestOptions, Manifest, RunReport, RunRequest, RunStatus

_logger = logging.getLogger(__name__)

#: Attempts at a run that is shared: another step may collect or cancel it first.
SHARED_TRIES = 100

#: Publishes what was fetched of a run.
_Deliver = Callable[[Fetched, Manifest], Delivered]


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

    def publish(fetched: Fetched, ticket: Manifest) -> Delivered:
        return deliver(fetched, ticket, target, source.count)

    return _run(transport, source, request, publish, patience, watch)


def ingest(
    transport: Transport,
    source: InputSource,
    conflicts: Path | None,
    request: RunRequest,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Have the alleles of ``source`` registered; the run's report. Raises as ``annotate`` does.

    The conflict log goes to ``conflicts``, if given.
    """
    refuse_for_anyvars_workers(transport, request)

    def publish(fetched: Fetched, _: Manifest) -> Delivered:
        return deliver_conflicts(fetched, conflicts)

    return _run(transport, source, request, publish, patience, watch)


def refuse_for_anyvars_workers(transport: Transport, request: RunRequest, *, ndjson: bool = False) -> None:
    """Raise ConfigurationError where only AnyVar's own workers serve the queue, and cannot do what is asked.

    Nothing is submitted then. Where no worker is there yet, the run fails at its end instead.
    """
    ingests = isinstance(request.options, IngestOptions)
    asked = {
        f"do --existing {request.existing}: they replace": request.existing != "replace",
        "tell the sequences that --ndjson needs": ndjson,
        "ingest literal alleles, so that any SNV fails the run": ingests,
    }
    cannot = [words for words, wanted in asked.items() if wanted]
    if cannot and transport.only_anyvars_workers():
        raise ConfigurationError(
            f"only AnyVar's own workers serve the queue, and they cannot {cannot[0]}",
            "Start an anyvar-step worker on the queue"
            if ingests
            else "Leave the option out, or start an anyvar-step worker on the queue",
        )


def _run(
    transport: Transport,
    source: InputSource,
    request: RunRequest,
    publish: _Deliver,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Submit, wait and collect; the run's report with the step's seconds.

    Where the run was another step's, too, and that one collected or cancelled it first, all over again.
    """
    with interruptible():
        for attempt in range(1, SHARED_TRIES + 1):
            begin, found = time.monotonic(), True
            try:
                with cancel_on_failure(transport):
                    ticket, found = submit(transport, source, request)
                    staged = time.monotonic()
                    tickets = [ticket]  # its ticket is replaced where the run is submitted again
                    _, status = next(wait_all(transport, tickets, patience, watch))
                    if status.status_code != 200:
                        raise end_failed(transport, tickets[0], status)
                    watch(status)
                    waited = time.monotonic() - staged
                    report = _collect(transport, tickets[0], status, publish, source)
                return report.with_seconds(stage=staged - begin, wait=waited)
            except (RunLost, RunCancelled):
                if not found or source.is_stream or attempt == SHARED_TRIES:
                    raise
    raise AssertionError("the loop returns or raises")


def submit(transport: Transport, source: InputSource, request: RunRequest) -> tuple[Manifest, bool]:
    """Check the input and hand it over; the ticket, and whether its run was at work already."""
    source.check()
    with source.open() as raw:
        ticket, found = transport.submit(raw, source.name, request)
    _logger.info("run %s %s", ticket.run_id, "found at work" if found else "submitted")
    return ticket, found


def collect_now(transport: Transport, ticket: Manifest, target: Target) -> RunReport:
    """Deliver the output of a run that has finished already; Unavailable where it has not."""
    status = transport.status(ticket.run_id)
    if status.running:
        raise Unavailable(f"run {ticket.run_id} has not ended yet", "Wait for it: anyvar-step wait")
    if status.missing:
        raise RunLost(f"run {ticket.run_id} is not known", "It was collected, cancelled, or has expired")
    if status.status_code != 200:
        raise end_failed(transport, ticket, status)

    def publish(fetched: Fetched, ticket: Manifest) -> Delivered:
        return deliver(fetched, ticket, target, lambda: None)

    report = _collect(transport, ticket, status, publish)
    return report.with_seconds(**_waited(ticket, report))


def _waited(ticket: Manifest, report: RunReport) -> dict[str, float]:
    """The seconds from submitting to the worker's end, where both are known; hosts' clocks may differ."""
    if not ticket.submitted or not report.finished:
        return {}
    took = datetime.fromisoformat(report.finished) - datetime.fromisoformat(ticket.submitted)
    return {"wait": max(0.0, took.total_seconds())}


def _collect(
    transport: Transport,
    ticket: Manifest,
    status: RunStatus,
    publish: _Deliver,
    source: InputSource | None = None,
) -> RunReport:
    """Publish a finished run's output, and only then forget the run."""
    begin = time.monotonic()
    with fetch_or_forget(transport, ticket, status) as fetched:
        delivered = publish(fetched, ticket)
    forget_delivered(transport, ticket)
    report = report_of(ticket, fetched, delivered, source)
    log_notes(report)
    return report.with_seconds(collect=time.monotonic() - begin)


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


def log_notes(report: RunReport) -> None:
    """Log the notes on a run that went well; each names its VCF."""
    for note in report.notes:
        _logger.warning("%s", note)
