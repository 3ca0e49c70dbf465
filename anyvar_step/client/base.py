"""How a step reaches its run: the transport, by Celery or by HTTP."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from anyvar_step.models import Manifest, RunReport, RunRequest, RunStatus


@dataclass(frozen=True)
class Fetched:
    """A finished run's output on this host, and our own worker's report on it (AnyVar's writes none).

    ``index`` is where its .tbi would be, if the worker was asked for one and this host sees it.
    """

    path: Path
    report: RunReport | None
    index: Path | None = None


class Transport(Protocol):
    """Submit, wait, fetch, end. A run is ended by ``forget`` once it is done, by ``cancel`` before.

    All methods raise Unavailable where Redis or the web API cannot be reached, AccessRefused where it
    refuses.
    """

    @property
    def held(self) -> list[Manifest]:
        """The runs that were started or joined here and not ended since, also where submit failed."""

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Hand the input over and start its run, or find the one at work; True = found.

        Raises InvalidInput, FileTrouble.
        """

    def resubmit(self, ticket: Manifest) -> Manifest | None:
        """A new attempt at a run that was lost, from its staged input; None where that cannot be.

        The same ticket where the run turns out to have ended well.
        """

    def status(self, run_id: str) -> RunStatus:
        """What the run-status endpoint answers now."""

    def find(self, run_id: str) -> Manifest:
        """The ticket of a run of which no more than the id is known. Raises RunLost where there is none."""

    def renew_lease(self, ticket: Manifest) -> None:
        """State that this step still waits for the run; to be called every 20 s or so."""

    def queue_length(self) -> int | None:
        """The number of runs in the queue, None where that cannot be asked; one command of Redis."""

    def worker_processes(self) -> int:
        """The number of worker processes that serve the queue; 1 where that cannot be asked."""

    def only_anyvars_workers(self) -> bool:
        """Whether workers serve the queue and all are AnyVar's own; False where that cannot be asked."""

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that neither the queue nor a worker can have, as far as that can be asked."""

    def requeue(self, ticket: Manifest) -> None:
        """Queue the run again that neither queue nor workers have: its worker died before it began."""

    def fetch(self, ticket: Manifest, status: RunStatus) -> AbstractContextManager[Fetched]:
        """The finished run's output, whole, while the block lasts. Raises FileTrouble, RunLost."""

    def forget(self, ticket: Manifest, *, shared: bool = True) -> None:
        """Delete result and files of an ended run, once no other step needs them.

        Not ``shared``: although another step may need them, since the output is corrupt.
        """

    def cancel(self, ticket: Manifest, *, shared: bool = True) -> bool:
        """Stop the run wherever it is and delete its files, unless another step waits for it: then False.

        Not ``shared``: although other steps wait for it. Tried once, in seconds: a signal leaves little time.
        """

    def close(self) -> None:
        """Give back connections."""
