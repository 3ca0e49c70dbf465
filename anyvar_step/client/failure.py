"""Failed runs: the exception that a step raises, and what is deleted of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from anyvar_step.client.base import Transport
from anyvar_step.errors import (
    CorruptFile,
    FileTrouble,
    Interrupted,
    RunCancelled,
    RunLost,
    StepError,
    TimeLimitReached,
    Unavailable,
    from_name,
)
from anyvar_step.models import IngestOptions, Manifest, RunStatus

_logger = logging.getLogger(__name__)


def vanished(run_id: str) -> RunStatus:
    """The status of a run that was known and is not any more: it is lost."""
    return RunStatus(
        run_id=run_id,
        status_code=404,
        status="NOT_FOUND",
        message="it has vanished from the result backend; was Redis restarted without persistence?",
        error_code=RunLost.error_code,
    )


def failure(status: RunStatus) -> StepError:
    """The exception that a step raises for a failed run; its class carries the exit code."""
    if status.error_code == TimeLimitReached.error_code:
        return TimeLimitReached(
            f"run {status.run_id} reached the workers' time limit ({status.message})",
            "Raise the limits together: anyvar-step config --for 8h prints a set that fits",
        )
    if status.lost:
        return RunLost(f"run {status.run_id} was lost: {status.message}", "Run it again")
    kind = from_name(status.error_class or "")
    if kind is StepError:
        return kind(f"run {status.run_id} failed on the worker: {status.message}", "See the worker's log")
    return kind(status.message)


def ended_badly(transport: Transport, ticket: Manifest, status: RunStatus) -> StepError:
    """The exception for a failed run, whose state and files are deleted.

    A lost run is cancelled, should its worker only be slow; so is a cancelled one, whose worker may not have
    read the flag yet.
    """
    problem = failure(status)
    if isinstance(ticket.options, IngestOptions) and status.error_class == "ValidationError":
        problem = StepError(
            f"run {status.run_id} failed on AnyVar's own worker, which cannot ingest literal alleles "
            f"(any SNV): {status.message}",
            "Have an anyvar-step worker serve the queue",
        )
    if isinstance(problem, RunLost | RunCancelled):
        transport.cancel(ticket)
    else:
        transport.forget(ticket)
    return problem


def forget(transport: Transport, ticket: Manifest) -> None:
    """Forget a run whose output is delivered; where Redis is away, expiry and the sweep do it."""
    try:
        transport.forget(ticket)
    except Unavailable as trouble:
        _logger.info("run %s is left to expiry and sweeping: %s", ticket.run_id, trouble)


@contextlib.contextmanager
def forgotten_if_corrupt(transport: Transport, ticket: Manifest) -> Iterator[None]:
    """Forget the run when the block raises CorruptFile: the next call would find the same output."""
    try:
        yield
    except CorruptFile:
        with contextlib.suppress(StepError):
            transport.forget(ticket, shared=False)
        raise


@contextlib.contextmanager
def cancel_on_failure(transport: Transport) -> Iterator[None]:
    """Cancel all runs that the transport holds when the block fails: no step would collect them.

    After FileTrouble they stay: their results are whole, and the next call of the same step collects them.
    """
    try:
        yield
    except FileTrouble as trouble:
        _logger.debug("the runs stay for the next call: %s", trouble)
        raise
    except BaseException as error:
        # Where Redis is away, the error of the step says so already.
        level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
        if _cancel_all(transport, transport.held, level) and isinstance(error, Interrupted):
            error.revoked()
        raise


def _cancel_all(transport: Transport, tickets: Sequence[Manifest], level: int) -> bool:
    """Cancel the runs; whether all were cancelled. The first Unavailable ends it.

    ``level`` is the log level for that.
    """
    stopped = []
    for ticket in tickets:
        try:
            stopped.append(transport.cancel(ticket))
        except Unavailable as trouble:
            others = f" and {left} others" if (left := len(tickets) - len(stopped) - 1) else ""
            _logger.log(level, "run %s%s could not be cancelled: %s", ticket.run_id, others, trouble)
            return False
        except StepError as trouble:
            stopped.append(False)
            _logger.warning("run %s could not be cancelled: %s", ticket.run_id, trouble)
    return bool(stopped) and all(stopped)
