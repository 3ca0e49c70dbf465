"""``anyvar-step check``: each thing that would keep a run from getting through is found, with its remedy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import private_redis
from support import Site, heeding_modes, until, write_genome, write_vcf

from anyvar_step import check as checks
from anyvar_step.check import Finding, exit_code
from anyvar_step.runs.connection import connect
from anyvar_step.runs.keys import malformed_key
from anyvar_step.runs.queue import encode_message
from anyvar_step.runs.work_dir import WorkDir, probe
from anyvar_step.runs.worker_registry import (
    ProbeAnswer,
    ReferenceRecord,
    Trouble,
    WorkerRecord,
    WorkerRegistry,
)
from anyvar_step.settings import load


def check(site: Site, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the findings; every one that is not ok says what to do."""
    done = site.run("check", "--json", *arguments)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    assert all(each["remedy"] for each in told["findings"] if each["level"] in ("warning", "error"))
    return done.returncode, told["findings"]


def found(findings: list[dict[str, Any]], level: str, about: str) -> str:
    return "\n".join(
        f"{each['what']} -> {each['remedy']}"
        for each in findings
        if (each["level"], each["about"]) == (level, about)
    )


def test_a_sound_site_is_found_sound_while_its_worker_is_busy(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    head, _, body = write_vcf(tmp_path / "in.vcf", genome, records=20_000).read_text().partition("S1\n")
    (tmp_path / "in.vcf").write_text(head + "S1\n" + body * 10)
    with site.worker() as worker:
        [child] = map(int, Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split())
        run_id = site.run("submit", tmp_path / "in.vcf").stdout.strip()
        until(lambda: any("_outputvcf" in path.name for path in site.left_over()), what="a run at work")
        os.kill(child, signal.SIGSTOP)  # the run lasts as long as the check does
        try:
            code, findings = check(site, "--assembly", "GRCh38")
            assert "PROGRESS" in site.run("status", run_id).stdout
        finally:
            os.kill(child, signal.SIGCONT)
        site.run("cancel", run_id)
        until(lambda: site.left_over() == [])
    assert code == 0
    assert "reads our files, and we read its files" in found(findings, "ok", "work dir")
    assert "GRCh38: 1 contigs" in found(findings, "ok", "reference")
    assert "answers in" in found(findings, "ok", "broker")
    assert {each["worker"] for each in findings} > {""}
    assert list(site.work_dir.glob(".*")) == []


def test_people_get_lines_with_remedies_and_the_number_of_errors(site: Site, tmp_path: Path) -> None:
    with private_redis(tmp_path) as url:  # without the workers of other tests
        site.extra = {"CELERY_BROKER_URL": url}
        done = site.run("check")
    assert done.returncode == 69
    assert "error    workers    no worker answers\n" in done.stdout
    assert "-> Start one: anyvar-step worker\n" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("1 error, ")


def test_redis_that_does_not_answer_is_69_and_the_workers_are_not_asked(site: Site) -> None:
    site.extra = {"CELERY_BROKER_URL": "redis://:hush@127.0.0.1:1/0"}
    code, findings = check(site)
    assert code == 69
    assert "no Redis answers at redis://:***@127.0.0.1:1/0" in found(findings, "error", "broker")
    assert "not asked because of the errors above" in found(findings, "note", "workers")


def test_settings_that_cannot_be_read_are_a_finding(site: Site) -> None:
    site.extra = {"CELERY_SOFT_TIME_LIMIT": "5000"}
    code, findings = check(site)
    assert code == 78
    assert "CELERY_SOFT_TIME_LIMIT" in found(findings, "error", "settings")


def test_a_work_dir_that_is_missing_or_closed_is_found(site: Site) -> None:
    site.prefix = heeding_modes()
    site.work_dir.chmod(0o500)
    code, findings = check(site)
    assert code == 77
    assert "not writable" in found(findings, "error", "work dir")
    site.work_dir.chmod(0o700)
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": "/no/such/dir"}
    assert check(site)[0] == 74
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": ""}
    code, findings = check(site)
    assert code == 78
    assert "is not set" in found(findings, "error", "work dir")


@pytest.mark.parametrize("same", [False, True], ids=["another", "another name"])
def test_a_worker_with_another_work_dir_is_found_and_one_that_names_it_otherwise(
    site: Site, same: bool
) -> None:
    path = site.folder / "there"
    path.symlink_to(site.work_dir) if same else path.mkdir()
    remedy = f"would refuse our paths below {site.work_dir} -> Set ANYVAR_STEP_WORKER_WORK_DIR={path}"
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": str(path), "ANYVAR_STEP_LATENCY_WAIT": "1"}
    with site.worker():
        del site.extra["ANYVAR_VCF_ASYNC_WORK_DIR"]
        code, findings = check(site)
        assert code == 78
        assert (remedy if same else "does not see our probe") in found(findings, "error", "work dir")
        site.extra["ANYVAR_STEP_WORKER_WORK_DIR"] = str(path)
        assert check(site)[0] == (0 if same else 78)


def test_workers_that_differ_are_found(site: Site, tmp_path: Path) -> None:
    with site.worker():
        (tmp_path / "more").mkdir()
        site.extra = {
            "CELERY_TASK_TIME_LIMIT": "3700",
            "ANYVAR_STEP_REFERENCE": f"GRCh38={write_genome(tmp_path / 'other.fa', seed=2)}",
        }
        with site.worker():
            site.extra = {}
            code, findings = check(site, "--assembly", "GRCh37")
    assert code == 78
    assert found(findings, "error", "reference").count("it has no GRCh37; it has GRCh38") == 2
    assert "different sequences as GRCh38" in found(findings, "error", "reference")
    assert "it has CELERY_TASK_TIME_LIMIT=3700" in found(findings, "warning", "settings")


_STRANGER = """
import sys
from celery import Celery
app = Celery(broker=sys.argv[1], backend=sys.argv[1])
app.conf.task_default_queue = sys.argv[2]
@app.task(name="anyvar.queueing.celery_worker.annotate_vcf")
def annotate_vcf():
    return None
app.worker_main(["worker", "--concurrency", "1", "--loglevel", "INFO", "--pool", "solo"])
"""


def test_a_worker_of_anyvars_is_not_sent_what_it_does_not_know(site: Site) -> None:
    log = site.folder / "stranger.log"
    checked: list[tuple[int, list[dict[str, Any]]]] = []
    with log.open("w") as out:
        stranger = subprocess.Popen(
            [sys.executable, "-c", _STRANGER, site.redis_url, site.queue], stdout=out, stderr=out
        )
    try:
        # Celery's inspect waits for a second, in which a busy machine's worker may not answer.
        until(lambda: checked.append(check(site)) or checked[-1][0] == 0, what="the worker's answer")
    except AssertionError:
        print(checked[-1], log.read_text())  # pytest shows it
        raise
    finally:
        stranger.kill()
        stranger.wait()
    _, findings = checked[-1]
    assert "1 process of another program, such as AnyVar" in found(findings, "note", "workers")
    assert "ERROR" not in log.read_text()


def test_workers_of_another_queue_are_named(site: Site) -> None:
    with site.worker():
        site.extra = {"CELERY_TASK_DEFAULT_QUEUE": "elsewhere"}
        code, findings = check(site)
    assert code == 69
    said = found(findings, "error", "workers")
    assert "no worker serves elsewhere: those here serve " in said
    assert site.queue in said  # beside those of other tests on the same Redis


def test_what_waits_in_vain_in_the_queue_is_found_and_sweep_drops_malformed_messages(site: Site) -> None:
    with site.worker(), connect(site.redis_url) as redis:
        redis.lpush(site.queue, "not a message")
        until(lambda: redis.llen(malformed_key(site.queue)) == 1, what="the message set aside")
        code, findings = check(site)
        assert code == 0
        assert "1 malformed messages were moved" in found(findings, "warning", "queue")
        assert "it registers alleles nowhere" in found(findings, "note", "store")
        assert "1 malformed messages" in site.run("sweep", "--malformed").stdout
        assert "malformed" not in found(check(site)[1], "warning", "queue")


def test_a_task_of_the_queue_that_no_worker_serves_is_found(site: Site) -> None:
    settings = load(site.environ)
    message = encode_message(site.queue, "anyvar.queueing.celery_worker.register_variations", {}, "r-1")
    with connect(site.redis_url) as redis:
        redis.lpush(site.queue, message, "not a message")
        known = {"anyvar.queueing.celery_worker.annotate_vcf"}
        [warning] = checks.check_tasks(settings, known)
        assert "register_variations waits in the queue, and no worker" in warning.what
        assert list(checks.check_tasks(settings, {*known, json.loads(message)["headers"]["task"]})) == []
        redis.delete(site.queue)


def test_only_a_token_is_taken_from_the_list_of_probes(site: Site) -> None:
    """Whoever may write to Redis must not be able to have a worker write where he likes."""
    with site.worker():
        settings = load(site.environ)
        registry = WorkerRegistry(settings)
        [record] = registry.workers_of(site.queue)
        for bad in ("../../../tmp/x", "x" * 16, "", "0" * 17):
            registry.request_answer(record, bad)
        with probe(WorkDir(site.work_dir), "0" * 16):
            registry.request_answer(record, "0" * 16)
            assert len(registry.gather_answers("0" * 16, 1, 30)) == 1
        with connect(site.redis_url) as redis:
            assert list(redis.scan_iter("anyvar_step-answers-*")) == []
    assert list(site.work_dir.iterdir()) == []


def test_eviction_and_lost_persistence_are_found_on_a_real_redis(site: Site, tmp_path: Path) -> None:
    with private_redis(tmp_path) as url, connect(url) as redis:
        site.extra = {"CELERY_BROKER_URL": url}
        redis.config_set("appendonly", "yes")
        redis.config_set("maxmemory-policy", "allkeys-lru")
        code, findings = check(site)
        assert code == 69  # no worker; the policy does nothing yet
        assert "allkeys-lru" in found(findings, "warning", "broker")
        assert "outlive a restart" in found(findings, "ok", "broker")
        redis.config_set("maxmemory", "100mb")
        code, findings = check(site)
        assert code == 78
        assert "CONFIG SET maxmemory-policy noeviction" in found(findings, "error", "broker")


def test_what_redis_says_of_itself_is_judged() -> None:
    def levels(found: Any) -> list[tuple[str, int]]:
        return [(each.level, each.exit_code) for each in found]

    assert levels(checks.persistence("broker", {"aof_enabled": 0}, "")) == [("warning", 0)]
    assert levels(checks.persistence("broker", {"aof_enabled": 0}, None)) == [("warning", 0)]
    broken = {"aof_enabled": 1, "aof_last_write_status": "err"}
    assert levels(checks.persistence("broker", broken, "")) == [("error", 74), ("ok", 0)]
    assert levels(checks.room("broker", {"maxmemory": 100, "used_memory": 100})) == [("error", 69)]
    assert levels(checks.room("broker", {"maxmemory": 100, "used_memory": 85})) == [("warning", 0)]
    assert levels(checks.room("broker", {"maxclients": 100, "connected_clients": 85})) == [("warning", 0)]
    assert levels(checks.kind("broker", "redis://x", {"role": "slave", "cluster_enabled": 1})) == [
        ("error", 78),
        ("error", 78),
    ]


def test_what_a_worker_says_of_its_store_reference_and_clock_is_judged() -> None:
    record = WorkerRecord(
        id="h-1",
        name="w",
        host="h",
        user="u",
        pid=1,
        processes=1,
        queues=("q",),
        tasks=(),
        version="2",
        celery="5",
        work_dir="/work",
        references={name: ReferenceRecord(contigs=1, digest="1") for name in ("GRCh38", "b")},
        store="postgresql://x",
        limits={},
    )
    answer = ProbeAnswer(
        id="h-1",
        reference_troubles={"GRCh38": Trouble(kind="InputNotFound", what="gone", remedy="r")},
        store_trouble=Trouble(kind="Unavailable", what="no Postgres answers", remedy="r"),
        clock=-90.0,
    )
    assert checks.store(record, answer).exit_code == 69
    assert [each.exit_code for each in checks.references(record, answer, ())] == [66, 0]
    assert "-90 s" in next(checks.clock(record, answer)).what
    assert not list(checks.clock(record, answer.model_copy(update={"clock": 1.0})))


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((), 0), ((69,), 69), ((69, 74), 74), ((74, 77, 69), 77), ((77, 78, 0), 78), ((130,), 130)],
)
def test_the_worst_error_decides_what_no_retry_mends_first(codes: tuple[int, ...], worst: int) -> None:
    assert exit_code(Finding("x", "error", "y", exit_code=code) for code in codes) == worst


def test_over_http_the_web_api_its_workers_and_the_token_are_looked_at(site: Site) -> None:
    tokens = {"ANYVAR_AUTH_TOKEN_LIST": "open-sesame-open-sesame"}
    with site.web(**tokens) as api:
        reach = {"ANYVAR_VCF_ASYNC_WORK_DIR": "", "ANYVAR_STEP_URL": api.url}
        with site.worker():
            site.extra = {**reach, "ANYVAR_STEP_TOKEN": "open-sesame-open-sesame"}
            code, findings = check(site)
            assert code == 0
            assert "1 processes serve the queue" in found(findings, "ok", "workers")
        site.extra = {**reach, "ANYVAR_STEP_TOKEN": "open-barley"}
        assert check(site)[0] == 77
    code, findings = check(site)
    assert code == 69
    assert "no web API answers" in found(findings, "error", "web API")
