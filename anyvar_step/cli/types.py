"""What the values of options may be: durations, numbers of chunks, run ids, tickets."""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90s, 30m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        if not match:
            self.fail(f"{value!r} is not a duration; write 90s, 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


#: The number of chunks that stands for "find out".
AUTO = 0


class Chunks(click.ParamType[int]):
    """How many pieces: a number, or auto."""

    name = "chunks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: D102
        if value == "auto":
            return AUTO
        from anyvar_step.step.scatter import MOST

        if not str(value).isdigit() or not 1 <= int(value) <= MOST:
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MOST}", param, ctx)
        return int(value)


class RunId(click.ParamType[str]):
    """A run id: letters, digits, dots, dashes and underscores."""

    name = "run id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        from anyvar_step.broker.names import is_run_id

        if not is_run_id(value):
            self.fail(f"{value[:40]!r} is no run id: up to 128 letters, digits, . _ and -", param, ctx)
        return str(value)


class Run(click.ParamType[str]):
    """A run id or a ticket file; the shell completes file names."""

    name = "run"

    def shell_complete(  # noqa: D102
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]
