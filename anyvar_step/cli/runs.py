"""``anyvar-step cancel``: stop a run wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.group import Sectioned


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step submit in.vcf.gz --ticket in.ticket""",
)
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path, allow_dash=True))
@click.option(
    "--ticket", type=click.Path(readable=False, path_type=Path), metavar="FILE", help="Write a ticket file."
)
@click.option(
    "-O", "--output-type", type=click.Choice(["v", "z"]), default="z", show_default=True, help="Text or BGZF."
)
@options.compress_level
@options.request
@factories.selection
@options.via
@options.connection
def submit_command(
    source: Path,
    ticket: Path | None,
    output_type: str,
    compress_level: int,
    via: str | None,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
    **request: Any,
) -> None:
    """Stage and queue the VCF IN, and print its run id.

    The same VCF with the same options finds the run that is at work already.
    """
    from anyvar_step.client.failure import cancel_on_failure
    from anyvar_step.client.signals import interruptible
    from anyvar_step.client.step import submit
    from anyvar_step.runs.lease import DETACHED

    factories.check(
        factories.of_input(source, request["regions_file"], request["targets_file"]), {"--ticket": ticket}
    )
    intake = factories.make_intake(source, request)
    settings = factories.load_settings(work_dir, broker_url, latency_wait)
    with factories.reached(settings, via, DETACHED, take=False) as transport, interruptible():
        asked = factories.make_request(
            output_type, compress_level, intake, index=output_type == "z", **request
        )
        with cancel_on_failure(transport):
            manifest, _ = submit(transport, intake, asked)
    click.echo(manifest.run_id)  # first: whatever becomes of the ticket, the run can be found
    if ticket:
        factories.write_text(ticket, manifest.model_dump_json(indent=1))


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
def wait_command(
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
    from anyvar_step.cli.progress import shown
    from anyvar_step.client.failure import ended_badly
    from anyvar_step.client.signals import interruptible
    from anyvar_step.client.wait import wait
    from anyvar_step.runs.lease import DETACHED

    settings = factories.load_settings(work_dir, broker_url, latency_wait)
    patience = factories.make_patience(timeout, queue_timeout, outage)
    with factories.reached(settings, via, DETACHED, take=False) as transport:
        ticket = factories.find_ticket(transport, run)
        with interruptible(), shown(ticket.input_name or ticket.run_id, transport.queue_length) as watch:
            status = wait(transport, ticket, patience, watch)
            if status.status_code == 200:
                watch.done(None)
        if status.status_code != 200:
            raise ended_badly(transport, ticket, status)


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step collect in.ticket -o out.vcf.gz --report run.json""",
)
@options.run
@options.target
@options.via
@options.connection
def collect_command(
    run: str,
    output: Path,
    output_type: str | None,
    write_index: bool | None,
    csi: bool,
    compress_level: int,
    ndjson: Path | None,
    tsv: Path | None,
    report: Path | None,
    via: str | None,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Write the output of RUN, which has ended, to OUT.

    RUN is a run id or a ticket file. The run and its files are gone from the work dir then.
    """
    from anyvar_step.client.signals import interruptible
    from anyvar_step.client.step import collect_now
    from anyvar_step.runs.lease import DETACHED

    goal = factories.make_target(
        output, output_type, write_index, compress_level, csi, ndjson=ndjson, tsv=tsv
    )
    factories.check({"RUN": Path(run)}, factories.of_target(goal) | {"--report": report})
    settings = factories.load_settings(work_dir, broker_url, latency_wait)
    with factories.reached(settings, via, DETACHED, folder=goal.folder) as transport, interruptible():
        ticket = factories.find_ticket(transport, run)
        if report and not ticket.digest:
            raise click.UsageError("over HTTP, --report needs the ticket file: the run id tells too little")
        done = collect_now(transport, ticket, goal)
    if report:
        factories.write_text(report, done.model_dump_json(indent=2))


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
def status_command(
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
    settings = factories.load_settings(work_dir, broker_url, latency_wait)
    ticket = factories.read_ticket(run)
    with factories.reached(settings, via, "", take=False) as transport:
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


@click.command(
    epilog="""\b
Examples:
  anyvar-step submit in.vcf.gz --ticket in.ticket
  anyvar-step cancel in.ticket"""
)
@options.run
@options.via
@options.connection
def cancel_command(
    run: str, via: str | None, work_dir: Path | None, broker_url: str | None, latency_wait: float | None
) -> None:
    """Cancel RUN and remove its files.

    RUN is a run id or a ticket file. It is stopped wherever it is: in the queue or at work.
    """
    with factories.reached(factories.load_settings(work_dir, broker_url, latency_wait), via) as transport:
        transport.cancel(factories.find_ticket(transport, run), shared=False)
