"""``anyvar-step wait``: block until a submitted run ends."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import making, options, tickets


@click.command(
    epilog="""\b
Examples:
  anyvar-step wait in.ticket
  anyvar-step wait in.ticket --timeout 2h --queue-timeout 30m"""
)
@options.run
@options.waiting
@options.progress
@options.via
@options.connection
def command(
    run: str,
    timeout: float | None,
    queue_timeout: float,
    outage: float | None,
    via: str | None,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Wait until RUN has ended; the exit code tells how.

    RUN is a run id or a ticket file. An interrupted wait leaves the run at work: use `anyvar-step cancel` to
    stop it.
    """
    from anyvar_step.broker.leases import DETACHED
    from anyvar_step.cli.progress import shown
    from anyvar_step.step.endings import ended_badly
    from anyvar_step.step.signals import interruptible
    from anyvar_step.step.waiting import wait

    settings = making.load_settings(work_dir, broker_url, latency_wait)
    patience = making.make_patience(timeout, queue_timeout, outage)
    with making.reached(settings, via, DETACHED, take=False) as transport:
        ticket = tickets.find_ticket(transport, run)
        with interruptible(), shown(ticket.input_name or ticket.run_id, transport.queued) as watch:
            status = wait(transport, ticket, patience, watch)
            if status.status_code == 200:
                watch.done(None)
        if status.status_code != 200:
            raise ended_badly(transport, ticket, status)
