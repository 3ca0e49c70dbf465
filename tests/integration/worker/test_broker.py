"""The worker between outages of Redis, entries that are no messages, and tasks of other workers."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from support import LONG_RUNS, Site, until, write_vcf

from anyvar_step.runs.keys import ANNOTATE_VCF, INGEST_ANNOTATED_VCF, MALFORMED_KEPT, malformed_key, meta_key
from anyvar_step.runs.queue import make_app
from anyvar_step.settings import load
from anyvar_step.worker.broker import parsed

FOREIGN = "anyvar.queueing.celery_worker.register_variations"


Outage = Callable[[redis.Redis], AbstractContextManager[None]]


@contextlib.contextmanager
def readonly(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextlib.contextmanager
def set_to(client: redis.Redis, setting: str, during: object, after: object) -> Iterator[None]:
    client.config_set(setting, during)
    try:
        yield
    finally:
        client.config_set(setting, after)


def without_replicas(client: redis.Redis) -> AbstractContextManager[None]:
    return set_to(client, "min-replicas-to-write", 1, 0)


def out_of_memory(client: redis.Redis) -> AbstractContextManager[None]:
    return set_to(client, "maxmemory", 1, 0)


@contextlib.contextmanager
def masterdown(client: redis.Redis) -> Iterator[None]:
    with set_to(client, "replica-serve-stale-data", "no", "yes"), readonly(client):
        yield


OUTAGES = [
    readonly,
    *(
        pytest.param(outage, marks=pytest.mark.slow)
        for outage in (without_replicas, out_of_memory, masterdown)
    ),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
def test_an_idle_worker_outlives_a_redis_that_refuses_commands(
    outage: Outage,
    site: Site,
    client: redis.Redis,
    vcf: Path,
    tmp_path: Path,
) -> None:
    with site.worker() as worker:
        with outage(client):
            time.sleep(3)  # the length of a planned failover, as in the reports
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        assert (done.returncode, worker.poll()) == (0, None), done.stderr


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
def test_a_run_at_work_outlives_it_too(
    outage: Outage,
    site: Site,
    client: redis.Redis,
    genome: Path,
    tmp_path: Path,
) -> None:
    site.extra = LONG_RUNS
    big = write_vcf(tmp_path / "big.vcf", genome, records=60_000)
    run_id = f"outlives-{outage.__name__}"
    with site.worker() as worker:
        step = site.start("annotate", str(big), "-o", str(tmp_path / "out.vcf"), "--run-id", run_id)
        until(lambda: b"PROGRESS" in (client.get(meta_key(run_id)) or b""), what="the run at work")
        with outage(client):
            time.sleep(3)
        _, said = step.communicate(timeout=120)
        assert (step.returncode, worker.poll()) == (0, None), said


@pytest.mark.slow
def test_a_worker_whose_patience_ends_says_so_and_ends_with_69(site: Site, client: redis.Redis) -> None:
    site.extra = {"ANYVAR_STEP_BROKER_PATIENCE": "2"}
    with site.worker() as worker, readonly(client):
        worker.wait(timeout=100)
    [log] = site.folder.glob("worker-*.log")
    said = log.read_text()
    assert worker.returncode == 69, said
    assert "has not served this worker for 2 s" in said
    assert "Traceback" not in said


MALFORMED = [
    b"\xff\x00 no JSON",
    b"{}",
    b"[1]",
    b'{"headers": null, "properties": {}, "body": ""}',
    json.dumps({"headers": {"id": "x", "task": 1}, "properties": {}, "body": "W10="}).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("entry", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_message_is_told_from_one(entry: bytes) -> None:
    message, fault = parsed(entry)
    assert message is None
    assert fault.startswith("is no")


def test_malformed_messages_are_moved_aside_and_the_worker_goes_on(
    site: Site, client: redis.Redis, vcf: Path, tmp_path: Path
) -> None:
    with site.worker() as worker:
        for entry in MALFORMED:
            client.lpush(site.queue, entry)
        aside = malformed_key(site.queue)
        until(lambda: client.llen(aside) == len(MALFORMED), what="all moved aside")
        assert set(client.lrange(aside, 0, -1)) == set(MALFORMED)
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        assert (done.returncode, worker.poll()) == (0, None), done.stderr
        assert client.llen(aside) == len(MALFORMED) <= MALFORMED_KEPT


# -- tasks of other workers ------------------------------------------------------------------------------

OTHER_WORKER = """
import sys, time
from celery import Celery
from celery.exceptions import Reject
app = Celery("anyvar", broker=sys.argv[1], backend=sys.argv[1])
app.conf.update(task_default_queue=sys.argv[2], worker_prefetch_multiplier=1, task_acks_late=True,
    broker_transport_options={"visibility_timeout": 7200},
    result_backend_transport_options={"global_keyprefix": "anyvar_"})
@app.task(name=sys.argv[3])
def register_variations(variation_requests_json):
    return variation_requests_json
@app.task(name="anyvar.queueing.celery_worker.annotate_vcf", bind=True)
def annotate_vcf(self, **arguments):
    time.sleep(0.1)
    raise Reject("left to the other worker", requeue=True)
