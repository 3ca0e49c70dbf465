"""What the board decides where several want the same run: who starts it, who works on it, who removes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anyvar_step.errors import Unavailable
from anyvar_step.models import State
from anyvar_step.runs.keys import step_key
from anyvar_step.runs.lease import DETACHED
from anyvar_step.runs.lock import RunLock
from anyvar_step.runs.state import RunState
from anyvar_step.settings import Settings


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(broker_url=redis_url, backend_url=redis_url)


@pytest.fixture
def board(settings: Settings) -> Iterator[RunState]:
    with RunState(settings) as opened:
        opened._redis.flushdb()
        yield opened


def test_of_two_steps_that_start_one_content_at_once_the_first_one_has_the_run(
    board: RunState, settings: Settings
) -> None:
    with RunState(settings) as other:
        before = board.current("content"), other.current("content")
        assert before == (None, None)
        assert board.make_current("content", "content-1", None) == "content-1"
        assert other.make_current("content", "content-2", None) == "content-1"
        assert board.current("content") == "content-1"
        assert other.make_current("content", "content-2", "content-1") == "content-2"  # a new attempt at it


@pytest.mark.parametrize(("other", "last"), [("live", False), ("lapsed", True), (DETACHED, False)])
def test_the_last_living_step_removes_the_run_whoever_was_killed_before(
    board: RunState, other: str, last: bool
) -> None:
    board.leases.take("run-1", other)
    if other == "lapsed":
        board._redis.zadd(step_key("leases", "run-1"), {other: 1.0})
    board.leases.take("run-1", "ours")
    assert board.leases.end("run-1", "ours") is last


def test_a_worker_whose_claim_another_took_says_no_more_of_the_run(
    board: RunState, settings: Settings
) -> None:
    board.put("run-1", State.SENT)
    with RunLock(settings, "run-1", "slow") as slow:
        board._redis.delete(step_key("claim", "run-1"))  # it lapsed
        with RunLock(settings, "run-1", "quick") as quick:
            quick.keep()
            with pytest.raises(Unavailable, match="another worker took it"):
                slow.keep()
            meta = board.meta("run-1")
            assert meta is not None
            assert (meta["status"], meta["result"]["worker"]) == (State.PROGRESS, "quick")
