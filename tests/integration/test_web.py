"""The web API over real HTTP: AnyVar's contract, and nothing lost where AnyVar's own loses it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pysam
import pytest
import redis
from support import HEADER, Api, Site, until, write_vcf

from anyvar_step.broker.board import ATTEMPT_SECONDS, Board
from anyvar_step.broker.connection import redis_url
from anyvar_step.broker.names import INGEST_ANNOTATED_VCF, step_key
from anyvar_step.broker.signs import turn_key
from anyvar_step.embedded import private_redis
from anyvar_step.environment import load
from anyvar_step.files import remove_tree
from anyvar_step.models import State
from anyvar_step.web import runs as runs_module
from anyvar_step.web.runs import Runs

FIELDS = {"run_id", "status", "status_message"}


@pytest.fixture(scope="module")
def api(served: Site) -> Iterator[Api]:
    """The web API beside a worker."""
    with served.web() as running:
        yield running


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        yield client


def put(client: httpx.Client, content: bytes, path: str = "/vcf", **query: object) -> httpx.Response:
    parameters = {name: str(value) for name, value in query.items()}
    return client.put(path, params=parameters, files={"vcf": ("sample.vcf", content)})


def ended(client: httpx.Client, path: str) -> httpx.Response:
    """What AnyVar's published client does: GET until it is no 202."""
    deadline = time.monotonic() + 60
    while (answer := client.get(path)).status_code == 202:
        assert answer.json().keys() >= FIELDS
        assert answer.json()["status"] == "PENDING"
        assert answer.headers["retry-after"] == "2"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def folders(site: Site) -> list[str]:
    return sorted(path.name for path in site.left_over() if path.is_dir())


# -- the contract ----------------------------------------------------------------------------------------


def test_an_asynchronous_run_is_accepted_polled_and_answered_with_the_vcf(
    http: httpx.Client, vcf: Path
) -> None:
    answer = put(http, vcf.read_bytes(), run_async=True, run_id="mine-1")
    assert answer.status_code == 202
    assert answer.headers["location"] == "/vcf/mine-1"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["run_id"] == "mine-1"
    assert answer.json()["status"] == "PENDING"
    assert answer.json().keys() == FIELDS
    result = ended(http, "/vcf/mine-1")
    assert result.status_code == 200
    assert result.headers["content-type"].startswith("text/plain")
    assert result.text.count("VRS_Allele_IDs=ga4gh:VA.") == 200


def test_without_run_async_the_answer_is_the_vcf(http: httpx.Client, vcf: Path) -> None:
    answer = put(http, vcf.read_bytes(), for_ref=False, add_vrs_attributes=True)
    assert answer.status_code == 200
    record = answer.text.splitlines()[-1]
    assert record.partition("VRS_Allele_IDs=")[2].partition(";")[0].count(",") == 0
    assert "VRS_Starts=" in record


def test_retry_after_counts_records_also_of_a_compressed_upload(
    http: httpx.Client, genome: Path, tmp_path: Path
) -> None:
    plain = write_vcf(tmp_path / "big.vcf", genome, records=20_000)
    pysam.tabix_compress(str(plain), str(tmp_path / "big.vcf.gz"))
    for path in (plain, tmp_path / "big.vcf.gz"):
        answer = put(http, path.read_bytes(), run_async=True)
        assert 60 <= int(answer.headers["retry-after"]) <= 100  # 20,000 records, 2 ids each, 500 in a second
        http.delete(answer.headers["location"])


def test_a_compressed_upload_is_answered_in_kind_when_asked(http: httpx.Client, vcf: Path) -> None:
    text, zipped = vcf.read_bytes(), gzip.compress(vcf.read_bytes())
    for content, wanted, begins in (
        (zipped, "v", b"##"),
        (zipped, "same", b"\x1f\x8b"),
        (text, "same", b"##"),
        (text, "z", b"\x1f\x8b"),
    ):
        answer = put(http, content, output_format=wanted)
        assert answer.status_code == 200
        assert answer.content.startswith(begins)
        assert (answer.headers["content-type"] == "application/gzip") == begins.startswith(b"\x1f")
        plain = gzip.decompress(answer.content) if begins != b"##" else answer.content
        assert plain.count(b"VRS_Allele_IDs=ga4gh:VA.") == 200


