"""``anyvar-step annotate``: the step that a pipeline rule calls."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.group import Sectioned

if TYPE_CHECKING:
    from anyvar_step.models import RunReport

local = options.combined(
    click.option("--local", is_flag=True, help="Do the work in this process: no Redis, worker or work dir."),
    options.threads,
    click.option(
        "--workers", metavar="N", type=click.IntRange(min=1), help="An older name of --threads, with --local."
    ),
    click.option(
        "--store",
        type=click.Path(readable=False, path_type=Path, dir_okay=False),
        metavar="FILE.duckdb",
        help="Register the alleles in a DuckDB file, with --local. [default: ANYVAR_STORAGE_URI, if set]",
    ),
    options.references,
)

retries = click.option(
    "--retries", metavar="N", type=click.IntRange(min=0), default=0, help="Start again after 69, 74, 75."
)


def step_settings(
    *,
    local: bool,
    threads: int | None,
    workers: int | None,
    store: Path | None,
    reference: tuple[str, ...],
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> Settings:
    """The settings of a step; what belongs to workers is wrong usage without ``local``."""
    given = {"--reference": reference, "--store": store, "--threads": threads, "--workers": workers}
    if not local and (name := next((name for name, value in given.items() if value), "")):
        raise click.UsageError(f"{name} is the worker's: name it there, or add --local")
    storage_uri = None
    if store:
        if "?" in str(store.absolute()):
            raise click.UsageError(f"--store {store}: a URI ends at a question mark, so choose another name")
        storage_uri = f"duckdb:///{store.absolute()}"
    return factories.load_settings(
        work_dir,
        broker_url,
        latency_wait,
        reference,
        threads=threads or workers,
        storage_uri=storage_uri,
    )


def files(store: Path | None, reference: tuple[str, ...]) -> dict[str, Path | None]:
    """The files that --local uses, by what messages call them."""
    named = {f"--reference {value}": Path(value.partition("=")[2]) for value in reference}
    return {"--store": store, **named}


def refuse_retries_of_a_stream(times: int, source: InputSource) -> None:
    """A stream is gone once it has been read."""
    if times and source.is_stream:
        raise click.UsageError(f"--retries needs a file: {source.name} can be read only once")


def with_retries(times: int, step: Callable[[], RunReport]) -> RunReport:
    """The step, started again after a failure that may pass: exit codes 69, 74 and 75."""
    import logging
    import random
    import time

    from anyvar_step.errors import RETRYABLE, StepError

    for attempt in range(times + 1):
        try:
            return step()
        except StepError as error:
            if error.exit_code not in RETRYABLE or attempt == times:
                raise
            pause = min(60.0, 2.0 ** (attempt + 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
            logging.getLogger(__name__).warning("%s; trying again in %.0f s", error, pause)
            time.sleep(pause)
    raise AssertionError("the loop returns or raises")


def holder(output: Path | None) -> str | None:
    """Who wants the run; None where nothing is written that the next call would write, too."""
    from anyvar_step.files import is_stream
    from anyvar_step.runs.holder import holder_for

    return None if output is None or is_stream(output) else holder_for(output)


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
  anyvar-step annotate in.vcf -o out.vcf --local --reference GRCh38=GRCh38.fa
  anyvar-step annotate in.vcf.gz -o chr1.bcf -r chr1 --attributes
  gunzip -c in.vcf.gz | anyvar-step annotate - -o - > out.vcf""",
)
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path, allow_dash=True))
@options.target
@options.request
@factories.selection
@options.patience
@options.resubmit
@click.option(
    "--chunks",
    type=options.Chunks(),
    default=1,
    metavar="N|auto",
    help="Annotate IN in so many pieces, on all workers at once. [default: 1]",
)
@retries
@options.progress
@options.via
@options.connection
@local
def annotate_command(
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
    threads: int | None,
    workers: int | None,
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
    from anyvar_step.client.signals import interruptible

    if local and via == "http":
        raise click.UsageError("--local has no web API: leave out --via http")
    if request["run_id"] and chunks != 1:
        raise click.UsageError("--run-id names one run, and --chunks makes several")
    if ndjson and request["existing"] == "keep":
        raise click.UsageError("--ndjson needs VRS attributes, and fields that are kept may lack them")
    if ndjson:
        request["attributes"] = True
    goal = factories.make_target(
        output, output_type, write_index, compress_level, csi, ndjson=ndjson, tsv=tsv
    )
    factories.check(
        factories.of_input(source, request["regions_file"], request["targets_file"])
        | files(store, reference),
        factories.of_target(goal) | {"--report": report},
    )
    intake = factories.make_intake(source, request)
    refuse_retries_of_a_stream(retries, intake)
    with interruptible():  # to the command's end: OUT may be there, and a report still to be written
        settings = step_settings(
            local=local,
            threads=threads,
            workers=workers,
            store=store,
            reference=reference,
            work_dir=work_dir,
            broker_url=broker_url,
            latency_wait=latency_wait,
        )
        level = 1 if goal.bcf else compress_level
        asked = factories.make_request(goal.output_format, level, intake, index=goal.tbi, **request)
        patience = factories.make_patience(timeout, queue_timeout, outage, resubmit)
        step: Callable[[], RunReport]
        if local:
            step = partial(_in_process, settings, intake, goal, asked, timeout)
        else:
            step = partial(_step, settings, via, intake, goal, asked, patience, chunks)
        done = with_retries(retries, lambda: _noted(step(), intake))
        if report:
            factories.write_text(report, done.model_dump_json(indent=2))


def _in_process(
    settings: Settings, source: InputSource, goal: Target, asked: RunRequest, timeout: float | None
) -> RunReport:
    from anyvar_step.cli.progress import shown
    from anyvar_step.client.local import annotate

    with shown(source.name, lambda: None) as watch:
        report = annotate(settings, source, goal, asked, timeout=timeout, watch=watch)
        watch.done(report)
        return report


def _step(
    settings: Settings,
    via: str | None,
    source: InputSource,
    goal: Target,
    asked: RunRequest,
    patience: Patience,
    chunks: int,
) -> RunReport:
    from anyvar_step.cli.progress import shown
    from anyvar_step.client.scatter import annotate_in_pieces, automatic
    from anyvar_step.client.step import annotate

    with (
        factories.reached(
            settings, via, holder(goal.path), folder=goal.folder, outage=patience.outage
        ) as transport,
        shown(source.name, transport.queue_length) as watch,
    ):
        if chunks != 1 and source.is_stream:
            _logger.warning("--chunks needs a file to cut: %s is annotated as one", source.name)
        if chunks != 1 and not source.is_stream:
            source.check()
            with source.as_file(goal.folder) as path:
                if chunks == options.AUTO:
                    chunks = automatic(path.stat().st_size, transport.worker_processes())
                report = annotate_in_pieces(
                    transport, path, goal, asked, chunks=chunks, patience=patience, watch=watch
                )
        else:
            report = annotate(transport, source, goal, asked, patience=patience, watch=watch)
        watch.done(report)
        return report


def _noted(report: RunReport, source: InputSource) -> RunReport:
    """The report, with a note where the selection has left nothing: a slip of the pen is not seen else."""
    if report.counts.records or not source.selection:
        return report
    asked = shlex.join(source.selection.words())
    note = f"{source.name} has no record for {asked}: are its contigs named so?"
    _logger.warning("%s", note)
    return report.model_copy(update={"notes": (*report.notes, note)})


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
    "--run-id", type=options.RunId(), metavar="ID", help="Use this run id. [default: from the content]"
)
@options.patience
@options.resubmit
@retries
@options.progress
@options.connection
@local
def ingest_command(
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
    threads: int | None,
    workers: int | None,
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
    from anyvar_step.client.signals import interruptible
    from anyvar_step.client.source import InputSource
    from anyvar_step.models import IngestOptions, RunRequest

    path = InputSource(factories.path_or_stdin(source))
    refuse_retries_of_a_stream(retries, path)
    factories.check(
        factories.of_input(source) | files(store, reference),
        {"--conflicts": conflicts, "--report": report},
    )
    chosen = IngestOptions(assembly=assembly, require_validation=require_validation)
    asked = RunRequest(options=chosen, run_id=run_id, force=force)
    with interruptible():
        settings = step_settings(
            local=local,
            threads=threads,
            workers=workers,
            store=store,
            reference=reference,
            work_dir=work_dir,
            broker_url=broker_url,
            latency_wait=latency_wait,
        )
        patience = factories.make_patience(timeout, queue_timeout, outage, resubmit)
        done = with_retries(retries, lambda: _ingestion(settings, path, conflicts, asked, patience, local))
        if report:
            factories.write_text(report, done.model_dump_json(indent=2))


def _ingestion(
    settings: Settings,
    source: InputSource,
    conflicts: Path | None,
    asked: RunRequest,
    patience: Patience,
    local: bool,
) -> RunReport:
    from anyvar_step.cli.progress import shown
    from anyvar_step.errors import ConfigurationError

    if local:
        from anyvar_step.client import local as in_process

        with shown(source.name, lambda: None) as watch:
            report = in_process.ingest(
                settings, source, conflicts, asked, timeout=patience.timeout, watch=watch
            )
            watch.done(report)
            return report
    if factories.over_http(settings, None):
        raise ConfigurationError(
            "ingest reaches its run through Redis and the work dir only, and no work dir is set",
            "Set ANYVAR_VCF_ASYNC_WORK_DIR, or send IN to the web API yourself: PUT /annotated_vcf",
        )
    from anyvar_step.client.step import ingest

    with (
        factories.reached(settings, "celery", holder(conflicts)) as transport,
        shown(source.name, transport.queue_length) as watch,
    ):
        report = ingest(transport, source, conflicts, asked, patience=patience, watch=watch)
        watch.done(report)
        return report
