"""Our worker under a plain Celery client, such as AnyVar's web API: duplicates, losses, limits, refusals."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from support import LONG_RUNS, ROOT, Site, stored, until, write_vcf

from anyvar_step.client.celery import CeleryTransport
from anyvar_step.models import AnnotateOptions, RunRequest, State
from anyvar_step.reference import Reference, open_reference
from anyvar_step.runs.keys import ANNOTATE_VCF, meta_key, step_key
from anyvar_step.runs.queue import make_app
from anyvar_step.runs.state import RunState
from anyvar_step.settings import Settings, load
from anyvar_step.worker.job import Job, NothingToDo, Registrations


class Client:
    """Submits as AnyVar's web API does: a file in a day folder, a task, no manifest."""

    def __init__(self, site: Site) -> None:
        self.settings: Settings = load(site.environ)
        self.state = RunState(self.settings)
        self.site = site

    def send(self, path: Path, run_id: str | None = None, **changes: Any) -> str:
        run_id = run_id or str(uuid.uuid4())
        arguments = {
            "input_file_path": str(path),
            "assembly": "GRCh38",
            "for_ref": True,
            "allow_async_write": False,
            "add_vrs_attributes": False,
            **changes,
        }
        with make_app(self.settings) as app:
            app.send_task(ANNOTATE_VCF, kwargs=arguments, task_id=run_id)
        return run_id

    def stage(self, content: bytes) -> Path:
        folder = self.site.work_dir / "2026113"
        folder.mkdir(exist_ok=True)
        path = folder / str(uuid.uuid4())
        path.write_bytes(content)
        return path

    def ended(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        def state() -> bool:
            meta = self.state.meta(run_id)
            return meta is not None and meta["status"] in ("SUCCESS", "FAILURE", "REVOKED")

        until(state, seconds, f"the end of {run_id}")
        meta = self.state.meta(run_id)
        assert meta is not None
        return meta


@pytest.fixture
def client(site: Site) -> Client:
    return Client(site)


def long_vcf(path: Path, genome: Path, copies: int = 18) -> bytes:
    """A quarter of a million records: long enough to be disturbed."""
    head, _, body = write_vcf(path, genome, records=20_000).read_text().partition("S1\n")
    return (head + "S1\n" + body * copies).encode()


def test_a_run_of_anyvars_web_api_gets_plain_text_under_anyvars_name(
    client: Client, vcf: Path, site: Site
) -> None:
    path = client.stage(vcf.read_bytes())
    with site.worker():
        meta = client.ended(client.send(path))
    assert (meta["status"], meta["result"]) == ("SUCCESS", f"{path}_outputvcf")
    assert Path(meta["result"]).read_bytes().startswith(b"##fileformat=VCF")
    assert [p.name for p in site.left_over()] == [f"{path.name}_outputvcf"]  # the input is gone, no strays


def test_a_failed_run_of_anyvars_web_api_leaves_no_input_behind(client: Client, site: Site) -> None:
    path = client.stage(b"this is no VCF\n")
    with site.worker():
        meta = client.ended(client.send(path))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "InvalidInput"
    assert site.left_over() == []
    [log] = site.folder.glob("worker-*.log")
    assert "is not a VCF" in log.read_text()
    assert "Traceback" not in log.read_text()  # a user's bad file is no fault of the worker


def test_a_duplicate_delivery_answers_with_the_finished_output(client: Client, vcf: Path, site: Site) -> None:
    path = client.stage(vcf.read_bytes())
    with site.worker():
        run_id = client.send(path)
        first = client.ended(run_id)
        text = Path(first["result"]).read_bytes()
        client.send(path, run_id)
        after = client.send(client.stage(vcf.read_bytes()))  # the queue is in order: this one comes last
        client.ended(after)
    assert client.state.meta(run_id) == first
    assert Path(first["result"]).read_bytes() == text


def test_a_delivery_after_the_result_was_forgotten_changes_nothing(
    client: Client, vcf: Path, site: Site
) -> None:
    path = client.stage(vcf.read_bytes())
    with site.worker():
        run_id = client.send(path)
        output = Path(client.ended(run_id)["result"])
        client.state.forget(run_id, "")
        output.unlink()
        client.send(path, run_id)
        client.ended(client.send(client.stage(vcf.read_bytes())))
    assert client.state.meta(run_id) is None


@pytest.mark.slow
def test_two_workers_on_one_run_end_with_one_whole_output(
    client: Client, genome: Path, tmp_path: Path, site: Site
) -> None:
    content = long_vcf(tmp_path / "long.vcf", genome, 12)
    path = client.stage(content)
    with site.worker(concurrency=2):
        run_id = client.send(path)
        until(lambda: client.state.meta_and_lock(run_id)[1] > 0, what="a claim")
        client.send(path, run_id)
        meta = client.ended(run_id)
        assert meta["status"] == "SUCCESS"
        client.ended(client.send(client.stage(content[:200_000].rpartition(b"\n")[0] + b"\n")))
    assert Path(meta["result"]).read_bytes().count(b"\nchr1\t") == content.count(b"\nchr1\t")
    assert client.state.meta(run_id) == meta


def at_work(site: Site) -> bool:
    """Whether a worker writes an output."""
    return any("_outputvcf" in path.name for path in site.left_over())


@pytest.mark.slow
def test_a_run_whose_worker_process_is_killed_is_attempted_again(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome))
    with site.worker() as worker:
        step = site.start("annotate", str(source), "-o", str(tmp_path / "out.vcf"))
        until(lambda: at_work(site))
        [child] = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        _, err = step.communicate(timeout=60)
    assert step.returncode == 0, err
    assert "was lost" in err
    assert "submitted again" in err
    out = (tmp_path / "out.vcf").read_bytes()
    assert out.count(b"\nchr1\t") == source.read_bytes().count(b"\nchr1\t")
    assert site.left_over() == []


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["process", "whole worker"])
def test_a_lost_worker_is_noticed_within_half_a_minute_and_ends_with_75(
    site: Site, genome: Path, tmp_path: Path, whole: bool
) -> None:
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome))
    with site.worker() as worker:
        step = site.start("annotate", str(source), "-o", str(tmp_path / "out.vcf"), "--resubmit", "0")
        until(lambda: at_work(site))
        [child] = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        if whole:
            os.killpg(worker.pid, signal.SIGKILL)
        else:
            os.kill(int(child), signal.SIGKILL)
        _, err = step.communicate(timeout=100)
        assert step.returncode == 75, err
        until(lambda: site.left_over() == [], what="an empty work dir")
    assert not (tmp_path / "out.vcf").exists()


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["WorkerLostError", "TimeLimitExceeded"])
def test_a_worker_killed_between_its_output_and_its_last_word_loses_no_output(
    site: Site, vcf: Path, tmp_path: Path, failure: str
) -> None:
    with site.worker(), RunState(load(site.environ)) as state:
        run_id = site.run("submit", vcf, "-O", "v").stdout.strip()
        until(lambda: "200 SUCCESS" in site.run("status", run_id).stdout)
        said = {"exc_type": failure, "exc_message": ["signal 9"], "exc_module": "billiard.exceptions"}
        stored(state, run_id, State.FAILURE, said)  # as its parent does
        done = site.run("-v", "annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert f"run {run_id} found at work" in done.stderr


@pytest.mark.slow
def test_another_worker_takes_over_from_a_killed_one(site: Site, genome: Path, tmp_path: Path) -> None:
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome))
    step = site.start("annotate", str(source), "-o", str(tmp_path / "out.vcf"))
    with site.worker() as worker:
        until(lambda: at_work(site))
        os.killpg(worker.pid, signal.SIGKILL)
    with site.worker("--name", "second@%h"):
        _, err = step.communicate(timeout=90)
    assert step.returncode == 0, err
    assert site.left_over() == []


