"""A run that nobody seems to want: its worker drops it, but not for what Redis's clock alone says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import Site, until

from anyvar_step.models import Progress
from anyvar_step.runs import worker_lock as holding
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.state import RunState
from anyvar_step.runs.worker_lock import LeaseExpired, RunLock
from anyvar_step.settings import load

RUN = "a-run-with-a-lease"


@pytest.fixture
def state(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunState]:
    """The state of a run whose step's lease lapsed an hour ago, as far as Redis can tell."""
    monkeypatch.setattr(holding, "HEARTBEAT_SECONDS", 0.02)
    with RunState(load(site.environ)) as opened:
        opened.create(RUN)
        opened.leases.acquire(RUN, "a-step")
        lapsed = opened._redis.time()[0] - 3600
        opened._redis.zadd(step_key("leases", RUN), {"a-step": lapsed})
        yield opened
        opened.forget(RUN, "")


def test_a_run_goes_on_where_its_lease_seems_to_have_lapsed_until_its_step_renews_it(
    site: Site, state: RunState
) -> None:
    with RunLock(load(site.environ), RUN, "w") as lock:
        lock.start_heartbeat()
        assert state.leases.expired_for(RUN) > load(site.environ).abandon_after
        lock.report(Progress(records=1))
        state.leases.acquire(RUN, "a-step")
        until(lambda: lock._expired_since is None, what="a heartbeat that sees the new lease")
        lock.report(Progress(records=2))


def test_a_run_is_dropped_once_nobody_has_been_seen_to_want_it_for_long(
    site: Site, state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "CONFIRM_SECONDS", 0.1)
    with RunLock(load(site.environ), RUN, "w") as lock:
        lock.start_heartbeat()

        def dropped() -> bool:
            try:
                lock.report(Progress(records=1))
            except LeaseExpired:
                return True
            return False

        assert not dropped()
        until(dropped)
