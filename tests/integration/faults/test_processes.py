"""Processes that are killed or stopped at a random moment: worker process, worker, step."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from faults.harness import Campaign, Fault, Trial, children, fault

pytestmark = pytest.mark.services


@fault("worker process killed (SIGKILL)", 0)
def worker_process_killed(trial: Trial) -> None:
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        for child in children(worker):
            os.kill(child, signal.SIGKILL)
        call.end()


@fault("worker's parent process killed (SIGKILL), another worker there", 0)
def worker_parent_killed(trial: Trial) -> None:
    with trial.worker() as worker, trial.worker():
        call = trial.step()
        trial.moment(call)
        worker.kill()
        worker.wait()
        call.end()


@fault("whole worker killed (SIGKILL), another one started", 0)
def whole_worker_killed(trial: Trial) -> None:
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    with trial.worker():
        call.end()


@fault("worker killed (SIGKILL) with a run that it has received, another one started", 0)
def worker_killed_before_it_began(trial: Trial) -> None:
    """Its process is stopped first: the run's message is no longer in the queue, and its state still SENT."""
    with trial.worker() as worker:
        for child in children(worker):
            os.kill(child, signal.SIGSTOP)
        call = trial.step()
        trial.received()
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    with trial.worker():
        call.end()


@fault("step killed (SIGKILL) and started again", 0)
def step_killed(trial: Trial) -> None:
    with trial.worker():
        call = trial.step()
        trial.moment(call)
        call.process.kill()
        call.process.communicate()
        trial.restart(call)


@fault("worker stopped (SIGSTOP) for 3 s", 0)
def worker_stopped(trial: Trial) -> None:
    stopped(trial, 3)


@fault("worker stopped (SIGSTOP) for 40 s, another worker there", 0)
def worker_stopped_for_long(trial: Trial) -> None:
    with trial.worker():
        stopped(trial, 40)


def stopped(trial: Trial, seconds: float) -> None:
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        os.killpg(worker.pid, signal.SIGSTOP)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGCONT)
        call.end()


@pytest.mark.parametrize(
    "fault",
    [
        worker_process_killed,
        worker_parent_killed,
        whole_worker_killed,
        worker_killed_before_it_began,
        step_killed,
        worker_stopped,
        worker_stopped_for_long,
    ],
    ids=str,
)
def test_a_run_outlives_the_death_of_any_process(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
