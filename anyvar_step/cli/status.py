"""``anyvar-step status``: what the run-status endpoint would answer."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import making, options, tickets


@click.command(
    epilog="""\b
Examples:
  anyvar-step status in.ticket
  anyvar-step status in.ticket --json"""
)
@options.run
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.via
@options.connection
def command(
    run: str,
    as_json: bool,
    via: str | None,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Print the status of RUN: 200, 202, 404 or the failure code.

    RUN is a run id or a ticket file. Looks once and does not wait; an unknown run is an answer (404), not a
    failure.
    """
    settings = making.load_settings(work_dir, broker_url, latency_wait)
    ticket = tickets.read_ticket(run)
    with making.reached(settings, via, "", take=False) as transport:
        status = transport.status(ticket.run_id if ticket else run)
    if as_json:
        click.echo(status.model_dump_json(indent=2))
        return
    line = f"{status.run_id}: {status.status_code} {status.status}"
    if status.progress:
        line += f", {status.progress.records} records, {100 * status.progress.fraction:.0f} %"
    if status.error_code:
        line += f", {status.error_code}: {status.message}"
    click.echo(line)
