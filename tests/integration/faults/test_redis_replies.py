"""A Redis that answers with an error for three seconds, or refuses the password."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
import redis

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services

#: The length of a planned failover, in seconds.
LENGTH = 3.0


def refused(
    trial: Trial, begin: Callable[[redis.Redis], object], end: Callable[[redis.Redis], object]
) -> None:
    """One run, during which Redis answers with an error; afterwards its worker serves the next one."""
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        with trial.redis.client() as client:
            begin(client)
            time.sleep(LENGTH)
            end(client)
        call.end()
        trial.serves(worker)


@fault("Redis answers READONLY for 3 s", 0)
def readonly(trial: Trial) -> None:
    refused(trial, lambda client: client.replicaof("127.0.0.1", "1"), promoted)


def promoted(client: redis.Redis) -> None:
    client.replicaof("NO", "ONE")


@fault("Redis answers NOREPLICAS for 3 s", 0)
def without_replicas(trial: Trial) -> None:
    setting(trial, "min-replicas-to-write", 1, 0)


@fault("Redis answers OOM for 3 s", 0)
def out_of_memory(trial: Trial) -> None:
    setting(trial, "maxmemory", 1, 0)


def setting(trial: Trial, name: str, bad: int, good: int) -> None:
    refused(trial, lambda client: client.config_set(name, bad), lambda client: client.config_set(name, good))


@fault("Redis answers MASTERDOWN for 3 s", 0)
def master_down(trial: Trial) -> None:
    def begin(client: redis.Redis) -> None:
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof("127.0.0.1", "1")

    refused(trial, begin, promoted)


@fault("Redis killed (SIGKILL), answers LOADING for 3 s", 0)
def loading(trial: Trial) -> None:
    """Its append-only file has 10,000 keys more, and Redis pauses at each; it answers at each 1,024th."""
    with trial.redis.client() as client, client.pipeline() as pipe:
        for number in range(10_000):
            pipe.set(f"more-{number}", "", ex=3600)
        pipe.execute()
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        trial.redis.kill()
        trial.redis.start("--key-load-delay", str(int(LENGTH * 100)))
        call.end()
        trial.serves(worker)


OLD, NEW = "old-password", "new-password"


def password(trial: Trial) -> None:
    """Give the trial's Redis a password that steps and workers know."""
    with trial.redis.client() as client:
        client.config_set("requirepass", OLD)
    trial.redis.password = OLD
    trial.use(trial.redis.url)


def changed(trial: Trial, after: str) -> None:
    """Give the default user another password, and end its connections."""
    with trial.redis.client() as client:
        trial.redis.password = after
        client.execute_command("ACL", "SETUSER", "default", "resetpass", f">{after}")
        with contextlib.suppress(redis.ConnectionError):
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)


@fault("password of Redis changed, connections ended, changed back after 3 s", 0, 77, ended=(77,))
def password_changed(trial: Trial) -> None:
    password(trial)
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        changed(trial, NEW)
        time.sleep(LENGTH)
        changed(trial, OLD)
        call.end()
        trial.serves(worker)


@fault("password of Redis changed for good, connections ended", 0, 77, ended=(77,))
def password_changed_for_good(trial: Trial) -> None:
    password(trial)
    trial.healing.callback(changed, trial, OLD)
    with trial.worker():
        call = trial.step()
        trial.moment(call)
        changed(trial, NEW)
        call.end()


@pytest.mark.parametrize("fault", [readonly, without_replicas, out_of_memory, master_down, loading], ids=str)
def test_error_replies_cost_time_and_no_worker(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)


@pytest.mark.parametrize("fault", [password_changed, password_changed_for_good], ids=str)
def test_a_password_that_changes_is_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)
