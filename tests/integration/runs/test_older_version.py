"""Steps and workers of 1.1.0 beside ours on one Redis and work dir."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Site, until, write_vcf

from anyvar_step import errors
from anyvar_step.runs.state import RunState
from anyvar_step.runs.worker_registry import WorkerRegistry
from anyvar_step.settings import load

pytestmark = pytest.mark.services  # the repository's history

#: The last commit of 1.1.0.
COMMIT = "6cf9e6d"
#: A lock, a lease and a cancel flag by the code of 1.1.0; prints what it sees of ours.
BOARD = """
import json, sys
from anyvar_step.broker.board import Board
from anyvar_step.environment import load
board = Board(load())
act, run_id = sys.argv[1:]
if act == "take":
    board.begin(run_id)
    print(json.dumps([board.claim(run_id, "old"), board.leases.take(run_id, "old-step")]))
else:
    print(json.dumps([board.claim(run_id, "old"), board.stop_asked(run_id), board.leases.holders(run_id)]))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of 1.1.0."""
    folder = tmp_path_factory.mktemp("old")
    packed = subprocess.run(["git", "-C", ROOT, "archive", COMMIT, "anyvar_step"], capture_output=True)
    if packed.returncode:
        pytest.skip(f"NOT TESTED WITH 1.1.0: no commit {COMMIT} in this clone (git fetch --unshallow)")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


@pytest.fixture
def as_old(site: Site, old: Path) -> Iterator[dict[str, str]]:
    """What makes a command of the site one of 1.1.0."""
    yield {"PYTHONPATH": str(old)}
    site.extra = {}


@pytest.mark.parametrize("who", ["worker", "step"])
def test_runs_get_through_between_the_versions(
    site: Site, as_old: dict[str, str], vcf: Path, tmp_path: Path, who: str
) -> None:
    site.extra = as_old if who == "worker" else {}
    with site.worker():
        site.extra = as_old if who == "step" else {}
        assert ("engine" in site.run("--version").stdout) is (who == "worker")
        out = tmp_path / "out.vcf"
        done = site.run("annotate", vcf, "-o", out)
        assert done.returncode == 0, done.stderr
        assert "VRS_Allele_IDs" in out.read_text()
        assert site.left_over() == []


def test_an_old_worker_serves_the_queue_and_stops_at_our_cancel_flag(
    site: Site, as_old: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    path = write_vcf(tmp_path / "long.vcf", genome, records=20_000)
    body = path.read_text().partition("S1\n")[2]
    with path.open("a") as file:
        for _ in range(100):
            file.write(body)
    site.extra = as_old
    with site.worker():
        site.extra = {}
        registry = WorkerRegistry(load(site.environ))
        assert registry.workers_of(site.queue) == []
        assert (registry.served(), registry.capacity()) == (True, 1)
        run_id = site.run("submit", path).stdout.strip()
        until(lambda: "PROGRESS" in site.run("status", run_id).stdout)
        assert registry.unreceived([run_id]) == set()
        assert site.run("cancel", run_id).returncode == 0
        [log] = site.folder.glob("worker-*.log")
        until(lambda: f"run {run_id} was cancelled" in log.read_text(), what="the worker to stop")
        until(lambda: site.left_over() == [], what="an empty work dir")


def test_failures_keep_their_exit_codes_between_the_versions(
    site: Site, as_old: dict[str, str], tmp_path: Path, genome: Path
) -> None:
    """The names of exceptions travel in Celery's results; 1.1.0 says FileSpoiled for CorruptFile."""
    bad = write_vcf(tmp_path / "bad.vcf", genome)
    bad.write_text(bad.read_text() + "no\trecord\n")
    for worker, step in ((as_old, {}), ({}, as_old)):
        site.extra = dict(worker)
        with site.worker():
            site.extra = dict(step)
            done = site.run("annotate", bad, "-o", tmp_path / "out.vcf")
            assert done.returncode == 65, done.stderr
    assert errors.from_name("FileSpoiled").exit_code == errors.CorruptFile.exit_code


def test_locks_leases_and_flags_of_both_versions_count_for_both(site: Site, as_old: dict[str, str]) -> None:
    run_id = f"{site.queue}-1"

    def old(act: str) -> list[object]:
        argv = [sys.executable, "-c", BOARD, act, run_id]
        environ = {**os.environ, **site.environ, **as_old}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, cwd=site.folder)
        assert done.returncode == 0, done.stderr
        found: list[object] = json.loads(done.stdout)
        return found

    with RunState(load(site.environ)) as state:
        assert old("take")[0] is True
        assert not state.create(run_id)
        assert not state.acquire_lock(run_id, "new")
        state.release_lock(run_id, "new")
        assert old("look") == [True, False, ["old-step"]]
        assert state.leases.acquire(run_id, "new-step")
        assert not state.cancel(run_id, "new-step")  # the old step still waits
        state.release_lock(run_id, "old")
        assert state.acquire_lock(run_id, "new")
        state.cancel(run_id)
        assert old("look") == [False, True, ["old-step"]]
        state.forget(run_id, "")
