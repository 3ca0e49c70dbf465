"""One input on its way to a web API: under the run id of its content, once, whatever breaks in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx

from anyvar_step.broker.names import remote_run_id_for
from anyvar_step.errors import ConfigurationError, FileTrouble, StepError
from anyvar_step.files import hash_of
from anyvar_step.models import Manifest, RunRequest, RunStatus, State, Wishes
from anyvar_step.transport.answers import is_anyvars_own, run_path, status_of
from anyvar_step.transport.client import AFTER_UPLOAD, CONNECT, PIECE, Backoff, Client, TryLater
from anyvar_step.transport.rest import DIGEST
from anyvar_step.transport.streams import Upload
from anyvar_step.transport.ticket import content_digest, manifest_of
from anyvar_step.vcf import VcfReader
from anyvar_step.workdir import Staged

Look = Callable[[str], RunStatus]


class Submission:
    """Uploads ``source``, which is seekable. The caller's own run id, if any, names one content for good.

    ``held`` gets the ticket of a run before it can begin, so that an interruption leaves none behind.

    Raises InvalidInput before a long upload of what is no VCF.
    """

    def __init__(
        self, client: Client, source: BinaryIO, name: str, request: RunRequest, held: dict[str, Manifest]
    ) -> None:
        self._client = client
        self._held = held
        self._source = source
        self._given = request.run_id
        source.seek(0)
        VcfReader(source, name)
        size, sha256 = hash_of(source)
        digest = content_digest(sha256, request)
        # Nothing is staged here: the web API makes the folder.
        ticket = manifest_of(Staged(Path(), "", size, sha256), name, request, digest)
        self._ticket = ticket.model_copy(update={"folder": ""})
        self._attempt = 1
        self._refusals = 0

    def run(self, look: Look | None) -> tuple[Manifest, bool]:
        """The ticket, and whether its run was at work already.

        ``look`` gives the status of a run that AnyVar's web API knows (and takes its result); None = do not
        look, and join it whatever became of it.
        """
        backoff = Backoff(self._client.outage)
        while True:
            try:
                found = self._try(look)
            except TryLater as trouble:
                backoff.wait(trouble)
                continue
            if found is not None:
                ticket = self._held[self._named.run_id] = self._named
                return ticket, found
            self._attempt += 1

    @property
    def _named(self) -> Manifest:
        run_id = self._given or remote_run_id_for(self._ticket.digest, self._attempt)
        return self._ticket.model_copy(update={"run_id": run_id})

    def _try(self, look: Look | None) -> bool | None:
        """False when the run was started, True when it was found, None when that id's run has failed."""
        status = self._probe()
        if status is None or status.missing or (self._given and self._failed(status)):
            refusal = self._upload()
            if refusal is None:
                return False
            status = self._in_use(refusal, look)
        return None if self._failed(status) or status.missing else True

    def _failed(self, status: RunStatus) -> bool:
        if self._given and status.status == State.REVOKED:
            raise ConfigurationError(
                f"run id {self._given} was cancelled, and workers refuse a cancelled id",
                "Choose another --run-id, or leave it out",
            )
        return status.error_code is not None

    def _probe(self) -> RunStatus | None:
        """The status that our own web API knows without being asked for the result; None from AnyVar's."""
        run_id = self._named.run_id
        with self._client.stream("HEAD", run_path(run_id)) as response:
            code = response.status_code
            if is_anyvars_own(response):
                return None
            if code in (200, 202):
                self._check_same(response.headers.get(DIGEST, ""))
                return RunStatus(run_id=run_id, status_code=code, status="")
            if code == 404:
                return RunStatus(run_id=run_id, status_code=code, status="NOT_FOUND")
        response, body = self._client.ask("GET", run_path(run_id))
        status = status_of(run_id, response, body)
        if status is None:
            raise self._client.trouble(response, body, known=True)
        return status

    def _check_same(self, digest: str) -> None:
        if self._given and digest != self._ticket.digest:
            raise ConfigurationError(
                f"run id {self._given} is in use by another input", "Choose another --run-id, or leave it out"
            )

    def _in_use(self, refusal: StepError, look: Look | None) -> RunStatus:
        """The status of the run that has the id already, as AnyVar's web API or a quicker step's."""
        run_id = self._named.run_id
        if self._given:
            raise ConfigurationError(str(refusal), "Choose another --run-id, or leave it out")
        if look is None:
            return RunStatus(run_id=run_id, status_code=202, status=State.SENT)
        self._refusals += 1
        status = look(run_id)
        if status.missing and self._refusals > 1:
            raise refusal
        return status

    def _upload(self) -> StepError | None:
        """PUT the input; None when its run was accepted, the refusal where the run id may be in use."""
        ticket = self._named
        upload = Upload(self._source, ticket.input_name, ticket.input_size)
        options = ticket.options.model_dump()
        ours = ticket.model_dump(include=set(Wishes.model_fields) - {"index"})  # which no endpoint hands out
        self._held[ticket.run_id] = ticket
        response, body = self._client.ask(
            "PUT",
            "vcf",
            params={"run_async": True, "run_id": ticket.run_id, **options, **ours},
            files={"vcf": (ticket.input_name, upload, "application/octet-stream")},
            timeout=httpx.Timeout(PIECE, connect=CONNECT, read=AFTER_UPLOAD),
        )
        if response.status_code == 202:
            if upload.sha256 != ticket.input_sha256:
                self._drop(ticket.run_id)
                raise FileTrouble(f"{ticket.input_name} has changed while it was uploaded", "Run it again")
            return None
        del self._held[ticket.run_id]
        trouble = self._client.trouble(response, body)
        if response.status_code == 400:
            return trouble
        raise trouble

    def _drop(self, run_id: str) -> None:
        with contextlib.suppress(StepError):
            self._client.ask("DELETE", run_path(run_id), timeout=CONNECT)
