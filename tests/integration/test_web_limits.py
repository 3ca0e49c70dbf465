"""What a client may ask of the web API at most: time, headers, connections; and it serves on meanwhile."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from support import Api, Site, until

HEAD = (
    "PUT /vcf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n{more}\r\n"
)


@pytest.fixture
def api(site: Site) -> Iterator[Api]:
    limits = {"ANYVAR_STEP_UPLOAD_PATIENCE": "1", "ANYVAR_STEP_MAX_CONNECTIONS": "8"}
    with site.web(**limits) as served:
        yield served


@contextlib.contextmanager
def connected(api: Api) -> Iterator[socket.socket]:
    parts = urlsplit(api.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 20) as client:
        yield client


def healthy(api: Api) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{api.url}/healthz").status_code == 200
    return False


def test_an_upload_that_stalls_is_answered_408_and_leaves_nothing(api: Api, site: Site) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="vcf"; filename="in.vcf"\r\n\r\n##fileformat'
    with connected(api) as client:
        client.sendall(HEAD.format(more="").encode() + part)
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    until(lambda: site.left_over() == [])
    assert healthy(api)


def test_headers_without_end_are_refused(api: Api, site: Site) -> None:
    with connected(api) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 200_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    with connected(api) as client:
        client.sendall(HEAD.format(more="").encode() + b"--b\r\n" + b"X: " + b"y" * 20_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert site.left_over() == []
    assert healthy(api)


def test_more_connections_than_allowed_are_answered_503_until_some_end(api: Api) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(connected(api))
        until(lambda: httpx.get(f"{api.url}/healthz").status_code == 503)
    until(lambda: healthy(api))
