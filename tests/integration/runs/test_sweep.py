"""Sweeping: what dead runs left goes, whoever died; what lives by any sign stays, and so do others' files."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import private_redis
from support import Site, heeding_modes, stored, until, write_vcf

from anyvar_step.client.celery import CeleryTransport
from anyvar_step.errors import Unavailable
from anyvar_step.files import remove_tree
from anyvar_step.models import RunRequest, State
from anyvar_step.runs import sweep as sweeping
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.runs.step_lease import DETACHED
from anyvar_step.runs.sweep import UNACKED, Leftover, sweep, sweep_key
from anyvar_step.runs.work_dir import WorkDir
from anyvar_step.settings import Settings, load

DAYS_3 = 3 * 86_400.0


@pytest.fixture
def settings(site: Site, settled: None) -> Settings:
    return load(site.environ)


@pytest.fixture
def transport(settings: Settings) -> Iterator[CeleryTransport]:
    opened = CeleryTransport(settings, DETACHED)
    yield opened
    opened.close()


def submit(transport: CeleryTransport, source: Path, run_id: str) -> Path:
    """The folder of a run that waits in the queue."""
    request = RunRequest.model_validate({"options": {"assembly": "GRCh38"}, "run_id": run_id})
    with source.open("rb") as file:
        ticket, _ = transport.submit(file, source.name, request)
    return transport.runs.workdir.root / ticket.folder


def forgotten(transport: CeleryTransport, folder: Path, queue: str) -> Path:
    """The same after everything that knew of it is gone."""
    transport.runs.state.forget(folder.name, "")
    transport.runs.state._redis.delete(queue)
    return folder


def aged(path: Path, seconds: float = DAYS_3) -> Path:
    """The path with all in it, untouched for so long."""
    then = time.time() - seconds
    for inner in [*path.rglob("*"), path]:
        os.utime(inner, (then, then), follow_symlinks=False)
    return path


def swept(settings: Settings, **options: bool) -> list[Leftover]:
    return list(sweep(settings, WorkDir(settings.required_work_dir()), **options))


def test_what_dead_runs_left_is_removed_and_counted(
    transport: CeleryTransport, settings: Settings, site: Site, vcf: Path
) -> None:
    run = aged(forgotten(transport, submit(transport, vcf, "dead"), site.queue))
    stage, gone, anyvars = (run.with_name(name) for name in (".stage-1", ".gone-2", str(uuid.uuid4())))
    for folder in (stage, gone):
        folder.mkdir()
        (folder / "input.vcf").write_text("x" * 10)
    anyvars.write_text("y" * 5)
    part = run.with_name(f".{anyvars.name}_outputvcf.0123456789ab")
    part.write_text("z")
    for path in (stage, gone, anyvars, part):
        aged(path)
    told = swept(settings, dry_run=True)
    assert {left.path for left in told} == {run, stage, gone, anyvars, part}
    assert not any(left.removed for left in told)
    assert run.is_dir()
    assert {left.path: left.size for left in told} == {left.path: left.size for left in swept(settings)}
    assert site.left_over() == []
    assert {left.path: left.size for left in told}[stage] == 10
    assert swept(settings) == []


def test_what_a_killed_check_left_goes_once_it_is_old(settings: Settings, site: Site) -> None:
    left, young = site.work_dir / ".check-0123456789abcdef", site.work_dir / ".check-fedcba9876543210"
    for folder in (left, young):
        folder.mkdir()
        (folder / "probe").write_text("x")
    aged(left)
    assert [each.what for each in swept(settings)] == ["what a check that was killed left"]
    assert not left.exists()
    assert young.exists()


def test_any_sign_of_life_keeps_a_run_however_old(
    transport: CeleryTransport, settings: Settings, site: Site, vcf: Path
) -> None:
    redis = transport.runs.state._redis
    kept = []
    for sign in ("state", "claim", "lease", "unacked", "queue"):
        folder = submit(transport, vcf, f"lives-by-{sign}")
        if sign == "unacked":  # as in the hands of a worker
            raw = redis.lpop(site.queue)
            redis.hset(UNACKED, f"tag-{site.queue}", json.dumps([json.loads(str(raw)), "", site.queue]))
        elif sign != "queue":
            redis.delete(site.queue)
        if sign == "lease":
            transport.runs.state.leases.acquire(folder.name, "a-step")
        if sign != "state":
            redis.delete(meta_key(folder.name))
        if sign == "claim":
            redis.set(step_key("claim", folder.name), "worker", ex=20)
        kept.append(aged(folder))
        queued = [json.loads(raw)["headers"]["id"] for raw in redis.lrange(site.queue, 0, -1)]
        assert queued == (["lives-by-queue"] if sign == "queue" else [])
    assert swept(settings) == []
    assert all(folder.is_dir() for folder in kept)
    redis.hdel(UNACKED, f"tag-{site.queue}")
    redis.delete(site.queue, meta_key("lives-by-state"), step_key("claim", "lives-by-claim"))
    redis.delete(step_key("leases", "lives-by-lease"))
    assert {left.path for left in swept(settings)} == set(kept)


def test_a_file_of_anyvars_that_still_waits_in_the_queue_stays(
    settings: Settings, transport: CeleryTransport, site: Site
) -> None:
    path = site.work_dir / "2026115" / str(uuid.uuid4())
    path.parent.mkdir()
    path.write_text("x")
    transport.runs.queue.publish("some.task", {"input_file_path": str(path)}, "a-run-of-another-name")
    aged(path)
    assert swept(settings) == []
    transport.runs.state._redis.delete(site.queue)
    assert [left.path for left in swept(settings)] == [path]


def test_what_is_young_or_of_another_making_stays(
    transport: CeleryTransport, settings: Settings, site: Site, vcf: Path, tmp_path: Path
) -> None:
    young = aged(forgotten(transport, submit(transport, vcf, "young"), site.queue), 86_400)
    old = forgotten(transport, submit(transport, vcf, "old"), site.queue)
    renamed = aged(old.rename(old.with_name("copy-of-a-run")))
    damaged = submit(transport, vcf, "damaged")
    (damaged / "manifest.json").write_text("{")
    aged(forgotten(transport, damaged, site.queue))
    day = site.work_dir / "20240101"
    (day / "sample").mkdir(parents=True)
    (day / "sample" / "reads.fastq").write_text("mine")
    (day / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".stage-1").mkdir(parents=True)
    (elsewhere / ".stage-1" / "x").write_text("")
    (site.work_dir / "20240102").symlink_to(elsewhere)
    (day / ".stage-3").symlink_to(elsewhere)
    aged(day)
    aged(elsewhere)
    assert swept(settings) == []
    for path in (young, renamed, damaged, day / "sample" / "reads.fastq", elsewhere / ".stage-1" / "x"):
        assert path.exists()


def test_a_run_that_comes_back_while_it_is_swept_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "input.vcf").write_text("x")
    assert not remove_tree(folder, spare=lambda aside: (aside / "input.vcf").exists())
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "input.vcf"]

    def nobody_answers(aside: Path) -> bool:
        raise Unavailable(f"no Redis answers: {aside}")

    with pytest.raises(Unavailable):
        remove_tree(folder, spare=nobody_answers)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "input.vcf"]
    assert remove_tree(folder, spare=lambda _: folder.exists())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_stays_and_keeps_nothing_else_from_being_swept(
    transport: CeleryTransport, site: Site, vcf: Path, settled: None
) -> None:
    site.prefix = heeding_modes()
    run = aged(forgotten(transport, submit(transport, vcf, "dead"), site.queue))
    closed = site.work_dir / "20240101"
    for folder in (closed, run.with_name(".stage-theirs"), run.with_name("a-fifo")):
        folder.mkdir()
    (closed / "theirs").touch()
    os.mkfifo(run.with_name("a-fifo") / "manifest.json")
    theirs = [closed, run.with_name(".stage-theirs")]
    for folder in theirs:
        aged(folder)
        folder.chmod(0)
    try:
        done = site.run("sweep")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{run}\ta dead run of sample.vcf\t")
        for folder in (*theirs, run.with_name("a-fifo")):
            assert folder.is_dir()
            assert folder.name in done.stderr
    finally:
        for folder in theirs:
            folder.chmod(0o700)


def test_the_command_prints_paths_and_counts_and_removes_when_told_to(
    transport: CeleryTransport, site: Site, vcf: Path, settled: None
) -> None:
    run = aged(forgotten(transport, submit(transport, vcf, "dead"), site.queue))
    size = sum(path.stat().st_size for path in run.iterdir())
    line = f"{run}\ta dead run of sample.vcf\t{size} bytes\n"
    told = site.run("sweep", "--dry-run")
    assert (told.returncode, told.stdout) == (0, f"{line}would remove 1, {size} bytes\n"), told.stderr
    assert run.exists()
    assert site.run("sweep", "--older-than", "4d").stdout == "removed 0, 0 bytes\n"
    assert site.run("sweep").stdout == f"{line}removed 1, {size} bytes\n"
    assert site.left_over() == []
    assert site.run("sweep", "--older-than", "5m").returncode == 2


def test_without_redis_nothing_is_swept(site: Site, tmp_path: Path) -> None:
    stage = site.work_dir / "20240101" / ".stage-1"
    stage.mkdir(parents=True)
    aged(stage)
    site.extra = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}
    assert site.run("sweep").returncode == 69
    with private_redis(tmp_path) as fresh:
        site.extra = {"CELERY_BROKER_URL": fresh}
        done = site.run("sweep")
        assert done.returncode == 69
        assert "Sweep again in a minute" in done.stderr
    assert stage.exists()


def test_one_worker_of_all_sweeps_when_it_is_ready(
    transport: CeleryTransport, settings: Settings, site: Site, genome: Path, tmp_path: Path
) -> None:
    source = write_vcf(tmp_path / "in.vcf", genome)
    run = aged(forgotten(transport, submit(transport, source, "dead"), site.queue))
    with site.worker():
        until(lambda: not run.exists(), what="a sweep")
        until(lambda: "removed a dead run of in.vcf" in "".join(map(Path.read_text, logs(site))))
    again = aged(forgotten(transport, submit(transport, source, "dead-2"), site.queue))
    sweeping.sweep_if_due(settings, WorkDir(site.work_dir))
    assert again.exists()  # the worker had the turn
    assert 0 < transport.runs.state._redis.ttl(sweep_key(site.work_dir)) <= sweeping.SWEEP_EVERY
    transport.runs.state._redis.delete(sweep_key(site.work_dir))
    sweeping.sweep_if_due(settings, WorkDir(site.work_dir))
    assert not again.exists()


def logs(site: Site) -> list[Path]:
    return list(site.folder.glob("worker-*.log"))


def test_a_state_that_a_result_left_behind_keeps_it_until_it_expires(
    transport: CeleryTransport, settings: Settings, site: Site, vcf: Path
) -> None:
    folder = submit(transport, vcf, "done")
    (folder / "input.vcf_outputvcf").write_text("##fileformat=VCFv4.2\n")
    aged(folder, 8000)
    stored(transport.runs.state, "done", State.SUCCESS, "somewhere")
    workdir = WorkDir(site.work_dir)
    assert list(sweep(settings, workdir, results_older_than=7200)) == []
    transport.runs.state._redis.delete(meta_key("done"))
    [left] = sweep(settings, workdir, results_older_than=7200)
    assert (left.path, left.what) == (folder, "an expired result of sample.vcf")
