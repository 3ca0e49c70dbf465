"""The web application: routes, token check, our failures as answers, and the tidying task."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from anyvar_step import __version__
from anyvar_step.errors import ConfigurationError, RunLost, StepError, Unavailable
from anyvar_step.settings import Settings, configure_logging, load, read_yaml
from anyvar_step.web import routes, variations
from anyvar_step.web import runs as answers
from anyvar_step.web.auth import BearerAuthentication, check_configuration, is_on
from anyvar_step.web.protection import Protection, TimedProtocol
from anyvar_step.web.runs import Refusal, Refused, Runs, refusal

#: Seconds that requests may take to end once the server is told to stop.
SHUTDOWN = 20
#: Bytes of a request's line and headers, all together.
LONGEST_HEADERS = 1 << 15


def serve(settings: Settings, host: str, port: int, *, processes: int, insecure: bool) -> None:
    """Serve until told to stop. Raises ConfigurationError before the first request for what is wrong."""
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


_logger = logging.getLogger(__name__)

#: Seconds between two looks at what can be removed.
TIDY_EVERY = 60.0


def create(settings: Settings) -> FastAPI:
    """The application. Raises ConfigurationError where there is no work dir."""
    app = FastAPI(
        title="anyvar-step",
        version=__version__,
        description="AnyVar's VCF endpoints, served by anyvar-step",
        docs_url="/",
        redoc_url=None,
        lifespan=_lifespan,
        # Described only: BearerAuthentication asks for it before anything is routed.
        dependencies=[Security(HTTPBearer(auto_error=False))]
        if settings.auth_tokens or settings.auth_jwks_uri
        else [],
    )
    check_configuration(settings)
    runs = Runs(settings)
    app.state.settings = settings
    app.state.runs = runs
    app.state.service_info = (
        read_yaml(settings.service_info, "ANYVAR_SERVICE_INFO") if settings.service_info else {}
    )
    app.state.health = routes.Health(settings, runs)
    app.include_router(routes.upload_router)
    app.include_router(routes.router)
    app.include_router(routes.service_router)
    app.include_router(variations.router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StepError, _failed)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(BearerAuthentication, settings=settings)
    app.add_middleware(Protection, settings=settings)
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
        await anyio.sleep(TIDY_EVERY)


async def _refused(request: Request, error: Exception) -> Refusal:  # noqa: ARG001
    assert isinstance(error, Refused)
    return refusal(error.status_code, str(error))


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Our own trouble is never a run's failure: it has no ``error_code``, and a client may ask again."""
    _logger.warning("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, RunLost):
        return answers.not_found(request.path_params.get("run_id", ""))
    if isinstance(error, ConfigurationError):
        return refusal(500, str(error))
    if isinstance(error, Unavailable):  # where Redis is, and how to start it, is not for clients to know
        return refusal(503, "the queue cannot be reached just now", {"Retry-After": "5"})
    return refusal(503, str(error), {"Retry-After": "30"})


async def _gone(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    _logger.info("%s %s: the client hung up", request.method, request.url.path)
    return JSONResponse({}, 499)
