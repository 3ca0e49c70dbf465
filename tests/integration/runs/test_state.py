"""Run states in a real Redis: transitions, atomic changes, and several steps and workers on one run."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator

import pytest
from support import stored

from anyvar_step.errors import Unavailable
from anyvar_step.models import State
from anyvar_step.runs.keys import meta_key, step_key
from anyvar_step.runs.state import TRANSITIONS, RunState, run_status
from anyvar_step.runs.step_lease import DETACHED
from anyvar_step.runs.worker_lock import RunLock
from anyvar_step.settings import Settings

RUN = "run-1"


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(broker_url=redis_url, backend_url=redis_url)


@pytest.fixture
def state(settings: Settings) -> Iterator[RunState]:
    with RunState(settings) as opened:
        opened._redis.flushdb()
        yield opened


def status_of(state: RunState, run_id: str = RUN) -> str:
    meta = state.meta(run_id)
    return str(meta["status"]) if meta else ""


# -- transitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(TRANSITIONS))
@pytest.mark.parametrize("source", ["", *State])
def test_a_state_is_written_only_where_its_transition_exists(
    state: RunState, source: str, target: State
) -> None:
    if source:
        stored(state, RUN, source)
    allowed = source in TRANSITIONS[target]
    assert state.write(RUN, target) is allowed
    assert status_of(state) == (target if allowed else source)


def test_a_late_heartbeat_does_not_overwrite_the_result_of_another_worker(
    state: RunState, settings: Settings
) -> None:
    """1.1.0 took the free lock again and wrote PROGRESS over SUCCESS."""
    state.create(RUN)
    with RunLock(settings, RUN, "slow") as slow:
        stored(state, RUN, State.SUCCESS, "/the/output")
        state._redis.delete(step_key("claim", RUN))
        slow.start_heartbeat()
        assert status_of(state) == State.SUCCESS


def test_a_lost_run_is_lost_to_all_its_steps_also_when_it_is_cancelled_afterwards(state: RunState) -> None:
    state.create(RUN)
    assert state.mark_lost(RUN, "attempted again as run run-2")
    state.cancel(RUN)
    assert state.cancel_requested(RUN)
    status = run_status(RUN, state.meta(RUN), 500)
    assert status.lost
    assert "attempted again as run run-2" in status.message


def test_a_run_in_progress_without_a_lock_is_lost(state: RunState) -> None:
    stored(state, RUN, State.PROGRESS)
    status = run_status(RUN, state.current_meta(RUN), 500)
    assert status.lost
    assert state.acquire_lock(RUN, "worker")
    assert run_status(RUN, state.current_meta(RUN), 500).running


def test_what_is_no_state_is_never_overwritten(state: RunState) -> None:
    state._redis.set(meta_key(RUN), "not what Celery stores")
    assert not state.write(RUN, State.PROGRESS)
    assert not state.create(RUN)
    assert state._redis.get(meta_key(RUN)) == "not what Celery stores"


# -- reserving, forgetting, cancelling --------------------------------------------------------------------


def test_an_id_is_reserved_once_and_free_again_when_the_run_is_forgotten(state: RunState) -> None:
    assert state.create(RUN)
    assert not state.create(RUN)
    assert (status_of(state), state.is_published(RUN), state.reserved_for(RUN) > 0) == ("SENT", False, True)
    state.mark_published(RUN)
    assert (state.is_published(RUN), state.reserved_for(RUN)) == (True, 0.0)
    assert state.forget(RUN, "content")
    assert state._redis.keys("*run-1*") == []
    assert state.create(RUN)


def test_every_key_of_ours_expires(state: RunState) -> None:
    state.create(RUN)
    state.mark_published(RUN)
    state.acquire_lock(RUN, "worker")
    state.leases.acquire(RUN, "step")
    state.replace_current("content", RUN, None)
    state.next_attempt("content")
    state.deliveries.mark_delivered(RUN)
    state.deliveries.record_sent(RUN, 0, 5)
    state.cancel(RUN)
    keys = [str(key) for key in state._redis.keys("*")]
    assert len(keys) == 9
    assert [key for key in keys if state._redis.ttl(key) <= 0] == []


def test_forgetting_a_run_leaves_the_current_run_of_its_content(state: RunState) -> None:
    state.create("run-2")
    state.replace_current("content", "run-2", None)
    state.forget(RUN, "content")
    assert state.current_run("content") == "run-2"


@pytest.mark.parametrize("end", [RunState.cancel, lambda s, run, holder: s.forget(run, "content", holder)])
@pytest.mark.parametrize(("other", "last"), [("live", False), ("expired", True), (DETACHED, False)])
def test_the_last_lease_ends_the_run_and_an_expired_one_does_not_count(
    state: RunState, end: Callable[..., bool], other: str, last: bool
) -> None:
    state.create(RUN)
    state.leases.acquire(RUN, other)
    if other == "expired":
        state._redis.zadd(step_key("leases", RUN), {other: 1.0})
    state.leases.acquire(RUN, "ours")
    assert end(state, RUN, "ours") is last
    assert (status_of(state) == State.SENT) is not last


def test_nobody_joins_a_run_that_its_last_step_has_forgotten(state: RunState, settings: Settings) -> None:
    """1.1.0 gave the lease, and the step waited for a run without files."""
    state.create(RUN)
    state.leases.acquire(RUN, "first")
    with RunState(settings) as other:
        assert other.current_meta(RUN)  # the second step has found the run …
        assert state.forget(RUN, "content", "first")  # … which the first one has delivered meanwhile
        assert not other.leases.acquire(RUN, "second")


def test_one_of_two_steps_with_the_same_content_starts_the_run(state: RunState, settings: Settings) -> None:
    with RunState(settings) as other:
        assert (state.current_run("content"), other.current_run("content")) == (None, None)
        assert state.replace_current("content", "content-1", None) == "content-1"
        assert other.replace_current("content", "content-2", None) == "content-1"
        assert other.replace_current("content", "content-2", "content-1") == "content-2"  # a new attempt


def test_bytes_sent_count_from_the_beginning_without_gaps(state: RunState) -> None:
    sent = state.deliveries.record_sent
    assert [sent(RUN, 5, 9), sent(RUN, 0, 5), sent(RUN, 5, 9), sent(RUN, 0, 3)] == [0, 5, 9, 9]


# -- the lock ---------------------------------------------------------------------------------------------


def test_a_worker_whose_lock_another_took_stores_nothing_more(state: RunState, settings: Settings) -> None:
    state.create(RUN)
    with RunLock(settings, RUN, "slow") as slow:
        state._redis.delete(step_key("claim", RUN))  # it expired
        with RunLock(settings, RUN, "quick") as quick:
            quick.start_heartbeat()
            with pytest.raises(Unavailable, match="another worker took it"):
                slow.start_heartbeat()
            meta = state.meta(RUN)
            assert meta is not None
            assert (meta["status"], meta["result"]["worker"]) == (State.PROGRESS, "quick")


def test_a_lock_is_renewed_and_released_by_its_owner_only(state: RunState) -> None:
    assert state.acquire_lock(RUN, "a")
    assert not state.acquire_lock(RUN, "b")
    state.release_lock(RUN, "b")
    assert state.acquire_lock(RUN, "a")
    state.release_lock(RUN, "a")
    assert state.acquire_lock(RUN, "b")


def test_a_lock_that_changes_hands_between_any_two_commands_is_not_deleted(
    state: RunState, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.1.0: GET says "a", the lock expires, "b" takes it, DEL removes the lock of "b"."""
    with RunState(settings) as other:
        execute = state._redis.execute_command

        def interleaved(*args: object, **options: object) -> object:
            answer = execute(*args, **options)
            if args[0] == "GET":
                other._redis.delete(step_key("claim", RUN))
                other.acquire_lock(RUN, "b")
            return answer

        state.acquire_lock(RUN, "a")
        monkeypatch.setattr(state._redis, "execute_command", interleaved)
        state.release_lock(RUN, "a")
        monkeypatch.undo()
        if state._redis.get(step_key("claim", RUN)) is None:  # released in one piece: nothing came between
            assert other.acquire_lock(RUN, "b")
        assert not state.acquire_lock(RUN, "c")


