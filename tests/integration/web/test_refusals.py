"""What the web API refuses, in words, and leaves nothing of."""

from __future__ import annotations

import gzip
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from servers import private_redis
from support import Site, until
from webclient import FIELDS, ended, put

# -- bad input -------------------------------------------------------------------------------------------


def test_an_unknown_run_is_not_found(http: httpx.Client) -> None:
    answer = http.get("/vcf/nobody-knows-it")
    assert (answer.status_code, answer.json()["status"]) == (404, "NOT_FOUND")
    assert answer.json().keys() == FIELDS


def test_a_run_id_in_use_is_refused_until_its_result_was_had(
    http: httpx.Client, site: Site, vcf: Path
) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        content = vcf.read_bytes()
        assert put(http, content, run_async=True, run_id="twice").status_code == 202
        answer = put(http, content, run_async=True, run_id="twice")
        assert answer.status_code == 400
        assert "twice" in answer.json()["error"]
        with site.worker():
            until(lambda: http.head("/vcf/twice").status_code == 200)
            assert put(http, content, run_async=True, run_id="twice").status_code == 400
            assert http.get("/vcf/twice").status_code == 200
            assert put(http, content, run_async=True, run_id="twice").status_code == 202
            assert ended(http, "/vcf/twice").status_code == 200


STRANGE = ["..", ".", "a/b", "../../etc/passwd", "a\0b", "x" * 10_000, "a b", "*", "[a-z]", "é", "-x"]


@pytest.mark.parametrize("run_id", STRANGE, ids=lambda text: repr(text[:16]))
def test_a_run_id_never_becomes_a_path_or_a_key(
    http: httpx.Client, served: Site, vcf: Path, run_id: str
) -> None:
    from urllib.parse import quote

    quoted = quote(run_id, safe="").replace(".", "%2E")
    before = served.left_over()
    for method in ("GET", "DELETE", "HEAD"):
        answer = raw_request(http, f"{method} /vcf/{quoted} HTTP/1.1")
        assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    answer = put(http, vcf.read_bytes(), run_async=True, run_id=run_id)
    if answer.status_code != 400:  # taken, and stored under a hash
        assert answer.status_code == 202, answer.text
        names = {path.name for path in served.left_over()} - {path.name for path in before}
        assert not any(run_id in name for name in names), names
        assert raw_request(http, f"DELETE /vcf/{quoted} HTTP/1.1").startswith(b"HTTP/1.1 204")
    until(lambda: served.left_over() == before)


def raw_request(http: httpx.Client, line: str) -> bytes:
    """The answer to a request line that no HTTP library would send."""
    where = urlsplit(str(http.base_url))
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
        return answer


def test_a_bad_assembly_is_refused_before_the_upload_is_read(http: httpx.Client, vcf: Path) -> None:
    answer = put(http, vcf.read_bytes(), assembly="hg38")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "assembly"]
    assert put(http, vcf.read_bytes(), for_ref="perhaps").status_code == 422


def test_a_body_without_the_field_is_refused(http: httpx.Client, served: Site) -> None:
    before = served.left_over()
    assert http.put("/vcf", files={"other": b"x"}).json()["detail"][0]["loc"] == ["body", "vcf"]
    assert http.put("/vcf", files={"other": b"x"}).status_code == 422
    assert http.put("/vcf", content=b"##fileformat=VCFv4.2").status_code == 422
    form = {"Content-Type": "multipart/form-data; boundary=here"}
    assert http.put("/vcf", content=b"no multipart", headers=form).status_code == 400
    cut = b'--here\r\nContent-Disposition: form-data; name="vcf"; filename="a"\r\n\r\n##fileformat'
    assert http.put("/vcf", content=cut, headers=form).status_code == 400
    assert served.left_over() == before


def test_an_upload_that_breaks_off_leaves_nothing(http: httpx.Client, served: Site) -> None:
    before = served.left_over()
    where = urlsplit(str(http.base_url))
    head = (
        "PUT /vcf?run_async=true&run_id=broken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n"
        "Content-Type: multipart/form-data; boundary=here\r\n\r\n"
        '--here\r\nContent-Disposition: form-data; name="vcf"; filename="a.vcf"\r\n\r\n'
    )
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(head.encode() + b"##fileformat=VCFv4.2\n" * 200_000)
        until(lambda: served.left_over() != before, what="a staged upload")
    until(lambda: served.left_over() == before, what="an empty stage")
    assert http.get("/vcf/broken").status_code == 404


