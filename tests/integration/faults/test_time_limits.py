"""The workers' time limits: one that a run hears of, and one that kills what hears nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from faults.harness import Campaign, Fault, Trial, children, fault

pytestmark = pytest.mark.services


@fault("soft time limit", 124)
def soft_limit(trial: Trial) -> None:
    limited(trial, hangs=False)


@fault("hard time limit: a worker process that hangs", 124)
def hard_limit(trial: Trial) -> None:
    limited(trial, hangs=True)


def limited(trial: Trial, *, hangs: bool) -> None:
    """The process is stopped: it does not hear of the soft limit, or only as it is let go on."""
    with trial.worker(CELERY_SOFT_TIME_LIMIT="1", CELERY_TASK_TIME_LIMIT="3" if hangs else "60") as worker:
        [child] = children(worker)
        call = trial.step()
        trial.reach("at work", call)
        os.kill(child, signal.SIGSTOP)
        if not hangs:
            time.sleep(1.5 + trial.draw.uniform(0, 2))
            os.kill(child, signal.SIGCONT)
        call.end()


@pytest.mark.parametrize("fault", [soft_limit, hard_limit], ids=str)
def test_a_time_limit_ends_a_run_with_its_own_code(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