def _contend(url: str, name: str, rounds: int, results: multiprocessing.Queue[tuple[int, int]]) -> None:
    """Take, check and release one lock again and again; counts turns, and moments with another owner."""
    settings, chance = Settings(broker_url=url, backend_url=url), random.Random(name)
    turns = broken = 0
    with RunState(settings) as state:
        client, key = state._redis, step_key("claim", RUN)
        while turns < rounds:
            if not state.acquire_lock(RUN, name):
                continue
            turns += 1
            inside = client.incr("inside")  # 1 unless another process has the lock, too
            broken += inside != 1 or client.get(key) != name
            client.decr("inside")
            state.release_lock(RUN, name if chance.random() < 0.9 else "nobody")
            state.release_lock(RUN, name)
            state.release_lock(RUN, f"{name}x")  # not the owner: must change nothing
    results.put((turns, broken))


def test_of_many_processes_one_at_a_time_has_the_lock(state: RunState, redis_url: str) -> None:
    results: multiprocessing.Queue[tuple[int, int]] = multiprocessing.get_context("fork").Queue()
    processes = [
        multiprocessing.get_context("fork").Process(target=_contend, args=(redis_url, f"w{n}", 50, results))
        for n in range(8)
    ]
    for process in processes:
        process.start()
    counts = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert counts == [(50, 0)] * 8
    assert state.acquire_lock(RUN, "after")


def _race(url: str, name: str, rounds: int, results: multiprocessing.Queue[list[str]]) -> None:
    """Reserve ids and become current against others; the runs this process started."""
    settings = Settings(broker_url=url, backend_url=url)
    with RunState(settings) as state:
        won = [f"{n}" for n in range(rounds) if state.create(f"id-{n}")]
        won += [
            f"c{n}"
            for n in range(rounds)
            if state.replace_current(f"c{n}", f"{name}-{n}", None) == f"{name}-{n}"
        ]
    results.put(won)


def test_of_many_processes_exactly_one_starts_each_run(state: RunState, redis_url: str) -> None:
    del state
    results: multiprocessing.Queue[list[str]] = multiprocessing.get_context("fork").Queue()
    processes = [
        multiprocessing.get_context("fork").Process(target=_race, args=(redis_url, f"s{n}", 200, results))
        for n in range(8)
    ]
    for process in processes:
        process.start()
    won = [item for _ in processes for item in results.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(won) == sorted([f"{n}" for n in range(200)] + [f"c{n}" for n in range(200)])
