"""The step over HTTP as a rule calls it: the same exit codes, and what breaks on the way is mended."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pysam
import pytest
from proxy import Fault, Proxy, proxy_before
from support import HEADER, Api, Site, until, write_vcf

from anyvar_step.runs.state import RunState
from anyvar_step.settings import load

BAD = HEADER.format(length=1000) + "chr1\t100\t.\tA\n"


@pytest.fixture(scope="module")
def api(served: Site) -> Iterator[Api]:
    """A web API beside a worker; ``served`` is then a site whose steps see neither Redis nor work dir."""
    with served.web() as running:
        yield running


@pytest.fixture
def remote(api: Api, served: Site, tmp_path: Path) -> Site:
    """A host that reaches the web API and nothing else."""
    return far(served, api.url, tmp_path)


def far(site: Site, url: str, folder: Path) -> Site:
    place = Site(folder / "far", "redis://localhost:1/0", site.genome)
    place.extra = {
        "CELERY_BROKER_URL": "",
        "ANYVAR_VCF_ASYNC_WORK_DIR": "",
        "ANYVAR_STEP_REFERENCE": "",
        "ANYVAR_STEP_URL": url,
    }
    return place


@pytest.fixture
def proxy(api: Api, remote: Site) -> Iterator[Proxy]:
    """A proxy between the remote host and the web API."""
    with proxy_before(api.url) as before:
        remote.extra["ANYVAR_STEP_URL"] = before.url
        yield before


def test_a_vcf_goes_there_and_back(remote: Site, served: Site, vcf: Path, tmp_path: Path) -> None:
    done = remote.run("annotate", vcf, "-o", tmp_path / "http.vcf", "--report", tmp_path / "http.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert served.run("annotate", vcf, "-o", tmp_path / "celery.vcf").returncode == 0
    assert (tmp_path / "http.vcf").read_bytes() == (tmp_path / "celery.vcf").read_bytes()
    report = json.loads((tmp_path / "http.json").read_text())
    assert (report["counts"]["records"], report["input_name"]) == (200, vcf.name)
    assert {"stage", "wait", "collect", "annotate"} <= report["seconds"].keys()
    assert served.left_over() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["celery.vcf", "far", "http.json", "http.vcf"]


def test_bgzf_with_an_index_from_standard_input(
    remote: Site, served: Site, vcf: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf.gz"
    assert remote.run("annotate", "-", "-o", out, input=vcf.read_text()).returncode == 0
    with pysam.VariantFile(str(out)) as file:
        assert 0 < sum(1 for _ in file.fetch("chr1", 0, 50_000)) < 200
    done = remote.run("annotate", "-", "-o", "-", input=vcf.read_text())
    assert done.stdout.count("VRS_Allele_IDs=ga4gh:VA.") == 200
    assert served.left_over() == []


def test_one_vcf_in_pieces(remote: Site, served: Site, genome: Path, tmp_path: Path) -> None:
    big = write_vcf(tmp_path / "big.vcf", genome, records=5000)
    assert served.run("annotate", big, "-o", tmp_path / "whole.vcf").returncode == 0
    done = remote.run("annotate", big, "-o", tmp_path / "pieces.vcf", "--chunks", "4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pieces.vcf").read_bytes() == (tmp_path / "whole.vcf").read_bytes()
    assert served.left_over() == []


@pytest.mark.slow
def test_an_end_is_noticed(site: Site, vcf: Path, tmp_path: Path) -> None:
    with site.web() as api:
        step = far(site, api.url, tmp_path).start("-v", "annotate", str(vcf), "-o", str(tmp_path / "o.vcf"))
        until(lambda: list(site.work_dir.glob("*/*/manifest.json")))
        with site.worker():
            until(lambda: list(site.work_dir.glob("*/*/*_outputvcf")))
            assert step.wait(100) == 0
        step.communicate()


EXIT_CODES = {
    "not a VCF": ("sample\tvalue\n", [], 65),
    "a broken record": (BAD, [], 65),
    "no contig known": (BAD.rstrip("\n").replace("chr1\t", "other\t") + "\tC\t.\t.\t.\tGT\t0/1\n", [], 65),
    "an unknown assembly": (HEADER.format(length=1000), ["--assembly", "GRCh99"], 78),
    "an assembly without a reference": (HEADER.format(length=1000), ["--assembly", "GRCh37"], 78),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("case", EXIT_CODES)
def test_exit_codes_are_those_of_the_other_transport(
    remote: Site, served: Site, tmp_path: Path, case: str
) -> None:
    content, options, code = EXIT_CODES[case]
    source = tmp_path / "in.vcf"
    source.write_text(content)
    for site in (remote, served):
        for _ in range(2):  # a failed attempt is not handed out again
            done = site.run("annotate", source, "-o", tmp_path / "out.vcf", *options)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.vcf").exists()
    assert served.left_over() == []


@pytest.mark.slow
def test_twenty_steps_at_once(remote: Site, served: Site, genome: Path, tmp_path: Path) -> None:
    inputs = [write_vcf(tmp_path / f"{n}.vcf", genome, records=100, seed=n % 10) for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(remote.run, "annotate", p, "-o", p.with_suffix(".out")) for p in inputs]
        done = [job.result() for job in jobs]
    assert [result.returncode for result in done] == [0] * 20, [result.stderr for result in done]
    assert all(path.with_suffix(".out").read_text().count("ga4gh:VA.") >= 200 for path in inputs)
    assert served.left_over() == []


# -- restarts and interruptions --------------------------------------------------------------------------


def queued(site: Site) -> str:
    """The run id of the site's one staged run."""
    until(lambda: list(site.work_dir.glob("*/[!.]*/manifest.json")))
    [manifest] = site.work_dir.glob("*/[!.]*/manifest.json")
    until(lambda: "SENT" in site.run("status", manifest.parent.name).stdout)
    return manifest.parent.name


