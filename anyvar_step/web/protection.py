"""What protects the web API before a request is routed: host names, origins, headers, time limits.

Anchors: OWASP ASVS 4.0, sections 13.2 (hosts and origins), 14.4 (response headers), and slow clients.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from anyvar_step.settings import Settings
from anyvar_step.web.auth import is_on
from anyvar_step.web.runs import refusal

#: Names of this host that need no configuration.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: Methods that change nothing: pages of other sites may use them, and cannot read the answer.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Seconds that a client has for a request's line and headers.
HEADER_SECONDS = 20.0


class Protection:
    """ASGI middleware: refuses foreign hosts and origins, and adds headers to each answer.

    Without ANYVAR_STEP_ALLOWED_HOSTS any host name is taken where tokens are asked for, and those of loopback
    where none are: a page of another site could otherwise reach a web API on its reader's own host, under a
    name of its own. ``*`` takes any.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        configured = frozenset(host.lower() for host in settings.allowed_hosts)
        any_host = "*" in configured or (not configured and is_on(settings))
        self._hosts = None if any_host else configured | LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            answer = refusal(
                421, "this host name is not served; ANYVAR_STEP_ALLOWED_HOSTS names those that are"
            )
            await answer(scope, receive, with_headers)
        elif origin and scope["method"] not in SAFE and urlsplit(origin).netloc.lower() != host.lower():
            await refusal(403, "pages of other sites may not write here")(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol that closes a connection whose request does not come.

    uvicorn itself waits without limit for the first byte and for the end of the headers.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait HEADER_SECONDS for the first request."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once a request is there, and HEADER_SECONDS for one that has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._await_headers()

    def on_response_complete(self) -> None:
        """Between two requests uvicorn's own limit holds."""
        self._stop_waiting()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
