"""``anyvar-step collect``: fetch the output of a finished run."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import making, options, outputs, tickets
from anyvar_step.cli.group import Sectioned


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
def command(
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
    from anyvar_step.broker.leases import DETACHED
    from anyvar_step.step.annotate import collect_now
    from anyvar_step.step.signals import interruptible

    goal = making.make_target(output, output_type, write_index, compress_level, csi, ndjson=ndjson, tsv=tsv)
    outputs.check({"RUN": Path(run)}, outputs.of_target(goal) | {"--report": report})
    settings = making.load_settings(work_dir, broker_url, latency_wait)
    with making.reached(settings, via, DETACHED, folder=goal.folder) as transport, interruptible():
        ticket = tickets.find_ticket(transport, run)
        if report and not ticket.digest:
            raise click.UsageError("over HTTP, --report needs the ticket file: the run id tells too little")
        done = collect_now(transport, ticket, goal)
    if report:
        tickets.write_text(report, done.model_dump_json(indent=2))
