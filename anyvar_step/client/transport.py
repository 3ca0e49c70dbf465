"""A transport: how a step reaches its run, by Celery or by HTTP; and how a step ends a run over it."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import (
    ConfigurationError,
    CorruptFile,
    RunCancelled,
    RunLost,
    StepError,
    TimeLimitReached,
    from_name,
)
from anyvar_step.models import IngestOptions, Manifest, RunReport, RunRequest, RunStatus

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A finished run's output on this host, and our own worker's report on it (AnyVar's writes none).

    ``index`` is where its .tbi would be, if the worker was asked for one and this host sees it.
    """

    path: Path
    report: RunReport | None
    index: Path | None = None


class Transport(ABC):
    """Submits, polls and fetches runs. A run is ended by ``forget`` once it has ended, by ``cancel`` before.

    What a transport without a view of queue and workers cannot do has a default here. All methods raise
    Unavailable where Redis or the web API cannot be reached, AccessRefused where it refuses.
    """

    #: By run id: the runs that were started or joined here and not ended since, also where submit failed.
    held: dict[str, Manifest]

    @abstractmethod
    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Send the input and start its run, or join the live run of the same content; True = joined.

        Raises InvalidInput, FileTrouble, ConfigurationError.
        """

    @abstractmethod
    def status(self, run_id: str) -> RunStatus:
        """What the run-status endpoint answers now."""

    @abstractmethod
    def find(self, run_id: str) -> Manifest:
        """The ticket of a run of which only the id is known. Raises RunLost where there is none."""

    @abstractmethod
    def worker_processes(self) -> int:
        """The number of worker processes that serve the queue; 1 where that is not known."""

    @abstractmethod
    def fetch(self, ticket: Manifest, status: RunStatus) -> AbstractContextManager[Fetched]:
        """The finished run's output, whole, while the block lasts. Raises FileTrouble, RunLost."""

    @abstractmethod
    def forget(self, ticket: Manifest, *, shared: bool = True) -> None:
        """Delete result and files of an ended run, if ``shared`` only once no other step has a lease."""

    @abstractmethod
    def cancel(self, ticket: Manifest, *, shared: bool = True) -> bool:
        """Stop the run and delete its files, if ``shared`` only where no other step has a lease.

        Returns whether it was cancelled. Tried once, within seconds: a signal leaves little time.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def resubmit(self, ticket: Manifest) -> Manifest | None:  # noqa: ARG002
        """A new attempt at a lost run, from its staged input; None where that is impossible.

        The same ticket where the run turns out to have ended well.
        """
        return None

    def renew_lease(self, ticket: Manifest) -> None:  # noqa: B027  # a default, not a missing method
        """State that this step still waits for the run; called every 20 s."""

    def queue_length(self) -> int | None:
        """The number of runs in the queue, None where that is not known; one command of Redis."""
        return None

    def only_anyvars_workers(self) -> bool:
        """Whether workers serve the queue and all are AnyVar's own; False where that is not known."""
        return False

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:  # noqa: ARG002
        """Those runs that are neither in the queue nor with a worker, as far as that is known."""
        return ()

    def requeue(self, ticket: Manifest) -> None:  # noqa: B027
        """Queue an unreceived run again: its worker died before it began."""


# -- errors ----------------------------------------------------------------------------------------------


def vanished_status(run_id: str) -> RunStatus:
    """The status of a run that was known and now is not: it is lost."""
    return RunStatus(
        run_id=run_id,
        status_code=404,
        status="NOT_FOUND",
        message="it has vanished from the result backend; was Redis restarted without persistence?",
        error_code=RunLost.error_code,
    )


def error_of(status: RunStatus) -> StepError:
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


def unusable_run_id(run_id: str, reason: str) -> ConfigurationError:
    """The error for a run id of the caller's own."""
    return ConfigurationError(f"run id {run_id} {reason}", "Choose another --run-id, or leave it out")


# -- the end of a run ------------------------------------------------------------------------------------


def end_failed(transport: Transport, ticket: Manifest, status: RunStatus) -> StepError:
    """Delete the state and files of a failed run; returns the exception for it.

    A lost run is cancelled, in case its worker is only slow; so is a cancelled one, whose worker may not have
    read the flag yet.
    """
    error = error_of(status)
    if isinstance(ticket.options, IngestOptions) and status.error_class == "ValidationError":
        error = StepError(
            f"run {status.run_id} failed on AnyVar's own worker, which cannot ingest literal alleles "
            f"(any SNV): {status.message}",
            "Have an anyvar-step worker serve the queue",
        )
    if isinstance(error, RunLost | RunCancelled):
        transport.cancel(ticket)
    else:
        transport.forget(ticket)
    return error


def forget_delivered(transport: Transport, ticket: Manifest) -> None:
    """Forget a run whose output is delivered. Nothing fails a step then: expiry and the sweep do it, too."""
    try:
        transport.forget(ticket)
    except StepError as trouble:  # Redis is away, or has another password by now
        _logger.info("run %s is left to expiry and sweeping: %s", ticket.run_id, trouble)


@contextlib.contextmanager
def fetch_or_forget(transport: Transport, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
    """Fetch the output; forget the run on CorruptFile: the next call would find the same output."""
    try:
        with transport.fetch(ticket, status) as fetched:
            yield fetched
    except CorruptFile:
        with contextlib.suppress(StepError):
            transport.forget(ticket, shared=False)
        raise
