"""The HTTP transport: runs behind AnyVar's web API or ours, for hosts without access to Redis and work dir.

AnyVar's web API sends a result only once, with the 200 that ends the run, and then forgets it: so the poll
that finds a run ended is also the download. It answers HEAD and DELETE with 405, by which it is recognised.
Ours keeps a result until it has been downloaded whole (docs/http.md).
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import logging
import math
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import httpx
from pydantic import ValidationError

from anyvar_step.client.transport import Fetched, Transport, unusable_run_id
from anyvar_step.errors import (
    ConfigurationError,
    FileTrouble,
    RunCancelled,
    RunLost,
    StepError,
    Unavailable,
    from_http_status,
    from_os,
    name_from_code,
)
from anyvar_step.files import hash_of
from anyvar_step.models import (
    DIGEST,
    ERROR_CLASS,
    HOLDER,
    PROGRESS,
    RETRY_AFTER,
    STATE,
    AnnotateOptions,
    Manifest,
    RunReport,
    RunRequest,
    RunStatus,
    State,
    WorkerOptions,
    run_path,
)
from anyvar_step.runs.keys import remote_run_id_for
from anyvar_step.runs.manifest import content_digest, manifest_of
from anyvar_step.runs.state import run_status
from anyvar_step.runs.work_dir import Staged
from anyvar_step.settings import LONGEST_POLL, masked
from anyvar_step.vcf import VcfReader

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def _has_file(response: httpx.Response) -> bool:
    """Whether the response is a finished run's output; that of a run without one is JSON.

    206 and 416 answer a request for its first byte.
    """
    is_json = "json" in response.headers.get("content-type", "")
    return response.status_code in (200, 206, 416) and not is_json


def _is_anyvars(response: httpx.Response) -> bool:
    """Whether the response to HEAD is that of AnyVar's web API, and not of a run with failure code 405."""
    return response.status_code == 405 and "allow" in response.headers


def _status_from(run_id: str, response: httpx.Response, body: dict[str, Any]) -> RunStatus | None:
    """The run status in a response; None where it is an error of the server or of a proxy.

    A failed run is recognised by its ``error_code``: any status code can be the failure code.
    """
    code, error_code = response.status_code, body.get("error_code")
    if code >= 400 and isinstance(error_code, str):
        if error_code == RunCancelled.error_code:
            return run_status(run_id, {"status": State.REVOKED, "result": None}, code)
        name = body.get(ERROR_CLASS) or name_from_code(error_code)
        result = {"exc_type": name, "exc_message": [str(body.get("error") or name)]}
        status = run_status(run_id, {"status": State.FAILURE, "result": result}, code)
        return status.model_copy(update={"error_code": error_code})
    if code == 404 and body.get("status") == "NOT_FOUND":
        return run_status(run_id, None, code)
    if code == 200 and body.get("status") == State.SUCCESS:
        return run_status(run_id, {"status": State.SUCCESS, "result": None}, code)
    if code == 202:
        state = str(body.get(STATE))
        if state not in State.__members__ or state == State.PENDING:
            state = State.SENT  # AnyVar's web API does not tell a queued run from a running one
        return run_status(run_id, {"status": state, "result": body.get(PROGRESS)}, code)
    return None


# -- requests --------------------------------------------------------------------------------------------

#: Seconds: to connect, between two chunks, and for the response to an upload, which the server copies first.
CONNECT_TIMEOUT, CHUNK_TIMEOUT, UPLOAD_TIMEOUT = 5.0, 60.0, 600.0
#: The longest JSON body that is read, bytes.
LONGEST_BODY = 1 << 20
#: Seconds before the second and before any later attempt of a request, without a Retry-After.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0


class TryLater(Unavailable):
    """The web API is down or busy; ``seconds`` is its Retry-After, 0 without one."""

    def __init__(self, what: str, remedy: str = "", seconds: float = 0.0) -> None:
        super().__init__(what, remedy)
        self.seconds = seconds


