"""The job scripts under a real Slurm: array tasks, pilots, cancellation, requeue, preemption, time limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from nextflow import PROGRAM
from slurm import Slurm
from support import ROOT, Site, skip, until, write_vcf

pytestmark = pytest.mark.services

SCRIPTS = ROOT / "workflow" / "slurm"


class Cluster:
    """Slurm as a user of a site sees it: ``anyvar-step`` on PATH, the site's settings in the environment."""

    def __init__(self, slurm: Slurm, site: Site) -> None:
        self.slurm = slurm
        self.site = site
        programs = site.folder / "bin"
        programs.mkdir()
        (programs / "anyvar-step").write_text(PROGRAM)
        (programs / "anyvar-step").chmod(0o755)
        ours = {k: v for k, v in site.environ.items() if k.startswith(("ANYVAR_", "CELERY_", "PYTHONPATH"))}
        self.environ = {**ours, "PATH": f"{programs}:{slurm.environ['PATH']}"}

    def sbatch(self, script: str, *arguments: object, options: tuple[str, ...] = ()) -> str:
        """The number of the submitted job; its log is LOG-<job>.txt in the site's folder."""
        logs = f"--output={self.site.folder}/{'LOG-%A_%a.txt' if '--array' in str(options) else 'LOG-%j.txt'}"
        return self.slurm.run(
            "sbatch", "--parsable", logs, *options, SCRIPTS / script, *arguments, **self.environ
        )

    def pilot(self, *arguments: str) -> str:
        """A running worker job."""
        job = self.sbatch("worker.sbatch", *arguments, options=("--cpus-per-task=1", "--mem-per-cpu=200M"))
        until(lambda: " ready." in self.log(job), 40, "a pilot")
        return job

    def log(self, job: str) -> str:
        path = self.site.folder / f"LOG-{job}.txt"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def cluster(slurm: Slurm, site: Site) -> Cluster:
    return Cluster(slurm, site)


def write_list(folder: Path, *vcfs: Path) -> Path:
    path = folder / "vcfs.txt"
    path.write_text("".join(f"{vcf}\n" for vcf in vcfs))
    return path


def long_vcf(path: Path, genome: Path) -> Path:
    body = write_vcf(path, genome, records=20_000).read_text().partition("S1\n")[2]
    with path.open("a") as file:
        for _ in range(20):
            file.write(body)
    return path


def submitted(site: Site) -> str:
    """The id of the only run of the site, once it is in the queue."""
    found: list[str] = []

    def sent() -> bool:
        found[:] = [path.name for path in site.left_over() if path.is_dir() and path.name[0] != "."]
        return len(found) == 1 and "SENT" in site.run("status", found[0]).stdout

    until(sent, 60, "a run in the queue")
    return found[0]


