"""The registry of workers: who serves a queue, without a broadcast; AnyVar's workers by Celery's inspect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import Site, until

from anyvar_step import __version__
from anyvar_step.runs import worker_registry as registries
from anyvar_step.runs.connection import connect
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.queue import Queue
from anyvar_step.runs.worker_registry import RegistryHeartbeat, WorkerRecord, WorkerRegistry
from anyvar_step.settings import load

#: A worker of Celery's own, as AnyVar's is.
FOREIGN = """
import sys
from celery import Celery
app = Celery(broker=sys.argv[1], backend=sys.argv[1])
app.conf.task_default_queue = sys.argv[2]
@app.task(name="anyvar.queueing.celery_worker.annotate_vcf")
def annotate_vcf():
    return None
app.worker_main(["worker", "--concurrency", "1", "--loglevel", "INFO", "--pool", "solo", "-n", sys.argv[2]])
"""


@pytest.fixture
def registry(site: Site) -> Iterator[WorkerRegistry]:
    opened = WorkerRegistry(load(site.environ))
    yield opened
    for record in opened.workers_of(site.queue):  # other tests have the same Redis
        opened.unregister(record)


@pytest.fixture
def foreign(site: Site) -> Iterator[None]:
    log = site.folder / "foreign.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", FOREIGN, site.redis_url, site.queue], stdout=out, stderr=out
        )
    try:
        until(lambda: " ready." in log.read_text(), what="a worker")
        yield
    finally:
        process.terminate()
        process.wait()


def record_of(site: Site, number: int = 1, **changes: object) -> WorkerRecord:
    values: dict[str, object] = {
        "id": f"{site.queue}-{number}",
        "name": f"worker-{number}@{site.queue}",
        "host": "node",
        "user": "user",
        "pid": number,
        "processes": number,
        "queues": (site.queue,),
        "tasks": ("annotate",),
        "version": "2.0",
        "celery": "5.7",
        "work_dir": "/work",
        "references": {},
        "limits": {},
    }
    return WorkerRecord.model_validate(values | changes)


def test_a_worker_registers_what_it_is_and_leaves_when_it_ends(site: Site, registry: WorkerRegistry) -> None:
    assert not registry.served()
    site.extra = {"ANYVAR_STORAGE_URI": ""}
    with site.worker(concurrency=2) as worker:
        [record] = registry.workers_of(site.queue)
        assert (record.processes, record.version, record.queues) == (2, __version__, (site.queue,))
        assert record.references["GRCh38"].contigs == 1
        assert record.work_dir == str(site.work_dir)
        assert "anyvar.queueing.celery_worker.annotate_vcf" in record.tasks
        assert record.engine in ("native", "python")
        assert (registry.served(), registry.capacity()) == (True, 2)
        worker.send_signal(signal.SIGTERM)
        worker.wait(100)
        assert not registry.served()
        assert registry.capacity() == 0


@pytest.mark.slow
def test_a_killed_worker_is_gone_when_its_record_expires(site: Site, registry: WorkerRegistry) -> None:
    with site.worker() as worker:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        [record] = registry.workers_of(site.queue)
        with connect(site.redis_url) as redis:
            assert 0 < redis.ttl(step_key("worker", record.id)) <= registries.EXPIRES_SECONDS
            until(lambda: not redis.exists(step_key("worker", record.id)), 100)
        assert not registry.served()


def test_who_serves_is_asked_in_milliseconds_and_without_celery(
    site: Site, registry: WorkerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue, "celery", lambda _: pytest.fail("a broadcast"))
    for number in range(1, 101):
        registry.register(record_of(site, number))
    with connect(site.redis_url) as redis:

        def received() -> int:
            return int(redis.info("stats")["total_net_input_bytes"])

        before, rounds = received(), 20
        for _ in range(rounds):
            assert registry.served()
        assert received() - before <= 1000 * rounds, "one short command, whatever the number of workers"
    assert registry.capacity() == 5050


def test_records_that_expired_or_cannot_be_read_are_passed_over(site: Site, registry: WorkerRegistry) -> None:
    registry.register(record_of(site, 1))
    registry.register(record_of(site, 2))
    with connect(site.redis_url) as redis:
        redis.delete(step_key("worker", record_of(site, 1).id))
        assert [record.pid for record in registry.workers_of(site.queue)] == [2]
        assert redis.scard(step_key("workers", site.queue)) == 1
        redis.set(step_key("worker", record_of(site, 2).id), "{}", ex=60)
        assert registry.workers_of(site.queue) == []


def test_runs_that_a_worker_has_received_are_not_taken_for_lost(site: Site, registry: WorkerRegistry) -> None:
    registry.register(record_of(site, runs=("run-1",)))
    assert registry.unreceived(["run-1", "run-2"]) == {"run-2"}
    with connect(site.redis_url) as redis:
        redis.lpush(site.queue, "{}")
        assert registry.unreceived(["run-1", "run-2"]) == set()
        redis.delete(site.queue)


def test_a_record_is_renewed_and_lists_the_runs_received(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "HEARTBEAT_SECONDS", 0.1)
    settings, runs = load(site.environ), ["run-1"]
    registry, record = WorkerRegistry(settings), record_of(site)
    heartbeat = RegistryHeartbeat(settings, record, lambda: runs, lambda _: None)
    heartbeat.start("name")
    until(lambda: [each.runs for each in registry.workers_of(site.queue)] == [("run-1",)])
    runs.append("run-2")
    until(lambda: [each.runs for each in registry.workers_of(site.queue)] == [("run-1", "run-2")])
    with connect(site.redis_url) as redis:
        redis.flushdb()  # a Redis that lost its data
    until(registry.served)
    heartbeat.stop()
    assert not registry.served()
    heartbeat._thread.join()
    assert not registry.served()


@pytest.mark.usefixtures("foreign")
def test_a_worker_of_anyvars_is_found_by_inspect(site: Site, registry: WorkerRegistry) -> None:
    assert registry.served()
    assert registry.capacity() == 1
    assert [worker.queues for worker in registry.others() if site.queue in worker.queues] == [(site.queue,)]
    assert registry.unreceived(["run-1"]) == {"run-1"}


@pytest.mark.usefixtures("foreign")
def test_a_worker_of_anyvars_is_found_under_the_name_that_one_of_ours_had(
    site: Site, registry: WorkerRegistry
) -> None:
    [name] = [worker.name for worker in registry.others() if site.queue in worker.queues]
    before = record_of(site, name=name)
    registry.register(before)
    assert [
        worker.name for worker in WorkerRegistry(load(site.environ)).others() if worker.name == name
    ] == []
    registry.unregister(before)
    assert WorkerRegistry(load(site.environ)).served()
