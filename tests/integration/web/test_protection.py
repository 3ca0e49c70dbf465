"""Hosts, origins, headers, time limits and bounds of the web API."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from support import Api, Site, until
from webclient import put

TOKEN = "a-token-of-the-list"


def test_hosts_and_origins_of_others_are_refused(site: Site) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
            assert http.get("/healthz", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "[::1", ""):
            assert http.get("/healthz", headers={"Host": host}).status_code in (400, 421)
        foreign = {"Origin": "https://evil.example"}
        assert http.delete("/vcf/none", headers=foreign).status_code == 403
        assert http.delete("/vcf/none", headers={"Origin": api.url}).status_code == 404
        assert http.get("/vcf/none", headers=foreign).status_code == 404


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"ANYVAR_AUTH_TOKEN_LIST": TOKEN}, 404),
        ({"ANYVAR_STEP_ALLOWED_HOSTS": "vrs.lab.example"}, 404),
        ({"ANYVAR_STEP_ALLOWED_HOSTS": "*"}, 404),
        ({"ANYVAR_STEP_ALLOWED_HOSTS": "other.example"}, 421),
        ({"ANYVAR_STEP_ALLOWED_HOSTS": "other.example", "ANYVAR_AUTH_TOKEN_LIST": TOKEN}, 421),
    ],
)
def test_other_host_names_are_configured_or_guarded_by_tokens(
    site: Site, environ: dict[str, str], code: int
) -> None:
    with site.web(**environ) as api, httpx.Client(base_url=api.url) as http:
        headers = {"Host": "vrs.lab.example", "Authorization": f"Bearer {TOKEN}"}
        assert http.get("/vcf/none", headers=headers).status_code == code


def test_answers_are_neither_sniffed_nor_cached(site: Site) -> None:
    with site.web(ANYVAR_AUTH_TOKEN_LIST=TOKEN) as api, httpx.Client(base_url=api.url) as http:
        for path in ("/healthz", "/vcf/none"):
            headers = http.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"


@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: loc"])
def test_a_connection_whose_request_does_not_come_is_closed(
    site: Site, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.web() as api:
        where = urlsplit(api.url)
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=60) as connection:
            connection.sendall(begun)
            assert connection.recv(100) == b""


def test_form_fields_beside_the_vcf_are_bounded(site: Site, served: Site) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        files = {"other": ("x", b"x" * (1 << 20)), "vcf": ("a.vcf", b"")}
        answer = http.put("/vcf?run_async=true", files=files)
        assert answer.status_code == 413
        assert site.left_over() == []
        assert put(http, b"", run_async=True).status_code < 500


def test_the_service_info_is_anyvars_with_what_the_site_configures(site: Site) -> None:
    path = site.folder / "info.yaml"
    path.write_text("name: VRS at the lab\nenvironment: test\n")
    with site.web(ANYVAR_SERVICE_INFO=str(path)) as api, httpx.Client(base_url=api.url) as http:
        info = http.get("/service-info").json()
    assert (info["name"], info["environment"]) == ("VRS at the lab", "test")
    assert {"contactUrl", "createdAt", "updatedAt", "impl_metadata", "spec_metadata"} <= info.keys()


@pytest.mark.parametrize("variable", ["ANYVAR_SERVICE_INFO", "ANYVAR_LOGGING_CONFIG"])
def test_a_yaml_file_that_is_none_is_a_configuration_error(site: Site, variable: str) -> None:
    path = site.folder / "broken.yaml"
    path.write_text("- a\n- b: [")
    site.extra = {variable: str(path)}
    done = site.run("serve", "--port", "0")
    assert (done.returncode, "Traceback" in done.stderr) == (78, False)
    assert variable in done.stderr


# -- what a client may ask at most: time, headers, connections; the API serves on meanwhile -----

HEAD = (
    "PUT /vcf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n{more}\r\n"
)


@pytest.fixture
def limited(site: Site) -> Iterator[Api]:
    limits = {"ANYVAR_STEP_UPLOAD_PATIENCE": "1", "ANYVAR_STEP_MAX_CONNECTIONS": "8"}
    with site.web(**limits) as served:
        yield served


@contextlib.contextmanager
def connected(limited: Api) -> Iterator[socket.socket]:
    parts = urlsplit(limited.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 60) as client:
        yield client


def healthy(limited: Api) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{limited.url}/healthz").status_code == 200
    return False


def test_an_upload_that_stalls_is_answered_408_and_leaves_nothing(limited: Api, site: Site) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="vcf"; filename="in.vcf"\r\n\r\n##fileformat'
    with connected(limited) as client:
        client.sendall(HEAD.format(more="").encode() + part)
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
    until(lambda: site.left_over() == [])
    assert healthy(limited)


def test_headers_without_end_are_refused(limited: Api, site: Site) -> None:
    with connected(limited) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 200_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    with connected(limited) as client:
        client.sendall(HEAD.format(more="").encode() + b"--b\r\n" + b"X: " + b"y" * 20_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert site.left_over() == []
    assert healthy(limited)


def test_more_connections_than_allowed_are_answered_503_until_some_end(limited: Api) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(connected(limited))
        until(lambda: httpx.get(f"{limited.url}/healthz").status_code == 503)
    until(lambda: healthy(limited))
