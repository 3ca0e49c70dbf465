"""The workflow under the real Snakemake when things go wrong: what is repeated, lost, and left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from smk import CONFIG, Running, lengthen, only, outputs, snakemake, text
from support import Site, held, until

from anyvar_step.runs.state import RunState
from anyvar_step.settings import load

pytestmark = pytest.mark.services  # several minutes, for `make test-all`

pytest.importorskip("snakemake", reason="the workflow extra is not installed")

#: So many times each record of the demo: a run of some seconds.
LONG = 150


def configure(project: Path, **annotate: object) -> None:
    (project / "config/config.yaml").write_text(CONFIG + f"annotate: {json.dumps(annotate)}\n")


def at_work(site: Site) -> bool:
    """Whether a worker has begun a run, and its output has begun to grow."""
    return any(path.name.startswith(".") and "_outputvcf" in path.name for path in site.left_over())


def run_ids(site: Site) -> list[str]:
    return [path.name for path in site.left_over() if path.is_dir() and not path.name.startswith(".")]


def queued(site: Site) -> int:
    """How many runs have been put into the queue."""
    with RunState(load(site.environ)) as state:
        return sum(state.is_published(run_id) for run_id in run_ids(site))


def status_of(site: Site, run_id: str) -> str:
    with RunState(load(site.environ)) as state:
        meta = state.meta(run_id)
    return str(meta["status"]) if meta else "gone"


def test_one_bad_sample_does_not_stop_the_others_and_the_page_names_it(
    project: Path, demo_site: Site
) -> None:
    (project / "vcf/bela.vcf").write_text("this is no VCF\n")
    with demo_site.worker():
        done = snakemake("--cores", "2", "--keep-going", environ=demo_site.environ)
    assert done.returncode == 1
    assert "results/summary.html names what failed: 1 of 3 samples" in done.stderr
    page = project / "results/summary.html"
    failed = page.read_text().partition('<ul class="failed">')[2].partition("</ul>")[0]
    assert 'data-sample="bela"' in failed
    assert "bela.vcf" in failed
    assert 'href="../logs/annotate/bela.log"' in failed
    assert all(f"<summary>{sample}</summary>" in page.read_text() for sample in ("alice", "carol"))
    assert (project / "results/multiqc/failed_anyvar_step_mqc.json").exists()
    annotated = {path.name for path in (project / "results/annotated").iterdir()}
    assert annotated == {f"{name}.vcf.gz{suffix}" for name in ("alice", "carol") for suffix in ("", ".tbi")}
    assert {path.name for path in (project / "results/reports").iterdir()} == {"alice.json", "carol.json"}
    assert "bela.vcf" in (project / "logs/annotate/bela.log").read_text()
    assert demo_site.left_over() == []
    only(project, "alice", "carol")  # bela is given up: the page is out of date, though no report is new
    again = snakemake("--cores", "1", environ=demo_site.environ)
    assert again.returncode == 0, again.stderr
    assert "bela" not in page.read_text()
    assert not (project / "results/multiqc/failed_anyvar_step_mqc.json").exists()


def test_a_page_that_was_not_asked_for_is_not_made(project: Path, demo_site: Site) -> None:
    (project / "vcf/bela.vcf").write_text("this is no VCF\n")
    done = snakemake("--cores", "1", "results/annotated/bela.vcf.gz", environ=demo_site.environ)
    assert done.returncode == 1
    assert not (project / "results/summary.html").exists()


def test_a_lost_worker_is_worth_a_second_start(project: Path, demo_site: Site) -> None:
    only(project, "alice")
    lengthen(project / "vcf/alice.vcf", LONG)
    configure(project, retries=2)
    with Running("--cores", "1", environ=demo_site.environ) as running:
        with demo_site.worker() as worker:
            until(lambda: at_work(demo_site))
            (lost,) = run_ids(demo_site)
            os.killpg(worker.pid, signal.SIGKILL)
        with demo_site.worker():
            assert running.end() == 0, running.said
    report = json.loads((project / "results/reports/alice.json").read_text())
    assert report["run_id"] != lost, "a new attempt at the same content"
    assert demo_site.left_over() == []


def test_ctrl_c_revokes_the_runs_and_leaves_nothing(project: Path, demo_site: Site) -> None:
    for sample in ("alice", "bela", "carol"):
        lengthen(project / f"vcf/{sample}.vcf", LONG)
    with demo_site.worker():
        with Running("--cores", "3", environ=demo_site.environ) as running:
            until(lambda: at_work(demo_site) and queued(demo_site) == 3)
            revoked = run_ids(demo_site)
            running.ctrl_c()
            assert running.end(30) != 0
        until(lambda: demo_site.left_over() == [], what="an empty work dir")
        assert {status_of(demo_site, run_id) for run_id in revoked} <= {"REVOKED", "FAILURE"}
        assert [name for name in outputs(project / "results") if "reference" not in name] == []
        again = snakemake("--cores", "1", "results/reports/alice.json", environ=demo_site.environ)
    assert again.returncode == 0, again.stderr


class Redis:
    """A durable Redis (AOF), to be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"redis+socket://{self.socket}?virtual_host=0"

    def start(self) -> None:
        from anyvar_step.embedded import find_redis

        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self._folder / "redis.log").open("a") as log:
            self._process = subprocess.Popen([*find_redis(), *options, *durable], stdout=log, stderr=log)
        until(self.socket.exists)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


