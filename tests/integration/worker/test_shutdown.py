"""How a worker ends: when idle, when old, when told once or twice, and what becomes of its runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import private_redis
from support import LONG_RUNS, Site, until, write_vcf

from anyvar_step.runs.state import RunState
from anyvar_step.settings import load, processors
from anyvar_step.worker.shutdown import REPEATED_SIGNAL_SECONDS


@pytest.fixture
def state(site: Site) -> Iterator[RunState]:
    with RunState(load(site.environ)) as opened:
        yield opened


@pytest.fixture(scope="module")
def long_vcf(genome: Path) -> Path:
    """A VCF that keeps a worker busy for some seconds."""
    path = write_vcf(genome.with_name("long.vcf"), genome, records=20_000)
    body = path.read_text().partition("S1\n")[2]
    with path.open("a") as file:
        for _ in range(35):
            file.write(body)
    return path


def submit(site: Site, source: Path) -> str:
    done = site.run("submit", source, "-O", "v")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state_of(runs: RunState, run_id: str) -> str:
    meta = runs.meta(run_id)
    return str(meta["status"]) if meta else "unknown"


@pytest.fixture(autouse=True)
def _long_runs(site: Site) -> None:
    site.extra = {**LONG_RUNS}


def at_work(state: RunState, run_id: str) -> bool:
    return state_of(state, run_id) == "PROGRESS"


def said(site: Site) -> str:
    return "".join(log.read_text() for log in site.folder.glob("worker-*.log"))


def test_an_idle_worker_ends_and_a_run_keeps_it_a_while_longer(site: Site, vcf: Path, tmp_path: Path) -> None:
    with site.worker("--idle-timeout", "3s") as worker:
        step = site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        served = now = time.monotonic()
        while "succeeded in" not in said(site):
            served, now = now, time.monotonic()  # at `served` the run had not ended
            time.sleep(0.02)
        assert worker.wait(100) == 0
        _, err = step.communicate(timeout=100)
    assert step.returncode == 0, err
    assert time.monotonic() - served > 3
    assert "no run for 3 s: taking no new run" in said(site)


@pytest.mark.slow
@pytest.mark.flaky(
    reruns=2
)  # its four seconds begin before the worker is ready: too few on a very busy machine
def test_an_old_worker_finishes_its_run_and_leaves_the_next_one_in_the_queue(
    site: Site, state: RunState, long_vcf: Path, vcf: Path
) -> None:
    with site.worker("--max-lifetime", "4s") as worker:
        first = submit(site, long_vcf)
        until(lambda: "running for 4 s: taking no new run" in said(site))
        assert at_work(state, first)
        second = submit(site, vcf)
        assert worker.wait(100) == 0
    assert (state_of(state, first), state_of(state, second)) == ("SUCCESS", "SENT")


@pytest.mark.slow
def test_reserved_runs_go_to_another_worker_while_the_old_one_still_works(
    site: Site, state: RunState, long_vcf: Path, genome: Path, tmp_path: Path
) -> None:
    """Celery's own shutdown keeps them until its run ends, a killed worker for the visibility timeout."""
    site.extra = {"CELERY_WORKER_PREFETCH_MULTIPLIER": "4", **LONG_RUNS}
    small = [write_vcf(tmp_path / f"{seed}.vcf", genome, seed=seed) for seed in range(3)]
    with site.worker() as old:
        first = submit(site, long_vcf)
        until(lambda: at_work(state, first))
        reserved = [submit(site, path) for path in small]
        until(lambda: said(site).count("received") == 4, what="four runs in one worker")
        with site.worker():
            old.send_signal(signal.SIGTERM)
            until(lambda: all(state_of(state, run_id) == "SUCCESS" for run_id in reserved), 100)
            assert at_work(state, first)
            assert old.wait(100) == 0
    assert state_of(state, first) == "SUCCESS"
    assert "requeued 3 reserved runs" in said(site)


@pytest.mark.slow
def test_a_run_that_arrives_as_the_worker_is_told_to_end_is_not_kept(
    site: Site, state: RunState, long_vcf: Path, genome: Path, tmp_path: Path
) -> None:
    """Redis answers a pop that began before: without care the run would wait in a process that takes none."""
    late = [submit(site, write_vcf(tmp_path / f"{seed}.vcf", genome, seed=seed)) for seed in range(4)]
    queue = state._redis
    queue.rename(site.queue, f"{site.queue}-later")
    with site.worker(concurrency=2) as old:
        first = submit(site, long_vcf)
        until(lambda: at_work(state, first))
        old.send_signal(signal.SIGTERM)
        queue.rename(f"{site.queue}-later", site.queue)
        until(lambda: "Warm shutdown" in said(site))
        # The free process may have begun one before it was told; what is begun is finished.
        until(lambda: queue.llen(site.queue) + sum(state_of(state, run) == "SUCCESS" for run in late) == 4)
        os.killpg(old.pid, signal.SIGKILL)
        with site.worker():
            until(lambda: all(state_of(state, run_id) == "SUCCESS" for run_id in late), 100)


@pytest.mark.slow
def test_a_second_sigterm_hands_back_the_run_at_work_and_its_step_notices_nothing(
    site: Site, state: RunState, long_vcf: Path, tmp_path: Path
) -> None:
    with site.worker() as old:
        step = site.start("-v", "annotate", str(long_vcf), "-o", str(tmp_path / "out.vcf"))
        until(lambda: any("_outputvcf" in path.name for path in site.left_over()), what="a run at work")
        old.send_signal(signal.SIGTERM)
        until(lambda: "Warm shutdown" in said(site))
        told = time.monotonic()
        until(lambda: time.monotonic() - told > REPEATED_SIGNAL_SECONDS)  # else it is the first one, repeated
        old.send_signal(signal.SIGTERM)
        until(lambda: old.poll() is not None, 100, "the end of the old worker")
        with site.worker():
            _, err = step.communicate(timeout=200)
    assert step.returncode == 0, err
    assert said(site).count("received") == 2
    assert site.left_over() == []


def test_a_worker_whose_redis_is_gone_still_ends_when_told(
    genome: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with private_redis(tmp_path_factory.mktemp("redis")) as url:
        site = Site(tmp_path / "alone", url, genome)
        worker = site.start("worker", "--concurrency", "1", "--idle-timeout", "1h")
        assert worker.stderr is not None
        until(lambda: "ready." in worker.stderr.readline())  # type: ignore[union-attr]
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=100)
    assert worker.returncode is not None, err


@pytest.mark.parametrize("option", ["--idle-timeout", "--max-lifetime"])
def test_a_lifetime_that_is_no_duration_is_wrong_usage(site: Site, option: str) -> None:
    done = site.run("worker", option, "soon")
    assert done.returncode == 2
    assert option in done.stderr


def test_a_worker_takes_all_processors_where_none_are_set_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    assert processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert processors() == os.cpu_count()
