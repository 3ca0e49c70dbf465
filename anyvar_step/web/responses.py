"""Responses of the web API: run status, errors, files, in AnyVar's form (docs/contract.md#web-api)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from anyvar_step.models import RETRY_AFTER, RunStatus, run_path

#: Seconds for which the rest of a refused upload is still read, and its bytes at most.
DRAIN_SECONDS, DRAIN_BYTES = 10.0, 1 << 20

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


def location(run_id: str) -> str:
    """The path of a run on a VCF."""
    return f"/{run_path(run_id)}"


# -- run statuses ----------------------------------------------------------------------------------------


def submitted(run_id: str, path: str, seconds: int) -> JSONResponse:
    """202 for a run that has just been queued and takes about that many seconds."""
    body = _status_body(run_id, "PENDING", f"Run submitted. Check status at {path}")
    return JSONResponse(body, 202, headers={"Location": path, "Retry-After": str(seconds)})


def running(run_id: str, path: str, **more: object) -> JSONResponse:
    """202 for a run that is queued or at work, with ``more`` fields of ours beside AnyVar's."""
    body = _status_body(run_id, "PENDING", f"Run not completed. Check status at {path}")
    return JSONResponse(body | more, 202, headers={"Retry-After": str(RETRY_AFTER)})


def completed(run_id: str, conflicts: int) -> JSONResponse:
    """200 for an ingestion, which has no file; ``conflicts`` alleles were left out."""
    message = "VCF registration complete"  # AnyVar's words
    if conflicts:
        message += f". Alleles left out, whose identifiers do not match them: {conflicts}"
    return JSONResponse(_status_body(run_id, "SUCCESS", message))


def failed(status: RunStatus, **more: object) -> JSONResponse:
    """The failure code, for a failed or cancelled run, with ``more`` fields of ours beside AnyVar's."""
    return JSONResponse({"error": status.message, "error_code": status.error_code} | more, status.status_code)


def not_found(run_id: str) -> JSONResponse:
    """404 for an unknown run."""
    return JSONResponse(_status_body(run_id, "NOT_FOUND", "Run not found"), 404)


def _status_body(run_id: str, status: str, message: str) -> dict[str, object]:
    return {"run_id": run_id, "status": status, "status_message": message}


# -- errors ----------------------------------------------------------------------------------------------


class Refused(Exception):
    """The request is refused with that status code; ``message`` becomes AnyVar's ``error``."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


def invalid(
    where: tuple[str | int, ...], kind: str, message: str, value: object = None
) -> RequestValidationError:
    """The exception for 422, as FastAPI itself answers where a parameter or field is wrong."""
    return RequestValidationError([{"type": kind, "loc": where, "msg": message, "input": value}])


class EarlyResponse(JSONResponse):
    """A response that is sent at once, while the request's body may still be arriving.

    A server that closes such a connection resets it, and a client in the middle of its upload sees the reset
    instead of the response: so the body is read for a while. A client that waits for "100 Continue" has not
    begun to send, and reading would make it begin.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then read what is left of the request's body."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if (b"expect", b"100-continue") not in scope["headers"]:
            await _drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            left = DRAIN_BYTES
            while left > 0 and (message := await receive()).get("more_body", False):
                left -= len(message["body"])
    except TimeoutError:
        pass


def error(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> EarlyResponse:
    """AnyVar's error body, without an ``error_code``, since no run failed."""
    return EarlyResponse({"error": message, "error_code": None}, status_code, headers=headers)


# -- result files ----------------------------------------------------------------------------------------

#: Called with the first and the last byte (exclusive) that were sent, and the file's size.
OnSent = Callable[[int, int, int], Awaitable[None]]


class ResultFile(FileResponse):
    """200 or 206 with a result file (Range, If-Range); reports to ``on_sent`` what has been sent of it."""

    chunk_size = 1 << 20

    def __init__(self, path: Path, run_id: str, on_sent: OnSent) -> None:
        with path.open("rb") as file:
            media_type = "application/gzip" if file.read(2) == b"\x1f\x8b" else "text/plain"
        # The body of a synchronous PUT does not contain the run id: Location does.
        super().__init__(path, media_type=media_type, headers={"Location": location(run_id)})
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; ``on_sent`` is called once, also where the client disconnects.

        It is called before the last chunk is sent: a client that has all may then submit under the same id.
        """
        span: tuple[int, int] | None = None  # first byte and file size; None = nothing to report
        sent = 0

        async def report() -> None:
            nonlocal span
            if span is not None:
                (start, size), span = span, None
                await self._on_sent(start, start + sent, size)

        async def count_and_send(message: Message) -> None:
            nonlocal span, sent
            if message["type"] == "http.response.start":
                span = _span(message) if scope["method"] != "HEAD" else None
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                if not message.get("more_body", False):
                    await report()
            await send(message)

        try:
            await super().__call__(scope, receive, count_and_send)
        finally:
            await report()


def _span(start: Message) -> tuple[int, int] | None:
    """First byte and file size of a response; None for errors and for several ranges, which do not count."""
    headers = Headers(raw=list(start["headers"]))
    if start["status"] == 200:
        return 0, int(headers["content-length"])
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "")) if start["status"] == 206 else None
    return (int(found[1]), int(found[2])) if found else None
