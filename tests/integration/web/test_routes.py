"""The web API over real HTTP: AnyVar's contract."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pysam
import pytest
import redis
from support import HEADER, Site, stored, until, write_vcf
from webclient import FIELDS, ended, folders, put

from anyvar_step.models import State
from anyvar_step.runs.connection import redis_url
from anyvar_step.runs.keys import INGEST_ANNOTATED_VCF
from anyvar_step.runs.state import RunState
from anyvar_step.settings import load

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


@pytest.mark.parametrize("run_id", ["NA 12878: run\u00e9 #1?", "a..b", "%2e%2e", "x" * 300, "-rf", "\\..\\"])
def test_any_run_id_that_anyvar_can_answer_is_taken(
    http: httpx.Client, site: Site, vcf: Path, run_id: str
) -> None:
    """AnyVar takes any text; no such text becomes a path of the work dir."""
    answer = put(http, vcf.read_bytes(), run_async=True, run_id=run_id)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    assert answer.json()["run_id"] == run_id
    assert put(http, vcf.read_bytes(), run_async=True, run_id=run_id).status_code == 400
    until(lambda: http.head(path).status_code == 200)
    assert http.get(f"{path}/report").status_code == 200
    result = http.get(path)
    assert result.status_code == 200
    assert result.headers["location"] == path
    assert result.text.count("VRS_Allele_IDs=ga4gh:VA.") == 200
    assert http.delete(path).status_code == 204
    assert http.get(path).status_code == 404
    assert site.left_over() == []


@pytest.mark.parametrize("run_id", ["../up", "a/b", "..", ".", "a\nb", "a\0b", "x" * 513])
def test_a_run_id_that_has_no_path_is_refused(http: httpx.Client, vcf: Path, run_id: str) -> None:
    assert put(http, vcf.read_bytes(), run_async=True, run_id=run_id).status_code == 400


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
    assert paths.keys() - {"/variations", "/variations/{run_id}"} == {
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


@pytest.mark.quick(1)
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
    with site.web() as api, RunState(load(site.environ)) as state, httpx.Client(base_url=api.url) as http:
        for name, code in (
            ("TimeLimitExceeded", "TIME_LIMIT_EXCEEDED"),
            ("WorkerLostError", "WORKER_LOST_ERROR"),
            ("ValueError", "RUN_FAILURE"),
        ):
            failure = {"exc_type": name, "exc_message": ["why"], "exc_module": "somewhere"}
            stored(state, f"run-{name}", State.FAILURE, failure)
            answer = http.get(f"/vcf/run-{name}")
            assert (answer.status_code, answer.json()["error_code"]) == (500, code)


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
        with RunState(load(site.environ)) as state:
            stored(state, "in", State.SUCCESS, "")
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
        answer = put(http, wrong, "/annotated_vcf", run_id="one-wrong")
        assert answer.json()["status_message"].endswith("left out, whose identifiers do not match them: 1")
        assert http.get("/vcf/one-wrong/report").json()["registered"]["conflicts"] == 1
        answer = put(http, wrong, "/annotated_vcf", require_validation=True)
        assert answer.status_code == 200
        lines = answer.text.splitlines()
        assert lines[0] == "vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id"
        assert len(lines) == 2
