"""The HTTP transport: a run behind AnyVar's web API or ours, for hosts that see no broker and no work dir.

AnyVar's web API hands out a result once, as it answers 200, and forgets it: so the look that finds a run
ended is the download. It also takes no HEAD and no DELETE, by which it is told from ours.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import logging
import math
import random
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import httpx
from httpx import Response
from pydantic import ValidationError

from anyvar_step.client.base import Fetched
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
from anyvar_step.files import copy_and_hash, hash_of
from anyvar_step.models import (
    AnnotateOptions,
    Manifest,
    RunReport,
    RunRequest,
    RunStatus,
    State,
    WorkerOptions,
)
from anyvar_step.runs.keys import remote_run_id_for
from anyvar_step.runs.manifest import content_digest, manifest_of
from anyvar_step.runs.state import run_status
from anyvar_step.runs.work_dir import Staged
from anyvar_step.settings import LONGEST_POLL, masked
from anyvar_step.vcf import VcfReader

#: Request header: who waits for the run. Steps with the same input share one; the last one's DELETE counts.
HOLDER = "Anyvar-Step-Holder"
#: Answer header of a HEAD: the digest of the run's content, so that a caller's own run id names one input.
DIGEST = "Anyvar-Step-Digest"
#: Field of a failure answer beside ``error`` and ``error_code``: the exception's name, for the exit code.
ERROR_CLASS = "error_class"
#: Fields of a 202 answer beside AnyVar's, whose ``status`` is always PENDING: Celery's state, and progress.
STATE, PROGRESS = "state", "progress"
#: Seconds between two looks at a run, as AnyVar's web API asks for in ``Retry-After``.
RETRY_AFTER = 2

_HOLDER = re.compile(r"[A-Za-z0-9]{1,64}")


def is_holder(text: str) -> bool:
    """Whether the text can name somebody who waits for a run."""
    return _HOLDER.fullmatch(text) is not None


def run_path(run_id: str) -> str:
    """Where the run is, below the web API's address."""
    return f"vcf/{quote(run_id, safe='')}"


def is_file(response: httpx.Response) -> bool:
    """Whether the answer is a finished run's output; a run without one is answered in JSON."""
    return response.status_code == 200 and "json" not in response.headers.get("content-type", "")


def is_anyvars_own(response: httpx.Response) -> bool:
    """Whether the answer to a HEAD is AnyVar's, which knows no HEAD, and not a failure code of 405."""
    return response.status_code == 405 and "allow" in response.headers


def status_of(run_id: str, response: httpx.Response, body: dict[str, Any]) -> RunStatus | None:
    """The run's status; None where the answer is no run's status but a server's or a proxy's own trouble.

    A failed run is told by its ``error_code``: the failure code may be any, also that of a proxy's trouble.
    """
    code = response.status_code
    if code >= 400 and isinstance(body.get("error_code"), str):
        return _failed(run_id, code, body)
    if code == 404 and body.get("status") == "NOT_FOUND":
        return run_status(run_id, None, code)
    if code == 200 and body.get("status") == State.SUCCESS:
        return run_status(run_id, {"status": State.SUCCESS, "result": None}, code)
    if code == 202:
        # AnyVar's web API does not tell a queued run from one at work: SENT, as its workers have it.
        return run_status(run_id, {"status": _state(body), "result": body.get(PROGRESS)}, code)
    return None


def _failed(run_id: str, code: int, body: dict[str, Any]) -> RunStatus:
    error_code = body["error_code"]
    if error_code == RunCancelled.error_code:
        return run_status(run_id, {"status": State.REVOKED, "result": None}, code)
    name = body.get(ERROR_CLASS) or name_from_code(error_code)
    result = {"exc_type": name, "exc_message": [str(body.get("error") or name)]}
    status = run_status(run_id, {"status": State.FAILURE, "result": result}, code)
    return status.model_copy(update={"error_code": error_code})


def _state(body: dict[str, Any]) -> str:
    state = str(body.get(STATE))
    return state if state in State.__members__ and state != State.PENDING else State.SENT


_logger = logging.getLogger(__name__)

#: Seconds: to connect, and between two pieces of what is sent or received.
CONNECT, PIECE = 5.0, 60.0
#: Seconds for an answer to an upload: AnyVar copies it into its work dir first.
AFTER_UPLOAD = 600.0
#: Bytes of a JSON answer that are read at most.
LONGEST_BODY = 1 << 20


class TryLater(Unavailable):
    """The web API is away or busy; ``seconds`` is when it wants to be asked again, 0 = it did not say."""

    def __init__(self, what: str, remedy: str = "", seconds: float = 0.0) -> None:
        super().__init__(what, remedy)
        self.seconds = seconds