@pytest.mark.slow
def test_a_worker_drops_a_run_whose_step_was_killed_long_ago(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    site.extra = {"ANYVAR_STEP_ABANDON_AFTER": "1", **LONG_RUNS}
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome, 60))
    step = site.start("-v", "annotate", str(source), "-o", str(tmp_path / "out.vcf"))
    until(lambda: list(site.work_dir.glob("*/[!.]*/manifest.json")))  # committed, no longer being staged
    [folder] = [path.parent for path in site.work_dir.glob("*/*/manifest.json")]
    until(lambda: "SENT" in site.run("status", folder.name).stdout)
    step.kill()
    step.communicate()
    with RunState(load(site.environ)) as state:
        key = step_key("leases", folder.name)
        for holder in state._redis.zrange(key, 0, -1):
            state._redis.zadd(key, {holder: 1.0})  # as if it had lapsed long ago
    with site.worker():
        until(lambda: "WORKER_LOST_ERROR" in site.run("status", folder.name).stdout)
        until(lambda: site.left_over() == [], what="an empty work dir")


def test_the_soft_time_limit_fires_and_ends_the_run_as_time_limit_exceeded(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    site.extra = {"CELERY_SOFT_TIME_LIMIT": "1", "CELERY_TASK_TIME_LIMIT": "60", **LONG_RUNS}
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome, 40))
    with site.worker():
        done = site.run("annotate", source, "-o", tmp_path / "out.vcf")
    assert done.returncode == 124, done.stderr
    assert "time limit" in done.stderr
    assert site.left_over() == []


