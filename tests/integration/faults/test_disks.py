"""Disks that are full or read-only: a small tmpfs in the place of one directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import until

from faults.harness import STDOUT, Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


def mount(trial: Trial, folder: Path, size: int) -> None:
    """Put a tmpfs of ``size`` bytes there until the fault is healed: then it has room."""
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "faults", folder)
    trial.mounted.callback(run, "umount", "--lazy", folder)
    trial.healing.callback(run, "mount", "-o", "remount,rw,size=1g", folder)


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@fault("work dir full as the step stages its input", 74)
def work_dir_full_at_staging(trial: Trial) -> None:
    filled(trial, trial.draw.uniform(0.1, 0.95) * trial.material.vcf.stat().st_size)


@fault("work dir full as the worker writes its output", 74)
def work_dir_full_at_work(trial: Trial) -> None:
    whole = len(trial.material.expected)
    filled(trial, trial.material.vcf.stat().st_size + 65_536 + trial.draw.uniform(0, 0.9) * whole)


def filled(trial: Trial, size: float) -> None:
    mount(trial, trial.site.work_dir, int(size))
    trial.await_views()
    with trial.worker():
        trial.step().end()


@fault("output directory full", 74)
def output_full(trial: Trial) -> None:
    folder = trial.folder / "out"
    mount(trial, folder, int(trial.draw.uniform(0.05, 0.98) * len(trial.material.expected)))
    with trial.worker():
        trial.step(out=folder / "out.vcf.gz").end()


@fault("TMPDIR full, output to standard output", 74)
def tmpdir_full(trial: Trial) -> None:
    folder = trial.folder / "tmp"
    mount(trial, folder, int(trial.draw.uniform(0.05, 0.98) * len(trial.material.expected)))
    with trial.worker():
        trial.site.extra["TMPDIR"] = str(folder)
        trial.healing.callback(trial.site.extra.pop, "TMPDIR")
        trial.step(out=STDOUT).end()


@fault("output directory read-only from some moment on", 0, 74, 77)
def output_read_only(trial: Trial) -> None:
    folder = trial.folder / "out"
    mount(trial, folder, 1 << 30)
    with trial.worker():
        call = trial.step(out=folder / "out.vcf.gz")
        trial.moment(call)
        until(
            lambda: (
                not subprocess.run(["mount", "-o", "remount,ro", folder], stderr=-3, check=False).returncode
            )
        )
        call.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED WITH FULL DISKS: mounting a tmpfs needs root")
@pytest.mark.parametrize(
    "fault",
    [work_dir_full_at_staging, work_dir_full_at_work, output_full, tmpdir_full, output_read_only],
    ids=str,
)
def test_a_disk_without_room_is_a_clear_failure_and_the_next_call_succeeds(
    fault: Fault, campaign: Campaign
) -> None:
    campaign.holds(fault)
