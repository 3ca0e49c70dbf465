"""What the program writes to terminals and logs: failures, log records and lines of output, all escaped."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import click

from anyvar_step.text import escaped, printable

#: Heading of the options in ``--help-all``.
TITLE = "Messages"
#: What every log record has; all else was given with ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class TextLines(logging.Formatter):
    """One line for a message; a traceback follows in lines of its own."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        text = f"anyvar-step: {printable(record.getMessage())}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            text = "\n".join([text, *map(printable, trace)])
        return text


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what the caller adds."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if isinstance(data := given.pop("data", None), dict):  # Celery's: the parts of the message
            found["run_id"] = data.get("id")
        found |= given
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


def configure(*, log_format: str, verbose: int, quiet: bool, debug: bool) -> None:
    """Set up the root logger. Without options it writes warnings and errors as text."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    level = logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING - 10 * verbose
    logging.basicConfig(level=max(level, logging.DEBUG), handlers=[handler], force=True)


def use_stderr() -> None:
    """Write to what ``sys.stderr`` is from now on: a progress bar replaces it."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)


def say(line: str) -> None:
    """Write a line to standard output; tabs separate its columns."""
    click.echo("\t".join(map(escaped, line.split("\t"))))


def say_json(value: object) -> None:
    """Write a JSON document to standard output, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def say_failure(message: str) -> None:
    """Write the line with which a command fails to standard error, as --log-format asks."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if any(isinstance(formatter, JsonLines) for formatter in formatters):
        logging.getLogger("anyvar_step").error("%s", message)
    else:
        click.echo(f"anyvar-step: {printable(message)}", err=True)


def say_wrong_usage(error: click.ClickException) -> None:
    """Write click's lines, or a JSON line; the options may not have been parsed, so argv decides."""
    if "--log-format json" in " ".join(sys.argv[1:]).replace("=", " "):
        configure(log_format="json", verbose=0, quiet=False, debug=False)
        say_failure(error.format_message())
    else:
        error.message = printable(error.message)  # type: ignore[misc]
        error.show()


def options(**attributes: Any) -> list[click.Option]:
    """The options on messages; ``attributes`` go to each of them."""
    return [
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Log each stage. [default: warnings]",
            **attributes,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Log errors only.", **attributes),
        click.Option(["--debug"], is_flag=True, help="Log all, with tracebacks.", **attributes),
        click.Option(
            ["--log-format"],
            type=click.Choice(["text", "json"]),
            default="text",
            metavar="text|json",
            help="Format of the log. [default: text]",
            **attributes,
        ),
    ]


def accepted_by(command: click.Command) -> click.Command:
    """The command with these options added, so that they can stand behind its name."""
    ours = options(expose_value=False, callback=_change)
    command.params += [option for option in ours if option.name not in {each.name for each in command.params}]
    return command


def _change(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Treat an option behind the command's name like one before it."""
    given = ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
    root = ctx.find_root()
    if given and root is not ctx:
        root.params[param.name or ""] = value
        configure(**root.params)
