"""Retries of Redis commands: their pauses, over outages of hours."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import redis

from anyvar_step.runs import connection
from anyvar_step.runs.connection import TimedRetry


class Clock:
    """A clock that ``sleep`` alone moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
        self.now = time.monotonic()
        self.pauses: list[float] = []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


def test_a_command_is_tried_again_over_an_outage_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py's back-off overflows from the 1,024th failure on: after 17 minutes, of ``--outage 1h``."""
    clock = Clock(monkeypatch, connection)
    end = clock.now + 3 * 3600

    def command() -> str:
        if clock.now < end:
            raise redis.ConnectionError("Connection refused")
        return "PONG"

    assert TimedRetry(4 * 3600).call_with_retry(command, lambda _: None) == "PONG"
    assert len(clock.pauses) > 1024
    assert max(clock.pauses) == 1