@pytest.mark.parametrize("declared", [True, False], ids=["Content-Length", "chunked"])
def test_an_upload_over_the_limit_is_refused_in_words_and_leaves_nothing(
    site: Site, vcf: Path, declared: bool
) -> None:
    big = vcf.read_bytes() * 2000  # 18 MB
    with site.web(ANYVAR_STEP_MAX_UPLOAD="1M") as api, httpx.Client(base_url=api.url, timeout=60) as http:
        if declared:
            answer = put(http, big)
        else:
            request = http.build_request("PUT", "/vcf", files={"vcf": ("a.vcf", big)})
            body = b"".join(request.stream)  # type: ignore[arg-type]
            kind = {"Content-Type": request.headers["content-type"]}
            pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
            answer = http.put("/vcf", content=pieces, headers=kind)
        assert answer.status_code == 413
        assert "ANYVAR_STEP_MAX_UPLOAD" in answer.json()["error"]
        assert site.left_over() == []
        assert put(http, vcf.read_bytes(), run_async=True).status_code == 202


@pytest.mark.parametrize("run_async", [True, False])
@pytest.mark.parametrize("endpoint", ["/vcf", "/annotated_vcf"])
def test_a_small_upload_that_decompresses_to_an_endless_header_is_refused_at_once(
    http: httpx.Client, served: Site, endpoint: str, run_async: bool
) -> None:
    before = served.left_over()
    bomb = gzip.compress(b"##fileformat=VCFv4.2\n" + b"##\n" * 1_200_000)
    answer = http.put(endpoint, files={"vcf": ("a.vcf.gz", bomb)}, params={"run_async": run_async})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("a.vcf.gz line 1048577: a header of more than 1,048,576 lines")
    assert served.left_over() == before


def test_a_large_upload_never_sits_in_memory(site: Site, vcf: Path) -> None:
    def memory() -> int:
        status = Path(f"/proc/{api.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    class Endless(io.RawIOBase):
        """400 MB of VCF."""

        left = 400_000_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    with site.web() as api, httpx.Client(base_url=api.url, timeout=120) as http:
        assert put(http, vcf.read_bytes(), run_async=True).status_code == 202
        before = memory()
        big = io.BufferedReader(Endless())
        answer = http.put("/vcf", params={"run_async": "true"}, files={"vcf": ("big.vcf", big)})
        assert answer.status_code == 202
        assert memory() - before < 30_000  # kB
        http.delete(answer.headers["location"])


@pytest.fixture
def down(tmp_path: Path, genome: Path) -> Iterator[httpx.Client]:
    """A web API whose Redis has gone, and whose failure code is that of a server in trouble."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with private_redis(folder) as url:
        place = Site(tmp_path / "place", url, genome, {"ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": "503"})
        manager = place.web()
        running = manager.__enter__()
    try:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            yield client
    finally:
        manager.__exit__(None, None, None)
    assert place.left_over() == []


def test_a_backend_that_is_down_is_never_a_runs_failure(down: httpx.Client, vcf: Path) -> None:
    for answer in (
        down.get("/vcf/some-run"),
        put(down, vcf.read_bytes(), run_async=True),
        put(down, vcf.read_bytes()),
        down.delete("/vcf/some-run"),
    ):
        assert answer.status_code == 503
        assert "redis" not in answer.text, "where the queue is, is not for clients to know"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error_code"] is None
    health = down.get("/healthz")
    assert (health.status_code, health.json()["backend"]) == (503, "unavailable")
    assert health.headers["retry-after"]


# -- tokens ----------------------------------------------------------------------------------------------


def test_every_path_but_healthz_wants_a_token(site: Site, vcf: Path) -> None:
    tokens = {"ANYVAR_AUTH_TOKEN_LIST": "alpha-alpha-alpha, beta-beta-beta-beta"}
    with site.web(**tokens) as api, httpx.Client(base_url=api.url) as http:
        paths = ["/vcf/x", "/service-info", "/", "/openapi.json", "/vcf/x/report", "/nowhere", "/healthz/.."]
        for path in paths:
            for headers in (
                {},
                {"Authorization": "Bearer gamma"},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer alpha-alpha-alpha, beta-beta-beta-beta"},
                {"Authorization": "Basic alpha-alpha-alpha"},
                {"Authorization": "Bearer ä".encode("latin-1")},
            ):
                answer = http.get(path, headers=headers)  # type: ignore[arg-type]
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
        assert put(http, vcf.read_bytes(), run_async=True).status_code == 401
        assert http.delete("/vcf/x").status_code == 401
        assert site.left_over() == []
        assert http.get("/healthz").status_code == 200
        for token in ("alpha-alpha-alpha", "beta-beta-beta-beta"):
            answer = http.get("/vcf/x", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 404
        described = http.get("/openapi.json", headers={"Authorization": "Bearer beta-beta-beta-beta"}).json()
        assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.slow
def test_other_hosts_are_not_served_without_a_token(site: Site) -> None:
    for host in ("0.0.0.0", "::"):
        done = site.run("serve", "--port", "0", "--host", host)
        assert done.returncode == 78
        assert "ANYVAR_AUTH_TOKEN_LIST" in done.stderr
        assert "--insecure" in done.stderr
    with site.web("--host", "0.0.0.0", "--insecure"):
        pass
    with site.web("--host", "0.0.0.0", ANYVAR_AUTH_TOKEN_LIST="alpha-alpha-alpha"):
        pass
    with site.web("--host", "localhost"):
        pass
