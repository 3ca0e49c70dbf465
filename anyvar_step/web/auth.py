"""Bearer tokens: every path but /healthz asks for one, where ANYVAR_AUTH_TOKEN_LIST names any."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from anyvar_step.web.runs import Refusal

#: Probes of a cluster carry no token; what it says is no secret.
OPEN_PATH = "/healthz"


class BearerTokens:
    """ASGI middleware, so that nothing is routed, parsed or read before the token has been seen."""

    def __init__(self, app: ASGIApp, tokens: tuple[str, ...]) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or scope["path"] == OPEN_PATH or self._allows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = Refusal(
            {"detail": "Invalid token", "error": "a valid bearer token is needed"},
            401,
            headers={"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        """Whether the token is one of ours; each is compared, and each in constant time."""
        if not self._tokens:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        shown = token.strip().encode("latin-1")
        matches = [hmac.compare_digest(shown, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(matches)
