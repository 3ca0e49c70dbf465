"""``--chunks``: several runs of one step, whose workers or step are killed."""

from __future__ import annotations

import os
import signal

import pytest

from faults.harness import CHUNKS, Campaign, Fault, Trial, children, fault

pytestmark = pytest.mark.services


@fault("--chunks: worker process killed (SIGKILL)", 0)
def process_killed(trial: Trial) -> None:
    with trial.worker(concurrency=2) as worker:
        call = trial.step(chunks=CHUNKS)
        trial.moment(call)
        os.kill(trial.draw.choice(children(worker)), signal.SIGKILL)
        call.end()
        trial.serves(worker)


@fault("--chunks: whole worker killed (SIGKILL), another worker there", 0)
def worker_killed(trial: Trial) -> None:
    with trial.worker() as worker, trial.worker() as other:
        call = trial.step(chunks=CHUNKS)
        trial.moment(call)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        call.end()
        trial.serves(other)


@fault("--chunks: step killed (SIGKILL) and started again", 0)
def step_killed(trial: Trial) -> None:
    with trial.worker() as worker, trial.worker() as other:
        call = trial.step(chunks=CHUNKS)
        trial.moment(call)
        call.process.kill()
        call.process.communicate()
        trial.restart(call)
        trial.serves(worker, other)


@pytest.mark.parametrize("fault", [process_killed, worker_killed, step_killed], ids=str)
def test_pieces_outlive_the_death_of_any_process(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
