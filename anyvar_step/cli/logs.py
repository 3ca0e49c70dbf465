"""What the program says on standard error: lines for people or JSON lines, more or less of it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import click

#: Heading of these options.
TITLE = "Messages"
#: What every log record has; what else it has was given with ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what the caller adds."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if isinstance(data := given.pop("data", None), dict):  # Celery's: the message's parts once more
            said["run_id"] = data.get("id")
        said |= given
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def configure(*, log_format: str, verbose: int, quiet: bool, debug: bool) -> None:
    """Set the root logger up: ``log_format`` is text or json; no option = warnings and errors are said."""
    handler = logging.StreamHandler()
    text = logging.Formatter("anyvar-step: %(message)s")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    level = logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING - 10 * verbose
    logging.basicConfig(level=max(level, logging.DEBUG), handlers=[handler], force=True)


def use_stderr() -> None:
    """Write to what ``sys.stderr`` is from now on: a progress bar puts something else there."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)


def say_failure(message: str) -> None:
    """The one line with which a command fails, in the form that ``--log-format`` asked for."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if any(isinstance(formatter, JsonLines) for formatter in formatters):
        logging.getLogger("anyvar_step").error("%s", message)
    else:
        click.echo(f"anyvar-step: {message}", err=True)


def say_wrong_usage(error: click.ClickException) -> None:
    """Click's own lines, or a JSON line; where options were not understood, what was typed tells."""
    if "--log-format json" in " ".join(sys.argv[1:]).replace("=", " "):
        configure(log_format="json", verbose=0, quiet=False, debug=False)
        say_failure(error.format_message())
    else:
        error.show()


def options(**attributes: Any) -> list[click.Option]:
    """The options that say how much is said, and how; ``attributes`` go to each of them."""
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say more.", **attributes),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say errors only.", **attributes),
        click.Option(["--debug"], is_flag=True, help="Say everything.", **attributes),
        click.Option(
            ["--log-format"],
            type=click.Choice(["text", "json"]),
            default="text",
            metavar="text|json",
            help="Form of messages.",
            **attributes,
        ),
    ]


def accepted_by(command: click.Command) -> click.Command:
    """The command, which takes these options, too: ``anyvar-step annotate -v`` is what people type."""
    ours = options(expose_value=False, callback=_change)
    command.params += [option for option in ours if option.name not in {each.name for each in command.params}]
    return command


def _change(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Let an option that stands after the command's name count like one before it."""
    given = ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
    root = ctx.find_root()
    if given and root is not ctx:
        root.params[param.name or ""] = value
        configure(**{option.name or "": root.params[option.name or ""] for option in options()})
