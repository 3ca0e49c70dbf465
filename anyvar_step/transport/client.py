"""httpx in our words: one connection to a web API, its refusals and outages as our failures."""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import random
import time
from collections.abc import Iterator
from typing import Any, Self

import httpx

from anyvar_step.errors import AccessRefused, ConfigurationError, InvalidInput, StepError, Unavailable
from anyvar_step.settings import LONGEST_POLL
from anyvar_step.transport.rest import HOLDER
from anyvar_step.values import masked

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
        if code in (401, 403):
            return AccessRefused(what, "Check ANYVAR_STEP_TOKEN")
        if code == 413:
            return InvalidInput(what, "Raise ANYVAR_STEP_MAX_UPLOAD or its proxy's limit, or split the VCF")
        if response.is_redirect:
            goal = response.headers.get("location", "")
            return ConfigurationError(what, f"Set ANYVAR_STEP_URL to where it points: {goal}")
        if code == 429 or code >= 500 or (code == 404 and known):
            return TryLater(what, "Run it again; see the web API's log", retry_after(response))
        if code == 422:
            return ConfigurationError(what, "Check the options that it names")
        return ConfigurationError(what, "Is ANYVAR_STEP_URL the address of an AnyVar web API?")


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
