"""``anyvar-step report``: the reports of many runs as one page, or as sections of a MultiQC report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.cli import factories
from anyvar_step.cli.logs import say_json
from anyvar_step.errors import from_os

if TYPE_CHECKING:
    from anyvar_step.report.samples import FailedSample, Sample


@click.command(
    epilog="""\b
Examples:
  anyvar-step report *.json -o report.html
  anyvar-step report *.json --multiqc mqc
  anyvar-step report *.json --failed alice=alice.log -o report.html
  anyvar-step report --schema > run-report.schema.json"""
)
@click.argument(
    "runs", metavar="[RUN.json…]", nargs=-1, type=click.Path(readable=False, path_type=Path), required=False
)
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False, path_type=Path, dir_okay=False, allow_dash=True),
    metavar="OUT.html",
    help="Write a page with tables and plots, for any browser without a network. - is standard output.",
)
@click.option(
    "--title", default="VRS annotation", show_default=True, metavar="TEXT", help="The page's title."
)
@click.option(
    "--multiqc",
    type=click.Path(readable=False, path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write *_anyvar_step_mqc.json, which MultiQC finds by their names.",
)
@click.option(
    "--failed",
    multiple=True,
    metavar="NAME[=LOG]",
    help="Show a sample as failed, with the last message in its log file: it has no RUN.json, or not all of "
    "them. Repeatable. [default: none]",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of RUN.json.")
def report_command(
    runs: tuple[Path, ...],
    output: Path | None,
    title: str,
    multiqc: Path | None,
    failed: tuple[str, ...],
    schema: bool,
) -> None:
    """Put the reports of many runs together.

    RUN.json is what `annotate`, `collect` and `ingest` write with --report; the file's name, without
    its ending, is the sample's name.
    """
    if schema:
        from anyvar_step.models import json_schema

        say_json(json_schema())
        return
    if not runs and not failed:
        raise click.UsageError("name the runs' reports: RUN.json…, or what failed: --failed NAME")
    if not output and not multiqc:
        raise click.UsageError("name what to write: -o OUT.html or --multiqc FOLDER")
    from anyvar_step.report.html import render
    from anyvar_step.report.samples import FailedSample, read_samples

    page = None if str(output) == "-" else output
    factories.check_files({str(run): run for run in runs}, {"OUT.html": page})
    samples, failures = read_samples(runs), [FailedSample.parse(text) for text in failed]
    if output:
        text = render(samples, title, failures, folder=page.parent if page else Path())
        factories.write_text(page, text.rstrip("\n"))
    if multiqc:
        _write_sections(multiqc, samples, failures)


def _write_sections(folder: Path, samples: list[Sample], failed: list[FailedSample]) -> None:
    from anyvar_step.report.multiqc import sections

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os(error, f"cannot make {folder}") from error
    for name, content in sections(samples, failed).items():
        factories.write_text(folder / name, json.dumps(content, indent=1))
