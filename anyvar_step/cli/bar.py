"""The live line of a terminal, drawn with rich: name, bar, percent, and the run's state in words."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from anyvar_step.cli.logs import use_stderr
from anyvar_step.cli.progress import Ahead, described, summary
from anyvar_step.models import RunReport, RunStatus, State

#: Columns of the name, the percentage and the longest description; the bar takes the rest, within bounds.
NAME, PERCENT, WORDS = 20, 5, 42
SHORTEST, LONGEST = 6, 40
#: Columns below which a narrow terminal shows no description.
FEW = 10


class Bar:
    """``with Bar(…) as follower``: log records appear above the live line.

    At the end a line with the summary takes its place; there is none where the step failed.
    """

    def __init__(
        self, name: str, ahead: Ahead, output: Path | None = None, console: Console | None = None
    ) -> None:
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

    def __enter__(self) -> Self:
        self._bar.start()
        use_stderr()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        use_stderr()
        if kind is None and self._summary:
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
    return Column(max_width=width, no_wrap=True, overflow="ellipsis")
