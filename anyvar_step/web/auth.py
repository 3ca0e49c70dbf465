"""Who may use the web API: bearer tokens, as with AnyVar (docs/contract.md#newer-anyvar), hosts and origins.

A token is accepted if the list has it, or if it is a JWT of the issuer that passes every configured check.
Hosts, origins and headers follow OWASP ASVS 4.0, sections 13.2 and 14.4.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anyvar_step.errors import ConfigurationError
from anyvar_step.settings import Settings
from anyvar_step.web.responses import EarlyResponse, error

_logger = logging.getLogger(__name__)

#: The path that asks for no token: a cluster's probes have none, and its answer holds no secret.
OPEN_PATH = "/healthz"
#: Signatures by private keys; were shared secrets allowed, the issuer's public key would forge tokens.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: Seconds by which the issuer's clock may differ from ours.
LEEWAY = 60
#: Seconds for which keys are cached, between two requests for keys that the cache lacks, and for an answer.
KEYS_LIFESPAN, KEYS_INTERVAL, KEYS_TIMEOUT = 3600, 10.0, 10.0
#: Accepted JWTs whose checks are remembered until they expire.
REMEMBERED = 1000
#: Characters of the shortest token of the list: shorter ones can be guessed.
SHORTEST_TOKEN = 16
#: Host names that need no configuration.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: Methods that change nothing: pages of other sites may use them, and cannot read the response.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_configuration(settings: Settings) -> None:
    """Raise ConfigurationError where ANYVAR_AUTH_… would leave open what its author meant to close."""
    unknown = {name: remedy for name, remedy in settings.mistyped.items() if name.startswith("ANYVAR_AUTH_")}
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)} is no setting of the web API", next(iter(unknown.values()))
        )
    if any(len(token) < SHORTEST_TOKEN for token in settings.auth_tokens):
        raise ConfigurationError(
            f"a token in ANYVAR_AUTH_TOKEN_LIST has fewer than {SHORTEST_TOKEN} characters",
            "Make tokens with: openssl rand -hex 32",
        )
    if bool(settings.auth_issuer_url) != bool(settings.auth_jwks_uri):
        raise ConfigurationError(
            "ANYVAR_AUTH_ISSUER_URL and ANYVAR_AUTH_JWKS_URI go together", "Set both, or neither"
        )
    claims = (
        settings.auth_audiences,
        settings.auth_appids,
        settings.auth_scopes,
        settings.auth_emails,
        settings.auth_subjects,
    )
    if any(claims) and not settings.auth_jwks_uri:
        raise ConfigurationError(
            "claims of JWTs are configured, and no issuer",
            "Set ANYVAR_AUTH_ISSUER_URL and ANYVAR_AUTH_JWKS_URI, or unset the claims",
        )


def is_on(settings: Settings) -> bool:
    """Whether the web API asks for tokens."""
    return bool(settings.auth_tokens or settings.auth_jwks_uri)


class JwtChecker:
    """Checks JWTs against an issuer's published keys and the configured claims; safe to call in threads.

    Raises ConfigurationError where PyJWT is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import jwt
        except ImportError:
            raise ConfigurationError("ANYVAR_AUTH_JWKS_URI needs PyJWT", "Install anyvar-step[web]") from None
        self._settings = settings
        self._keys = jwt.PyJWKClient(
            settings.auth_jwks_uri, cache_keys=True, lifespan=KEYS_LIFESPAN, timeout=KEYS_TIMEOUT
        )
        self._asked = -KEYS_INTERVAL
        self._accepted: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def accepts(self, token: str) -> bool:
        """Whether the token is a valid JWT of the issuer with the configured claims; may ask for its keys."""
        import jwt

        digest = hashlib.sha256(token.encode()).digest()
        with self._lock:
            if time.time() < self._accepted.get(digest, 0):
                return True
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                return False
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[name for name in ALGORITHMS if name == key.algorithm_name],
                leeway=LEEWAY,
                issuer=self._settings.auth_issuer_url,
                options={"require": ["iat", "exp", "iss", "sub"], "verify_aud": False},
            )
        except jwt.PyJWKClientError as error:
            _logger.warning("the keys at ANYVAR_AUTH_JWKS_URI cannot be had: %s", type(error).__name__)
            return False
        except jwt.PyJWTError as error:
            _logger.info("a token was refused: %s", type(error).__name__)
            return False
        if (claim := self._unmet(claims)) is not None:
            _logger.info("a token was refused for its claim %s", claim)
            return False
        with self._lock:
            if len(self._accepted) >= REMEMBERED:
                self._accepted.clear()
            self._accepted[digest] = float(claims["exp"])
        return True

    def _key(self, kid: str | None) -> Any:
        """The issuer's key of that id; None where it has none, which is asked for now and then only."""
        with self._lock:
            found = self._match(self._keys.get_signing_keys(), kid)
            if found is None and time.monotonic() - self._asked >= KEYS_INTERVAL:
                self._asked = time.monotonic()
                found = self._match(self._keys.get_signing_keys(refresh=True), kid)
        return found

    @staticmethod
    def _match(keys: list[Any], kid: str | None) -> Any:
        return next((key for key in keys if key.key_id == kid), None)

    def _unmet(self, claims: dict[str, Any]) -> str | None:
        """The first claim that is configured and that the token does not meet."""
        settings, email = self._settings, claims.get("email")
        found = {
            "aud": (settings.auth_audiences, _words(claims.get("aud"), split=False)),
            "appid": (settings.auth_appids, _words(claims.get("appid"), split=False)),
            "scope": (settings.auth_scopes, _words(claims.get("scope"), split=True)),
            "email": (
                tuple(each.lower() for each in settings.auth_emails),
                _words(email.lower() if isinstance(email, str) else None, split=False),
            ),
            "sub": (settings.auth_subjects, _words(claims.get("sub"), split=False)),
        }
        return next((name for name, (wanted, has) in found.items() if wanted and not {*wanted} & has), None)


