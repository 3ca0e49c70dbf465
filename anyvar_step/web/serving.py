"""Serving: which addresses need a token, the socket, and uvicorn in one process or several."""

from __future__ import annotations

import ipaddress
import socket

from anyvar_step.errors import ConfigurationError
from anyvar_step.settings import Settings

#: Seconds that requests may take to end once the server is told to stop.
SHUTDOWN = 20
#: Bytes of a request's line and headers, all together.
LONGEST_HEADERS = 1 << 15


def serve(settings: Settings, host: str, port: int, *, processes: int, insecure: bool) -> None:
    """Serve until told to stop. Raises ConfigurationError before the first request for what is wrong."""
    addresses = _addresses(host, port)
    if not (settings.auth_tokens or insecure or all(map(_is_loopback, addresses))):
        raise ConfigurationError(
            f"{host} can be reached from other hosts, and no token is asked for",
            "Set ANYVAR_AUTH_TOKEN_LIST, or --insecure where something else guards the port",
        )
    _check_free(addresses[0], port)
    import uvicorn

    uvicorn.run(
        "anyvar_step.web.app:from_environment",
        factory=True,
        host=addresses[0],
        port=port,
        workers=processes,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN,
        # Of the two parsers that uvicorn may find, the one that limits a request's headers.
        http="h11",
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
