"""What the run endpoints share: the application's parts, and waiting for a run on behalf of a client."""

from __future__ import annotations

import time

import anyio
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from anyvar_step.models import RunStatus
from anyvar_step.settings import Settings
from anyvar_step.web.runs import Runs

#: Seconds between two looks at a run on behalf of a waiting client, first and last; and the longest wait.
FIRST_PAUSE, LAST_PAUSE, LONGEST_WAIT = 0.02, 0.4, 20.0


def runs_of(request: Request) -> Runs:
    """What does the endpoints' work."""
    runs: Runs = request.app.state.runs
    return runs


def settings_of(request: Request) -> Settings:
    """The web API's settings."""
    settings: Settings = request.app.state.settings
    return settings


async def ended(request: Request, run_id: str, holder: str, seconds: float | None) -> RunStatus:
    """The status as soon as the run has ended, as the client hangs up, or after so many seconds."""
    begin, pause = time.monotonic(), FIRST_PAUSE
    while True:
        status = await run_in_threadpool(runs_of(request).look, run_id, holder)
        left = None if seconds is None else begin + seconds - time.monotonic()
        if not status.running or (left is not None and left <= 0) or await request.is_disconnected():
            return status
        await anyio.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.3, LAST_PAUSE)