def test_a_client_may_wait_at_the_web_api_instead_of_polling(http: httpx.Client, vcf: Path) -> None:
    path = put(http, vcf.read_bytes(), run_async=True).headers["location"]
    assert http.get(path, headers={"Prefer": "respond-async, wait=20"}).status_code == 200


def test_the_report_says_what_the_worker_counted(http: httpx.Client, vcf: Path) -> None:
    path = put(http, vcf.read_bytes()).headers["location"]
    report = http.get(f"{path}/report").json()
    assert (report["counts"]["records"], report["input_name"]) == (200, "sample.vcf")
    assert http.get("/vcf/nobody/report").status_code == 404


def test_service_info_and_the_page_that_describes_the_endpoints(http: httpx.Client) -> None:
    info = http.get("/service-info").json()
    assert info.keys() >= {"id", "name", "type", "organization", "version", "spec_metadata"}
    assert info["type"].keys() == {"group", "artifact", "version"}
    paths = http.get("/openapi.json").json()["paths"]
    assert paths.keys() == {
        "/vcf",
        "/annotated_vcf",
        "/vcf/{run_id}",
        "/vcf/{run_id}/report",
        "/healthz",
        "/service-info",
    }
    assert "multipart/form-data" in paths["/vcf"]["put"]["requestBody"]["content"]
    assert http.get("/").status_code == 200


def test_healthz_says_whether_each_part_is_there(http: httpx.Client, site: Site) -> None:
    assert http.get("/healthz").json() == {
        "status": "ok",
        "broker": "ok",
        "backend": "ok",
        "work_dir": "ok",
        "workers": "ok",
        "processes": 1,
    }
    with site.web() as alone:
        answer = httpx.get(f"{alone.url}/healthz")
        assert (answer.status_code, answer.json()["workers"]) == (200, "unavailable")
        site.work_dir.rmdir()
        answer = httpx.get(f"{alone.url}/healthz")
        assert (answer.status_code, answer.json()["work_dir"]) == (503, "unavailable")
        site.work_dir.mkdir()


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [500, 418, 599, 404])
def test_a_failed_run_is_answered_with_the_configured_code(served: Site, code: int) -> None:
    before = folders(served)
    with (
        served.web(ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE=str(code)) as api,
        httpx.Client(base_url=api.url) as http,
    ):
        assert put(http, b"no VCF", run_async=True, run_id=f"bad-{code}").status_code == 202
        for _ in range(2):  # a repeated question gets the same answer
            answer = ended(http, f"/vcf/bad-{code}")
            assert answer.status_code == code
            assert answer.json()["error_code"] == "RUN_FAILURE"
            assert "not a VCF" in answer.json()["error"]
        assert folders(served) == before
        assert put(http, b"no VCF").status_code == code
        # Once its end is told, the id is free again, as with AnyVar.
        assert put(http, b"no VCF", run_async=True, run_id=f"bad-{code}").status_code == 202
        assert ended(http, f"/vcf/bad-{code}").status_code == code
        assert folders(served) == before


@pytest.mark.parametrize("code", ["200", "302", "600", "five"])
def test_a_failure_code_that_is_none_is_a_configuration_error(site: Site, code: str) -> None:
    site.extra = {"ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE": code}
    done = site.run("serve", "--port", "0")
    assert done.returncode == 78
    assert "ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE" in done.stderr


def test_time_limits_and_lost_workers_have_their_own_error_codes(site: Site) -> None:
    with site.web() as api, Board(load(site.environ)) as board, httpx.Client(base_url=api.url) as http:
        for name, code in (
            ("TimeLimitExceeded", "TIME_LIMIT_EXCEEDED"),
            ("WorkerLostError", "WORKER_LOST_ERROR"),
            ("ValueError", "RUN_FAILURE"),
        ):
            failure = {"exc_type": name, "exc_message": ["why"], "exc_module": "somewhere"}
            board.put(f"run-{name}", State.FAILURE, failure)
            answer = http.get(f"/vcf/run-{name}")
            assert (answer.status_code, answer.json()["error_code"]) == (500, code)


# -- a result stays until it has been had whole ----------------------------------------------------------


def finished(http: httpx.Client, vcf: Path) -> str:
    """The path of a finished run whose result nobody has fetched."""
    path = put(http, vcf.read_bytes(), run_async=True).headers["location"]
    until(lambda: http.head(path).status_code == 200)
    return str(path)


