"""Steps and workers of 1.1.0 and of ours, at once on one queue, work dir and input."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services

#: The last commit of 1.1.0.
COMMIT = "6cf9e6d"


def package(folder: Path) -> str:
    """The package of 1.1.0, unpacked."""
    packed = subprocess.run(
        ["git", "-C", ROOT, "archive", COMMIT, "anyvar_step"], capture_output=True, check=True
    )
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return str(folder)


def undisturbed(trial: Trial, old: str) -> bytes:
    """What becomes of the input with a worker of 1.1.0."""
    out = trial.folder / "old.vcf.gz"
    with trial.worker(PYTHONPATH=old):
        done = trial.site.run("annotate", trial.material.vcf, "-o", out, "-O", "z")
        assert done.returncode == 0, done.stderr
    return out.read_bytes()


@fault("workers and steps of 1.1.0 and of ours with one input, one of the workers killed (SIGKILL)", 0, 75)
def two_versions(trial: Trial) -> None:
    """75: a step of 1.1.0 whose run another step has attempted again does not follow it."""
    old = package(trial.folder / "package")
    right = (trial.material.expected, undisturbed(trial, old))
    with trial.worker(PYTHONPATH=old) as theirs, trial.worker() as ours:
        calls = []
        for version in trial.draw.sample(({"PYTHONPATH": old}, {}), 2):
            calls.append(trial.step(**version))
            calls[-1].right = right
            time.sleep(trial.draw.choice((0, trial.draw.uniform(0, 2))))
        trial.moment(calls[0])
        killed, other = trial.draw.sample((theirs, ours), 2)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        for call in calls:
            call.end()
        trial.serves(other)


def at_hand() -> bool:
    """Whether this is a clone with the history of 1.1.0."""
    known = subprocess.run(["git", "-C", ROOT, "cat-file", "-e", COMMIT], capture_output=True, check=False)
    return known.returncode == 0


@pytest.mark.skipif(
    not at_hand(), reason=f"NOT TESTED WITH 1.1.0: no commit {COMMIT} in this clone (git fetch --unshallow)"
)
@pytest.mark.parametrize("fault", [two_versions], ids=str)
def test_two_versions_share_runs(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
