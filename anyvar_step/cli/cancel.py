"""``anyvar-step cancel``: stop a run wherever it is."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import making, options, tickets


@click.command(
    epilog="""\b
Examples:
  anyvar-step submit in.vcf.gz --ticket in.ticket
  anyvar-step cancel in.ticket"""
)
@options.run
@options.via
@options.connection
def command(
    run: str, via: str | None, work_dir: Path | None, broker_url: str | None, latency_wait: float | None
) -> None:
    """Cancel RUN and remove its files.

    RUN is a run id or a ticket file. It is stopped wherever it is: in the queue or at work.
    """
    with making.reached(making.load_settings(work_dir, broker_url, latency_wait), via) as transport:
        transport.cancel(tickets.find_ticket(transport, run))
