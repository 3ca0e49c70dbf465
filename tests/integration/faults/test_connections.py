"""Connections to Redis that are reset, or lose what is sent over them without being closed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from tcp_proxy import TcpProxy, tcp_proxy

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


@contextlib.contextmanager
def between(trial: Trial) -> Iterator[TcpProxy]:
    """A proxy between the trial's Redis and all steps and workers; it stays until the trial is over."""
    proxy = trial.mounted.enter_context(tcp_proxy(trial.redis.port))
    trial.use(f"redis://127.0.0.1:{proxy.port}/0")
    yield proxy


@fault("connections to Redis reset, three times", 0)
def reset(trial: Trial) -> None:
    with between(trial) as proxy, trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        for _ in range(3):
            proxy.drop()
            time.sleep(trial.draw.uniform(0, trial.material.seconds / 2))
        call.end()
        trial.serves(worker)


@fault("connections to Redis half open: nothing arrives any more; new ones are well", 0)
def half_open(trial: Trial) -> None:
    with between(trial) as proxy, trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        proxy.swallow_open()
        call.end()
        trial.serves(worker)


@fault("nothing arrives over old and new connections to Redis for 5 s, then all are reset", 0, 69)
def swallowed(trial: Trial) -> None:
    with between(trial) as proxy, trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        proxy.swallows = True
        time.sleep(5)
        proxy.swallows = False
        proxy.drop()
        call.end()
        trial.serves(worker)


@pytest.mark.parametrize("fault", [reset, half_open, swallowed], ids=str)
def test_lost_connections_are_made_anew(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
