"""The options that commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from anyvar_step.cli.types import Duration, Run, RunId

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def options(*decorators: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in the order in which ``--help`` shows them."""

    def apply(function: Decorated) -> Decorated:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


run = click.argument("run", metavar="RUN", type=Run())

connection = options(
    click.option(
        "--work-dir", type=click.Path(readable=False, path_type=Path), help="ANYVAR_VCF_ASYNC_WORK_DIR."
    ),
    click.option(
        "--broker-url", metavar="URL", help="CELERY_BROKER_URL, and the backend where only it is set."
    ),
    click.option("--latency-wait", type=Duration(), help="Wait so long for a file to appear. [default: 60s]"),
)

via = click.option(
    "--via",
    type=click.Choice(["celery", "http"]),
    help="Reach the run through broker and work dir, or through the web API at ANYVAR_STEP_URL. "
    "[default: http where only ANYVAR_STEP_URL is set, no work dir]",
)

references = click.option(
    "--reference",
    "reference",
    multiple=True,
    metavar="ASSEMBLY=FASTA",
    help="A FASTA of the workers; may be repeated. ANYVAR_STEP_REFERENCE.",
)

force = click.option("--force", is_flag=True, help="Go on although the reference seems to be another one.")

request = options(
    click.option("--assembly", default="GRCh38", show_default=True, help="The VCF's reference assembly."),
    click.option("--for-ref/--no-for-ref", default=True, show_default=True, help="Ids for REF alleles too."),
    click.option(
        "--attributes/--no-attributes",
        default=False,
        show_default=True,
        help="Location and state beside the ids.",
    ),
    click.option(
        "--existing",
        type=click.Choice(["replace", "keep", "error"]),
        default="replace",
        show_default=True,
        help="What becomes of VRS fields that IN has already.",
    ),
    click.option("--no-version", is_flag=True, help="No version and command lines in OUT's header."),
    force,
    click.option("--run-id", type=RunId(), metavar="ID", help="Use this run id. [default: from the content]"),
)

compress_level = click.option(
    "--compress-level",
    metavar="N",
    type=click.IntRange(1, 12),
    default=6,
    show_default=True,
    help="Of BGZF; 1 is fast.",
)

target = options(
    click.option(
        "-o",
        "--output",
        type=click.Path(readable=False, path_type=Path, allow_dash=True),
        required=True,
        metavar="OUT",
        help="The annotated VCF; - is standard output.",
    ),
    click.option(
        "-O",
        "--output-type",
        type=click.Choice(["v", "z", "b"]),
        help="Text, BGZF or BCF. [default: z where OUT ends with .gz or .bgz, b with .bcf]",
    ),
    click.option(
        "--write-index/--no-write-index",
        default=None,
        help="A .tbi beside OUT; .csi with a BCF or contigs beyond 512 Mb. [default: with BGZF and BCF]",
    ),
    click.option("--csi", is_flag=True, help="A .csi in place of the .tbi."),
    compress_level,
    click.option(
        "--ndjson",
        type=click.Path(readable=False, path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write the VRS objects, one JSON object a line. Implies --attributes.",
    ),
    click.option(
        "--tsv",
        type=click.Path(readable=False, path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write a table: chrom, pos, ref, alt, id.",
    ),
    click.option(
        "--report",
        type=click.Path(readable=False, path_type=Path),
        metavar="FILE",
        help="Write the run's report.",
    ),
)


def _patience(timeout: str) -> Callable[[Decorated], Decorated]:
    return options(
        click.option("--timeout", type=Duration(), help=f"{timeout} [default: never]"),
        click.option(
            "--queue-timeout",
            type=Duration(),
            default=300,
            help="Give up when no worker serves the queue for so long, 0 = never. [default: 5m]",
        ),
        click.option(
            "--outage",
            type=Duration(),
            help="Give up when Redis or the web API stays away for so long. [default: 1m]",
        ),
    )


patience = _patience("Cancel the run after so long.")
#: Of who only looks on.
waiting = _patience("Give up after so long; the run goes on.")


#: Under this name the context's meta holds what --progress asks for.
PROGRESS = "anyvar_step.progress"


def _keep_progress(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    ctx.meta[PROGRESS] = value


progress = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    expose_value=False,
    callback=_keep_progress,
    help="Show progress: a live line, lines for a log file, or none. [default: what standard error is]",
)

resubmit = click.option(
    "--resubmit",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Attempt a run again so often when its worker is lost; not over HTTP.",
)
