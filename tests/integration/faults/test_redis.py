"""A Redis that is killed, comes back with or without what it knew, or cannot be reached for a while."""

from __future__ import annotations

import shutil
import time

import pytest

from faults.harness import Call, Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


@fault("Redis killed (SIGKILL), back in 2 s with its append-only file", 0, 69)
def redis_killed(trial: Trial) -> None:
    with trial.worker():
        call = trial.step()
        trial.moment(call)
        trial.redis.kill()
        time.sleep(2)
        trial.redis.start()
        call.end()


@fault("Redis killed (SIGKILL), back in 2 s with nothing", 0, 69, 75)
def redis_emptied(trial: Trial) -> None:
    with trial.worker():
        call = trial.step()
        trial.moment(call)
        trial.redis.kill()
        shutil.rmtree(trial.redis.folder / "appendonlydir")
        time.sleep(2)
        trial.redis.start()
        call.end()


@fault("Redis killed (SIGKILL) for good", 69)
def redis_gone(trial: Trial) -> None:
    with trial.worker():
        call = trial.step("--outage", "3s")
        trial.moment(call)
        trial.redis.kill()
        trial.healing.callback(trial.redis.start)
        ends(trial, call)


@fault("Redis refuses connections for 5 s", 0, 69)
def redis_away(trial: Trial) -> None:
    with trial.worker():
        call = trial.step()
        trial.moment(call)
        trial.redis.refuse()
        time.sleep(5)
        trial.redis.accept()
        call.end()


@fault("Redis refuses connections for longer than --outage", 69)
def redis_away_for_long(trial: Trial) -> None:
    with trial.worker():
        call = trial.step("--outage", "3s")
        trial.moment(call)
        trial.redis.refuse()
        trial.healing.callback(trial.redis.accept)
        ends(trial, call)
        trial.redis.accept()


def ends(trial: Trial, call: Call) -> None:
    """The step's end; one that the fault was too late for is called again, in the midst of it."""
    if call.end() == 0:
        call.out.unlink()
        call.out.with_name(f"{call.out.name}.tbi").unlink()
        trial.restart(call)


@pytest.mark.parametrize(
    "fault", [redis_killed, redis_emptied, redis_gone, redis_away, redis_away_for_long], ids=str
)
def test_a_redis_that_fails_costs_time_or_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