def test_a_repeated_get_gives_the_same_result(http: httpx.Client, vcf: Path) -> None:
    path = finished(http, vcf)
    first = http.get(path)
    assert first.status_code == 200
    assert http.get(path).content == first.content


def test_a_download_that_broke_off_is_resumed_with_a_range(
    http: httpx.Client, served: Site, genome: Path, tmp_path: Path
) -> None:
    # Larger than what the sockets' buffers take, so that the server sees that it was not had whole.
    path = finished(http, write_vcf(tmp_path / "big.vcf", genome, records=100_000))
    with http.stream("GET", path) as answer:
        etag, total = answer.headers["etag"], int(answer.headers["content-length"])
        head = next(answer.iter_raw(1 << 16))
    assert total > 5_000_000
    board = Board(load(served.environ))
    assert not board.handouts.was_told(path.removeprefix("/vcf/"))
    rest = http.get(path, headers={"Range": f"bytes={len(head)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {len(head)}-{total - 1}/{total}"
    until(lambda: board.handouts.was_told(path.removeprefix("/vcf/")))
    assert head + rest.content == http.get(path).content
    board.close()
    other = http.get(path, headers={"Range": f"bytes={len(head)}-", "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, total)
    http.delete(path)


def test_the_last_bytes_alone_are_no_download(http: httpx.Client, served: Site, vcf: Path) -> None:
    path = finished(http, vcf)
    assert http.get(path, headers={"Range": "bytes=-10"}).status_code == 206
    assert http.head(path).status_code == 200
    with Board(load(served.environ)) as board:
        assert not board.handouts.was_told(path.removeprefix("/vcf/"))


def test_a_result_goes_some_time_after_it_was_had_whole(
    http: httpx.Client, served: Site, vcf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, waiting = finished(http, vcf), finished(http, vcf)
    http.get(fetched)
    runs = Runs(load(served.environ))
    runs.tidy()
    assert http.head(fetched).status_code == 200
    monkeypatch.setattr(runs_module, "GRACE", 0.0)
    runs.tidy()
    runs.close()
    assert http.get(fetched).status_code == 404
    assert fetched.removeprefix("/vcf/") not in folders(served)
    assert http.get(waiting).status_code == 200


def test_an_expired_result_is_removed_and_a_queued_run_is_not(site: Site, vcf: Path, settled: None) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        queued = put(http, vcf.read_bytes(), run_async=True, run_id="left-queued")
        assert queued.status_code == 202
        expired = put(http, vcf.read_bytes(), run_async=True, run_id="left-expired")
        assert expired.status_code == 202
    [folder] = site.work_dir.glob("*/left-expired")
    (folder / "input.vcf_outputvcf").write_text("")
    with Board(load(site.environ)) as board:
        board.forget("left-expired", "")
        board.forget(
            "left-queued", ""
        )  # as where Redis lost it, or it waited for longer than states are kept
        board.put("elsewhere", State.SUCCESS, "/another/work/dir/20261123/elsewhere_outputvcf")
        # told by another deployment on the same Redis, and long ago
        board._redis.zadd(step_key("told", ""), {"elsewhere": 1.0})
        board._redis.delete(turn_key(site.work_dir))  # the web API had its turn as it started
    for path in [*folder.parent.rglob("*"), folder.parent]:
        os.utime(path, (0, time.time() - 8000))
    runs = Runs(load(site.environ))
    runs.tidy()
    runs.close()
    assert folders(site) == ["left-queued"]
    with Board(load(site.environ)) as board:
        assert board.meta("elsewhere") is not None
        board.forget("elsewhere", "")


# -- cancel ----------------------------------------------------------------------------------------------


def test_delete_cancels_a_queued_run_and_its_id_is_not_given_again(site: Site, vcf: Path) -> None:
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        path = put(http, vcf.read_bytes(), run_async=True, run_id="doomed").headers["location"]
        assert http.delete(path).status_code == 204
        assert site.left_over() == []
        answer = http.get(path)
        assert (answer.status_code, answer.json()["error_code"]) == (500, "RUN_CANCELLED")
        assert put(http, vcf.read_bytes(), run_async=True, run_id="doomed").status_code == 400
        with site.worker():  # which must not run it after all
            assert put(http, vcf.read_bytes()).status_code == 200
        assert http.get(path).json()["error_code"] == "RUN_CANCELLED"


def test_delete_drops_a_finished_run(http: httpx.Client, served: Site, vcf: Path) -> None:
    path = finished(http, vcf)
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404
    assert http.delete(path).status_code == 404
    assert path.removeprefix("/vcf/") not in folders(served)


def test_a_client_that_hangs_up_cancels_its_synchronous_run(site: Site, vcf: Path) -> None:
    with site.web() as api:
        with pytest.raises(httpx.ReadTimeout):
            httpx.put(f"{api.url}/vcf", files={"vcf": vcf.read_bytes()}, timeout=1)
        until(lambda: site.left_over() == [], 10, "an empty work dir")


# -- bad input -------------------------------------------------------------------------------------------


def test_an_unknown_run_is_not_found_within_five_seconds(http: httpx.Client) -> None:
    begin = time.monotonic()
    answer = http.get("/vcf/nobody-knows-it")
    assert time.monotonic() - begin < 5
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
    assert put(http, vcf.read_bytes(), run_async=True, run_id=run_id).status_code == 400
    assert served.left_over() == before


def raw_request(http: httpx.Client, line: str) -> bytes:
    """The answer to a request line that no HTTP library would send."""
    where = urlsplit(str(http.base_url))
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
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
        "PUT /vcf?run_async=true&run_id=broken HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n"
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
    with site.web(ANYVAR_STEP_MAX_UPLOAD="1M") as api, httpx.Client(base_url=api.url, timeout=30) as http:
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
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json().keys() == {"error"}
    health = down.get("/healthz")
    assert (health.status_code, health.json()["backend"]) == (503, "unavailable")
    assert health.headers["retry-after"]


# -- tokens ----------------------------------------------------------------------------------------------


def test_every_path_but_healthz_wants_a_token(site: Site, vcf: Path) -> None:
    with site.web(ANYVAR_AUTH_TOKEN_LIST="alpha, beta") as api, httpx.Client(base_url=api.url) as http:
        paths = ["/vcf/x", "/service-info", "/", "/openapi.json", "/vcf/x/report", "/nowhere", "/healthz/.."]
        for path in paths:
            for headers in (
                {},
                {"Authorization": "Bearer gamma"},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer alpha, beta"},
                {"Authorization": "Basic alpha"},
                {"Authorization": "Bearer ä".encode("latin-1")},
            ):
                answer = http.get(path, headers=headers)  # type: ignore[arg-type]
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
        assert put(http, vcf.read_bytes(), run_async=True).status_code == 401
        assert http.delete("/vcf/x").status_code == 401
        assert site.left_over() == []
        assert http.get("/healthz").status_code == 200
        for token in ("alpha", "beta"):
            answer = http.get("/vcf/x", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 404


def test_other_hosts_are_not_served_without_a_token(site: Site) -> None:
    for host in ("0.0.0.0", "::"):
        done = site.run("serve", "--port", "0", "--host", host)
        assert done.returncode == 78
        assert "ANYVAR_AUTH_TOKEN_LIST" in done.stderr
        assert "--insecure" in done.stderr
    with site.web("--host", "0.0.0.0", "--insecure"):
        pass
    with site.web("--host", "0.0.0.0", ANYVAR_AUTH_TOKEN_LIST="alpha"):
        pass
    with site.web("--host", "localhost"):
        pass


# -- start -----------------------------------------------------------------------------------------------


def test_several_processes_serve_one_port(site: Site, vcf: Path) -> None:
    with site.worker(), site.web("--workers", "2", "--work-dir", str(site.work_dir)) as api:
        for _ in range(4):
            answer = httpx.put(f"{api.url}/vcf", files={"vcf": vcf.read_bytes()}, timeout=60)
            assert answer.status_code == 200


def test_a_port_in_use_and_a_missing_work_dir_are_said_before_anything_starts(site: Site) -> None:
    with site.web() as api:
        done = site.run("serve", "--port", str(urlsplit(api.url).port))
    assert (done.returncode, "in use" in done.stderr) == (78, True)
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": ""}
    done = site.run("serve", "--port", "0")
    assert (done.returncode, "ANYVAR_VCF_ASYNC_WORK_DIR" in done.stderr) == (78, True)


def test_without_the_extra_the_line_that_installs_it_is_printed(site: Site) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from anyvar_step.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve"],
        env=site.environ,
        capture_output=True,
        text=True,
        cwd=site.folder,
    )
    assert done.returncode == 78
    assert "pip install 'anyvar-step[web]'" in done.stderr


# -- ingestion: the endpoint's side ----------------------------------------------------------------------


def test_an_annotated_vcf_without_the_fields_is_refused(http: httpx.Client, served: Site, vcf: Path) -> None:
    before = served.left_over()
    ids = put(http, vcf.read_bytes()).content  # no attributes
    refusals = {
        vcf.read_bytes(): "lacks required VRS",
        ids: "lacks required VRS",
        b"no VCF": "is not a VCF: its",
    }
    for content, refusal in refusals.items():
        for run_async in (True, False):
            answer = put(http, content, "/annotated_vcf", run_async=run_async)
            assert answer.status_code == 400
            assert refusal in answer.json()["error"]
            assert ("lacks" in answer.json()["error"]) is ("lacks" in refusal)
    assert len(served.left_over()) - len(before) == 4  # the result of the run above


def test_an_annotated_vcf_becomes_anyvars_ingest_task(site: Site) -> None:
    fields = ["Allele_IDs", "Starts", "Ends", "States", "Lengths", "RepeatSubunitLengths"]
    lines = "".join(f'##INFO=<ID=VRS_{f},Number=R,Type=String,Description="x">\n' for f in fields)
    content = HEADER.format(length=1000).replace("##contig", lines + "##contig").encode()
    with site.web() as api, httpx.Client(base_url=api.url) as http:
        answer = put(http, content, "/annotated_vcf", run_async=True, require_validation=True, run_id="in")
        assert (answer.status_code, answer.headers["location"]) == (202, "/vcf/in")
        assert answer.headers["retry-after"].isdecimal()
        with redis.Redis.from_url(redis_url(site.redis_url)) as client:
            message = json.loads(client.lpop(site.queue))  # type: ignore[arg-type]
        assert message["headers"]["task"] == INGEST_ANNOTATED_VCF
        arguments = json.loads(base64.b64decode(message["body"]))[1]
        path = Path(arguments.pop("input_file_path"))
        assert arguments == {"assembly": "GRCh38", "allow_async_write": False, "require_validation": True}
        assert path.read_bytes() == content
        with Board(load(site.environ)) as board:
            board.put("in", State.SUCCESS, "")
        answer = http.get("/vcf/in")
        assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
        assert answer.json().keys() == FIELDS


def test_an_annotated_vcf_is_ingested_for_real(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.extra = {"ANYVAR_STORAGE_URI": f"duckdb:///{tmp_path}/store.duckdb"}
    with site.worker(), site.web() as api, httpx.Client(base_url=api.url, timeout=60) as http:
        content = put(http, vcf.read_bytes(), add_vrs_attributes=True).content
        answer = put(http, content, "/annotated_vcf")
        assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
        wrong = content.replace(b"VRS_Allele_IDs=ga4gh:VA.", b"VRS_Allele_IDs=ga4gh:VA.x", 1)
        answer = put(http, wrong, "/annotated_vcf", require_validation=True)
        assert answer.status_code == 200
        lines = answer.text.splitlines()
        assert lines[0] == "vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id"
        assert len(lines) == 2


def test_a_web_api_killed_before_it_queued_a_run_is_made_good_by_the_next_look(site: Site, vcf: Path) -> None:
    with site.web() as api, httpx.Client(base_url=api.url, timeout=60) as client:
        content = vcf.read_bytes()
        for run_id in ("queued-never", "staged-never"):
            assert put(client, content, run_async=True, run_id=run_id).status_code == 202
        with Board(load(site.environ)) as board:
            board._redis.delete(site.queue)
            for run_id in ("queued-never", "staged-never"):  # as they stand a minute after it was killed
                board._redis.set(step_key("published", run_id), "0", ex=ATTEMPT_SECONDS - 60)
        [folder] = site.work_dir.glob("*/staged-never")
        remove_tree(folder)
        assert client.get("/vcf/staged-never").status_code == 202
        assert client.get("/vcf/staged-never").status_code == 404
        assert client.get("/vcf/queued-never").status_code == 202
        with site.worker():
            answer = ended(client, "/vcf/queued-never")
    assert answer.status_code == 200
    assert answer.text.count("VRS_Allele_IDs=ga4gh:VA.") == 200
