"""One run delivered twice, one run id or one input submitted twice."""

from __future__ import annotations

import time

import pytest

from anyvar_step.runs.queue import make_app
from anyvar_step.settings import load
from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


@fault("visibility timeout shorter than the run: Redis delivers it twice", 0)
def delivered_twice(trial: Trial) -> None:
    """Another app on the broker has a short timeout; the shortest wins (docs/contract.md#environment)."""
    hasty = load(trial.site.environ).model_copy(update={"visibility_timeout": 0})
    with trial.worker(), trial.worker():
        call = trial.step()
        trial.reach("at work", call)
        time.sleep(trial.draw.uniform(0, trial.material.seconds / 2))
        with make_app(hasty) as app, app.connection() as connection:
            connection.default_channel.qos.restore_visible(interval=1)
        call.end()


@fault("two steps with one input", 0)
def one_input_twice(trial: Trial) -> None:
    two_steps(trial)


@fault("two steps with one input and one --run-id", 0)
def one_run_id_twice(trial: Trial) -> None:
    two_steps(trial, "--run-id", "mine")


def two_steps(trial: Trial, *options: str) -> None:
    with trial.worker():
        first = trial.step(*options)
        time.sleep(trial.draw.choice((0, trial.draw.uniform(0, 2))))
        second = trial.step(*options)
        first.end()
        second.end()


@pytest.mark.parametrize("fault", [delivered_twice, one_input_twice, one_run_id_twice], ids=str)
def test_what_comes_twice_is_done_once_and_given_to_all(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
