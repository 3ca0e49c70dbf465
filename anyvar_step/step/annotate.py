"""One step: a VCF in, its annotated VCF out, and nothing left behind whatever happens between."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from anyvar_step.broker.status import failure
from anyvar_step.errors import FileSpoiled, FileTrouble, RunCancelled, RunLost, StepError, Unavailable
from anyvar_step.models import Manifest, RunReport, RunRequest, RunStatus
from anyvar_step.step.delivery import Delivered, Target, deliver
from anyvar_step.step.intake import Intake
from anyvar_step.step.waiting import Patience, Watch, interruptible, wait_all
from anyvar_step.transport import Fetched, Transport

_logger = logging.getLogger(__name__)

#: How often a step may find that the run it shares with other steps has been collected by one of them.
SHARED_TRIES = 100


def annotate(
    transport: Transport,
    source: Intake,
    target: Target,
    request: RunRequest,
    *,
    patience: Patience,
    watch: Watch,
) -> RunReport:
    """Annotate ``source`` into ``target``; the run's report.

    Raises a StepError whose exit code tells what to do; then OUT is as it was before.
    """
    with interruptible(), left_to_nobody(transport):
        return shared(
            transport,
            source,
            request,
            lambda ticket, staged: follow(
                transport, ticket, target, source, patience=patience, watch=watch, staged=staged
            ),
        )


def shared(
    transport: Transport,
    source: Intake,
    request: RunRequest,
    then: Callable[[Manifest, float], RunReport],
) -> RunReport:
    """Submit, then wait and collect: ``then`` gets the ticket and the seconds that submitting took.

    Where the run was another step's, too, and that one collected or cancelled it first, all over again.
    """
    for attempt in range(1, SHARED_TRIES + 1):
        begin, found = time.monotonic(), True
        try:
            ticket, found = submit(transport, source, request)
            return then(ticket, time.monotonic() - begin)
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


def follow(
    transport: Transport,
    ticket: Manifest,
    target: Target,
    source: Intake,
    *,
    patience: Patience,
    watch: Watch,
    staged: float = 0.0,
) -> RunReport:
    """Wait for the run and deliver its output; a run that cannot end well is cancelled and forgotten."""
    begin = time.monotonic()
    ticket, status = finished(transport, ticket, patience, watch)
    waited = time.monotonic() - begin
    with left_to_nobody(transport, [ticket]):
        report = collect(transport, ticket, status, target, source)
    return report.model_copy(update={"seconds": {**report.seconds, "stage": staged, "wait": waited}})


def finished(
    transport: Transport, ticket: Manifest, patience: Patience, watch: Watch
) -> tuple[Manifest, RunStatus]:
    """Wait until the run has ended well: the ticket of its last attempt, and the 200 it ended with."""
    tickets = [ticket]
    with left_to_nobody(transport, tickets):
        _, status = next(wait_all(transport, tickets, patience, watch))
    if status.status_code != 200:
        raise ended_badly(transport, tickets[0], status)
    watch(status)
    return tickets[0], status


def collect(
    transport: Transport, ticket: Manifest, status: RunStatus, target: Target, source: Intake | None
) -> RunReport:
    """Deliver a finished run's output, and only then forget the run."""
    begin = time.monotonic()
    with dropped_if_spoiled(transport, ticket), transport.fetch(ticket, status) as fetched:
        delivered = deliver(fetched, ticket, target, lambda: source.count() if source else None)
    forget(transport, ticket)
    report = report_of(ticket, fetched, delivered)
    tell(report)
    return report.model_copy(update={"seconds": {**report.seconds, "collect": time.monotonic() - begin}})


def forget(transport: Transport, ticket: Manifest) -> None:
    """Forget a run whose output is in place: that it cannot be forgotten just now is no failure."""
    try:
        transport.forget(ticket)
    except Unavailable as trouble:
        _logger.info("run %s is left to expiry and sweeping: %s", ticket.run_id, trouble)


def tell(report: RunReport) -> None:
    """Say what the user should know of a run that went well; each note names its VCF."""
    for note in report.notes:
        _logger.warning("%s", note)


def ended_badly(transport: Transport, ticket: Manifest, status: RunStatus) -> StepError:
    """The exception for a failed run, whose remains are gone.

    A lost one must not come back to life, and a cancelled one's worker may not have seen the flag yet.
    """
    problem = failure(status)
    if isinstance(problem, RunLost | RunCancelled):
        transport.abandon(ticket)
    else:
        transport.forget(ticket)
    return problem


def collect_now(transport: Transport, ticket: Manifest, target: Target) -> RunReport:
    """Deliver the output of a run that has finished already; Unavailable where it has not."""
    status = transport.status(ticket.run_id)
    if status.running:
        raise Unavailable(f"run {ticket.run_id} has not ended yet", "Wait for it: anyvar-step wait")
    if status.missing:
        raise RunLost(f"run {ticket.run_id} is not known", "It was collected, cancelled, or has expired")
    if status.status_code != 200:
        raise ended_badly(transport, ticket, status)
    report = collect(transport, ticket, status, target, None)
    return report.model_copy(update={"seconds": {**report.seconds, **_waited(ticket, report)}})


def _waited(ticket: Manifest, report: RunReport) -> dict[str, float]:
    """The seconds from submitting to the worker's end, where both told the time; hosts' clocks may differ."""
    if not ticket.submitted or not report.finished:
        return {}
    took = datetime.fromisoformat(report.finished) - datetime.fromisoformat(ticket.submitted)
    return {"wait": max(0.0, took.total_seconds())}


@contextlib.contextmanager
def dropped_if_spoiled(transport: Transport, ticket: Manifest) -> Iterator[None]:
    """Drop the run when the block finds its output spoiled, or the next call would find the same one."""
    try:
        yield
    except FileSpoiled:
        with contextlib.suppress(StepError):
            transport.drop(ticket)
        raise


@contextlib.contextmanager
def left_to_nobody(transport: Transport, tickets: Sequence[Manifest] = ()) -> Iterator[None]:
    """Cancel these runs, and all that the transport holds, when the block fails: nobody would collect them.

    They stay where only a file could not be written or read: their results are whole, and the next call
    of the same step collects them.
    """
    try:
        yield
    except FileTrouble as trouble:
        _logger.debug("the runs stay for the next call: %s", trouble)
        raise
    except BaseException:
        for ticket in {ticket.run_id: ticket for ticket in (*tickets, *transport.held())}.values():
            try:
                transport.abandon(ticket)
            except StepError as trouble:
                _logger.warning("run %s could not be cancelled: %s", ticket.run_id, trouble)
        raise


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
