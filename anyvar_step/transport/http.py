"""The HTTP transport: a run behind AnyVar's web API or ours, for hosts that see no broker and no work dir.

AnyVar's web API hands out a result once, as it answers 200, and forgets it: so the look that finds a run
ended is the download. It also takes no HEAD and no DELETE, by which it is told from ours.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from anyvar_step.errors import FileTrouble
from anyvar_step.files import copy_and_hash
from anyvar_step.models import AnnotateOptions, Manifest, RunReport, RunRequest, RunStatus
from anyvar_step.transport import Fetched
from anyvar_step.transport.answers import run_path as _path
from anyvar_step.transport.client import CONNECT, Backoff, TryLater
from anyvar_step.transport.looks import Looks
from anyvar_step.transport.rest import HOLDER
from anyvar_step.transport.submission import Submission

_logger = logging.getLogger(__name__)


class HttpTransport(Looks):
    """Runs behind the web API at ``url``."""

    # -- submit ------------------------------------------------------------------------------------------

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Upload the input under its run id, or find the run of that content that is at work."""
        if not source.seekable():
            with tempfile.TemporaryFile(dir=self._parent) as spooled:
                copy_and_hash(source, spooled)
                return self.submit(spooled, name, request)
        submission = Submission(self._client, source, name, request, self._held)
        ticket, found = submission.run(self.status if self._take else None)
        self._seen = True
        return ticket, found

    def held(self) -> list[Manifest]:
        """The runs that were uploaded or found here, and neither forgotten nor abandoned since."""
        return list(self._held.values())

    # -- the rest ----------------------------------------------------------------------------------------

    def keep(self, ticket: Manifest) -> None:
        """Nothing to do: each look keeps the run."""

    def served(self) -> bool:
        """Whether any worker answers on the queue; AnyVar's web API does not say, and is believed."""
        _, body = self._client.ask("GET", "healthz")
        return str(body.get("workers", "ok")) == "ok"

    def queued(self) -> int | None:
        """The web API does not tell the queue's length."""
        return None

    def unknown(self, run_ids: Sequence[str]) -> Collection[str]:  # noqa: ARG002
        """None: the web API's own affair."""
        return ()

    def requeue(self, ticket: Manifest) -> None:
        """The web API's own affair."""

    def capacity(self) -> int:
        """How many worker processes serve the queue; 1 behind AnyVar's web API."""
        _, body = self._client.ask("GET", "healthz")
        processes = body.get("processes")
        return max(1, processes) if isinstance(processes, int) else 1

    @contextlib.contextmanager
    def fetch(self, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
        """The output as it was downloaded, and the report that vouches for it."""
        if not status.output:
            raise FileTrouble(f"run {ticket.run_id} has ended without an output", "Run it again")
        yield Fetched(Path(status.output), self._report(ticket.run_id))

    def _report(self, run_id: str) -> RunReport | None:
        """Our worker's report; None from AnyVar's, and from AnyVar's web API, which knows no such path."""
        backoff = Backoff(self._client.outage)
        while True:
            try:
                response, body = self._client.ask("GET", f"{_path(run_id)}/report")
                if response.status_code not in (200, 404):
                    raise self._client.trouble(response, body)
                return RunReport.model_validate(body) if response.status_code == 200 else None
            except TryLater as trouble:
                backoff.wait(trouble)
            except ValidationError as error:
                what = f"the report on run {run_id} from {self._client.url} cannot be read"
                raise FileTrouble(
                    what, "See the web API's log, and whether its version is that of this step"
                ) from error

    def again(self, ticket: Manifest) -> Manifest | None:  # noqa: ARG002
        """None: the staged input is the web API's; the caller's own ``--retries`` sends it again."""
        return None

    def forget(self, ticket: Manifest) -> None:
        """Drop the ended run; where that fails, its web API drops it in time, and AnyVar's has done so."""
        with contextlib.suppress(TryLater):
            self._client.ask("DELETE", _path(ticket.run_id))
        self._held.pop(ticket.run_id, None)

    def drop(self, ticket: Manifest) -> None:
        """Drop the ended run, whoever wants it."""
        self.cancel(ticket)

    def abandon(self, ticket: Manifest) -> bool:
        """Cancel the run, unless another step wants it; AnyVar's web API cannot."""
        self._held.pop(ticket.run_id, None)
        return self._delete(ticket.run_id)

    def cancel(self, ticket: Manifest) -> None:
        """Cancel the run, whoever wants it."""
        self._delete(ticket.run_id, headers={HOLDER: ""})

    def _delete(self, run_id: str, **options: Any) -> bool:
        """Ask for the run's end; False where the web API cannot do that."""
        response, body = self._client.ask("DELETE", _path(run_id), timeout=CONNECT, **options)
        if response.status_code == 405:
            _logger.warning("run %s goes on: AnyVar's web API cannot cancel", run_id)
            return False
        if response.status_code not in (204, 404):
            raise self._client.trouble(response, body)
        return True

    def find(self, run_id: str) -> Manifest:
        """A ticket that says no more than the id: the web API does not say what a run was asked for."""
        return Manifest(
            run_id=run_id,
            digest="",
            input_name=f"run {run_id}",
            input_size=0,
            input_sha256="",
            options=AnnotateOptions(),
            folder="",
            staged_input="",
            submitted="",
        )
