"""``anyvar-step submit, wait, status, collect, cancel``: a run without a step that waits for it."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.group import Sectioned
from anyvar_step.cli.logs import say, say_json
from anyvar_step.cli.options import Values


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step submit in.vcf.gz --ticket in.ticket""",
)
@options.source
@options.path("ticket", "--ticket", help="Write a ticket file. [default: none]")
@click.option(
    "-O",
    "--output-type",
    type=options.OutputType("vz"),
    default="z",
    show_default=True,
    metavar="v|z[0-12]",
    help="Text or BGZF, and a level.",
)
@options.compress_level
@options.request
@options.selection
@options.via
@options.connection
def submit_command(
    source: Path | None,
    ticket: Path | None,
    output_type: str,
    compress_level: int | None,
    request: Values,
    selection: Values,
    via: str | None,
    connection: Values,
) -> None:
    """Stage and queue the VCF IN, and print its run id.

    - is standard input, as is no IN. The same VCF with the same options finds the run that exists already.
    """
    from anyvar_step.client.cancellation import cancel_on_failure, interruptible
    from anyvar_step.client.step import refuse_for_anyvars_workers, submit
    from anyvar_step.runs.step_lease import DETACHED

    intake = factories.make_source(source, selection)
    factories.check_files(factories.files_of_source(intake.path, selection), {"--ticket": ticket})
    form, level = factories.output_format(output_type, compress_level)
    settings = factories.load_settings(connection)
    asked = factories.make_request(request, intake, settings, form=form, level=level, index=form == "z")
    with (
        factories.open_transport(settings, via, DETACHED, download=False) as transport,
        interruptible(),
        cancel_on_failure(transport),
    ):
        refuse_for_anyvars_workers(transport, asked)
        manifest, _ = submit(transport, intake, asked)
    say(manifest.run_id)  # first: the run can be found even if the ticket cannot be written
    if ticket:
        factories.write_text(ticket, manifest.model_dump_json(indent=1))


@click.command(
    epilog="""\b
Examples:
  anyvar-step wait in.ticket
  anyvar-step wait in.ticket --timeout 2h --queue-timeout 30m"""
)
@options.run
@options.patience_to_watch
@options.progress
@options.via
@options.connection
def wait_command(run: str, patience: Values, via: str | None, connection: Values) -> None:
    """Wait until RUN has ended; the exit code tells how.

    RUN is a run id or a ticket file. The run goes on if the wait is interrupted: `anyvar-step cancel` stops
    it.
    """
    from anyvar_step.cli.progress import follow
    from anyvar_step.client.cancellation import interruptible
    from anyvar_step.client.transport import end_failed
    from anyvar_step.client.wait import wait
    from anyvar_step.runs.step_lease import DETACHED

    settings = factories.load_settings(connection)
    with factories.open_transport(settings, via, DETACHED, download=False) as transport:
        ticket = factories.find_ticket(transport, run)
        with interruptible(), follow(ticket.input_name or ticket.run_id, transport.queue_length) as watch:
            status = wait(transport, ticket, factories.make_patience(patience), watch)
            if status.status_code == 200:
                watch.done(None)
        if status.status_code != 200:
            raise end_failed(transport, ticket, status)


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step collect in.ticket -o out.vcf.gz --report run.json""",
)
@options.run
@options.target
@options.report
@options.via
@options.connection
def collect_command(
    run: str, target: Values, report: Path | None, via: str | None, connection: Values
) -> None:
    """Write the output of RUN, which has ended, to OUT.

    RUN is a run id or a ticket file. The run and its files are then removed from the work dir.
    """
    from anyvar_step.client.cancellation import interruptible
    from anyvar_step.client.step import collect_now
    from anyvar_step.runs.step_lease import DETACHED

    goal = factories.make_target(**target)
    factories.check_files({"RUN": Path(run)}, factories.files_of_target(goal) | {"--report": report})
    settings = factories.load_settings(connection)
    with factories.open_transport(settings, via, DETACHED, folder=goal.folder) as transport, interruptible():
        ticket = factories.find_ticket(transport, run)
        if report and not ticket.digest:
            raise click.UsageError("over HTTP, --report needs the ticket file: the run id tells too little")
        done = collect_now(transport, ticket, goal)
    if report:
        factories.write_report(report, done, goal.path)


@click.command(
    epilog="""\b
Examples:
  anyvar-step status in.ticket
  anyvar-step status in.ticket --json"""
)
@options.run
@options.as_json
@options.via
@options.connection
def status_command(run: str, as_json: bool, via: str | None, connection: Values) -> None:
    """Print the status of RUN: 200, 202, 404 or the failure code.

    RUN is a run id or a ticket file. Does not wait. An unknown run is an answer (404), not a failure.
    """
    settings = factories.load_settings(connection)
    ticket = factories.read_ticket(run)
    with factories.open_transport(settings, via, "", download=False) as transport:
        status = transport.status(ticket.run_id if ticket else run)
    if as_json:
        say_json(status.model_dump(mode="json"))
        return
    line = f"{status.run_id}: {status.status_code} {status.status}"
    if status.progress:
        line += f", {status.progress.records} records, {100 * status.progress.fraction:.0f} %"
    if status.error_code:
        line += f", {status.error_code}: {status.message}"
    say(line)


@click.command(
    epilog="""\b
Examples:
  anyvar-step submit in.vcf.gz --ticket in.ticket
  anyvar-step cancel in.ticket"""
)
@options.run
@options.via
@options.connection
def cancel_command(run: str, via: str | None, connection: Values) -> None:
    """Cancel RUN, queued or running, and remove its files.

    RUN is a run id or a ticket file.
    """
    with factories.open_transport(factories.load_settings(connection), via) as transport:
        transport.cancel(factories.find_ticket(transport, run), shared=False)
