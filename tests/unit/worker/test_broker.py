"""A worker's pauses while its broker is away."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from anyvar_step.worker import broker
from anyvar_step.worker.broker import LONGEST_PAUSE, Outage


def test_a_worker_connects_again_over_an_outage_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ANYVAR_STEP_BROKER_PATIENCE`` may be a day; a power of the number of failures overflows in hours."""
    now = begin = time.monotonic()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(broker, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    outage = Outage(86_400)
    try:
        before = begin
        for _ in range(1200):
            before = now
            outage.pause(ConnectionError("Connection refused"))
        assert LONGEST_PAUSE / 2 <= now - before <= LONGEST_PAUSE + 0.2
        assert now - begin > 3600
    finally:
        outage.over()
