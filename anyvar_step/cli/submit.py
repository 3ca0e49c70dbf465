"""``anyvar-step submit``: stage and queue a VCF without waiting for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anyvar_step.cli import making, options, outputs, selection, tickets
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
@selection.selection
@options.via
@options.connection
def command(
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
    from anyvar_step.broker.leases import DETACHED
    from anyvar_step.step.endings import left_to_nobody
    from anyvar_step.step.run import submit
    from anyvar_step.step.signals import interruptible

    outputs.check(
        outputs.of_input(source, request["regions_file"], request["targets_file"]), {"--ticket": ticket}
    )
    intake = selection.make_intake(source, request)
    settings = making.load_settings(work_dir, broker_url, latency_wait)
    with making.reached(settings, via, DETACHED, take=False) as transport, interruptible():
        asked = making.make_request(output_type, compress_level, intake, index=output_type == "z", **request)
        with left_to_nobody(transport):
            manifest, _ = submit(transport, intake, asked)
    click.echo(manifest.run_id)  # first: whatever becomes of the ticket, the run can be found
    if ticket:
        tickets.write_text(ticket, manifest.model_dump_json(indent=1))