@pytest.mark.slow
def test_a_killed_step_started_again_finds_its_run(site: Site, vcf: Path, tmp_path: Path) -> None:
    with site.web() as api:
        place = far(site, api.url, tmp_path)
        first = place.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        run_id = queued(site)
        first.kill()
        first.communicate()
        second = place.start("-v", "annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        with site.worker():
            _, err = second.communicate(timeout=60)
        assert second.returncode == 0, err
        assert f"run {run_id} found at work" in err
    assert site.left_over() == []


@pytest.mark.quick(1)
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_step_cancels_its_run_and_leaves_nothing(
    site: Site, vcf: Path, tmp_path: Path, signum: int, code: int
) -> None:
    with site.web() as api:
        place = far(site, api.url, tmp_path)
        step = place.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        run_id = queued(site)
        step.send_signal(signum)
        _, err = step.communicate(timeout=100)
        assert step.returncode == code, err
        assert "Traceback" not in err
        until(lambda: site.left_over() == [])
        assert "RUN_CANCELLED" in place.run("status", run_id).stdout
        assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "site"]
        with site.worker():
            assert place.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0
    assert site.left_over() == []


def test_submit_wait_status_collect_and_cancel(
    remote: Site, served: Site, site: Site, vcf: Path, tmp_path: Path
) -> None:
    ticket, out = tmp_path / "ticket", tmp_path / "out.vcf.gz"
    run_id = remote.run("submit", vcf, "--ticket", ticket).stdout.strip()
    assert remote.run("wait", ticket).returncode == 0
    assert f"{run_id}: 200 SUCCESS" in remote.run("status", run_id).stdout
    assert remote.run("wait", run_id).returncode == 0
    assert remote.run("collect", ticket, "-o", out, "--report", tmp_path / "report").returncode == 0
    assert pysam.VariantFile(str(out)).header.info.keys() == ["VRS_Allele_IDs", "VRS_Error"]
    assert "404 NOT_FOUND" in remote.run("status", run_id).stdout
    assert remote.run("collect", run_id, "-o", out).returncode == 75
    assert served.left_over() == []
    with site.web() as api:
        place = far(site, api.url, tmp_path / "other")
        run_id = place.run("submit", vcf).stdout.strip()
        assert place.run("collect", run_id, "-o", out).returncode == 69
        assert place.run("wait", run_id, "--timeout", "1s").returncode == 124
        assert place.run("cancel", run_id).returncode == 0
        assert "RUN_CANCELLED" in place.run("status", run_id).stdout
        assert site.left_over() == []


def test_to_wait_for_a_run_and_to_ask_for_its_status_is_no_download(
    remote: Site, served: Site, vcf: Path, tmp_path: Path
) -> None:
    """Or the web API would delete a result that nobody has collected."""
    run_id = remote.run("submit", vcf).stdout.strip()
    assert remote.run("wait", run_id).returncode == 0
    assert f"{run_id}: 200 SUCCESS" in remote.run("status", run_id).stdout
    with RunState(load(served.environ)) as state:
        assert not state.deliveries.is_delivered(run_id)
    assert remote.run("collect", run_id, "-o", tmp_path / "out.vcf").returncode == 0
    assert served.left_over() == []


