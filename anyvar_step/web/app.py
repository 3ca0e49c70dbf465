"""The web API's server and application: middleware, routes, error handlers, the tidying task."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from anyvar_step import __version__
from anyvar_step.errors import ConfigurationError, RunLost, StepError, Unavailable
from anyvar_step.settings import Settings, configure_logging, load, read_yaml
from anyvar_step.web import responses, routes
from anyvar_step.web.auth import BearerAuthentication, OriginCheck, check_configuration, is_on
from anyvar_step.web.responses import Refused
from anyvar_step.web.run_access import Health, Runs

#: Seconds that requests may take to end once the server has got SIGTERM.
SHUTDOWN = 20
#: Bytes of a request's line and headers together; seconds in which they must arrive.
LONGEST_HEADERS, HEADER_SECONDS = 1 << 15, 20.0
#: Seconds between two runs of ``Runs.tidy``.
TIDY_SECONDS = 60.0

_logger = logging.getLogger(__name__)


def serve(settings: Settings, host: str, port: int, *, processes: int, insecure: bool) -> None:
    """Serve until SIGTERM. Raises ConfigurationError before the first request for what is wrong."""
    check_configuration(settings)
    addresses = _addresses(host, port)
    if not (is_on(settings) or insecure or all(map(_is_loopback, addresses))):
        raise ConfigurationError(
            f"{host} can be reached from other hosts, and no token is asked for",
            "Set ANYVAR_AUTH_TOKEN_LIST or ANYVAR_AUTH_JWKS_URI, or --insecure behind a proxy that asks",
        )
    _check_free(addresses[0], port)
    if insecure:  # each process of the server reads the environment
        os.environ.setdefault("ANYVAR_STEP_ALLOWED_HOSTS", "*")
    import uvicorn

    uvicorn.run(
        "anyvar_step.web.app:from_environment",
        factory=True,
        host=addresses[0],
        port=port,
        workers=processes,
        # uvicorn kills a process that does not answer it for 5 s, and so never starts on a very busy machine.
        timeout_worker_healthcheck=120,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN,
        # Limits a request's headers in size, which uvicorn's other parser does not, and in time.
        http=TimedProtocol,
        h11_max_incomplete_event_size=LONGEST_HEADERS,
        limit_concurrency=settings.max_connections,
        server_header=False,
    )


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        raise ConfigurationError(f"cannot serve on {host}: {error.strerror}") from error
    return [str(entry[4][0]) for entry in found]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _check_free(address: str, port: int) -> None:
    """Uvicorn would say it in a log line, and exit with 1."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.create_server((address, port), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve on {address} port {port}: {error.strerror}", "Choose another --port or --host"
        ) from error


def create(settings: Settings) -> FastAPI:
    """The application. Raises ConfigurationError where there is no work dir."""
    app = FastAPI(
        title="anyvar-step",
        version=__version__,
        description="AnyVar's VCF endpoints, served by anyvar-step",
        docs_url="/",
        redoc_url=None,
        lifespan=_lifespan,
        # For the description only: BearerAuthentication checks the token before anything is routed.
        dependencies=[Security(HTTPBearer(auto_error=False))] if is_on(settings) else [],
    )
    check_configuration(settings)
    runs = Runs(settings)
    app.state.settings = settings
    app.state.runs = runs
    app.state.service_info = (
        read_yaml(settings.service_info, "ANYVAR_SERVICE_INFO") if settings.service_info else {}
    )
    app.state.health = Health(settings, runs)
    app.include_router(routes.router)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(StepError, _on_step_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_middleware(BearerAuthentication, settings=settings)
    app.add_middleware(OriginCheck, settings=settings)
    return app


def from_environment() -> FastAPI:
    """The application for the settings of the environment, in whichever process uvicorn starts."""
    if not logging.getLogger().hasHandlers():  # a process of --workers
        logging.basicConfig(level=logging.INFO, format="anyvar-step: %(message)s")
    settings = load()
    configure_logging(settings)
    return create(settings)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tidy, app.state.runs)
        yield
        tasks.cancel_scope.cancel()
    app.state.health.close()
    app.state.runs.close()


async def _tidy(runs: Runs) -> None:
    while True:
        try:
            await run_in_threadpool(runs.tidy)
        except (StepError, OSError) as trouble:
            _logger.warning("cannot tidy up: %s", trouble)
        await anyio.sleep(TIDY_SECONDS)


async def _on_refused(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    assert isinstance(error, Refused)
    return responses.error(error.status_code, str(error))


async def _on_step_error(request: Request, error: Exception) -> JSONResponse:
    """An error of the server is never a run's failure: no ``error_code``, and a client may ask again."""
    _logger.warning("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, RunLost):
        return responses.not_found(request.path_params.get("run_id", ""))
    if isinstance(error, ConfigurationError):
        return responses.error(500, str(error))
    if isinstance(error, Unavailable):  # its message names Redis's address, which is not for clients
        return responses.error(503, "the queue cannot be reached just now", {"Retry-After": "5"})
    return responses.error(503, str(error), {"Retry-After": "30"})


async def _on_disconnect(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    _logger.info("%s %s: the client disconnected", request.method, request.url.path)
    return JSONResponse({}, 499)


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol that closes a connection whose request does not arrive in HEADER_SECONDS.

    uvicorn itself waits without limit for the first byte and for the end of the headers.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer for a complete request, start it for one that has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._deadline is None:
            self._start_timer()

    def on_response_complete(self) -> None:
        """Between two requests uvicorn's own limit holds."""
        self._stop_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
