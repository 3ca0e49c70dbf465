"""What a waiting step says of its run: one live line on a terminal, a line every so often in a log file.

All of it goes to standard error; standard output may be the VCF.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import click

from anyvar_step.cli.options import PROGRESS
from anyvar_step.errors import StepError
from anyvar_step.models import State

if TYPE_CHECKING:
    from anyvar_step.models import Progress, RunReport, RunStatus

_logger = logging.getLogger(__name__)

#: Seconds between two lines in a log: a run that is over sooner says nothing, unless lines were asked for.
PERIOD, ASKED_PERIOD = 30.0, 10.0
#: Seconds between two looks at the queue's length.
ASK_QUEUE = 5.0


class Follower(Protocol):
    """Told of each status of the run, and of its report in the end."""

    def __call__(self, status: RunStatus) -> None:
        """The run's status now."""

    def done(self, report: RunReport | None) -> None:
        """The step has done what it was to do."""


def shown(name: str, queued: Callable[[], int | None]) -> AbstractContextManager[Follower]:
    """A follower for the run of the input ``name``, of the kind that ``--progress`` asked for.

    ``queued`` tells how many runs stand in the queue, or None where nobody can tell.
    """
    context = click.get_current_context()
    root, asked = context.find_root().params, context.meta.get(PROGRESS, "auto")
    name, ahead = printable(name), Ahead(queued)
    kind = kind_for(asked, root)
    if kind == "bar":
        from anyvar_step.cli.bar import Bar

        return Bar(name, ahead)
    if kind == "none":
        return contextlib.nullcontext(Silent())
    eager = asked == "plain" or bool(root.get("verbose") or root.get("debug"))
    return contextlib.nullcontext(Lines(name, ahead, eager=eager))


def kind_for(asked: str, root: dict[str, Any]) -> str:
    """``asked``, where auto is bar on a terminal that can show it, else plain, and none with ``--quiet``."""
    if asked != "auto":
        return asked
    if root.get("quiet"):
        return "none"
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and root.get("log_format") != "json"
    return "bar" if live else "plain"


class Ahead:
    """How many runs are before ours, at most: the queue is asked rarely, and runs leave it in order.

    Whatever is queued after ours makes the queue longer, but not the wait; so the number never grows.
    """

    def __init__(self, queued: Callable[[], int | None]) -> None:
        self._queued = queued
        self._run, self._due = "", 0.0
        self._least: int | None = None

    def __call__(self, run_id: str) -> int | None:
        """The number now; None where nobody can tell."""
        now = time.monotonic()
        if run_id != self._run:
            self._run, self._due, self._least = run_id, 0.0, None
        if now >= self._due:
            self._due = now + ASK_QUEUE
            with contextlib.suppress(StepError):
                length = self._queued()
                if length is not None:
                    before = max(0, length - 1)
                    self._least = before if self._least is None else min(before, self._least)
        return self._least


class Silent:
    """Says nothing."""

    def __call__(self, status: RunStatus) -> None:
        """Nothing."""

    def done(self, report: RunReport | None) -> None:
        """Nothing."""


class Lines:
    """Says a line at times; ``eager``: at once when the state changes, and more often."""

    def __init__(self, name: str, ahead: Ahead, *, eager: bool) -> None:
        self._name, self._ahead, self._eager = name, ahead, eager
        self._begin = time.monotonic()
        self._period = ASKED_PERIOD if eager else PERIOD
        self._due = self._begin + self._period
        self._state = ""
        self._spoke = False
        _logger.setLevel(logging.INFO)

    def __call__(self, status: RunStatus) -> None:
        """The run's status now."""
        now = time.monotonic()
        if now < self._due and not (self._eager and status.status != self._state):
            return
        self._due, self._state = now + self._period, status.status
        ahead = self._ahead(status.run_id) if status.status == State.SENT else None
        progress = status.progress
        percent = f", {100 * progress.fraction:.0f} %" if progress else ""
        facts = {"run_id": status.run_id, "state": status.status, "queued_behind": ahead}
        self._say(
            f"{described(status, ahead)}{percent}", **facts, **(progress.model_dump() if progress else {})
        )

    def done(self, report: RunReport | None) -> None:
        """A last line where there was a first."""
        if self._spoke or self._eager:
            seconds = time.monotonic() - self._begin
            self._say(finished(report, seconds), elapsed=round(seconds, 3))

    def _say(self, text: str, **facts: Any) -> None:
        self._spoke = True
        _logger.info("%s: %s", self._name, text, extra={"input": self._name, **facts})


def described(status: RunStatus, ahead: int | None) -> str:
    """The status in a few words: ``ahead`` runs are before it in the queue."""
    if status.status_code == 200:
        return "collecting"
    if status.progress:
        return ", ".join(_pace(status.progress))
    if status.status != State.SENT:
        return status.status.lower()
    return f"queued behind {ahead:,}" if ahead else "waiting for its worker"


def _pace(progress: Progress) -> list[str]:
    """Records, records per second, and what remains of the time, as far as that can be told."""
    said = [f"{progress.records:,} records"]
    if progress.records and progress.seconds:
        said.append(f"{progress.records / progress.seconds:,.0f}/s")
    if progress.seconds and 0 < progress.fraction < 1:
        left = progress.seconds * (1 - progress.fraction) / progress.fraction
        said.append(f"{timedelta(seconds=round(left))} left")
    return said


def finished(report: RunReport | None, seconds: float) -> str:
    """What there is to say in the end."""
    took = f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
    return f"{report.counts.records:,} records in {took}" if report else f"ended after {took}"


def printable(name: str) -> str:
    """The name without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