class Backoff:
    """Pauses between tries while a web API is away: growing, jittered, and over after ``outage`` seconds."""

    def __init__(self, outage: float) -> None:
        self._outage = outage
        self.reset()

    def reset(self) -> None:
        """Something got through."""
        self._pause, self._since = 0.25, time.monotonic()

    def wait(self, trouble: TryLater) -> None:
        """Pause, as long as the web API asks for at least; raises the trouble once it has lasted too long."""
        if time.monotonic() - self._since > self._outage:
            raise trouble
        _logger.warning("%s; trying again for up to %g s", trouble, self._outage)
        time.sleep(max(trouble.seconds, self._pause * random.uniform(0.5, 1.0)))  # noqa: S311  # jitter
        self._pause = min(self._pause * 2, 8.0)


class Client:
    """Requests below ``url``; what it raises is a StepError.

    ``outage`` is how long the web API may be away, seconds, while something is uploaded or downloaded.
    """

    def __init__(self, url: str, token: str | None, holder: str, outage: float) -> None:
        self.url = masked(url)
        self.outage = outage
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request, with the password in it
        headers = {HOLDER: holder, "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=url + "/", headers=headers, timeout=httpx.Timeout(PIECE, connect=CONNECT)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connection."""
        self._http.close()

    @contextlib.contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """The answer, whose body is still to be read; reading it may raise, here and with the same words."""
        with self.reaching(), self._http.stream(method, path, **options) as response:
            yield response

    def ask(self, method: str, path: str, **options: Any) -> tuple[httpx.Response, dict[str, Any]]:
        """The answer and its JSON object, empty where it is none."""
        with self.stream(method, path, **options) as response:
            return response, read_json(response)

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Turns httpx's exceptions into ours, naming the URL without its password."""
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

    def trouble(self, response: httpx.Response, body: dict[str, Any], *, known: bool = False) -> StepError:
        """The failure that an answer stands for which is neither a run's status nor an acceptance.

        ``known``: a web API has answered there before, so that a strange 404 is a proxy's that has lost it.
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
    """FastAPI's ``detail``: a text, or what is wrong with which parameters."""
    detail = body.get("detail")
    if not isinstance(detail, list):
        return str(detail or "")
    wrong = [each for each in detail if isinstance(each, dict)]
    return "; ".join(f"{(each.get('loc') or ['?'])[-1]}: {each.get('msg')}" for each in wrong)


def read_json(response: httpx.Response) -> dict[str, Any]:
    """The body's JSON object; empty where it is another kind of body, or a very long one."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
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
    return min(max(0.0, seconds), LONGEST_POLL)  # in that order: of 0.0 and NaN the first is the greater


#: Seconds between two lines on a transfer's progress (-v).
PERIOD = 10.0


class Meter:
    """Says every PERIOD how far a transfer is."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._said = time.monotonic()

    def at(self, done: int) -> None:
        """``done`` bytes have passed."""
        now = time.monotonic()
        if now - self._said >= PERIOD:
            self._said = now
            of = f" of {self._total / 1e6:,.0f}" if self._total else ""
            _logger.info("%s: %s%s MB", self._what, f"{done / 1e6:,.0f}", of)


class Upload:
    """The input as httpx reads it: digested again on the way, since it may change under us."""

    def __init__(self, source: BinaryIO, name: str, size: int) -> None:
        self._source = source
        self._meter = Meter(f"uploading {name}", size)
        self._digest = hashlib.sha256()
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """The next piece."""
        piece = self._source.read(size)
        self._digest.update(piece)
        self._done += len(piece)
        self._meter.at(self._done)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Httpx goes to the beginning before it reads."""
        self._digest, self._done = hashlib.sha256(), 0
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Where the next piece begins."""
        return self._source.tell()

    def fileno(self) -> int:
        """Httpx takes the length from the file."""
        return self._source.fileno()

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of what was read."""
        return self._digest.hexdigest()


class Download:
    """One run's result on its way into ``target``."""

    def __init__(self, client: Client, path: str, target: Path) -> None:
        self._client = client
        self._path = path
        self._target = target
        self._etag = ""
        self._resumable = False

    def take(self, response: httpx.Response) -> None:
        """Save the answer's body, resumed with further requests where it breaks off.

        Raises RunLost where the web API has forgotten the result as it sent it, which AnyVar's does;
        Unavailable where it stays away; FileTrouble where this host's disk is full.
        """
        try:
            with self._target.open("wb") as out:
                self._begin(response)
                try:
                    with self._client.reaching():
                        self._copy(response, out)
                except TryLater as broken:
                    self._resume(out, broken)
        except OSError as error:
            raise from_os(error, f"cannot save the result in {self._target.parent}") from error

    def _begin(self, response: httpx.Response) -> None:
        headers = response.headers
        self._etag = headers.get("etag", "")
        encoded = headers.get("content-encoding", "identity") != "identity"
        self._resumable = bool(self._etag) and headers.get("accept-ranges") == "bytes" and not encoded

    def _copy(self, response: httpx.Response, out: BinaryIO) -> None:
        length = response.headers.get("content-length", "")
        meter = Meter(
            f"downloading {self._target.name}", out.tell() + int(length) if length.isdecimal() else 0
        )
        for piece in response.iter_bytes():
            out.write(piece)
            meter.at(out.tell())

    def _resume(self, out: BinaryIO, broken: TryLater) -> None:
        backoff, reached = Backoff(self._client.outage), out.tell()
        while True:
            _logger.info("the download broke off after %d bytes; resuming", out.tell())
            backoff.wait(broken)
            try:
                self._again(out)
                return
            except TryLater as trouble:
                broken = trouble
            if out.tell() > reached:
                reached = out.tell()
                backoff.reset()

    def _again(self, out: BinaryIO) -> None:
        done = out.tell() if self._resumable else 0
        headers = {"Range": f"bytes={done}-", "If-Range": self._etag} if done else {}
        with self._client.stream("GET", self._path, headers=headers) as response:
            span = response.headers.get("content-range", "")
            if response.status_code == 206 and span.startswith(f"bytes {done}-"):
                self._copy(response, out)
            elif response.status_code == 200:
                out.seek(0)
                out.truncate()
                self._begin(response)
                self._copy(response, out)
            elif response.status_code == 404:
                raise RunLost(
                    f"the download broke off after {done} bytes, and the web API has dropped the result",
                    "Run it again",
                )
            else:
                raise self._client.trouble(response, {})


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
        ours = ticket.model_dump(include=set(WorkerOptions.model_fields) - {"index"})  # no endpoint has it
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


class HttpStatusPoller:
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
        path = run_path(run_id)
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
            Download(self._client, run_path(run_id), target).take(response)
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


class HttpTransport(HttpStatusPoller):
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

    @property
    def held(self) -> list[Manifest]:
        """The runs that were uploaded or found here, and not ended since."""
        return list(self._held.values())

    # -- the rest ----------------------------------------------------------------------------------------

    def renew_lease(self, ticket: Manifest) -> None:
        """Nothing to do: each look keeps the run."""

    def queue_length(self) -> int | None:
        """The web API does not tell the queue's length."""
        return None

    def only_anyvars_workers(self) -> bool:
        """False: the web API does not say."""
        return False

    def unreceived(self, run_ids: Sequence[str]) -> Collection[str]:  # noqa: ARG002
        """None: the web API's own affair."""
        return ()

    def requeue(self, ticket: Manifest) -> None:
        """The web API's own affair."""

    def worker_processes(self) -> int:
        """The number of worker processes that serve the queue; 1 behind AnyVar's web API."""
        _, body = self._client.ask("GET", "healthz")
        processes = body.get("processes")
        if str(body.get("workers", "ok")) != "ok":
            return 0
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
                response, body = self._client.ask("GET", f"{run_path(run_id)}/report")
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

    def resubmit(self, ticket: Manifest) -> Manifest | None:  # noqa: ARG002
        """None: the staged input is the web API's; the caller's own ``--retries`` sends it again."""
        return None

    def forget(self, ticket: Manifest, *, shared: bool = True) -> None:
        """Delete the ended run; where that fails, its web API does so in time. AnyVar's has done so."""
        with contextlib.suppress(TryLater):
            self._client.ask("DELETE", run_path(ticket.run_id), headers={} if shared else {HOLDER: ""})
        self._held.pop(ticket.run_id, None)

    def cancel(self, ticket: Manifest, *, shared: bool = True) -> bool:
        """Cancel the run, if ``shared`` unless another step waits for it; AnyVar's web API cannot."""
        self._held.pop(ticket.run_id, None)
        return self._delete(ticket.run_id, headers={} if shared else {HOLDER: ""})

    def _delete(self, run_id: str, **options: Any) -> bool:
        """Ask for the run's end; False where the web API cannot do that."""
        response, body = self._client.ask("DELETE", run_path(run_id), timeout=CONNECT, **options)
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
