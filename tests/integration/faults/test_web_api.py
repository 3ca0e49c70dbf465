"""A web API that is killed at a random moment and started again, between a step and its run."""

from __future__ import annotations

import pytest
from support import free_ports

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


@fault("web API killed (SIGKILL) and started again, step over HTTP", 0, 69)
def web_api_killed(trial: Trial) -> None:
    [port] = free_ports(1)
    trial.site.extra["ANYVAR_STEP_URL"] = f"http://127.0.0.1:{port}"
    with trial.worker():
        with trial.site.web("--port", str(port)) as api:
            call = trial.step("--via", "http")
            trial.moment(call)
            api.process.kill()
            api.process.wait()
        with trial.site.web("--port", str(port)):
            call.end()


@pytest.mark.parametrize("fault", [web_api_killed], ids=str)
def test_a_step_outlives_the_death_of_its_web_api(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
