"""The life of every step: submit, wait, collect, and nothing left behind whatever happens between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from anyvar_step.errors import RunCancelled, RunLost
from anyvar_step.models import Manifest, RunReport, RunRequest, RunStatus
from anyvar_step.step.delivery import Delivered
from anyvar_step.step.endings import ended_badly, left_to_nobody
from anyvar_step.step.intake import Intake
from anyvar_step.step.signals import interruptible
from anyvar_step.step.waiting import Patience, Watch, wait_all
from anyvar_step.transport import Fetched, Transport

_logger = logging.getLogger(__name__)

#: How often a step may find that the run it shares with other steps has been collected by one of them.
SHARED_TRIES = 100

#: Delivers what a run that ended well has made, and forgets the run; its report.
Collect = Callable[[Manifest, RunStatus], RunReport]


def run(
    transport: Transport,
    source: Intake,
    request: RunRequest,
    collect: Collect,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Submit, wait and collect; the run's report with the step's seconds.

    Where the run was another step's, too, and that one collected or cancelled it first, all over again.
    Raises a StepError whose exit code tells what to do.
    """
    with interruptible():
        for attempt in range(1, SHARED_TRIES + 1):
            begin, found = time.monotonic(), True
            try:
                with left_to_nobody(transport):
                    ticket, found = submit(transport, source, request)
                    staged = time.monotonic()
                    ticket, status = finished(transport, ticket, patience, watch)
                    took = {"stage": staged - begin, "wait": time.monotonic() - staged}
                    report = collect(ticket, status)
                return report.model_copy(update={"seconds": {**report.seconds, **took}})
            except (RunLost, RunCancelled):
                if not found or source.path is None or attempt == SHARED_TRIES:
                    raise
    raise AssertionError("the loop returns or raises")


def submit(transport: Transport, source: Intake, request: RunRequest) -> tuple[Manifest, bool]:
    """Check the input and hand it over; the ticket, and whether its run was at work already."""
    for note in source.check():
        _logger.warning("%s", note)
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
        raise ended_badly(transport, tickets[0], status)
    watch(status)
    return tickets[0], status


def tell(report: RunReport) -> None:
    """Say what the user should know of a run that went well; each note names its VCF."""
    for note in report.notes:
        _logger.warning("%s", note)


def report_of(ticket: Manifest, fetched: Fetched, delivered: Delivered) -> RunReport:
    """Our worker's report, or what OUT says of a run of AnyVar's own; with OUT's size and digest."""
    output = {"output_size": delivered.size, "output_sha256": delivered.sha256}
    if fetched.report:
        return fetched.report.model_copy(update=output)
    # Here, since our own workers judge for themselves.
    from anyvar_step.pipeline.judgement import notes_on

    counts = delivered.counts
    return RunReport.on(
        ticket,
        options=ticket.options,
        counts=counts,
        seconds={},
        notes=tuple(notes_on(counts, ticket.options.assembly, ticket.input_name)),
        **output,
    )
