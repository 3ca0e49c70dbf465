"""``anyvar-step config``: the settings in force, and limits that fit together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli import options
from anyvar_step.cli.logs import say, say_json

if TYPE_CHECKING:
    from anyvar_step.settings import Settings


@click.command(
    epilog="""\b
Examples:
  anyvar-step config
  anyvar-step config --for 8h >> .env"""
)
@click.option(
    "--for",
    "run_length",
    type=options.Duration(),
    metavar="DURATION",
    help="Print limits for runs of that length, such as 8h. [default: print the settings]",
)
@options.as_json
def config_command(run_length: float | None, as_json: bool) -> None:
    """Print the settings in force and where they came from.

    With --for, print time limits, visibility timeout and result expiry that fit runs of that length, ready
    for an environment file.
    """
    from anyvar_step.settings import limits_for, load

    if run_length is not None:
        if run_length < 1:
            raise click.BadParameter("a run takes a second or more", param_hint="--for")
        limits = limits_for(int(run_length))
        if as_json:
            say_json(limits)
        else:
            for name, value in limits.items():
                say(f"{name}={value}")
        return
    settings = load()
    for name, remedy in settings.mistyped.items():
        logging.getLogger(__name__).warning("%s is no setting. %s", name, remedy)
    rows = list(_rows(settings))
    if as_json:
        say_json(rows)
        return
    widths = [max(len(row[key]) for row in rows) for key in rows[0]]
    for row in [dict(zip(rows[0], ("VARIABLE", "VALUE", "ORIGIN", "CELERY SETTING"), strict=True)), *rows]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row.values(), widths, strict=True)).rstrip())


def _rows(settings: Settings) -> Iterator[dict[str, str]]:
    from anyvar_step.settings import shown

    for name, field in type(settings).model_fields.items():
        extra: Any = field.json_schema_extra
        yield {
            "variable": str(field.alias),
            "value": shown(settings, name),
            "origin": settings.origin(name),
            "celery": extra["celery"],
        }
