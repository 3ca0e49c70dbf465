"""``anyvar-step annotate``: the step that a pipeline rule calls."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli import making, options, outputs, selection, steps, tickets, types
from anyvar_step.cli.group import Sectioned

if TYPE_CHECKING:
    from anyvar_step.models import RunReport, RunRequest
    from anyvar_step.settings import Settings
    from anyvar_step.step.delivery import Target
    from anyvar_step.step.intake import Intake
    from anyvar_step.step.waiting import Patience

_logger = logging.getLogger(__name__)


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step annotate in.vcf.gz -o out.vcf.gz
  anyvar-step annotate in.vcf -o out.vcf --local --reference GRCh38=GRCh38.fa
  anyvar-step annotate in.vcf.gz -o chr1.bcf -r chr1 --attributes
  gunzip -c in.vcf.gz | anyvar-step annotate - -o - > out.vcf""",
)
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path, allow_dash=True))
@options.target
@options.request
@selection.selection
@options.patience
@options.resubmit
@click.option(
    "--chunks",
    type=types.Chunks(),
    default=1,
    metavar="N|auto",
    help="Annotate IN in so many pieces, on all workers at once. [default: 1]",
)
@steps.retries
@options.progress
@options.via
@options.connection
@steps.local
def command(
    source: Path,
    output: Path,
    output_type: str | None,
    write_index: bool | None,
    csi: bool,
    compress_level: int,
    ndjson: Path | None,
    tsv: Path | None,
    report: Path | None,
    timeout: float | None,
    queue_timeout: float,
    outage: float | None,
    resubmit: int,
    chunks: int,
    retries: int,
    via: str | None,
    local: bool,
    workers: int,
    store: Path | None,
    reference: tuple[str, ...],
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
    **request: Any,
) -> None:
    """Annotate the VCF IN with GA4GH VRS identifiers and write OUT.

    IN (.vcf, .vcf.gz, .bcf, or - for standard input) is copied into the work dir that the workers share and
    queued; the command waits until its run ends.
    """
    if local and via == "http":
        raise click.UsageError("--local has no web API: leave out --via http")
    steps.refuse_retries_of_a_stream(retries, source)
    if request["run_id"] and chunks != 1:
        raise click.UsageError("--run-id names one run, and --chunks makes several")
    if ndjson and request["existing"] == "keep":
        raise click.UsageError("--ndjson needs VRS attributes, and fields that are kept may lack them")
    if ndjson:
        request["attributes"] = True
    goal = making.make_target(output, output_type, write_index, compress_level, csi, ndjson=ndjson, tsv=tsv)
    outputs.check(
        outputs.of_input(source, request["regions_file"], request["targets_file"])
        | steps.files(store, reference),
        outputs.of_target(goal) | {"--report": report},
    )
    intake = selection.make_intake(source, request)
    with steps.servers(local, workers, store, reference) as environ:
        settings = making.load_settings(work_dir, broker_url, latency_wait, environ=environ)
        level = 1 if goal.bcf else compress_level
        asked = making.make_request(goal.output_format, level, intake, index=goal.tbi, **request)
        # A private Redis that is gone does not come back.
        patience = making.make_patience(timeout, queue_timeout, 0.0 if local else outage, resubmit)
        done = steps.with_retries(
            retries, lambda: _step(settings, via, intake, goal, asked, patience, chunks)
        )
        if report:
            tickets.write_text(report, done.model_dump_json(indent=2))


def _step(
    settings: Settings,
    via: str | None,
    source: Intake,
    goal: Target,
    asked: RunRequest,
    patience: Patience,
    chunks: int,
) -> RunReport:
    from anyvar_step.cli.progress import shown
    from anyvar_step.step.annotate import annotate
    from anyvar_step.step.scatter import annotate_in_pieces, automatic

    with (
        making.reached(
            settings, via, steps.holder(goal.path), folder=goal.folder, outage=patience.outage
        ) as transport,
        shown(source.name, transport.queued) as watch,
    ):
        if chunks != 1 and source.path is None:
            _logger.warning("--chunks needs a file to cut: standard input is annotated as one")
        if chunks != 1 and source.path:
            source.check()
            with source.as_file(goal.folder) as path:
                if chunks == types.AUTO:
                    chunks = automatic(path.stat().st_size, transport.capacity())
                report = annotate_in_pieces(
                    transport, path, goal, asked, chunks=chunks, patience=patience, watch=watch
                )
        else:
            report = annotate(transport, source, goal, asked, patience=patience, watch=watch)
        watch.done(report)
        return _noted(report, source)


def _noted(report: RunReport, source: Intake) -> RunReport:
    """The report, with a note where the selection has left nothing: a slip of the pen is not seen else."""
    if report.counts.records or not source.selection:
        return report
    asked = shlex.join(source.selection.words())
    note = f"{source.name} has no record for {asked}: are its contigs named so?"
    _logger.warning("%s", note)
    return report.model_copy(update={"notes": (*report.notes, note)})
