"""A worker's output that is no longer what the worker wrote when its step comes for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import until

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


def published(trial: Trial) -> Path:
    """The output of a run that was submitted before, and has ended."""
    done = trial.site.run("submit", trial.material.vcf, "-O", "z")
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    until(lambda: "200 SUCCESS" in trial.site.run("status", run_id).stdout, what="the run's end")
    [output] = trial.site.work_dir.glob("*/*/*_outputvcf")
    return output


@fault("worker's output truncated after the fact", 74)
def truncated(trial: Trial) -> None:
    with trial.worker():
        output = published(trial)
        os.truncate(output, trial.draw.randrange(output.stat().st_size))
        trial.step().end()


@fault("a byte of the worker's output changed after the fact", 74)
def changed(trial: Trial) -> None:
    with trial.worker():
        output = published(trial)
        content = bytearray(output.read_bytes())
        content[trial.draw.randrange(len(content))] ^= 1 << trial.draw.randrange(8)
        output.write_bytes(content)
        trial.step().end()


@fault("worker's output removed after the fact", 74)
def removed(trial: Trial) -> None:
    with trial.worker():
        published(trial).unlink()
        trial.step().end()


@pytest.mark.parametrize("fault", [truncated, changed, removed], ids=str)
def test_an_output_that_changed_is_not_delivered_and_the_next_call_makes_it_anew(
    fault: Fault, campaign: Campaign
) -> None:
    campaign.holds(fault)
