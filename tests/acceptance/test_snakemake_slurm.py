"""The workflow with Snakemake's slurm executor on a real one-node Slurm."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from slurm import Slurm
from smk import CONFIG, Running, lengthen, outputs
from support import ROOT, Site, until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
if not find_spec("snakemake_executor_plugin_slurm"):  # without Slurm's commands it cannot even be imported
    pytest.skip("pip install snakemake-executor-plugin-slurm", allow_module_level=True)

PROFILE = str(ROOT / "workflow/profiles/slurm")
#: This Slurm has no need to be spared, and no accounting.
HASTE = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")
HERE = ("--slurm-status-command", "squeue", *HASTE)


@pytest.fixture
def cluster(demo_site: Site, slurm: Slurm) -> Iterator[dict[str, str]]:
    """The environment of a login node of the site's cluster."""
    yield {**demo_site.environ, **{k: v for k, v in slurm.environ.items() if k == "SLURM_CONF"},
           "PATH": f"{slurm.folder / 'bin'}:{demo_site.environ['PATH']}"}  # fmt: skip
    slurm.run("scancel", "--user", getpass.getuser())
    until(lambda: not slurm.run("squeue", "--noheader", "--states", "PD,R,CG"), 60, "an empty queue")


def logs(project: Path) -> str:
    found = [*project.glob("logs/**/*.log"), *project.glob(".snakemake/slurm_logs/**/*.log")]
    return "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in found)


def test_the_command_in_the_docs_makes_each_step_a_job(
    project: Path, demo_site: Site, cluster: dict[str, str]
) -> None:
    (project / "anyvar-step").symlink_to(ROOT)
    docs = (ROOT / "docs/snakemake.md").read_text()
    (command,) = re.findall(r"^snakemake .*--slurm-status-command squeue$", docs, re.MULTILINE)
    typed = f"{command} {' '.join(HASTE)}"
    with demo_site.worker():
        done = subprocess.run(typed, shell=True, env=cluster, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr + logs(project)
    assert len(list((project / "results/annotated").glob("*.vcf.gz"))) == 3
    assert (done.stdout + done.stderr).count("has been submitted with SLURM jobid") == 4
    assert demo_site.left_over() == []


def test_submit_first_holds_no_slot_while_it_waits(
    project: Path, demo_site: Site, cluster: dict[str, str], slurm: Slurm
) -> None:
    (project / "config/config.yaml").write_text(CONFIG + "annotate: {submit_first: true}\n")
    with Running("--profile", PROFILE, *HERE, environ=cluster) as running:
        until(lambda: running.said.count("localrule wait") == 3, 200, "three waits")
        assert slurm.run("squeue", "--noheader", "--states", "PD,R") == ""
        with demo_site.worker():
            assert running.end(200) == 0, running.said + logs(project)
    assert demo_site.left_over() == []


def test_ctrl_c_cancels_the_jobs_and_their_runs(
    project: Path, demo_site: Site, cluster: dict[str, str], slurm: Slurm
) -> None:
    for sample in ("alice", "bela", "carol"):
        lengthen(project / f"vcf/{sample}.vcf", 50)
    with Running("--profile", PROFILE, *HERE, environ=cluster) as running:
        until(lambda: len([path for path in demo_site.left_over() if path.is_dir()]) >= 2, 200, "runs")
        running.ctrl_c()
        assert running.end(100) != 0
    until(lambda: not slurm.run("squeue", "--noheader", "--states", "PD,R,CG"), 60, "the end of the jobs")
    until(lambda: demo_site.left_over() == [], 30, "an empty work dir")
    assert [name for name in outputs(project / "results") if "reference" not in name] == []
