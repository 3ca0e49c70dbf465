"""``anyvar-step check``: whether runs would get through from this host, and what to do where not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
Exit code: that of the worst error, 0 where there is none but warnings.
  78 something is set wrong   77 something is not allowed
  74 trouble with files       69 Redis, web API or workers are not there"""
)
@click.option("--assembly", multiple=True, metavar="NAME", help="The workers must know it; may be repeated.")
@options.as_json
@options.via
@options.connection
@click.pass_context
def check_command(
    ctx: click.Context,
    assembly: tuple[str, ...],
    as_json: bool,
    via: str | None,
    connection: Values,
) -> None:
    """Look at Redis, work dir, workers and settings from this host.

    Each finding comes with what to do about it. The work dir is tried both ways: each worker reads a file
    that is written here, and writes one that is read here. Nothing is queued: workers answer while they work.
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
        say(_sum(findings))
    ctx.exit(code)


def _findings(assembly: tuple[str, ...], via: str | None, connection: Values) -> Iterator[Finding]:
    """The findings, one by one; settings that cannot be read are one, too."""
    from anyvar_step import check
    from anyvar_step.check import failed, look
    from anyvar_step.errors import StepError

    try:
        settings = factories.load_settings(connection)
        yield from check.names(settings)
        if factories.over_http(settings, via):
            web = factories.import_extra("http", "anyvar_step.check", "httpx")
            yield from web.look_at_web_api(settings.required_url(), settings.token)
        else:
            yield from look(settings, assembly)
    except StepError as error:
        yield failed("settings", error)


def _show(finding: Finding) -> None:
    of = f"{finding.worker}: " if finding.worker else ""
    say(f"{finding.level:<8} {finding.about:<10} {of}{finding.what}")
    if finding.remedy:
        say(f"{'':17} -> {finding.remedy}")


def _sum(findings: Iterable[Finding]) -> str:
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    return f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"
