"""Progress of a waiting step: a live line on a terminal, a line every so often in a log file, one at the end.

All of it goes to standard error; standard output may be the VCF.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from anyvar_step.cli.logs import use_stderr
from anyvar_step.cli.options import PROGRESS
from anyvar_step.errors import StepError
from anyvar_step.models import IngestOptions, State
from anyvar_step.text import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column

    from anyvar_step.models import Progress, RunReport, RunStatus

_logger = logging.getLogger(__name__)

#: Seconds between two lines in a log, and the same where --progress plain or -v asks for lines. A shorter run
#: has no line.
PERIOD, ASKED_PERIOD = 30.0, 10.0
#: Seconds between two questions for the length of the queue.
ASK_QUEUE = 5.0

#: Columns of the name, the percentage and the longest description; the bar takes the rest, within bounds.
NAME, PERCENT, WORDS = 20, 5, 42
SHORTEST, LONGEST = 6, 40
#: Columns below which a narrow terminal shows no description.
FEW = 10


class Follower:
    """Shows each status of the run, and its report at the end; this one shows nothing."""

    def __call__(self, status: RunStatus) -> None:
        """Show the run's status."""

    def done(self, report: RunReport | None) -> None:
        """Show that the step has ended well."""


def follow(
    name: str, queued: Callable[[], int | None], output: Path | None = None
) -> AbstractContextManager[Follower]:
    """A follower for the run of the input ``name``, of the kind that ``--progress`` asks for.

    ``queued`` returns the number of runs in the queue, None where that is not known; ``output`` is OUT.
    """
    context = click.get_current_context()
    root, asked = context.find_root().params, context.meta.get(PROGRESS, "auto")
    name, ahead = escaped(name), Ahead(queued)
    kind = kind_for(asked, root)
    if kind == "bar":
        return Bar(name, ahead, output).live()
    if kind == "none":
        return contextlib.nullcontext(Follower())
    eager = asked == "plain" or bool(root.get("verbose") or root.get("debug"))
    return contextlib.nullcontext(Lines(name, ahead, output, eager=eager))


def kind_for(asked: str, root: dict[str, Any]) -> str:
    """``asked``, where auto is bar on a terminal that can show it, else plain, and none with ``--quiet``."""
    if asked != "auto":
        return asked
    if root.get("quiet"):
        return "none"
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and root.get("log_format") != "json"
    return "bar" if live else "plain"


class Ahead:
    """The number of runs before ours in the queue, at most: the queue is asked rarely.

    Runs leave the queue in order. Those behind ours make it longer, so the number never grows.
    """

    def __init__(self, queued: Callable[[], int | None]) -> None:
        self._queued = queued
        self._run, self._due = "", 0.0
        self._least: int | None = None

    def __call__(self, run_id: str) -> int | None:
        """The number now; None where it is not known."""
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


class Lines(Follower):
    """Logs a line every so often; ``eager``: also when the state changes, and more often."""

    def __init__(self, name: str, ahead: Ahead, output: Path | None = None, *, eager: bool) -> None:
        self._name, self._ahead, self._output, self._eager = name, ahead, output, eager
        self._begin = time.monotonic()
        self._period = ASKED_PERIOD if eager else PERIOD
        self._due = self._begin + self._period
        self._state = ""
        self._spoke = False
        _logger.setLevel(logging.INFO)

    def __call__(self, status: RunStatus) -> None:
        """Log the run's status if a line is due."""
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
        """Log a last line on a terminal, and where there was a first."""
        if self._spoke or self._eager or sys.stderr.isatty():
            seconds = time.monotonic() - self._begin
            self._say(summary(report, seconds, self._output), elapsed=round(seconds, 3))

    def _say(self, text: str, **facts: Any) -> None:
        self._spoke = True
        _logger.info("%s: %s", self._name, text, extra={"input": self._name, **facts})