# -- what breaks on the way ------------------------------------------------------------------------------


def test_a_broken_download_is_resumed_where_it_broke(
    proxy: Proxy, remote: Site, served: Site, vcf: Path, tmp_path: Path
) -> None:
    proxy.faults = [Fault("GET", cut=5000), Fault("GET", cut=3000)]
    out = tmp_path / "out.vcf"
    done = remote.run("annotate", vcf, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "trying again" in done.stderr
    ranges = [headers["Range"] for headers in proxy.requests("GET") if "Range" in headers]
    assert ranges == ["bytes=5000-", "bytes=8000-"]
    assert served.run("annotate", vcf, "-o", tmp_path / "direct.vcf").returncode == 0
    assert out.read_bytes() == (tmp_path / "direct.vcf").read_bytes()
    assert served.left_over() == []


def test_a_server_that_drops_its_result_as_it_sends_it_makes_the_run_lost(
    proxy: Proxy, remote: Site, vcf: Path, tmp_path: Path
) -> None:
    """AnyVar's: the download breaks off, and the next GET is a 404."""
    gone = json.dumps({"run_id": "x", "status": "NOT_FOUND", "status_message": "Run not found"}).encode()
    proxy.faults = [Fault("GET", cut=5000), Fault("GET", 404, gone, {"Content-Type": "application/json"})]
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 75
    assert "broke off after 5000 bytes" in done.stderr
    proxy.faults = [Fault("GET", cut=5000), Fault("GET", 404, gone, {"Content-Type": "application/json"})]
    assert remote.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--retries", "1").returncode == 0


@pytest.mark.quick(2)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 404])
def test_a_proxys_trouble_is_no_failed_run(
    proxy: Proxy, remote: Site, vcf: Path, tmp_path: Path, status: int
) -> None:
    proxy.faults = [Fault("GET", status), Fault("GET", status, b'{"message": "no"}')]
    if status != 404:  # before a web API has answered at all, a 404 means a wrong URL
        proxy.faults += [Fault("HEAD", status), Fault("PUT", status)]
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert proxy.faults == []


@pytest.mark.parametrize("options", [[], ["--existing", "keep"]])
def test_an_outage_behind_the_download_takes_nothing_from_the_report(
    proxy: Proxy, remote: Site, vcf: Path, tmp_path: Path, options: list[str]
) -> None:
    proxy.faults = [Fault("GET", 503, path="/report"), Fault("GET", lose=True, path="/report")]
    report = tmp_path / "report.json"
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--report", report, *options)
    assert done.returncode == 0, done.stderr
    assert proxy.faults == []
    assert json.loads(report.read_text())["worker"]


def test_a_report_that_cannot_be_read_is_no_run_of_anyvars(
    proxy: Proxy, remote: Site, vcf: Path, tmp_path: Path
) -> None:
    proxy.faults = [Fault("GET", 200, b"{}", path="/report")]
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 74
    assert "the report on run" in done.stderr
    assert remote.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0


def test_what_the_web_api_does_not_take_is_named(remote: Site, vcf: Path, tmp_path: Path) -> None:
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--assembly", "hg99")
    assert done.returncode == 78
    assert "answered 422: assembly: String should be one of GRCh37, GRCh38" in done.stderr


@pytest.mark.slow
def test_retry_after_is_honoured(proxy: Proxy, remote: Site, vcf: Path, tmp_path: Path) -> None:
    proxy.faults = [
        Fault("PUT", 503, headers={"Retry-After": "2"}),
        Fault("GET", 429, headers={"Retry-After": "2"}),
    ]
    begin = time.monotonic()
    assert remote.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0
    assert time.monotonic() - begin > 4


