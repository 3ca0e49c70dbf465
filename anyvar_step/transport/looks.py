"""Looking at runs behind a web API; at AnyVar's, the look that finds a run ended is the download."""

from __future__ import annotations

import math
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from httpx import Response

from anyvar_step.broker.status import run_status
from anyvar_step.errors import ConfigurationError
from anyvar_step.models import Manifest, RunStatus, State
from anyvar_step.transport.answers import is_anyvars_own, is_file, status_of
from anyvar_step.transport.answers import run_path as _path
from anyvar_step.transport.client import Client, TryLater, read_json, retry_after
from anyvar_step.transport.rest import RETRY_AFTER, STATE
from anyvar_step.transport.streams import Download

#: Seconds between two looks at one of several runs at our own web API.
LOOK_AGAIN = 0.4


@dataclass(frozen=True)
class _Answer:
    """What the web API said of a run last, and until when that is good (monotonic clock)."""

    what: RunStatus | TryLater
    until: float

    @property
    def running(self) -> bool:
        return isinstance(self.what, RunStatus) and self.what.running


class Looks:
    """What is known of the runs behind the web API at ``url``.

    Downloads go to ``folder`` (None = the temporary directory). With ``take`` False a look does not
    download, for commands that only want to know; AnyVar's web API cannot be asked so.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        holder: str | None = None,
        folder: Path | None = None,
        take: bool = True,
        outage: float = 60.0,
    ) -> None:
        name = secrets.token_hex(8) if holder is None else holder
        self._client = Client(url, token, name, outage)
        self._parent = folder
        self._scratch_folder: tempfile.TemporaryDirectory[str] | None = None
        self._take = take
        self._seen = False
        self._answers: dict[str, _Answer] = {}
        self._held: dict[str, Manifest] = {}

    def close(self) -> None:
        """Give back the connection, and remove what was downloaded."""
        self._client.close()
        if self._scratch_folder:
            self._scratch_folder.cleanup()

    def _scratch(self, name: str) -> Path:
        """A place for a file of that name until ``close``."""
        if self._scratch_folder is None:
            self._scratch_folder = tempfile.TemporaryDirectory(prefix=".anyvar-step-", dir=self._parent)
        return Path(self._scratch_folder.name) / name

    def status(self, run_id: str) -> RunStatus:
        """The run's status; not asked for again before the web API wants to be, nor once it is taken."""
        last = self._answers.get(run_id)
        if last is None or time.monotonic() >= last.until:
            last = self._answers[run_id] = self._look(run_id)
        if isinstance(last.what, TryLater):
            raise last.what
        return last.what

    def _look(self, run_id: str) -> _Answer:
        # One run is waited for at the web API; of several, none must hold up the others.
        others = sum(each.running for known, each in self._answers.items() if known != run_id)
        try:
            status, pause = self._ask(run_id, 0 if others else RETRY_AFTER)
        except TryLater as trouble:
            return _Answer(trouble, time.monotonic() + trouble.seconds)
        taken = status.output is not None
        return _Answer(status, math.inf if taken else time.monotonic() + pause)

    def _ask(self, run_id: str, wait: int) -> tuple[RunStatus, float]:
        """The status, and the seconds until it is worth asking again; ours may wait for the run's end."""
        path = _path(run_id)
        if not self._take:
            self._refuse_to_take(path)
        with self._client.stream("GET", path, headers={"Prefer": f"wait={wait}"}) as response:
            if is_file(response):
                return self._ended_well(run_id, response), 0.0
            body = read_json(response)
        status = status_of(run_id, response, body)
        if status is None:
            raise self._client.trouble(response, body, known=self._seen)
        self._seen = True
        if not status.running:
            return status, 0.0
        if STATE in body:
            return status, 0.0 if wait else LOOK_AGAIN
        # AnyVar's asks for two seconds; it is not asked later than that, so that the end is seen soon.
        return status, min(retry_after(response), RETRY_AFTER)

    def _ended_well(self, run_id: str, response: Response) -> RunStatus:
        output = None
        if self._take:
            target = self._scratch(run_id)
            Download(self._client, _path(run_id), target).take(response)
            output = str(target)
        return run_status(run_id, {"status": State.SUCCESS, "result": output}, 200)

    def _refuse_to_take(self, path: str) -> None:
        """Raise an error where a look would take the result away; ours keeps it until it is had whole."""
        with self._client.stream("HEAD", path) as response:
            if is_anyvars_own(response):
                raise ConfigurationError(
                    f"the web API at {self._client.url} drops a result as soon as it is asked for it",
                    "Use `annotate`, or `collect` once the run has ended",
                )