def test_an_array_annotates_one_vcf_per_task_and_the_idle_pilot_ends(
    cluster: Cluster, genome: Path, tmp_path: Path
) -> None:
    vcfs = [write_vcf(tmp_path / f"{seed}.vcf", genome, seed=seed) for seed in range(3)]
    pilot = cluster.pilot("--idle-timeout", "8s")
    job = cluster.sbatch(
        "annotate.sbatch",
        write_list(tmp_path, *vcfs),
        tmp_path / "out",
        options=("--array=1-4", "--mem=100M"),
    )
    tasks = [f"{job}_{number}" for number in range(1, 5)]
    assert [cluster.slurm.ended(task) for task in tasks] == ["COMPLETED"] * 3 + ["FAILED"]
    assert "vcfs.txt has no line 4" in cluster.log(tasks[3])
    made = {f"{seed}{suffix}" for seed in range(3) for suffix in (".vcf.gz", ".vcf.gz.tbi", ".json")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == made
    assert cluster.site.left_over() == []
    assert cluster.slurm.ended(pilot) == "COMPLETED"
    assert "no run for 8 s: taking no new run" in cluster.log(pilot)


def test_an_array_refuses_vcfs_that_would_be_written_to_one_file(cluster: Cluster, tmp_path: Path) -> None:
    """None is annotated: each would replace the output of another one."""
    vcfs = [tmp_path / name for name in ("a/s.vcf", "b/s.vcf", "c/s.vcf.gz", "d/s.vcf.bgz", "e/s.bcf")]
    listed = write_list(tmp_path, *vcfs, tmp_path / "a/s1.vcf")
    job = cluster.sbatch("annotate.sbatch", listed, tmp_path / "out", options=("--array=1-5", "--mem=50M"))
    tasks = [f"{job}_{number}" for number in range(1, 6)]
    assert [cluster.slurm.ended(task) for task in tasks] == ["FAILED"] * 5
    for task in tasks:
        assert cluster.slurm.exit_code(task) == 65
        assert cluster.log(task).splitlines()[1:] == list(map(str, vcfs))


def test_scancel_revokes_the_run_and_removes_its_files(
    cluster: Cluster, genome: Path, tmp_path: Path
) -> None:
    vcf = write_vcf(tmp_path / "a.vcf", genome)
    job = cluster.sbatch(
        "annotate.sbatch", write_list(tmp_path, vcf), tmp_path / "out", options=("--array=1", "--mem=100M")
    )
    run_id = submitted(cluster.site)
    cluster.slurm.run("scancel", job)
    assert cluster.slurm.ended(f"{job}_1") == "CANCELLED"
    until(lambda: "interrupted by SIGTERM. The run was revoked" in cluster.log(f"{job}_1"))
    assert "RUN_CANCELLED" in cluster.site.run("status", run_id).stdout
    assert cluster.site.left_over() == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("how", ["requeue", "preemption", "node loss"])
def test_a_job_that_starts_again_writes_the_same_output(
    cluster: Cluster, genome: Path, tmp_path: Path, how: str
) -> None:
    """After SIGTERM (requeue, preemption) its run was revoked; after a node's loss the same run goes on."""
    slurm, site = cluster.slurm, cluster.site
    listed = write_list(tmp_path, write_vcf(tmp_path / "a.vcf", genome))
    job = cluster.sbatch("annotate.sbatch", listed, tmp_path / "out", options=("--array=1", "--mem=100M"))
    run_id = submitted(site)
    if how == "requeue":
        slurm.run("scontrol", "requeue", f"{job}_1")
    elif how == "preemption":
        urgent = slurm.run(
            "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"
        )
        assert slurm.ended(urgent) == "COMPLETED"
    else:
        slurm.lose_node(slurm.job_id(f"{job}_1"))
        until(lambda: slurm.state(f"{job}_1") == "PENDING", 60, "the requeued job")
        slurm.run("scontrol", "hold", f"{job}_1")  # until the node is back: there is no other
        slurm.return_node()
        slurm.run("scontrol", "release", f"{job}_1")
    if how != "node loss":
        said = "interrupted by SIGTERM. The run was revoked"
        until(lambda: said in cluster.log(f"{job}_1"), what=f"the end of the first attempt: {said}")
    until(
        lambda: slurm.restarts(f"{job}_1") == 1 and slurm.state(f"{job}_1") in ("PENDING", "RUNNING"),
        what="the requeued job",
    )
    # Slurm holds a requeued job back for two minutes, until its credential has expired. It may start sooner,
    # but not in the second in which the node revoked the credential: the job fails, "Job credential revoked".
    if slurm.state(f"{job}_1") == "PENDING":
        slurm.run("scontrol", "update", f"JobId={job}_1", "StartTime=now+2")
    with site.worker():
        assert slurm.ended(f"{job}_1") == "COMPLETED", cluster.log(f"{job}_1")
    assert slurm.restarts(f"{job}_1") == 1
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (report["run_id"] == run_id) == (how == "node loss")
    made = ["a.json", "a.vcf.gz", "a.vcf.gz.tbi"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == made
    until(lambda: site.left_over() == [], 30, "an empty work dir")


def test_near_the_end_of_their_time_a_step_cleans_up_and_a_pilot_ends(
    cluster: Cluster, genome: Path, tmp_path: Path, slurm: Slurm
) -> None:
    """Slurm looks at the clock every half minute, so a time limit cannot be tested in less."""
    elsewhere = Cluster(slurm, Site(tmp_path / "other", cluster.site.redis_url, genome))
    pilot = elsewhere.pilot()
    vcf = write_vcf(tmp_path / "a.vcf", genome)
    job = cluster.sbatch(
        "annotate.sbatch", write_list(tmp_path, vcf), tmp_path / "out", options=("--array=1", "--mem=100M")
    )
    until(lambda: any(path.name == "manifest.json" for path in cluster.site.left_over()), 40, "a run")
    for each in (pilot, f"{job}_1"):
        slurm.run("scontrol", "update", f"JobId={each}", "EndTime=now+50")
    assert slurm.ended(f"{job}_1", 60) == "FAILED"
    assert "interrupted by SIGTERM. The run was revoked" in cluster.log(f"{job}_1")
    assert cluster.site.left_over() == []
    assert slurm.ended(pilot, 60) == "COMPLETED"
    assert "Warm shutdown" in elsewhere.log(pilot)


def test_a_pilot_that_gets_sigquit_hands_its_run_to_another_worker(
    cluster: Cluster, genome: Path, tmp_path: Path
) -> None:
    site = cluster.site
    pilot = cluster.pilot()
    vcf = long_vcf(tmp_path / "long.vcf", genome)
    step = site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
    until(lambda: any("_outputvcf" in path.name for path in site.left_over()), what="a run at work")
    cluster.slurm.run("scancel", "--batch", "--signal=QUIT", pilot)
    with site.worker():
        _, err = step.communicate(timeout=90)
    assert step.returncode == 0, err
    assert "Restoring 1 unacknowledged message" in cluster.log(pilot)
    assert site.left_over() == []


def blocks(language: str) -> list[str]:
    """The code blocks of that language in docs/hpc.md."""
    text = (ROOT / "docs" / "hpc.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_page_on_clusters_as_typed(cluster: Cluster, genome: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "calls").mkdir(parents=True)
    (here / "anyvar-step").symlink_to(ROOT)
    for seed in range(2):
        write_vcf(here / "calls" / f"{seed}.vcf", genome, seed=seed)
    environ = {**cluster.slurm.environ, **cluster.environ}
    jobs = []
    for block in blocks("bash"):
        typed = ["bash", "-euc", block]
        done = subprocess.run(typed, env=environ, cwd=here, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        jobs += re.findall(r"Submitted batch job (\d+)", done.stdout)
    pilots, array = jobs
    for number in (1, 2):
        assert cluster.slurm.ended(f"{array}_{number}") == "COMPLETED"
    cluster.slurm.run("scancel", pilots)
    for number in (1, 2):
        cluster.slurm.ended(f"{pilots}_{number}")
    assert sorted(path.name for path in (here / "results").glob("*.vcf.gz")) == ["0.vcf.gz", "1.vcf.gz"]
    assert sorted(path.name for path in (here / "calls").glob("*.vrs.vcf.gz")) == [
        "0.vrs.vcf.gz",
        "1.vrs.vcf.gz",
    ]
    assert cluster.site.left_over() == []


# -- LSF, PBS and Grid Engine: the scripts, without a scheduler ------------------------------------------


SCHEDULERS = {"LSF": "LSB_JOBINDEX", "PBS": "PBS_ARRAY_INDEX", "Grid Engine": "SGE_TASK_ID"}


@pytest.mark.parametrize(
    ("scheduler", "number"),
    [
        ("LSF", signal.SIGTERM),
        ("PBS", signal.SIGTERM),
        ("Grid Engine", signal.SIGUSR2),
    ],
)
def test_the_script_of_other_schedulers_passes_their_signals_on(
    cluster: Cluster, genome: Path, tmp_path: Path, scheduler: str, number: int
) -> None:
    """The scheduler is played: its variables, and its signal to all processes of the job."""
    (tmp_path / "calls").mkdir()
    vcfs = [write_vcf(tmp_path / "calls" / f"{seed}.vcf", genome, seed=seed) for seed in range(2)]
    environ = {
        **cluster.environ,
        "LIST": str(write_list(tmp_path, *vcfs)),
        "OUTDIR": str(tmp_path / "out"),
        "OPTIONS": "--attributes --no-version",
        SCHEDULERS[scheduler]: "2",
    }
    script = ["bash", str(ROOT / "workflow" / "cluster" / "annotate.sh")]
    with subprocess.Popen(
        script, env=environ, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        run_id = submitted(cluster.site)
        os.killpg(job.pid, number)
        _, err = job.communicate(timeout=60)
    assert "interrupted by SIGTERM. The run was revoked" in err
    assert job.returncode == 143
    assert "RUN_CANCELLED" in cluster.site.run("status", run_id).stdout
    assert cluster.site.left_over() == []
    with cluster.site.worker():
        done = subprocess.run(script, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1.json",
        "1.vcf.gz",
        "1.vcf.gz.tbi",
    ]


def test_a_pilot_of_other_schedulers_finishes_its_run(cluster: Cluster, genome: Path, tmp_path: Path) -> None:
    """SIGUSR2 to all processes is one SIGTERM to the worker: it finishes what is at work, and ends."""
    vcf = long_vcf(tmp_path / "long.vcf", genome)
    script = ["bash", str(ROOT / "workflow" / "cluster" / "worker.sh")]
    log = tmp_path / "pilot.log"
    with log.open("w") as out, subprocess.Popen(
        script, env=cluster.environ | {"NSLOTS": "1"}, stdout=out, stderr=out, start_new_session=True
    ) as pilot:  # fmt: skip
        until(lambda: " ready." in log.read_text(), 60, "a pilot")
        step = cluster.site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        until(
            lambda: any("_outputvcf" in path.name for path in cluster.site.left_over()), 60, "a run at work"
        )
        os.killpg(pilot.pid, signal.SIGUSR2)
        _, err = step.communicate(timeout=120)
        assert step.returncode == 0, err
        assert pilot.wait(60) == 0, log.read_text()
    assert "Warm shutdown" in log.read_text()


def test_the_run_of_a_pilot_that_bkill_ends_is_attempted_by_another_worker(
    cluster: Cluster, genome: Path, tmp_path: Path
) -> None:
    """``bkill`` sends SIGINT, then SIGTERM, to all processes: also to the one that annotates."""
    vcf = long_vcf(tmp_path / "long.vcf", genome)
    script = ["bash", str(ROOT / "workflow" / "cluster" / "worker.sh")]
    log = tmp_path / "pilot.log"
    environ = cluster.environ | {"LSB_DJOB_NUMPROC": "1"}
    with log.open("w") as out, subprocess.Popen(
        script, env=environ, stdout=out, stderr=out, start_new_session=True
    ) as pilot:  # fmt: skip
        until(lambda: " ready." in log.read_text(), 60, "a pilot")
        step = cluster.site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
        until(lambda: any("_outputvcf" in path.name for path in cluster.site.left_over()), 60, "a run")
        os.killpg(pilot.pid, signal.SIGINT)
        until(lambda: "Warm shutdown" in log.read_text(), 30, "the first signal")
        os.killpg(pilot.pid, signal.SIGTERM)
        pilot.wait(60)
    with cluster.site.worker():
        _, err = step.communicate(timeout=120)
    assert step.returncode == 0, err
    assert cluster.site.left_over() == []


def test_shellcheck_finds_nothing_in_the_job_scripts() -> None:
    scripts = [*(ROOT / "workflow").glob("slurm/*.sbatch"), *(ROOT / "workflow").glob("cluster/*.sh")]
    assert len(scripts) == 4
    if shutil.which("shellcheck") is None:
        skip("NOT CHECKED BY SHELLCHECK", "no shellcheck: apt install shellcheck")
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