def test_the_soft_time_limit_is_heard_wherever_its_signal_meets_the_worker(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    source = tmp_path / "long.vcf"
    source.write_bytes(long_vcf(source, genome))
    deaf = copy.copy(site)
    deaf.extra = {"PYTHONPATH": f"{Path(__file__).with_name('deaf')}:{ROOT}", **LONG_RUNS}
    with deaf.worker():
        done = site.run("annotate", source, "-o", tmp_path / "out.vcf")
    assert done.returncode == 124, done.stderr
    assert site.left_over() == []


def test_a_warm_shutdown_finishes_the_run_at_work(
    client: Client, genome: Path, tmp_path: Path, site: Site
) -> None:
    path = client.stage(long_vcf(tmp_path / "long.vcf", genome, 12))
    with site.worker() as worker:
        run_id = client.send(path)
        until(lambda: client.state.meta_and_lock(run_id)[1] > 0, what="a claim")
        worker.send_signal(signal.SIGTERM)
        assert client.ended(run_id)["status"] == "SUCCESS"
        assert worker.wait(100) == 0


@pytest.mark.quick(2)
@pytest.mark.parametrize("where", ["outside", "dots", "symlink", "folder", "fifo"])
def test_a_path_that_leads_out_of_the_work_dir_is_refused(
    client: Client, vcf: Path, site: Site, tmp_path: Path, where: str
) -> None:
    secret = tmp_path / "secret.vcf"
    secret.write_bytes(vcf.read_bytes())
    folder = site.work_dir / "20261123"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    os.mkfifo(folder / "fifo")
    path = {
        "outside": secret,
        "dots": folder / ".." / ".." / ".." / "secret.vcf",
        "symlink": folder / "link",
        "folder": folder,
        "fifo": folder / "fifo",
    }[where]
    with site.worker():
        meta = client.ended(client.send(path))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "AccessRefused"
    assert secret.exists()
    assert not Path(f"{path}_outputvcf").exists()


def test_a_worker_that_sees_the_work_dir_elsewhere(site: Site, vcf: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mounted-elsewhere"
    elsewhere.symlink_to(site.work_dir)
    workers_own, site.extra = site.extra, {"ANYVAR_VCF_ASYNC_WORK_DIR": str(elsewhere)}
    with site.worker():
        site.extra = {**workers_own, "ANYVAR_STEP_WORKER_WORK_DIR": str(elsewhere)}
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert site.left_over() == []


def test_a_file_that_the_worker_never_sees_is_a_clear_failure(client: Client, site: Site) -> None:
    site.extra = {"ANYVAR_STEP_LATENCY_WAIT": "1"}
    run_id = str(uuid.uuid4())
    client.state.create(run_id)
    with site.worker():
        client.send(site.work_dir / "20261123" / "nothing", run_id)
        meta = client.ended(run_id)
    assert meta["result"]["exc_type"] == "FileTrouble"
    assert "ANYVAR_STEP_WORKER_WORK_DIR" in meta["result"]["exc_message"][0]


def test_a_step_killed_between_announcing_and_queueing_is_made_good_by_the_next(
    site: Site, vcf: Path, tmp_path: Path
) -> None:
    run_id = site.run("submit", vcf, "-O", "v").stdout.strip()
    with RunState(load(site.environ)) as state:
        state._redis.delete(site.queue, step_key("published", run_id))  # as if killed just before
        assert json.loads(str(state._redis.get(meta_key(run_id))))["status"] == "SENT"
    with site.worker():
        done = site.run("-v", "annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 0, done.stderr
    assert f"run {run_id} found at work" in done.stderr


def test_a_worker_without_reference_or_work_dir_says_so_before_its_first_run(site: Site) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": ""}
    done = site.run("worker")
    assert done.returncode == 78
    assert "--reference" in done.stderr
    site.extra = {"ANYVAR_VCF_ASYNC_WORK_DIR": ""}
    assert site.run("worker").returncode == 78
    site.extra = {"ANYVAR_STEP_REFERENCE": "GRCh38=/nowhere.fa"}
    done = site.run("worker")
    assert done.returncode in (66, 78)
    assert "/nowhere.fa" in done.stderr


def test_a_run_whose_files_go_as_it_is_cancelled_is_cancelled_and_has_not_failed(
    site: Site, vcf: Path
) -> None:
    """A step that is interrupted cancels its run and removes the folder, perhaps as the worker opens it."""
    settings = load(site.environ)
    with contextlib.closing(CeleryTransport(settings)) as transport:
        request = RunRequest(options=AnnotateOptions(), run_id="files-gone")
        with vcf.open("rb") as source:
            ticket, _ = transport.submit(source, vcf.name, request)
        folder = transport.runs.workdir.folder(ticket)

        def references(assembly: str) -> Reference:
            assert transport.cancel(ticket)
            return open_reference(assembly, site.genome)

        path, options = folder / ticket.staged_input, AnnotateOptions()
        job = Job(settings, references, Registrations(settings), "files-gone", path, options)
        with pytest.raises(NothingToDo, match="run files-gone was cancelled"):
            job.run()
        assert transport.status("files-gone").status == State.REVOKED
    assert site.left_over() == []