app.worker_main(["worker", "--pool", "solo", "--loglevel", "WARNING", "--hostname", "other@test"])
"""


def send(app: Celery, number: int) -> str:
    run_id = str(uuid.uuid4())
    app.send_task(FOREIGN, kwargs={"variation_requests_json": [{"number": number}]}, task_id=run_id)
    return run_id


def ended(client: redis.Redis, run_id: str) -> dict[str, Any] | None:
    raw = client.get(meta_key(run_id))
    meta: dict[str, Any] = json.loads(raw) if raw else {}
    return meta if meta.get("status") in ("SUCCESS", "FAILURE") else None


def test_a_task_that_no_worker_serves_fails_at_once_and_in_plain_words(
    site: Site, client: redis.Redis
) -> None:
    with site.worker(), make_app(load(site.environ)) as app:
        run_id = send(app, 1)
        until(lambda: ended(client, run_id), 100, "the failure")
    meta = ended(client, run_id)
    assert meta is not None
    assert meta["status"] == "FAILURE"
    said = str(meta["result"]["exc_message"])
    assert FOREIGN in said
    assert "AnyVar's own workers" in said


@pytest.mark.slow
def test_with_one_worker_of_each_kind_no_request_is_lost_and_none_fails(
    site: Site, client: redis.Redis, vcf: Path, tmp_path: Path
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, site.redis_url, site.queue, FOREIGN],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with site.worker() as worker, make_app(load(site.environ)) as app:
            inspect = app.control.inspect(timeout=1)
            until(lambda: "other@test" in (inspect.ping() or {}), 100, "the other worker")
            sent = []
            for number in range(100):
                sent.append(send(app, number))
                if number % 25 == 0:
                    out = tmp_path / f"{number}.vcf"
                    assert site.run("annotate", vcf, "-o", out, "--timeout", "60").returncode == 0
            until(lambda: all(ended(client, run_id) for run_id in sent), 120, "all requests")
            assert worker.poll() is None
    finally:
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=100)
    for number, run_id in enumerate(sent):
        meta = ended(client, run_id)
        assert meta is not None
        assert (meta["status"], meta["result"]) == ("SUCCESS", [{"number": number}])


# -- arguments of later versions of AnyVar, and what its API has no place for ------------------------------


def queue_run(site: Site, task: str, content: bytes, **arguments: Any) -> str:
    """Queue a run as AnyVar's web API does: a file in a day folder, no manifest."""
    run_id = str(uuid.uuid4())
    path = site.work_dir / run_id
    path.write_bytes(content)
    options = {"input_file_path": str(path), "assembly": "GRCh38", "allow_async_write": False, **arguments}
    with make_app(load(site.environ)) as app:
        app.send_task(task, kwargs=options, task_id=run_id)
    return run_id


@pytest.mark.parametrize(
    ("newer", "status"),
    [
        ({"liftover": False, "targets": None, "names": []}, "SUCCESS"),
        ({"liftover": True}, "FAILURE"),
    ],
)
def test_arguments_of_a_later_anyvar_are_passed_over_only_where_they_ask_for_nothing(
    newer: dict[str, Any], status: str, site: Site, client: redis.Redis, vcf: Path
) -> None:
    flags = {"for_ref": True, "add_vrs_attributes": False}
    with site.worker():
        run_id = queue_run(site, ANNOTATE_VCF, vcf.read_bytes(), **flags, **newer)
        until(lambda: ended(client, run_id), 100, "the run's end")
    meta = ended(client, run_id)
    assert meta is not None
    assert meta["status"] == status
    if status == "FAILURE":
        assert "liftover=True" in str(meta["result"])


def test_alleles_that_an_unvalidated_ingestion_leaves_out_fail_a_run_of_anyvars_web_api(
    site: Site, client: redis.Redis, vcf: Path, tmp_path: Path
) -> None:
    site.extra = {"ANYVAR_STORAGE_URI": f"duckdb:///{tmp_path / 'store.duckdb'}"}
    out = tmp_path / "annotated.vcf"
    with site.worker():
        assert site.run("annotate", vcf, "-o", out, "--attributes").returncode == 0
        head, _, tail = out.read_text().partition("VRS_Allele_IDs=ga4gh:VA.")
        wrong = f"{head}VRS_Allele_IDs=ga4gh:VA.{'A' * 32}{tail[32:]}"
        run_ids = [
            queue_run(site, INGEST_ANNOTATED_VCF, text.encode(), require_validation=False)
            for text in (out.read_text(), wrong)
        ]
        until(lambda: all(ended(client, run_id) for run_id in run_ids), 60, "both ends")
    right, failed = (ended(client, run_id) for run_id in run_ids)
    assert right is not None
    assert failed is not None
    assert (right["status"], failed["status"]) == ("SUCCESS", "FAILURE")
    assert "1 alleles were left out" in str(failed["result"])


def test_a_worker_without_a_store_says_so_when_it_starts(site: Site) -> None:
    with site.worker():
        [log] = site.folder.glob("worker-*.log")
        assert "this worker registers alleles nowhere" in log.read_text()