def _words(claim: Any, *, split: bool) -> set[str]:
    """A claim's texts: it may be one text, of words with ``split``, or a list of them."""
    if isinstance(claim, str):
        return set(claim.split()) if split else {claim}
    return {each for each in claim if isinstance(each, str)} if isinstance(claim, list) else set()


class BearerAuthentication:
    """ASGI middleware that answers 401 before a request is routed or its body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tokens = [token.encode() for token in settings.auth_tokens]
        self._jwt = JwtChecker(settings) if settings.auth_jwks_uri else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or scope["path"] == OPEN_PATH or await self._allows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = EarlyResponse(
            {"detail": "Invalid token", "error": "a valid bearer token is needed"},
            401,
            headers={"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    async def _allows(self, headers: Headers) -> bool:
        """Whether a valid token is given, or none is asked for; the list is compared in constant time."""
        if not (self._tokens or self._jwt):
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token.isascii():
            return False
        matches = [hmac.compare_digest(token.encode(), known) for known in self._tokens]
        return any(matches) or (self._jwt is not None and await run_in_threadpool(self._jwt.accepts, token))


class OriginCheck:
    """ASGI middleware: refuses foreign hosts and origins, and adds headers to each response.

    Without ANYVAR_STEP_ALLOWED_HOSTS any host name is accepted where tokens are required, and otherwise
    loopback names only: by DNS rebinding a page of another site could reach a web API on its reader's host
    under a name of its own. ``*`` accepts any.
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
            answer = error(
                421, "this host name is not served; ANYVAR_STEP_ALLOWED_HOSTS names those that are"
            )
            await answer(scope, receive, with_headers)
        elif (
            origin and scope["method"] not in SAFE_METHODS and urlsplit(origin).netloc.lower() != host.lower()
        ):
            await error(403, "pages of other sites may not write here")(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