def test_redis_away_in_the_middle_costs_time_and_nothing_else(
    project: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome = project / "resources/genome.fa"
    site = Site(project.parent / "site", redis.url, genome, {"ANYVAR_STEP_REFERENCE": f"demo={genome}"})
    for sample in ("alice", "bela", "carol"):
        lengthen(project / f"vcf/{sample}.vcf", LONG)
    configure(project, retries=0, outage_seconds=1)
    with site.worker(), Running("--cores", "3", "--retries", "5", environ=site.environ) as running:
        until(lambda: at_work(site) and queued(site) == 3)
        redis.stop()
        until(lambda: running.said.count("non-zero exit status 69") >= 3, what="steps that give up")
        redis.start()
        assert running.end() == 0, running.said
    assert len(list((project / "results/annotated").glob("*.vcf.gz"))) == 3
    for sample in ("alice", "bela", "carol"):
        counts = json.loads((project / f"results/reports/{sample}.json").read_text())["counts"]
        lines = text(project / f"results/annotated/{sample}.vcf.gz").splitlines()
        assert counts["records"] == sum(line[:1] != b"#" for line in lines) > 1000 * LONG
    assert site.left_over() == []


# -- submit first, wait later ----------------------------------------------------------------------------


def test_an_interrupted_wait_loses_no_run(project: Path, demo_site: Site) -> None:
    only(project, "alice")
    lengthen(project / "vcf/alice.vcf", LONG)
    configure(project, submit_first=True)
    ticket = project / "results/tickets/alice.json"
    with demo_site.worker() as worker:
        with Running("--cores", "1", environ=demo_site.environ) as running:
            until(lambda: at_work(demo_site), what="a run at work")
            with held(worker):  # so that the run outlasts the interruption
                until(lambda: "rule wait" in running.said, what="a wait")
                running.ctrl_c()
                assert running.end(30) != 0
        run_id = json.loads(ticket.read_text())["run_id"]
        assert status_of(demo_site, run_id) in ("PROGRESS", "SUCCESS")
        again = snakemake("--cores", "1", environ=demo_site.environ)
        assert again.returncode == 0, again.stderr
    assert "rule submit" not in again.stderr
    assert json.loads((project / "results/reports/alice.json").read_text())["run_id"] == run_id
    assert not ticket.exists(), "the ticket of a collected run is of no use"
    assert demo_site.left_over() == []


def submit_only(project: Path, site: Site) -> Path:
    """Submit alice's VCF and leave; the ticket."""
    only(project, "alice")
    done = snakemake("--cores", "1", "--until", "submit", environ=site.environ)
    assert done.returncode == 0, done.stderr
    return project / "results/tickets/alice.json"


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_a_ticket_whose_run_is_gone_is_submitted_again(project: Path, demo_site: Site, how: str) -> None:
    configure(project, submit_first=True, retries=0)
    ticket = submit_only(project, demo_site)
    gone = json.loads(ticket.read_text())["run_id"]
    assert demo_site.run("cancel", ticket).returncode == 0
    if how == "expired":
        with RunState(load(demo_site.environ)) as state:
            state.forget(gone, "")
    with demo_site.worker():
        done = snakemake("--cores", "1", environ=demo_site.environ)
    assert done.returncode == 0, done.stderr + (project / "logs/wait/alice.log").read_text()
    assert json.loads((project / "results/reports/alice.json").read_text())["run_id"] != gone
    assert demo_site.left_over() == []


def test_a_run_lost_with_its_worker_ends_75_and_the_engines_retry_submits_it_again(
    project: Path, demo_site: Site
) -> None:
    lengthen(project / "vcf/alice.vcf", LONG)
    configure(project, submit_first=True, retries=0)
    submit_only(project, demo_site)
    with Running("--cores", "1", "--retries", "1", environ=demo_site.environ) as running:
        with demo_site.worker() as worker:
            until(lambda: at_work(demo_site))
            os.killpg(worker.pid, signal.SIGKILL)
        with demo_site.worker():
            assert running.end() == 0, running.said
    assert running.said.count("non-zero exit status 75") == 1, running.said
    assert demo_site.left_over() == []


def test_a_failed_run_fails_its_wait_and_the_mended_vcf_is_submitted_anew(
    project: Path, demo_site: Site
) -> None:
    only(project, "alice")
    vcf = project / "vcf/alice.vcf"
    good = vcf.read_text()
    vcf.write_text(good.replace("chr", "scaffold"))
    configure(project, submit_first=True)
    with demo_site.worker():
        failed = snakemake("--cores", "1", environ=demo_site.environ)
        assert failed.returncode == 1
        assert "non-zero exit status 65" in failed.stderr
        assert not (project / "results/annotated/alice.vcf.gz").exists()
        vcf.write_text(good)
        done = snakemake("--cores", "1", environ=demo_site.environ)
        assert done.returncode == 0, done.stderr
    assert demo_site.left_over() == []


def test_a_wait_that_runs_out_of_time_cancels_its_run(project: Path, demo_site: Site) -> None:
    only(project, "alice")
    configure(project, submit_first=True)
    late = ("--set-resources", "wait:anyvar_minutes=0")
    done = snakemake("--cores", "1", *late, environ=demo_site.environ)  # no worker at all
    assert done.returncode == 1
    assert "non-zero exit status 124" in done.stderr, done.stderr
    assert demo_site.left_over() == []