def test_an_upload_whose_answer_was_lost_is_not_run_twice(
    proxy: Proxy, remote: Site, served: Site, vcf: Path, tmp_path: Path
) -> None:
    proxy.faults = [Fault("PUT", lose=True)]
    done = remote.run("-v", "annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert len(proxy.requests("PUT")) == 1
    assert "found at work" in done.stderr
    assert served.left_over() == []


@pytest.mark.slow
def test_a_web_api_that_starts_late_or_again_is_waited_for(site: Site, vcf: Path, tmp_path: Path) -> None:
    with site.web() as api:
        port = api.url.rpartition(":")[2]
    place = far(site, api.url, tmp_path)
    step = place.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
    assert step.stderr is not None
    assert "no web API answers" in step.stderr.readline()
    with site.web("--port", port):
        queued(site)
    with site.worker(), site.web("--port", port):
        _, err = step.communicate(timeout=60)
    assert step.returncode == 0, err


# -- what cannot be mended -------------------------------------------------------------------------------


def test_nobody_there_is_69_once_patience_ends(site: Site, vcf: Path, tmp_path: Path) -> None:
    place = far(site, "http://127.0.0.1:1", tmp_path)
    done = place.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--outage", "1s")
    assert done.returncode == 69
    assert "http://127.0.0.1:1" in done.stderr


@pytest.mark.slow
def test_tokens(site: Site, vcf: Path, tmp_path: Path) -> None:
    with site.worker(), site.web(ANYVAR_AUTH_TOKEN_LIST="alpha-alpha-alpha") as api:
        place = far(site, api.url, tmp_path)
        for token in ("", "beta"):
            place.extra["ANYVAR_STEP_TOKEN"] = token
            done = place.run("annotate", vcf, "-o", tmp_path / "out.vcf")
            assert done.returncode == 77
            assert "ANYVAR_STEP_TOKEN" in done.stderr
        secret = tmp_path / "token"
        secret.write_text("alpha-alpha-alpha\n")
        place.extra |= {"ANYVAR_STEP_TOKEN": "", "ANYVAR_STEP_TOKEN_FILE": str(secret)}
        assert place.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0
    shown = place.run("config").stdout + place.run("--debug", "config", "--json").stdout
    assert "alpha" not in shown


def test_an_upload_over_the_limit_is_bad_input(site: Site, genome: Path, tmp_path: Path) -> None:
    big = write_vcf(tmp_path / "big.vcf", genome, records=20_000)
    with site.web(ANYVAR_STEP_MAX_UPLOAD="100KB") as api:
        done = far(site, api.url, tmp_path).run("annotate", big, "-o", tmp_path / "out.vcf")
    assert done.returncode == 65
    assert "ANYVAR_STEP_MAX_UPLOAD" in done.stderr


def test_a_url_of_something_else_is_a_configuration_error(
    remote: Site, api: Api, vcf: Path, tmp_path: Path
) -> None:
    for url in (f"{api.url}/elsewhere", "ftp://host", "host:8000"):
        remote.extra["ANYVAR_STEP_URL"] = url
        done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        assert done.returncode == 78, done.stderr
        assert "ANYVAR_STEP_URL" in done.stderr


def test_a_path_before_the_endpoints_is_kept(remote: Site, api: Api, vcf: Path, tmp_path: Path) -> None:
    remote.extra["ANYVAR_STEP_URL"] = f"{api.url}/"
    assert remote.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0


def test_which_way_is_taken(remote: Site, served: Site, api: Api, vcf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf"
    done = remote.run("annotate", vcf, "-o", out, "--via", "celery")
    assert (done.returncode, "ANYVAR_VCF_ASYNC_WORK_DIR" in done.stderr) == (78, True)
    done = served.run("annotate", vcf, "-o", out, "--via", "http")
    assert (done.returncode, "ANYVAR_STEP_URL" in done.stderr) == (78, True)
    done = remote.run("annotate", vcf, "-o", out, "--via", "http", "--local")
    assert done.returncode == 2
    remote.extra["ANYVAR_VCF_ASYNC_WORK_DIR"] = str(remote.work_dir)
    done = remote.run("annotate", vcf, "-o", out, "--broker-url", "redis://127.0.0.1:1/0")
    assert (done.returncode, "Redis" in done.stderr) == (69, True)
    assert remote.run("annotate", vcf, "-o", out, "--via", "http").returncode == 0


def test_without_the_extra_the_line_that_installs_it_is_printed(
    remote: Site, vcf: Path, tmp_path: Path
) -> None:
    code = "import sys; sys.modules['httpx'] = None; from anyvar_step.__main__ import main; main()"
    argv = [sys.executable, "-c", code, "annotate", str(vcf), "-o", str(tmp_path / "out.vcf")]
    done = subprocess.run(argv, env=remote.environ, capture_output=True, text=True, cwd=remote.folder)
    assert done.returncode == 78
    assert "pip install 'anyvar-step[http]'" in done.stderr


def test_every_exception_of_httpx_is_one_of_ours() -> None:
    import httpx

    from anyvar_step.client.http import ApiClient
    from anyvar_step.errors import StepError

    with contextlib.closing(ApiClient("http://127.0.0.1:1", None, "", 0.0)) as client:
        for name in httpx.__all__:
            kind = getattr(httpx, name)
            if isinstance(kind, type) and issubclass(kind, httpx.RequestError):
                with pytest.raises(StepError), client.translated():
                    raise kind("what happened")