class Bar(Follower):
    """The live line of a terminal, drawn with rich: name, bar, percent, and the run's state in words."""

    def __init__(
        self, name: str, ahead: Ahead, output: Path | None = None, console: Console | None = None
    ) -> None:
        # Rich takes long to import, and only a terminal needs it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = console or Console(stderr=True)
        name_width = min(NAME, console.width // 3)
        beside = console.width - name_width - PERCENT - 3  # a space between two columns
        words = min(WORDS, beside - SHORTEST) if beside - SHORTEST > FEW else 0
        width = min(LONGEST, max(SHORTEST, beside - words))
        self._name, self._ahead, self._output = name, ahead, output
        self._summary = ""
        self._begin = time.monotonic()
        texts = [TextColumn("{task.fields[said]}", markup=False, table_column=_one_line(words))]
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=_one_line(name_width)),
            BarColumn(bar_width=width),
            TextColumn("{task.fields[percent]}", style="progress.percentage"),
            *(texts if words else ()),
            console=console,
            refresh_per_second=4,
            redirect_stdout=False,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=None, said="staging", percent="")

    @contextlib.contextmanager
    def live(self) -> Iterator[Self]:
        """Draw the line, log records above it. The summary replaces it at the end, unless the step failed."""
        try:
            with self._bar:
                use_stderr()
                yield self
        finally:
            use_stderr()
        if self._summary:
            self._bar.console.out(f"{self._name}: {self._summary}", highlight=False)

    def __call__(self, status: RunStatus) -> None:
        """Show the run's status."""
        ahead = self._ahead(status.run_id) if status.status == State.SENT else None
        said = described(status, ahead)
        if status.status_code == 200:
            self._bar.update(self._task, total=1, completed=1, said=said, percent="100 %")
        elif status.progress:
            part = status.progress.fraction
            self._bar.update(self._task, total=1, completed=part, said=said, percent=f"{100 * part:.0f} %")
        else:
            self._bar.update(self._task, total=None, said=said, percent="")

    def done(self, report: RunReport | None) -> None:
        """Keep the summary for the end."""
        self._summary = summary(report, time.monotonic() - self._begin, self._output)


def _one_line(width: int) -> Column:
    """A column of rich that cuts its text at ``width``."""
    from rich.table import Column

    return Column(max_width=width, no_wrap=True, overflow="ellipsis")


def described(status: RunStatus, ahead: int | None) -> str:
    """The status in a few words; ``ahead`` runs are before it in the queue."""
    if status.status_code == 200:
        return "collecting"
    if status.progress:
        return ", ".join(_pace(status.progress))
    if status.status != State.SENT:
        return status.status.lower()
    return f"queued behind {ahead:,}" if ahead else "waiting for its worker"


def _pace(progress: Progress) -> list[str]:
    """Records, records per second and the remaining time, as far as they are known."""
    said = [f"{progress.records:,} records"]
    if progress.records and progress.seconds:
        said.append(f"{progress.records / progress.seconds:,.0f}/s")
    if progress.seconds and 0 < progress.fraction < 1:
        left = progress.seconds * (1 - progress.fraction) / progress.fraction
        said.append(f"{timedelta(seconds=round(left))} left")
    return said


def summary(report: RunReport | None, seconds: float, output: Path | None) -> str:
    """The step's last line: assembly, records, identifiers or alleles, errors, seconds, OUT."""
    took = f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
    if report is None:
        return f"ended after {took}"
    counts, options = report.counts, report.options
    if isinstance(options, IngestOptions):
        made = f"{report.registered.alleles if report.registered else 0:,} alleles registered"
        wrong = f"{report.registered.conflicts if report.registered else 0:,} conflicts"
    else:
        made, wrong = f"{counts.ids:,} identifiers", f"{sum(counts.errors.values()):,} errors"
    place = f" -> {escaped(str(output))}" if output else ""
    return f"{options.assembly}, {counts.records:,} records, {made}, {wrong} in {took}{place}"
