"""One annotation as a step: a VCF in, its annotated VCF out."""

from __future__ import annotations

import time
from datetime import datetime

from anyvar_step.errors import RunLost, Unavailable
from anyvar_step.models import Manifest, RunReport, RunRequest, RunStatus
from anyvar_step.step.delivery import Target, deliver
from anyvar_step.step.endings import dropped_if_spoiled, ended_badly, forget
from anyvar_step.step.intake import Intake
from anyvar_step.step.run import report_of, run, tell
from anyvar_step.step.waiting import Patience, Watch
from anyvar_step.transport import Transport


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

    def collected(ticket: Manifest, status: RunStatus) -> RunReport:
        return collect(transport, ticket, status, target, source)

    return run(transport, source, request, collected, patience=patience, watch=watch)


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
