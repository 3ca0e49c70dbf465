"""The live line of a terminal, drawn with rich: name, bar, percent, and the run's state in words."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from anyvar_step.cli.logs import use_stderr
from anyvar_step.cli.progress import Ahead, described, finished
from anyvar_step.models import RunReport, RunStatus, State

#: Columns of the name, the percentage and the longest words; the bar takes what is left, within bounds.
NAME, PERCENT, WORDS = 20, 5, 42
SHORTEST, LONGEST = 6, 40
#: A narrow terminal has less of the words, and none where no more than so many columns are left for them.
FEW = 10


class Bar:
    """``with Bar(…) as watch``; what is logged meanwhile appears above the line.

    The line stays where the step has done its work, and goes where it failed.
    """

    def __init__(self, name: str, ahead: Ahead, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        name_width = min(NAME, console.width // 3)
        beside = console.width - name_width - PERCENT - 3  # a space between two columns
        words = min(WORDS, beside - SHORTEST) if beside - SHORTEST > FEW else 0
        width = min(LONGEST, max(SHORTEST, beside - words))
        self._ahead = ahead
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
        )
        self._task = self._bar.add_task(name, total=None, said="staging", percent="")

    def __enter__(self) -> Self:
        self._bar.start()
        use_stderr()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.live.transient = kind is not None
        self._bar.stop()
        use_stderr()

    def __call__(self, status: RunStatus) -> None:
        """The run's status now."""
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
        """The line's last words."""
        said = finished(report, time.monotonic() - self._begin)
        self._bar.update(self._task, total=1, completed=1, said=said, percent="100 %")


def _one_line(width: int) -> Column:
    return Column(max_width=width, no_wrap=True, overflow="ellipsis")
