"""Hosts whose clocks disagree: a worker, or a step, some hours ahead or behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services

SKEWED = Path(__file__).with_name("skewed")


def clock(hours: int) -> dict[str, str]:
    """The environment of a host whose clock is wrong by so much."""
    return {"PYTHONPATH": f"{SKEWED}:{ROOT}", "CLOCK_SKEW": str(hours * 3600)}


@fault("one worker's clock 3 hours ahead, another's 3 hours behind", 0)
def workers_skewed(trial: Trial) -> None:
    with trial.worker(**clock(3)), trial.worker(**clock(-3)):
        for _ in range(2):
            trial.step().end()


@fault("step's clock 3 hours wrong, worker killed (SIGKILL) on the way", 0)
def step_skewed(trial: Trial) -> None:
    trial.site.extra |= clock(trial.draw.choice((-3, 3)))
    with trial.worker() as worker, trial.worker():
        call = trial.step()
        trial.moment(call)
        worker.kill()
        worker.wait()
        call.end()


@pytest.mark.parametrize("fault", [workers_skewed, step_skewed], ids=str)
def test_hosts_need_not_agree_on_the_time(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
