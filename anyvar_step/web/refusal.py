"""Answers to requests that are refused, sent so that a client which is still uploading gets to read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

#: Seconds for which the rest of a refused upload is read and thrown away.
LINGER = 10.0


class Refused(Exception):
    """The request is refused with that status code; ``message`` becomes AnyVar's ``error``."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


class Refusal(JSONResponse):
    """A JSON answer that is sent at once, while the request's body may still be coming.

    A server that closes such a connection resets it, and a client in the middle of its upload sees the reset
    instead of the answer: so what comes is read for a while. A client that waits for "100 Continue" has not
    begun to send, and must not be made to.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then let the upload run out."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if (b"expect", b"100-continue") not in scope["headers"]:
            await _let_run_out(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _let_run_out(receive: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass


def refusal(status_code: int, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """AnyVar's error body; no ``error_code``, since no run failed."""
    return Refusal({"error": message}, status_code, headers=headers)
