"""A replica that is promoted during a run: by Sentinel, or by hand behind one address.

A write that the old primary took and the replica had not got is lost; then the step says so (75).
"""

from __future__ import annotations

import pytest
from sentinels import Group, require_sentinel
from servers import RedisServer
from support import until
from tcp_proxy import tcp_proxy

from faults.harness import Campaign, Fault, Trial, fault

pytestmark = pytest.mark.services


@fault("Redis killed (SIGKILL), its replica promoted (REPLICAOF NO ONE) under the same address", 0, 75)
def promoted_by_hand(trial: Trial) -> None:
    (trial.folder / "replica").mkdir()
    replica = RedisServer(trial.folder / "replica", options=("--repl-diskless-sync-delay", "0"))
    trial.mounted.callback(replica.end)
    with trial.redis.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    replica.start("--replicaof", "127.0.0.1", str(trial.redis.port))
    with replica.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "up", what="a replica in step")
    proxy = trial.mounted.enter_context(tcp_proxy(trial.redis.port))
    trial.use(f"redis://127.0.0.1:{proxy.port}/0")
    trial.keys = replica.client
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        trial.redis.kill()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        proxy.target = replica.port
        proxy.drop()
        call.end()
        trial.serves(worker)


def group(trial: Trial) -> Group:
    made = Group(trial.folder / "group")
    trial.mounted.callback(made.end)
    made.begin()
    until(made.in_step, 30, "a replica in step")
    trial.use(made.url)
    trial.keys = made.keys
    return made


@fault("replica promoted by Sentinel: planned", 0, 75)
def promoted_by_sentinel(trial: Trial) -> None:
    by_sentinel(trial, killed=False)


@fault("replica promoted by Sentinel: primary killed (SIGKILL)", 0, 75)
def primary_killed(trial: Trial) -> None:
    by_sentinel(trial, killed=True)


def by_sentinel(trial: Trial, *, killed: bool) -> None:
    servers = group(trial)
    with trial.worker() as worker:
        call = trial.step()
        trial.moment(call)
        (servers.kill if killed else servers.promote)()
        call.end()
        until(servers.in_step, 60, "a replica in step")
        trial.serves(worker)


@pytest.mark.parametrize("fault", [promoted_by_hand], ids=str)
def test_a_promotion_costs_time_or_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    campaign.holds(fault)


@pytest.mark.parametrize("fault", [promoted_by_sentinel, primary_killed], ids=str)
def test_a_promotion_by_sentinel_costs_time_or_a_clear_failure(fault: Fault, campaign: Campaign) -> None:
    require_sentinel()
    campaign.holds(fault)
