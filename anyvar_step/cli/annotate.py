"""``anyvar-step annotate`` and ``anyvar-step ingest``: the steps that a pipeline rule calls."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.group import Sectioned
from anyvar_step.cli.options import Values

if TYPE_CHECKING:
    from anyvar_step.client.deliver import Target
    from anyvar_step.client.source import InputSource
    from anyvar_step.client.wait import Patience
    from anyvar_step.models import RunReport, RunRequest
    from anyvar_step.settings import Settings

_logger = logging.getLogger(__name__)


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step annotate in.vcf.gz -o out.vcf.gz
  anyvar-step annotate in.vcf -o out.vcf --local --reference GRCh38.fa
  anyvar-step annotate in.vcf.gz -o chr1.bcf -r chr1 --attributes
  gunzip -c in.vcf.gz | anyvar-step annotate -o - > out.vcf""",
)
@options.source
@options.target
@options.report
@options.request
@options.selection
@options.chunks
@options.patience
@options.retries
@options.progress
@options.via
@options.connection
@options.local
def annotate_command(
    source: Path | None,
    target: Values,
    report: Path | None,
    request: Values,
    selection: Values,
    chunks: int,
    patience: Values,
    retries: int,
    via: str | None,
    connection: Values,
    local: Values,
) -> None:
    """Annotate the VCF IN with GA4GH VRS identifiers and write OUT.

    IN is .vcf, .vcf.gz or .bcf; - or no IN is standard input. It is copied into the workers' work dir and
    queued; the command waits until its run ends.
    """
    from anyvar_step.client.cancellation import interruptible

    if local["local"] and via == "http":
        raise click.UsageError("--local has no web API: leave out --via http")
    if request["run_id"] and chunks != 1:
        raise click.UsageError("--run-id names one run, and --chunks makes several")
    if target["ndjson"]:
        if request["existing"] == "keep":
            raise click.UsageError("--ndjson needs VRS attributes, and fields that are kept may lack them")
        request["attributes"] = True
    intake = factories.make_source(source, selection)
    _refuse_retries(retries, intake)
    goal = factories.make_target(**target)
    factories.check_files(
        factories.files_of_source(intake.path, selection) | factories.files_of_local(local),
        factories.files_of_target(goal) | {"--report": report},
    )
    with interruptible():  # until the report is written
        settings = factories.load_settings(connection, local)
        asked = factories.make_request(
            request,
            intake,
            settings,
            form=goal.output_format,
            level=1 if goal.bcf else goal.level,
            index=goal.tbi,
        )
        waiting = factories.make_patience(patience)  # one for all attempts

        def attempt() -> RunReport:
            return _annotate(settings, via, intake, goal, asked, chunks, waiting, local=local["local"])

        done = _with_note_on_selection(_with_retries(retries, attempt), intake)
        if report:
            factories.write_report(report, done, goal.path)


def _annotate(
    settings: Settings,
    via: str | None,
    source: InputSource,
    target: Target,
    request: RunRequest,
    chunks: int,
    waiting: Patience,
    *,
    local: bool,
) -> RunReport:
    from anyvar_step.cli.progress import follow

    if local:
        from anyvar_step.client.local import annotate

        with follow(source.name, lambda: None, target.path) as watch:
            report = annotate(settings, source, target, request, timeout=waiting.timeout, watch=watch)
            watch.done(report)
        return report
    from anyvar_step.client import scatter, step

    if chunks != 1 and source.is_stream:
        _logger.warning("--chunks needs a file to cut: %s is annotated as one", source.name)
        chunks = 1
    transport = factories.open_transport(
        settings, via, factories.holder_of(target.path), folder=target.folder, outage=waiting.outage
    )
    with transport as reached, follow(source.name, reached.queue_length, target.path) as watch:
        if chunks == 1:
            report = step.annotate(reached, source, target, request, patience=waiting, watch=watch)
        else:
            source.check()
            with source.as_file(target.folder) as path:
                if chunks == options.AUTO:
                    chunks = scatter.automatic(path.stat().st_size, reached.worker_processes())
                report = scatter.annotate_in_pieces(
                    reached, path, target, request, chunks=chunks, patience=waiting, watch=watch
                )
        watch.done(report)
    return report


