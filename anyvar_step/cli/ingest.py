"""``anyvar-step ingest``: register the alleles of a VCF that carries VRS fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.cli import making, options, outputs, steps, tickets, types
from anyvar_step.cli.group import Sectioned

if TYPE_CHECKING:
    from anyvar_step.models import RunReport


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step ingest vrs.vcf.gz
  anyvar-step ingest vrs.vcf.gz --require-validation --conflicts wrong.csv""",
)
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path, allow_dash=True))
@click.option("--assembly", default="GRCh38", show_default=True, help="The VCF's reference assembly.")
@click.option(
    "--require-validation/--no-require-validation",
    default=False,
    show_default=True,
    help="Compute all ids anew from REF and ALT, and register those.",
)
@options.force
@click.option(
    "--conflicts",
    type=click.Path(readable=False, path_type=Path),
    metavar="OUT.csv",
    help="Write the ids that are wrong.",
)
@click.option(
    "--report",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Write the run's report.",
)
@click.option(
    "--run-id", type=types.RunId(), metavar="ID", help="Use this run id. [default: from the content]"
)
@options.patience
@options.resubmit
@steps.retries
@options.progress
@options.connection
@steps.local
def command(
    source: Path,
    assembly: str,
    require_validation: bool,
    force: bool,
    conflicts: Path | None,
    report: Path | None,
    run_id: str | None,
    timeout: float | None,
    queue_timeout: float,
    outage: float | None,
    resubmit: int,
    retries: int,
    local: bool,
    workers: int,
    store: Path | None,
    reference: tuple[str, ...],
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Register the alleles of the annotated VCF IN.

    They go to the workers' store (ANYVAR_STORAGE_URI). Without validation, location and state are taken as
    the VRS fields say, and an allele whose id does not follow from them is left out. Needs the fields that
    `annotate --attributes` writes.
    """
    from anyvar_step.cli.progress import shown
    from anyvar_step.errors import ConfigurationError
    from anyvar_step.models import IngestOptions, RunRequest
    from anyvar_step.step.ingest import ingest
    from anyvar_step.step.intake import Intake

    steps.refuse_retries_of_a_stream(retries, source)
    outputs.check(
        outputs.of_input(source) | steps.files(store, reference),
        {"--conflicts": conflicts, "--report": report},
    )
    chosen = IngestOptions(assembly=assembly, require_validation=require_validation)
    asked = RunRequest(options=chosen, run_id=run_id, force=force)
    path = Intake(making.path_or_stdin(source))
    with steps.servers(local, workers, store, reference) as environ:
        settings = making.load_settings(work_dir, broker_url, latency_wait, environ=environ)
        if making.over_http(settings, None):
            raise ConfigurationError(
                "ingest reaches its run through Redis and the work dir only, and no work dir is set",
                "Set ANYVAR_VCF_ASYNC_WORK_DIR, or send IN to the web API yourself: PUT /annotated_vcf",
            )
        patience = making.make_patience(timeout, queue_timeout, 0.0 if local else outage, resubmit)
        with making.reached(settings, "celery", steps.holder(conflicts)) as transport:

            def step() -> RunReport:
                with shown(path.name, transport.queued) as watch:
                    report = ingest(transport, path, conflicts, asked, patience=patience, watch=watch)
                    watch.done(report)
                    return report

            done = steps.with_retries(retries, step)
        if report:
            tickets.write_text(report, done.model_dump_json(indent=2))