class ApiClient:
    """Sends requests below ``url``. Raises StepErrors only.

    ``retrying`` bridges an outage of the web API of up to ``outage`` seconds.
    """

    def __init__(self, url: str, token: str | None, holder: str, outage: float) -> None:
        self.url = masked(url)
        self._outage = outage
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each URL, with a password in it
        headers = {HOLDER: holder, "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx.Timeout(CHUNK_TIMEOUT, connect=CONNECT_TIMEOUT)
        self._http = httpx.Client(base_url=url + "/", headers=headers, timeout=timeout)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @contextlib.contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """The response, its body still to be read within the block."""
        with self.translated(), self._http.stream(method, path, **options) as response:
            yield response

    def request(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, dict[str, Any]]:
        """The response and its JSON object, empty where the body is none."""
        with self.stream(method, path, **options) as response:
            return response, read_json(response)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Translates httpx's exceptions to ours, which name the URL without its password."""
        try:
            yield
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ConfigurationError(
                    f"the certificate of {self.url} is not trusted: {error}",
                    "Name your CA's certificates in SSL_CERT_FILE",
                ) from error
            raise TryLater(
                f"no web API answers at {self.url}: {error or type(error).__name__}",
                "Is ANYVAR_STEP_URL right, and the web API up?",
            ) from error

    def retrying(self, attempt: Callable[[], _T], progress: Callable[[], int] = lambda: 0) -> _T:
        """The result of ``attempt``, repeated after each TryLater until ``outage`` seconds have passed.

        An attempt after which ``progress`` is greater than before starts the time anew.
        """
        pause, since, reached = FIRST_PAUSE, time.monotonic(), progress()
        while True:
            try:
                return attempt()
            except TryLater as trouble:
                if progress() > reached:
                    pause, since, reached = FIRST_PAUSE, time.monotonic(), progress()
                if time.monotonic() - since > self._outage:
                    raise
                _logger.warning("%s; trying again for up to %g s", trouble, self._outage)
                jittered = pause * random.uniform(0.5, 1.0)  # noqa: S311
                time.sleep(max(trouble.seconds, jittered))
                pause = min(pause * 2, LONGEST_PAUSE)

    def error_from(self, response: httpx.Response, body: dict[str, Any], *, known: bool = False) -> StepError:
        """The error for a response that is neither a run status nor an acceptance.

        ``known``: a web API has answered at this URL before, so a 404 without a run is a proxy's.
        """
        code = response.status_code
        words = body.get("error") or _detail(body) or response.reason_phrase
        what = f"the web API at {self.url} answered {code}: {words}"
        kind = from_http_status(code)
        if kind is Unavailable or (code == 404 and known):
            return TryLater(what, "Run it again; see the web API's log", retry_after(response))
        remedies = {
            401: "Check ANYVAR_STEP_TOKEN",
            403: "Check ANYVAR_STEP_TOKEN",
            413: "Raise ANYVAR_STEP_MAX_UPLOAD or the limit of its proxy, or split the VCF",
            422: "Check the options that it names",
        }
        if response.is_redirect:
            remedies[code] = f"Set ANYVAR_STEP_URL to the new address: {response.headers.get('location', '')}"
        return kind(what, remedies.get(code, "Is ANYVAR_STEP_URL the address of an AnyVar web API?"))


def _detail(body: dict[str, Any]) -> str:
    """FastAPI's ``detail``: a text, or a list of parameters with what is wrong with each."""
    detail = body.get("detail")
    if not isinstance(detail, list):
        return str(detail or "")
    errors = [each for each in detail if isinstance(each, dict)]
    return "; ".join(f"{(each.get('loc') or ['?'])[-1]}: {each.get('msg')}" for each in errors)


def read_json(response: httpx.Response) -> dict[str, Any]:
    """The body's JSON object; empty where the body is something else, or longer than LONGEST_BODY."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > LONGEST_BODY:
            return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def retry_after(response: httpx.Response) -> float:
    """The seconds in Retry-After (a number or a date), at most LONGEST_POLL; 0 where there is none."""
    text = response.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), LONGEST_POLL)  # in this order, NaN becomes 0


# -- transfers -------------------------------------------------------------------------------------------


class HashedUpload:
    """A file for httpx to send, hashed on the way: it may have changed since its digest was computed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next chunk."""
        chunk = self._file.read(size)
        self._sha256.update(chunk)
        return chunk

    def seek(self, offset: int) -> int:
        """Back to the start, where httpx goes before it reads."""
        self._sha256 = hashlib.sha256()
        return self._file.seek(offset)

    def fileno(self) -> int:
        """For httpx, which takes Content-Length from the file."""
        return self._file.fileno()

    def hexdigest(self) -> str:
        """SHA-256 of what was sent."""
        return self._sha256.hexdigest()


class Download:
    """Saves one run's result in ``target``, resumed by Range and If-Range where the connection breaks."""

    def __init__(self, client: ApiClient, path: str, target: Path) -> None:
        self._client = client
        self._path = path
        self._target = target
        self._etag = ""  # empty: cannot be resumed

    def save(self, response: httpx.Response) -> None:
        """Save the response's body, resumed by further requests.

        Raises RunLost where the web API has deleted the result as it sent it, which AnyVar's does;
        Unavailable where it stays away; FileTrouble where this host's disk is full.
        """
        try:
            with self._target.open("wb") as out:
                try:
                    self._copy(response, out)
                except TryLater:
                    self._client.retrying(partial(self._resume, out), out.tell)
        except OSError as error:
            raise from_os(error, f"cannot save the result in {self._target.parent}") from error

    def _copy(self, response: httpx.Response, out: BinaryIO) -> None:
        """Append the rest that a 206 has, or begin anew with the whole that a 200 has."""
        headers = response.headers
        if response.status_code == 200:
            resumable = headers.get("accept-ranges") == "bytes" and "content-encoding" not in headers
            self._etag = headers.get("etag", "") if resumable else ""
            out.seek(0)
            out.truncate()
        with self._client.translated():
            for chunk in response.iter_bytes():
                out.write(chunk)

    def _resume(self, out: BinaryIO) -> None:
        received = out.tell()
        start = received if self._etag else 0
        _logger.info("the download broke off after %d bytes; resuming at %d", received, start)
        headers = {"Range": f"bytes={start}-", "If-Range": self._etag} if start else {}
        with self._client.stream("GET", self._path, headers=headers) as response:
            content_range = response.headers.get("content-range", "")
            is_rest = response.status_code == 206 and content_range.startswith(f"bytes {received}-")
            if response.status_code == 404:
                raise RunLost(
                    f"the download broke off after {received} bytes, and the web API has dropped the result",
                    "Run it again",
                )
            if not (is_rest or response.status_code == 200):
                raise self._client.error_from(response, {})
            self._copy(response, out)


# -- the transport ---------------------------------------------------------------------------------------


#: Seconds between two polls of one of several runs at our own web API.
POLL_PAUSE = 0.4


class _LastPoll(NamedTuple):
    """What the last poll of a run found, and until when it is not polled again (monotonic clock)."""

    found: RunStatus | TryLater
    until: float


class HttpTransport(Transport):
    """Runs behind the web API at ``url``, polled no more often than it wishes.

    ``holder`` names this step in its leases. ``outage`` is how long the web API may be away, seconds. With
    ``download``, the poll that finds a run ended downloads its result into a temporary directory in
    ``folder`` (None = the system's). Without it, results stay; AnyVar's web API cannot be polled so.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        holder: str | None = None,
        folder: Path | None = None,
        download: bool = True,
        outage: float = 60.0,
    ) -> None:
        self.held = {}
        self._client = ApiClient(url, token, secrets.token_hex(8) if holder is None else holder, outage)
        self._api_known = False  # whether a web API has answered at this URL
        self._polls: dict[str, _LastPoll] = {}
        self._folder = folder
        self._download = download
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Close the connection, and remove what was downloaded."""
        self._client.close()
        if self._scratch:
            self._scratch.cleanup()

    # -- submit ------------------------------------------------------------------------------------------

    def submit(self, source: BinaryIO, name: str, request: RunRequest) -> tuple[Manifest, bool]:
        """Upload the input under its run id, or join the live run of the same content.

        The run id is made from the content, so that a step started again joins its run without an upload.
        """
        if not source.seekable():
            with tempfile.TemporaryFile(dir=self._folder) as spooled:
                shutil.copyfileobj(source, spooled)
                return self.submit(spooled, name, request)
        source.seek(0)
        VcfReader(source, name)  # raises InvalidInput before a long upload of what is no VCF
        size, sha256 = hash_of(source)
        digest = content_digest(sha256, request)
        ticket = manifest_of(Staged(Path(), "", size, sha256), name, request, digest)
        for number in count(1):
            run_id = request.run_id or remote_run_id_for(digest, number)
            ticket = ticket.model_copy(update={"run_id": run_id, "folder": ""})
            chosen = request.run_id is not None
            joined = self._client.retrying(partial(self._attempt, ticket, source, number, chosen=chosen))
            if joined is not None:
                self._api_known = True
                self.held[run_id] = ticket
                return ticket, joined
        raise AssertionError("the loop returns or raises")

    def _attempt(self, ticket: Manifest, source: BinaryIO, number: int, *, chosen: bool) -> bool | None:
        """False where the ticket's run was started, True where it was joined, None where it has failed.

        A ``chosen`` run id is the caller's own: it names one content for good, and is started again where its
        run has failed. Otherwise the next run id has to be tried.
        """
        status = self._probe(ticket, chosen=chosen)
        if status is None or status.missing or (chosen and status.error_code):
            refusal = self._upload(ticket, source)
            if refusal is None:
                return False
            if chosen:
                raise ConfigurationError(str(refusal), "Choose another --run-id, or leave it out")
            if not self._download:
                return True
            status = self.status(ticket.run_id)
            if status.missing and number > 1:  # so the run id was not the reason
                raise refusal
        return None if status.error_code or status.missing else True

    def _probe(self, ticket: Manifest, *, chosen: bool) -> RunStatus | None:
        """What our web API says of the run, whose result stays there; None from AnyVar's."""
        path = run_path(ticket.run_id)
        with self._client.stream("HEAD", path) as response:
            code = response.status_code
            if _is_anyvars(response):
                return None
            if code in (200, 202):
                if chosen and response.headers.get(DIGEST) != ticket.digest:
                    raise unusable_run_id(ticket.run_id, "is in use by another input")
                return RunStatus(run_id=ticket.run_id, status_code=code, status="")
            if code == 404:
                return RunStatus(run_id=ticket.run_id, status_code=code, status="NOT_FOUND")
        response, body = self._client.request("GET", path)
        status = _status_from(ticket.run_id, response, body)
        if status is None:
            raise self._client.error_from(response, body, known=True)
        if chosen and status.status == State.REVOKED:
            raise unusable_run_id(ticket.run_id, "was cancelled, and workers refuse a cancelled id")
        return status

    def _upload(self, ticket: Manifest, source: BinaryIO) -> StepError | None:
        """PUT the input; None where its run was accepted, the error where the run id may be in use.

        The run is held before it can begin, so that an interruption cancels it.
        """
        upload = HashedUpload(source)
        self.held[ticket.run_id] = ticket
        response, body = self._client.request(
            "PUT",
            "vcf",
            params={
                "run_async": True,
                "run_id": ticket.run_id,
                **ticket.options.model_dump(),
                **ticket.model_dump(include=set(WorkerOptions.model_fields) - {"index"}),
            },
            files={"vcf": (ticket.input_name, upload, "application/octet-stream")},
            timeout=httpx.Timeout(CHUNK_TIMEOUT, connect=CONNECT_TIMEOUT, read=UPLOAD_TIMEOUT),
        )
        if response.status_code == 202:
            if upload.hexdigest() != ticket.input_sha256:
                with contextlib.suppress(StepError):
                    self._delete(ticket, shared=True)
                raise FileTrouble(f"{ticket.input_name} has changed while it was uploaded", "Run it again")
            return None
        del self.held[ticket.run_id]
        error = self._client.error_from(response, body)
        if response.status_code == 400:
            return error
        raise error

    # -- wait --------------------------------------------------------------------------------------------

    def status(self, run_id: str) -> RunStatus:
        """The run's status; the last one until the next poll is due, and for good once it is downloaded."""
        last = self._polls.get(run_id)
        if last is None or time.monotonic() >= last.until:
            last = self._polls[run_id] = self._poll(run_id)
        if isinstance(last.found, TryLater):
            raise last.found
        return last.found

    def _poll(self, run_id: str) -> _LastPoll:
        # One run is waited for at the web API; of several, none must delay the others.
        others = [poll.found for known, poll in self._polls.items() if known != run_id]
        alone = not any(isinstance(found, RunStatus) and found.running for found in others)
        try:
            status, pause = self._ask(run_id, RETRY_AFTER if alone else 0)
        except TryLater as trouble:
            return _LastPoll(trouble, time.monotonic() + trouble.seconds)
        return _LastPoll(status, math.inf if status.output is not None else time.monotonic() + pause)

    def _ask(self, run_id: str, wait: int) -> tuple[RunStatus, float]:
        """The status, and the seconds until the next poll. Ours waits for the run's end, up to ``wait`` s."""
        headers = {"Prefer": f"wait={wait}"}
        if not self._download:
            self._refuse_anyvars(run_id)
            headers["Range"] = "bytes=0-0"  # does not count as a download
        with self._client.stream("GET", run_path(run_id), headers=headers) as response:
            if _has_file(response):
                output = self._save(run_id, response) if self._download else None
                return run_status(run_id, {"status": State.SUCCESS, "result": output}, 200), 0.0
            body = read_json(response)
        status = _status_from(run_id, response, body)
        if status is None:
            raise self._client.error_from(response, body, known=self._api_known)
        self._api_known = True
        if not status.running:
            return status, 0.0
        if STATE in body:
            return status, 0.0 if wait else POLL_PAUSE
        # AnyVar's may ask for a longer pause; not granted, so that the end is seen soon.
        return status, min(retry_after(response), RETRY_AFTER)

    def _refuse_anyvars(self, run_id: str) -> None:
        with self._client.stream("HEAD", run_path(run_id)) as response:
            if _is_anyvars(response):
                raise ConfigurationError(
                    f"the web API at {self._client.url} drops a result as soon as it is asked for it",
                    "Use `annotate`, or `collect` once the run has ended",
                )

    def _save(self, run_id: str, response: httpx.Response) -> str:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=".anyvar-step-", dir=self._folder)
        target = Path(self._scratch.name) / run_id
        Download(self._client, run_path(run_id), target).save(response)
        return str(target)

    def worker_processes(self) -> int:
        """The number of worker processes that serve the queue; 1 behind AnyVar's web API."""
        _, body = self._client.request("GET", "healthz")
        processes = body.get("processes")
        if str(body.get("workers", "ok")) != "ok":
            return 0
        return max(1, processes) if isinstance(processes, int) else 1

    # -- fetch and end -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fetch(self, ticket: Manifest, status: RunStatus) -> Iterator[Fetched]:
        """The output as it was downloaded, and its worker's report."""
        if not status.output:
            raise FileTrouble(f"run {ticket.run_id} has ended without an output", "Run it again")
        yield Fetched(Path(status.output), self._client.retrying(lambda: self._report(ticket.run_id)))

    def _report(self, run_id: str) -> RunReport | None:
        """Our worker's report; None from AnyVar's worker or web API, which has no such path."""
        response, body = self._client.request("GET", f"{run_path(run_id)}/report")
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise self._client.error_from(response, body)
        try:
            return RunReport.model_validate(body)
        except ValidationError as error:
            raise FileTrouble(
                f"the report on run {run_id} from {self._client.url} cannot be read",
                "See the web API's log, and whether its version is that of this step",
            ) from error

    def forget(self, ticket: Manifest, *, shared: bool = True) -> None:
        """DELETE the ended run; where that fails, ours deletes it in time, and AnyVar's has done so."""
        with contextlib.suppress(TryLater):
            self._delete(ticket, shared=shared)
        self.held.pop(ticket.run_id, None)

    def cancel(self, ticket: Manifest, *, shared: bool = True) -> bool:
        """DELETE the run; False where AnyVar's web API cannot."""
        self.held.pop(ticket.run_id, None)
        response, body = self._delete(ticket, shared=shared)
        if response.status_code == 405:
            _logger.warning("run %s goes on: AnyVar's web API cannot cancel", ticket.run_id)
            return False
        if response.status_code not in (204, 404):
            raise self._client.error_from(response, body)
        return True

    def _delete(self, ticket: Manifest, *, shared: bool) -> tuple[httpx.Response, dict[str, Any]]:
        headers = {} if shared else {HOLDER: ""}
        return self._client.request(
            "DELETE", run_path(ticket.run_id), headers=headers, timeout=CONNECT_TIMEOUT
        )

    def find(self, run_id: str) -> Manifest:
        """A ticket with the id alone: the web API does not say what the run was asked for."""
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