def _with_note_on_selection(report: RunReport, source: InputSource) -> RunReport:
    """The report, with a note where the selection has left no record: that may be a misspelt contig."""
    if report.counts.records or not source.selection:
        return report
    selection = shlex.join(source.selection.command_line())
    note = f"{source.name} has no record for {selection}: are its contigs named so?"
    _logger.warning("%s", note)
    return report.model_copy(update={"notes": (*report.notes, note)})


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  anyvar-step ingest vrs.vcf.gz
  anyvar-step ingest vrs.vcf.gz --require-validation --conflicts wrong.csv""",
)
@options.source
@options.assembly
@click.option(
    "--require-validation/--no-require-validation",
    default=False,
    help="Compute all identifiers anew from REF and ALT, and register those. "
    "[default: no-require-validation]",
)
@options.force
@options.path(
    "conflicts",
    "--conflicts",
    metavar="OUT.csv",
    help="Write the identifiers that are wrong. [default: none]",
)
@options.report
@options.run_id
@options.patience
@options.retries
@options.progress
@options.connection
@options.local
def ingest_command(
    source: Path | None,
    assembly: str | None,
    require_validation: bool,
    force: bool,
    conflicts: Path | None,
    report: Path | None,
    run_id: str | None,
    patience: Values,
    retries: int,
    connection: Values,
    local: Values,
) -> None:
    """Register the alleles of the annotated VCF IN.

    They go to the workers' store (ANYVAR_STORAGE_URI). Without validation, location and state are taken as
    the VRS fields say, and an allele whose identifier does not follow from them is left out. Needs the fields
    that `annotate --attributes` writes.
    """
    from anyvar_step.client.cancellation import interruptible
    from anyvar_step.models import IngestOptions, RunRequest

    intake = factories.make_source(source)
    _refuse_retries(retries, intake)
    factories.check_files(
        factories.files_of_source(intake.path) | factories.files_of_local(local),
        {"--conflicts": conflicts, "--report": report},
    )
    with interruptible():  # until the report is written
        settings = factories.load_settings(connection, local)
        chosen = IngestOptions(
            assembly=assembly or settings.assembly(), require_validation=require_validation
        )
        asked = RunRequest(options=chosen, run_id=run_id, force=force)
        waiting = factories.make_patience(patience)  # one for all attempts

        def attempt() -> RunReport:
            return _ingest(settings, intake, conflicts, asked, waiting, local=local["local"])

        done = _with_retries(retries, attempt)
        if report:
            factories.write_report(report, done, conflicts)


def _ingest(
    settings: Settings,
    source: InputSource,
    conflicts: Path | None,
    request: RunRequest,
    waiting: Patience,
    *,
    local: bool,
) -> RunReport:
    from anyvar_step.cli.progress import follow
    from anyvar_step.errors import ConfigurationError

    if local:
        from anyvar_step.client.local import ingest

        with follow(source.name, lambda: None, conflicts) as watch:
            report = ingest(settings, source, conflicts, request, timeout=waiting.timeout, watch=watch)
            watch.done(report)
        return report
    if factories.over_http(settings, None):
        raise ConfigurationError(
            "ingest reaches its run through Redis and the work dir only, and no work dir is set",
            "Set ANYVAR_VCF_ASYNC_WORK_DIR, or send IN to the web API yourself: PUT /annotated_vcf",
        )
    from anyvar_step.client import step

    transport = factories.open_transport(settings, "celery", factories.holder_of(conflicts))
    with transport as reached, follow(source.name, reached.queue_length, conflicts) as watch:
        report = step.ingest(reached, source, conflicts, request, patience=waiting, watch=watch)
        watch.done(report)
    return report


def _refuse_retries(times: int, source: InputSource) -> None:
    if times and source.is_stream:
        raise click.UsageError(f"--retries needs a file: {source.name} can be read only once")


def _with_retries(times: int, step: Callable[[], RunReport]) -> RunReport:
    """The step, started again after a failure that may pass: exit codes 69, 74 and 75.

    A worker that did not come within --queue-timeout is not waited for again.
    """
    import random
    import time

    from anyvar_step.errors import RETRYABLE, NoWorker, StepError

    for attempt in range(1, times + 2):
        try:
            return step()
        except StepError as error:
            if error.exit_code not in RETRYABLE or isinstance(error, NoWorker) or attempt > times:
                raise
            pause = min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
            _logger.warning("%s; trying again in %.0f s", error, pause)
            time.sleep(pause)
    raise AssertionError("the loop returns or raises")
