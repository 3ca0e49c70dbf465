"""Hosts whose clocks disagree: a worker, or a step, some hours ahead or behind."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services

SKEWED = Path(__file__).with_name("skewed")
JUMPING = Path(__file__).with_name("jumping") / "clock.c"


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


@fault("Redis's clock jumps ahead, by a minute to 3 hours", 0, 75)
def jumps_ahead(trial: Trial) -> None:
    jumps(trial, 1)


@fault("Redis's clock jumps back, by a minute to 3 hours", 0)
def jumps_back(trial: Trial) -> None:
    jumps(trial, -1)


def jumps(trial: Trial, sign: int) -> None:
    """The trial's Redis is started anew with the shim of ``jumping`` before it."""
    shim, skew = trial.folder / "clock.so", trial.folder / "skew"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, JUMPING], check=True, capture_output=True)
    skew.write_bytes(struct.pack("l", 0))
    trial.redis.kill()
    trial.redis.environ = {"LD_PRELOAD": str(shim), "CLOCK_FILE": str(skew)}
    trial.redis.start()
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        seconds = sign * int(trial.draw.choice((60, 600, 10_800)) * trial.draw.uniform(0.9, 1.1))
        with skew.open("r+b") as file:
            file.write(struct.pack("l", seconds))
        with trial.redis.client() as client:
            assert abs(client.time()[0] - time.time() - seconds) < 5
        call.end()
        trial.serves(worker)


@pytest.mark.skipif(not shutil.which("cc"), reason="NOT TESTED WITH A JUMPING CLOCK: no C compiler (cc)")
@pytest.mark.parametrize("fault", [jumps_ahead, jumps_back], ids=str)
def test_leases_and_locks_outlive_a_jump_of_the_clock(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)


@pytest.mark.parametrize("fault", [workers_skewed, step_skewed], ids=str)
def test_hosts_need_not_agree_on_the_time(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
