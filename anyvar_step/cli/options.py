"""The options that commands share, each defined once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90s, 30m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        if not match:
            self.fail(f"{value!r} is not a duration; write 90s, 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


#: The number of chunks that stands for "find out".
AUTO = 0


class Chunks(click.ParamType[int]):
    """How many pieces: a number, or auto."""

    name = "chunks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: D102
        if value == "auto":
            return AUTO
        from anyvar_step.client.scatter import MOST

        if not str(value).isdigit() or not 1 <= int(value) <= MOST:
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MOST}", param, ctx)
        return int(value)


class RunId(click.ParamType[str]):
    """A run id: letters, digits, dots, dashes and underscores."""

    name = "run id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        from anyvar_step.runs.keys import is_run_id

        if not is_run_id(value):
            self.fail(f"{value[:40]!r} is no run id: up to 128 letters, digits, . _ and -", param, ctx)
        return str(value)


class Run(click.ParamType[str]):
    """A run id or a ticket file; the shell completes file names."""

    name = "run"

    def shell_complete(  # noqa: D102
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def combined(*decorators: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Several options as one decorator, in the order in which ``--help`` shows them."""

    def apply(function: Decorated) -> Decorated:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


run = click.argument("run", metavar="RUN", type=Run())

connection = combined(
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

threads = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="Threads that annotate and compress a VCF. ANYVAR_STEP_THREADS. [default: 1]",
)

force = click.option("--force", is_flag=True, help="Go on although the reference seems to be another one.")

request = combined(
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

target = combined(
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
    return combined(
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
