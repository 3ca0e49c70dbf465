"""``anyvar-step check``: whether runs would get through from this host, and the remedy where not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.logs import say, say_json
from anyvar_step.cli.options import Values

if TYPE_CHECKING:
    from anyvar_step.check import Finding


@click.command(
    epilog="""\b
Examples:
  anyvar-step check
  srun anyvar-step check --assembly GRCh38 --json

\b
Exit code: that of the worst error, 0 if there are only warnings.
  78 a setting is wrong       77 a permission is missing
  74 trouble with files       69 Redis, web API or workers are not there"""
)
@click.option(
    "--assembly",
    multiple=True,
    metavar="NAME",
    help="An assembly that the workers must know; repeatable. [default: none]",
)
@options.as_json
@options.via
@options.connection
@click.pass_context
def check_command(
    ctx: click.Context, assembly: tuple[str, ...], as_json: bool, via: str | None, connection: Values
) -> None:
    """Check Redis, work dir, workers and settings from this host.

    Each finding comes with its remedy. The work dir is tried both ways: each worker reads a file of this
    host and writes one that is read here. Nothing is queued, and busy workers answer, too.
    """
    from anyvar_step import __version__
    from anyvar_step.check import exit_code

    findings = []
    for finding in _findings(assembly, via, connection):
        findings.append(finding)
        if not as_json:
            _show(finding)
    code = exit_code(findings)
    if as_json:
        rows = [finding.__dict__ for finding in findings]
        say_json({"anyvar_step": __version__, "exit_code": code, "findings": rows})
    else:
        levels = [finding.level for finding in findings]
        say(f"{_number(levels.count('error'), 'error')}, {_number(levels.count('warning'), 'warning')}")
    ctx.exit(code)


def _findings(assembly: tuple[str, ...], via: str | None, connection: Values) -> Iterator[Finding]:
    """The findings, one by one; settings that cannot be read are one, too."""
    from anyvar_step import check
    from anyvar_step.errors import StepError

    try:
        settings = factories.load_settings(connection)
        yield from check.check_names(settings)
        if factories.over_http(settings, via):
            web = factories.import_extra("http", "anyvar_step.check", "httpx")
            yield from web.check_web_api(settings.required_url(), settings.token)
        else:
            yield from check.check(settings, assembly)
    except StepError as error:
        yield check.failed("settings", error)


def _show(finding: Finding) -> None:
    worker = f"{finding.worker}: " if finding.worker else ""
    say(f"{finding.level:<8} {finding.about:<10} {worker}{finding.what}")
    if finding.remedy:
        say(f"{'':17} -> {finding.remedy}")


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
