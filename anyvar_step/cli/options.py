"""The command-line options, each defined once, in groups that a command gets as one argument each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90s, 30m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip(), re.ASCII)
        if not match:
            self.fail(f"{value!r} is not a duration; write 90s, 30m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


#: The number of chunks that stands for auto.
AUTO = 0


class Chunks(click.ParamType[int]):
    """A number of pieces, or auto."""

    name = "chunks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: D102
        if value == "auto":
            return AUTO
        from anyvar_step.client.scatter import MOST

        if not str(value).isdecimal() or not 1 <= int(value) <= MOST:
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MOST}", param, ctx)
        return int(value)


class Count(click.IntRange):
    """A number; ``--help`` does not repeat its range."""

    def _describe_range(self) -> str:
        return ""


class OutputType(click.ParamType[str]):
    """A format of bcftools, with a level of compression behind it: v, z, z9, b, b1, u."""

    name = "output type"

    def __init__(self, formats: str) -> None:
        self.formats = formats

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        match = re.fullmatch(rf"[{self.formats}]|([{self.formats.strip('uv')}])(\d\d?)", value, re.ASCII)
        if not match or int(match[2] or 0) > 12:
            leveled = " and ".join(self.formats.strip("uv"))
            known = f"{', '.join(self.formats)}; {leveled} take a level from 0 to 12, as in z9"
            self.fail(f"{value!r} is no output type: {known}", param, ctx)
        return str(value)


class RunId(click.ParamType[str]):
    """A run id: letters, digits, dots, dashes and underscores."""

    name = "run id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        from anyvar_step.runs.keys import is_run_id

        if not is_run_id(value):
            self.fail(f"{value[:40]!r} is no run id: up to 128 letters, digits, . _ and -", param, ctx)
        return str(value)


Command = TypeVar("Command", bound=Callable[..., Any])
#: The values of a group of options, by the options' names.
Values = dict[str, Any]


class Group:
    """Options, in the order of ``--help``, whose values a command gets together in one ``argument``."""

    def __init__(self, argument: str, *options: Callable[[Any], Any]) -> None:
        def stub() -> None:
            """Takes the options to tell their names."""

        for option in options:
            option(stub)
        params: list[click.Parameter] = stub.__click_params__  # type: ignore[attr-defined]
        self.names = [each.name or "" for each in params if each.expose_value]
        self._argument, self._options = argument, options

    def __call__(self, command: Command) -> Command:
        """The command with these options."""

        @functools.wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            ours = {name: values.pop(name) for name in self.names}
            return command(*args, **{self._argument: ours}, **values)

        for option in reversed(self._options):
            option(called)
        return called  # type: ignore[return-value]


def path(
    name: str,
    *flags: str,
    metavar: str = "FILE",
    help: str,  # noqa: A002
    folder: bool = False,
) -> Callable[[Command], Command]:
    """An option that names a file, or a folder, to be written or read."""
    kind = click.Path(readable=False, path_type=Path, dir_okay=folder, file_okay=not folder)
    return click.option(*flags, name, type=kind, metavar=metavar, help=help)


source = click.argument(
    "source",
    metavar="[IN]",
    required=False,
    type=click.Path(readable=False, path_type=Path, allow_dash=True),
)
#: A ticket file or a run id, which need not exist as a path.
run = click.argument("run", metavar="RUN", type=click.Path(readable=False))

# -- what is asked for ------------------------------------------------------------------------------------

assembly = click.option(
    "--assembly",
    metavar="NAME",
    help="Assembly of IN. [default: that of the only reference, else GRCh38]",
)
force = click.option(
    "--force", is_flag=True, help="Go on although IN does not fit the reference. [default: exit code 65]"
)
run_id = click.option(
    "--run-id", type=RunId(), metavar="ID", help="Id of the run. [default: from content and options]"
)
report = path("report", "--report", help="Write the run's report, in JSON. [default: none]")

request = Group(
    "request",
    assembly,
    click.option(
        "--for-ref/--no-for-ref", default=True, help="Identifiers of REF alleles, too. [default: for-ref]"
    ),
    click.option(
        "--attributes/--no-attributes",
        default=False,
        help="VRS locations and states, too. [default: no-attributes]",
    ),
    click.option(
        "--existing",
        type=click.Choice(["replace", "keep", "error"]),
        default="replace",
        show_default=True,
        help="What to do with VRS fields that IN has already.",
    ),
    click.option("--no-version", is_flag=True, help="Leave version and command line out of OUT's header."),
    force,
    run_id,
)

selection = Group(
    "selection",
    click.option(
        "-r",
        "--regions",
        default="",
        metavar="REGION,…",
        help="Only records that overlap CHROM[:FROM-TO],… [default: all]",
    ),
    click.option("-R", "--regions-file", default="", metavar="FILE", help="The same from a BED or a table."),
    click.option(
        "-t",
        "--targets",
        default="",
        metavar="[^]REGION,…",
        help="Only records whose POS lies in these; with ^, all others. [default: all]",
    ),
    click.option("-T", "--targets-file", default="", metavar="[^]FILE", help="The same from a file."),
    click.option(
        "--pass-only/--include-filtered",
        default=False,
        help="Only records that no filter has failed (FILTER is PASS or .). [default: include-filtered]",
    ),
    click.option("-G", "--drop-genotypes", is_flag=True, help="Leave out FORMAT and the samples."),
)

chunks = click.option(
    "--chunks",
    type=Chunks(),
    default=1,
    metavar="N|auto",
    help="Annotate N pieces of IN at a time. [default: 1]",
)

# -- where the output goes --------------------------------------------------------------------------------

compress_level = click.option(
    "--compress-level",
    metavar="N",
    type=Count(0, 12),
    help="Level of BGZF: 1 is fast, 0 stores. [default: that of -O, else 6]",
)

target = Group(
    "target",
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
        type=OutputType("uvzb"),
        metavar="TYPE",
        help="v, z, b or u: text, BGZF, BCF, uncompressed BCF; z9: a level. [default: by the end of OUT]",
    ),
    click.option(
        "--write-index/--no-write-index",
        default=None,
        help="A .tbi beside OUT; .csi with a BCF or contigs beyond 512 Mb. [default: with BGZF and BCF]",
    ),
    click.option("--csi", is_flag=True, help="A .csi in place of the .tbi."),
    compress_level,
    path("ndjson", "--ndjson", help="Write the VRS objects, one JSON object a line. Implies --attributes."),
    path("tsv", "--tsv", help="Write a table: chrom, pos, ref, alt, id."),
)

# -- how long to wait -------------------------------------------------------------------------------------

_queue_timeout = click.option(
    "--queue-timeout",
    type=Duration(),
    default=300,
    help="Give up when no worker serves the queue for so long, 0 = never. [default: 5m]",
)
_outage = click.option(
    "--outage",
    type=Duration(),
    help="Give up when Redis or the web API stays away for so long. [default: 1m]",
)
resubmit = click.option(
    "--resubmit",
    type=Count(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Submit a run again N times when its worker is lost; not over HTTP.",
)
patience = Group(
    "patience",
    click.option("--timeout", type=Duration(), help="Cancel the run after so long. [default: never]"),
    _queue_timeout,
    _outage,
    resubmit,
)
#: For a command that only watches a run.
patience_to_watch = Group(
    "patience",
    click.option(
        "--timeout", type=Duration(), help="Give up after so long; the run goes on. [default: never]"
    ),
    _queue_timeout,
    _outage,
)
retries = click.option(
    "--retries",
    metavar="N",
    type=Count(0),
    default=0,
    help="Start again N times after 69, 74, 75. [default: 0]",
)

#: Under this name the context's meta holds the value of --progress.
PROGRESS = "anyvar_step.progress"


def _keep_progress(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    ctx.meta[PROGRESS] = value


progress = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    expose_value=False,
    callback=_keep_progress,
    help="Show progress as a live line, as lines for a log, or not. [default: bar on a terminal, else plain]",
)

# -- servers ----------------------------------------------------------------------------------------------

connection = Group(
    "connection",
    path(
        "work_dir",
        "--work-dir",
        metavar="FOLDER",
        folder=True,
        help="The work dir. [default: ANYVAR_VCF_ASYNC_WORK_DIR]",
    ),
    click.option(
        "--broker-url",
        metavar="URL",
        help="Redis of the queue, and of the results where CELERY_BACKEND_URL is not set. "
        "[default: CELERY_BROKER_URL]",
    ),
    click.option(
        "--latency-wait",
        type=Duration(),
        help="Wait so long for a file to appear in the work dir. [default: ANYVAR_STEP_LATENCY_WAIT, 60s]",
    ),
)

via = click.option(
    "--via",
    type=click.Choice(["celery", "http"]),
    help="Reach the run through Redis and work dir, or through the web API at ANYVAR_STEP_URL. "
    "[default: http where only ANYVAR_STEP_URL is set, no work dir]",
)

_reference = (
    click.option(
        "-f",
        "--reference",
        multiple=True,
        metavar="FASTA",
        help="The reference, or one for each assembly: ASSEMBLY=FASTA. [default: ANYVAR_STEP_REFERENCE]",
    ),
    path(
        "aliases",
        "--aliases",
        help="A table of further contig names, all names of one sequence in a row. "
        "[default: ANYVAR_STEP_REFERENCE_ALIASES]",
    ),
    click.option(
        "--threads",
        metavar="N",
        type=Count(1),
        help="Threads for a VCF. [default: 1]",
    ),
)

#: For a worker, or for a command that starts workers.
reference = Group("reference", *_reference)

local = Group(
    "local",
    click.option("--local", is_flag=True, help="Do the work in this process: no Redis, worker or work dir."),
    *_reference,
    click.option("--workers", metavar="N", type=Count(1), help="An older name of --threads. [default: 1]"),
    path(
        "store",
        "--store",
        metavar="FILE.duckdb",
        help="Register the alleles in a DuckDB file, with --local. [default: ANYVAR_STORAGE_URI, if set]",
    ),
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON. [default: lines for people]")
