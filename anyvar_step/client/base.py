"""How a step reaches its run: a narrow seam that Celery and HTTP both offer."""

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
    """Submit, look, fetch, and then forget or cancel."""

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Hand the input over and start its run, or find the one at work; True = found.

        Raises InvalidInput, Unavailable, AccessRefused, FileTrouble.
        """

    def status(self, run_id: str) -> RunStatus:
        """What the run-status endpoint answers now. Raises Unavailable while nobody can be asked."""

    def keep(self, ticket: Manifest) -> None:
        """Say that somebody still waits for the run; to be called every 20 s or so."""

    def served(self) -> bool:
        """Whether any worker answers on the queue; costs a second."""

    def queued(self) -> int | None:
        """How many runs stand in the queue, None where that cannot be asked; one command of Redis."""

    def unknown(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those runs that neither the queue nor a worker can have, as far as that can be asked; a second."""

    def requeue(self, ticket: Manifest) -> None:
        """Queue the run again that neither queue nor workers have: its worker died before it began."""

    def capacity(self) -> int:
        """How many worker processes serve the queue, 1 where that cannot be asked; costs two seconds."""

    def fetch(self, ticket: Manifest, status: RunStatus) -> AbstractContextManager[Fetched]:
        """The finished run's output, whole, while the block lasts. Raises FileTrouble, RunLost."""

    def again(self, ticket: Manifest) -> Manifest | None:
        """A new attempt at a run that was lost, from its staged input; None where that cannot be.

        The same ticket where the run turns out to have ended well.
        """

    def forget(self, ticket: Manifest) -> None:
        """Drop the ended run, its result and its files, once no other step wants them."""

    def drop(self, ticket: Manifest) -> None:
        """Drop the ended run, whoever wants it: its output is spoiled, and must be made anew."""

    def abandon(self, ticket: Manifest) -> bool:
        """Stop the run wherever it is and drop its files, unless another step wants them: then False.

        Tried once and in seconds, since whoever told us to end may not wait. Raises Unavailable.
        """

    def held(self) -> list[Manifest]:
        """The runs that were started or joined here and still concern us, even if ``submit`` failed."""

    def find(self, run_id: str) -> Manifest:
        """The ticket of a run of which no more than the id is known. Raises RunLost where there is none."""

    def cancel(self, ticket: Manifest) -> None:
        """Stop the run and drop its files, whoever wants it."""

    def close(self) -> None:
        """Give back connections."""
