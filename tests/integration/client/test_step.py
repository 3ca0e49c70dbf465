"""The step as a rule calls it: real processes, a real Redis, a real worker."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pysam
import pytest
from servers import RedisServer
from support import LONG_RUNS, Site, stored, until, write_vcf

from anyvar_step.client.cancellation import cancel_on_failure
from anyvar_step.client.celery import CeleryTransport
from anyvar_step.errors import Interrupted
from anyvar_step.models import AnnotateOptions, Manifest, RunRequest, State
from anyvar_step.runs.state import RunState
from anyvar_step.settings import load


def fields_dropped(text: str) -> str:
    """The VCF as it was before: header lines of ours and INFO fields of VRS dropped."""
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith(("##INFO=<ID=VRS_", "##anyvar_step")):
            continue
        columns = line.split("\t")
        if not line.startswith("#"):
            columns[7] = ";".join(f for f in columns[7].split(";") if not f.startswith("VRS_"))
        lines.append("\t".join(columns))
    return "".join(lines)


def committed(site: Site) -> Path:
    """The folder of the site's one run, once its step has given it the run's id."""
    until(lambda: list(site.work_dir.glob("*/[!.]*/manifest.json")))
    [manifest] = site.work_dir.glob("*/[!.]*/manifest.json")
    return manifest.parent


def test_text_in_text_out_changes_nothing_but_info(served: Site, vcf: Path, tmp_path: Path) -> None:
    done = served.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "out.vcf").read_text()
    assert text.count("VRS_Allele_IDs=ga4gh:VA.") == 200
    assert fields_dropped(text) == vcf.read_text()
    assert served.left_over() == []
    assert [path.name for path in tmp_path.iterdir()] == ["out.vcf"]


def test_a_gz_output_is_bgzf_with_a_newer_index(served: Site, vcf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf.gz"
    assert served.run("annotate", vcf, "-o", out).returncode == 0
    index = tmp_path / "out.vcf.gz.tbi"
    assert index.stat().st_mtime_ns >= out.stat().st_mtime_ns
    with pysam.VariantFile(str(out)) as file:
        assert 0 < sum(1 for _ in file.fetch("chr1", 0, 50_000)) < 200


def test_standard_input_to_standard_output(served: Site, vcf: Path) -> None:
    done = served.run("annotate", "-", "-o", "-", input=vcf.read_text())
    assert done.returncode == 0
    assert fields_dropped(done.stdout) == vcf.read_text()


def test_a_bgzipped_input_and_plain_gzip_with_a_note(served: Site, vcf: Path, tmp_path: Path) -> None:
    import gzip

    plain = tmp_path / "plain.vcf.gz"
    plain.write_bytes(gzip.compress(vcf.read_bytes()))
    blocked = tmp_path / "blocked.vcf.gz"
    pysam.tabix_compress(str(vcf), str(blocked))
    done = served.run("annotate", plain, "-o", tmp_path / "a.vcf")
    assert done.returncode == 0
    assert done.stderr.count("plain.vcf.gz is plain gzip") == 1
    done = served.run("annotate", blocked, "-o", tmp_path / "b.vcf")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.vcf").read_bytes() == (tmp_path / "b.vcf").read_bytes()


def test_attributes_and_no_ref_are_as_asked(served: Site, vcf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf"
    assert served.run("annotate", vcf, "-o", out, "--no-for-ref", "--attributes").returncode == 0
    record = next(line for line in out.read_text().splitlines() if not line.startswith("#"))
    info = dict(item.split("=") for item in record.split("\t")[7].split(";"))
    assert "," not in info["VRS_Allele_IDs"]
    assert int(info["VRS_Ends"]) >= int(info["VRS_Starts"])


def test_the_report_counts_and_vouches_for_the_output(served: Site, vcf: Path, tmp_path: Path) -> None:
    import hashlib

    out, report = tmp_path / "out.vcf.gz", tmp_path / "report.json"
    assert served.run("annotate", vcf, "-o", out, "--report", report).returncode == 0
    told = json.loads(report.read_text())
    assert told["counts"]["records"] == 200
    assert told["counts"]["ids"] == 400
    assert told["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert told["input_sha256"] == hashlib.sha256(vcf.read_bytes()).hexdigest()
    assert {"stage", "wait", "collect", "annotate"} <= told["seconds"].keys()


@pytest.mark.slow
def test_twenty_steps_at_once_against_one_worker(served: Site, genome: Path, tmp_path: Path) -> None:
    inputs = [write_vcf(tmp_path / f"{n}.vcf", genome, records=100, seed=n) for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(served.run, "annotate", p, "-o", p.with_suffix(".out")) for p in inputs]
        done = [job.result() for job in jobs]
    assert [result.returncode for result in done] == [0] * 20, [result.stderr for result in done]
    for path in inputs:
        assert fields_dropped(path.with_suffix(".out").read_text()) == path.read_text()
    assert served.left_over() == []


def test_two_steps_with_the_same_input_both_get_it(served: Site, vcf: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        outs = [tmp_path / f"{n}.vcf" for n in range(4)]
        done = list(pool.map(lambda out: served.run("annotate", vcf, "-o", out), outs))
    assert [result.returncode for result in done] == [0] * 4, [result.stderr for result in done]
    assert len({out.read_bytes() for out in outs}) == 1
    assert served.left_over() == []


def test_a_killed_step_started_again_finds_its_run(site: Site, vcf: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf"
    first = site.start("-v", "annotate", str(vcf), "-o", str(out))
    folder = committed(site)
    until(lambda: "SENT" in site.run("status", folder.name).stdout)
    first.kill()
    first.communicate()
    second = site.start("-v", "annotate", str(vcf), "-o", str(out))
    with site.worker():
        _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert f"run {folder.name} found at work" in err
    assert out.read_text().count("VRS_Allele_IDs") == 201  # one header line
    assert site.left_over() == []


def test_a_step_that_is_told_to_end_leaves_another_with_the_same_output_alone(
    site: Site, vcf: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf"
    first = site.start("annotate", str(vcf), "-o", str(out))
    folder = committed(site)
    until(lambda: "SENT" in site.run("status", folder.name).stdout)
    second = site.start("-v", "annotate", str(vcf), "-o", str(out))
    assert second.stderr is not None
    until(lambda: f"run {folder.name} found at work" in second.stderr.readline())
    second.terminate()
    second.communicate()
    assert second.returncode == 143
    with site.worker():
        _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert out.read_text().count("VRS_Allele_IDs") == 201  # one header line
    assert site.left_over() == []


def test_a_result_that_nobody_collected_is_found_by_the_next_call(
    site: Site, vcf: Path, tmp_path: Path
) -> None:
    with site.worker():
        run_id = site.run("submit", vcf, "-O", "v").stdout.strip()
        until(lambda: "200 SUCCESS" in site.run("status", run_id).stdout)
    done = site.run("-v", "annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert f"run {run_id} found at work" in done.stderr


@pytest.mark.quick(1)
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_step_revokes_its_run_and_leaves_nothing(
    site: Site, vcf: Path, tmp_path: Path, signum: int, code: int
) -> None:
    out = tmp_path / "out.vcf"
    step = site.start("-v", "annotate", str(vcf), "-o", str(out))
    folder = committed(site)
    until(lambda: "SENT" in site.run("status", folder.name).stdout)
    step.send_signal(signum)
    _, err = step.communicate(timeout=100)
    assert step.returncode == code, err
    assert "Traceback" not in err
    assert site.left_over() == []
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert "RUN_CANCELLED" in site.run("status", folder.name).stdout
    with site.worker():  # the same VCF can be submitted again at once, and the old run does not come back
        assert site.run("annotate", vcf, "-o", out).returncode == 0
    assert site.left_over() == []


@pytest.mark.parametrize("chunks", ["1", "4"])
def test_an_interrupted_step_ends_in_seconds_though_redis_hangs(
    genome: Path, tmp_path: Path, chunks: str
) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        site = Site(tmp_path / "site", server.url, genome)
        source = write_vcf(tmp_path / "in.vcf", genome, records=20_000)
        step = site.start("annotate", str(source), "-o", str(tmp_path / "out.vcf"), "--chunks", chunks)
        with server.client() as client:
            until(lambda: client.llen(site.queue) == int(chunks), what="all pieces in the queue")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        step.terminate()
        _, err = step.communicate(timeout=100)
    finally:
        server.end()
    assert step.returncode == 143, err
    assert "could not be cancelled" in err
    assert "revoked" not in err
    assert err.count("no Redis answers") == 1


@pytest.mark.quick(1)
@pytest.mark.parametrize("by", ["signal", "word"])
def test_a_worker_at_work_stops_when_its_run_is_cancelled(
    site: Site, genome: Path, tmp_path: Path, by: str
) -> None:
    big = write_vcf(tmp_path / "big.vcf", genome, records=20_000)
    body = big.read_text().splitlines(keepends=True)
    with big.open("a") as file:
        for _ in range(60):
            file.writelines(body[4:])
    site.extra = LONG_RUNS
    with site.worker():
        step = site.start("annotate", str(big), "-o", str(tmp_path / "out.vcf"), "--run-id", f"by-{by}")
        until(lambda: any("_outputvcf" in path.name for path in site.left_over()))
        if by == "word":
            assert site.run("cancel", "by-word").returncode == 0
        else:
            step.send_signal(signal.SIGTERM)
        assert step.wait(100) == (130 if by == "word" else 143)
        step.communicate()
        [log] = site.folder.glob("worker-*.log")
        until(lambda: f"run by-{by} was cancelled" in log.read_text(), what="the worker to give up")
        until(lambda: site.left_over() == [], 100, "an empty work dir")
        small = write_vcf(tmp_path / "small.vcf", genome)
        assert site.run("annotate", small, "-o", tmp_path / "small.out.vcf").returncode == 0


def test_a_step_interrupted_while_it_queues_its_run_cancels_it(
    site: Site, vcf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may have taken the message before the step knows that it is queued."""
    with (
        contextlib.closing(CeleryTransport(load(site.environ))) as transport,
        RunState(transport.runs.settings) as state,
    ):
        publish = transport.runs.publish

        def interrupted(manifest: Manifest) -> None:
            publish(manifest)
            raise Interrupted(signal.SIGTERM)

        monkeypatch.setattr(transport.runs, "publish", interrupted)
        request = RunRequest(options=AnnotateOptions(), run_id="caught")
        with (
            vcf.open("rb") as source,
            pytest.raises(Interrupted, match="revoked"),
            cancel_on_failure(transport),
        ):
            transport.submit(source, vcf.name, request)
        assert state.cancel_requested("caught")
        assert transport.queue_length() == 0
    assert site.left_over() == []


@pytest.mark.slow
def test_waiting_costs_a_few_looks_a_second(site: Site, vcf: Path, tmp_path: Path) -> None:
    """Looks are counted, not CPU time, which the kernel samples: a busy machine makes it appear more."""
    step = site.start("-v", "annotate", str(vcf), "-o", str(tmp_path / "out.vcf"), "--queue-timeout", "0")
    assert step.stderr is not None
    assert "submitted" in step.stderr.readline()

    def wakes() -> int:
        status = Path(f"/proc/{step.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    with pytest.raises(subprocess.TimeoutExpired):
        step.wait(4)  # past the quick looks of the beginning
    before, begin = wakes(), time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        step.wait(5)
    assert (wakes() - before) / (time.monotonic() - begin) <= 20
    step.terminate()
    step.communicate()


@pytest.mark.slow
def test_the_end_of_a_run_is_noticed_after_the_longest_pause_too(site: Site, vcf: Path) -> None:
    run_id = site.run("submit", vcf).stdout.strip()
    waiting = site.start("-v", "wait", run_id)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)  # its pauses have grown to their longest
    with RunState(load(site.environ)) as state:
        stored(state, run_id, State.SUCCESS, "/nowhere")
    assert waiting.wait(100) == 0
    waiting.communicate()


def test_local_needs_no_server(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.extra = {"CELERY_BROKER_URL": "redis://localhost:1/0", "ANYVAR_VCF_ASYNC_WORK_DIR": "/nowhere"}
    out = tmp_path / "out.vcf"
    done = site.run("annotate", vcf, "-o", out, "--local", "--reference", f"GRCh38={site.genome}")
    assert done.returncode == 0, done.stderr
    assert fields_dropped(out.read_text()) == vcf.read_text()


def test_the_compression_level_is_the_workers(served: Site, vcf: Path, tmp_path: Path) -> None:
    import gzip

    texts = []
    for level in ("1", "9"):
        out = tmp_path / f"{level}.vcf.gz"
        assert served.run("annotate", vcf, "-o", out, "--compress-level", level).returncode == 0
        texts.append(gzip.decompress(out.read_bytes()))
    assert texts[0] == texts[1]
    assert (tmp_path / "9.vcf.gz").stat().st_size < (tmp_path / "1.vcf.gz").stat().st_size
