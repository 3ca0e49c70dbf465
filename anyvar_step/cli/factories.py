"""From the values of options to the objects of a step: settings, transport, input, request, target, patience.

What contradicts itself is wrong usage (exit code 2), and is found before any work.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli.options import RunId, Values
from anyvar_step.errors import AccessRefused, ConfigurationError, from_os
from anyvar_step.files import is_stream, publish, real, temporary
from anyvar_step.text import escaped

if TYPE_CHECKING:
    from anyvar_step.client.deliver import Target
    from anyvar_step.client.source import InputSource
    from anyvar_step.client.transport import Transport
    from anyvar_step.client.wait import Patience
    from anyvar_step.models import Manifest, RunReport, RunRequest
    from anyvar_step.settings import Settings

# -- settings and transport -------------------------------------------------------------------------------

#: Options of a worker, which a step takes with --local only.
_OF_WORKERS = ("reference", "aliases", "threads", "workers", "store")


def load_settings(connection: Values, work: Values | None = None) -> Settings:
    """The settings, with the options that were given over all else.

    ``work`` are the options of a worker, or of a step that does the work itself: reference, aliases, threads,
    and store and workers with --local. Without --local they are wrong usage for a step.
    """
    from anyvar_step.settings import load

    work = work or {}
    given = dict(connection)
    if work.get("local") is False:
        for name in _OF_WORKERS:
            if work.get(name):
                raise click.UsageError(f"--{name} is the worker's: name it there, or add --local")
    store = work.get("store")
    if store:
        if "?" in str(store.absolute()):
            raise click.UsageError(f"--store {store}: a URI ends at a question mark, so choose another name")
        given["storage_uri"] = f"duckdb:///{store.absolute()}"
    given["references"] = work.get("reference") or None
    given["reference_aliases"] = work.get("aliases")
    given["threads"] = work.get("threads") or work.get("workers")
    return load(None, **given)


def environment_for(reference: Values) -> dict[str, str]:
    """The environment for a private worker: our own, and variables for the options on the reference."""
    given = {
        "ANYVAR_STEP_REFERENCE": ",".join(reference["reference"]),
        "ANYVAR_STEP_REFERENCE_ALIASES": reference["aliases"],
        "ANYVAR_STEP_THREADS": reference["threads"],
    }
    return {**os.environ, **{name: str(value) for name, value in given.items() if value}}


def over_http(settings: Settings, via: str | None) -> bool:
    """Whether runs are reached through a web API: as --via says, else where nothing else is set."""
    return via == "http" or (via is None and settings.url is not None and settings.work_dir is None)


@contextlib.contextmanager
def open_transport(
    settings: Settings,
    via: str | None,
    holder: str | None = None,
    *,
    folder: Path | None = None,
    download: bool = True,
    outage: float | None = None,
) -> Iterator[Transport]:
    """The transport, closed when the block ends.

    ``holder`` names the step that holds a lease on the run. Over HTTP, results are downloaded to ``folder``,
    or stay where ``download`` is False, and the web API may be away for ``outage`` seconds.
    """
    transport: Transport
    if over_http(settings, via):
        module = import_extra("http", "anyvar_step.client.http", "httpx")
        url = settings.required_url()
        patience = {} if outage is None else {"outage": outage}
        transport = module.HttpTransport(
            url, settings.token, holder=holder, folder=folder, download=download, **patience
        )
    else:
        from anyvar_step.client.celery import CeleryTransport

        transport = CeleryTransport(settings, holder, outage)
    with contextlib.closing(transport):
        yield transport


def holder_of(output: Path | None) -> str | None:
    """The lease holder for a step that writes ``output``; None for streams, which no other step writes."""
    from anyvar_step.runs.step_lease import holder_for

    return None if output is None or is_stream(output) else holder_for(output)


def import_extra(extra: str, module: str, *packages: str) -> Any:
    """The module, whose packages come with an extra; ConfigurationError where one is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} is not installed", f"Run: pip install 'anyvar-step[{extra}]'"
        )
    return importlib.import_module(module)


# -- input, request, target, patience ---------------------------------------------------------------------


def make_source(source: Path | None, selection: Values | None = None) -> InputSource:
    """The input, standard input where IN is missing or ``-``, and the selection of records and columns."""
    from anyvar_step.client.source import InputSource
    from anyvar_step.vcf.select import Selection

    chosen = selection or {}
    for name in ("regions", "targets") if chosen else ():
        if chosen[name] and chosen[f"{name}_file"]:
            raise click.UsageError(f"--{name} and --{name}-file exclude each other")
    for name in ("regions", "regions_file") if chosen else ():
        if chosen[name].startswith("^"):
            raise click.UsageError(f"--{name.replace('_', '-')} takes no ^: use --targets to leave out")
    return InputSource(path_or_stdin(source), Selection(**chosen))


def path_or_stdin(source: Path | None) -> Path | None:
    """The path of IN, None for standard input; wrong usage where that is a terminal or closed."""
    if source is not None and str(source) != "-":
        return source
    if sys.stdin is None:
        raise click.UsageError("IN is standard input, and that is closed")
    if source is None and sys.stdin.isatty():
        raise click.UsageError("IN is missing: name a VCF, or pipe one into standard input")
    return None


def make_request(
    request: Values, source: InputSource, settings: Settings, *, form: str, level: int, index: bool
) -> RunRequest:
    """The request for a run that annotates: output format v or z, its level, and whether to index it."""
    from anyvar_step.models import AnnotateOptions, RunRequest

    assembly = request["assembly"] or settings.assembly()
    words = ["--assembly", assembly, *(() if request["for_ref"] else ("--no-for-ref",))]
    words += ["--attributes"] * request["attributes"] + ["--force"] * request["force"]
    words += [] if request["existing"] == "replace" else ["--existing", request["existing"]]
    return RunRequest(
        options=AnnotateOptions(
            assembly=assembly, for_ref=request["for_ref"], add_vrs_attributes=request["attributes"]
        ),
        output_format="z" if form == "z" else "v",
        compress_level=level,
        index=index,
        command=""
        if request["no_version"]
        else _one_line(["annotate", *words, *source.selection.command_line()]),
        existing=request["existing"],
        force=request["force"],
        run_id=request["run_id"],
    )


def _one_line(words: list[str]) -> str:
    """A command for a header line: the options that decide on the records; no paths, servers or tokens."""
    from anyvar_step.models import LONGEST_COMMAND

    text = escaped(shlex.join(words))
    return text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 1] + "…"


#: The format of the output by the end of its name.
_TYPES = {".gz": "z", ".bgz": "z", ".bcf": "b"}


def make_target(
    *,
    output: Path,
    output_type: str | None,
    write_index: bool | None,
    csi: bool,
    compress_level: int | None,
    ndjson: Path | None,
    tsv: Path | None,
) -> Target:
    """Where the output goes, and in which format."""
    from anyvar_step.client.deliver import SideOutputs, Target

    stdout = output == Path("-")
    if stdout and sys.stdout is None:
        raise click.UsageError("OUT is standard output, and that is closed")
    form, level = output_format(output_type or _TYPES.get(output.suffix.lower(), "v"), compress_level)
    indexable = not stdout and not is_stream(output) and form != "v"
    if (write_index or csi) and not indexable:
        raise click.UsageError("only a file in BGZF or BCF (-O z, -O b) can have an index")
    return Target(
        None if stdout else output,
        "v" if form == "v" else "z",
        indexable and form != "u" if write_index is None else write_index,
        level,
        bcf=form in "bu",
        csi=csi,
        side_outputs=SideOutputs(ndjson, tsv, level or 1),
    )


def output_format(output_type: str, compress_level: int | None) -> tuple[str, int]:
    """The format (u, b, v or z) and the level of -O and --compress-level; 6 where neither names one."""
    form, given = output_type[0], output_type[1:]
    if form == "u":
        return form, 0
    if given and compress_level not in (None, int(given)):
        raise click.UsageError(
            f"-O {output_type} and --compress-level {compress_level} contradict each other"
        )
    return form, int(given) if given else 6 if compress_level is None else compress_level


def make_patience(patience: Values) -> Patience:
    """How long to wait."""
    from anyvar_step.client.wait import Patience

    return Patience(**{name: value for name, value in patience.items() if value is not None})


# -- files of the caller ----------------------------------------------------------------------------------


def write_report(path: Path, report: RunReport, output: Path | None) -> None:
    """Write the report of a run whose output is at ``output`` (None = a stream, or none)."""
    shown = os.fsencode(output).decode("utf-8", "backslashreplace") if output else ""
    write_text(path, report.model_copy(update={"output": shown}).model_dump_json(indent=2))


def write_text(path: Path | None, text: str) -> None:
    """Write a small file whole or not at all; None = standard output."""
    with temporary(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
        publish(part, path)


def read_ticket(run: str) -> Manifest | None:
    """The ticket in the file RUN; None where RUN is a run id. Wrong usage where it is neither."""
    from anyvar_step.models import Manifest

    if not os.path.isfile(run):  # noqa: PTH113  # False for what is too long for a path, too
        RunId().convert(run, None, None)
        return None
    try:
        return Manifest.model_validate_json(Path(run).read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{run} cannot be read: {error.strerror}", param_hint="RUN") from None
    except ValueError:
        raise click.BadParameter(f"{run} is no ticket of `anyvar-step submit`", param_hint="RUN") from None


def find_ticket(transport: Transport, run: str) -> Manifest:
    """The ticket of RUN, a ticket file or a run id. Raises RunLost where the work dir has no such run."""
    return read_ticket(run) or transport.find(run)


#: Paths, None where there is none, by their names in messages.
Files = dict[str, Path | None]


def check_files(inputs: Files, outputs: Files) -> None:
    """Refuse an output that is an input or another output, or that has no directory to be in: wrong usage.

    Raises AccessRefused where it cannot be written.
    """
    taken = {key: what for what, path in inputs.items() if path for key in _keys(path)}
    for what, path in outputs.items():
        if path is None:
            continue
        _check_writable(what, path)
        keys = _keys(path)
        for key in keys & taken.keys():
            raise click.UsageError(f"{what} would overwrite {taken[key]}: {path}")
        taken |= dict.fromkeys(keys, what)


def files_of_source(source: Path | None, selection: Values | None = None) -> Files:
    """The files that are read of IN and its selection."""
    regions, targets = ((selection or {}).get(f"{name}_file", "") for name in ("regions", "targets"))
    indexes = {f"IN's {suffix}": Path(f"{source}{suffix}") for suffix in (".tbi", ".csi")} if source else {}
    return {
        "IN": source,
        **indexes,
        "--regions-file": Path(regions) if regions else None,
        "--targets-file": Path(targets.removeprefix("^")) if targets else None,
    }


def files_of_target(target: Target) -> Files:
    """The files that are written to OUT and beside it; an older index is removed in any case."""
    out = target.path if target.folder else None
    indexes = {f"OUT's {suffix}": Path(f"{out}{suffix}") for suffix in (".tbi", ".csi")} if out else {}
    side = target.side_outputs
    return {"OUT": target.path, **indexes, "--ndjson": side.ndjson, "--tsv": side.tsv}


def files_of_local(local: Values) -> Files:
    """The files that --local reads or writes beside IN and OUT."""
    named = {}
    for item in local["reference"]:
        assembly, _, place = item.partition("=")
        named[f"--reference {item}"] = Path(place if place and "/" not in assembly else item)
    return {"--store": local["store"], "--aliases": local["aliases"], **named}


def _keys(path: Path) -> set[Hashable]:
    """What identifies a file under all its names; empty for a stream, which cannot be overwritten."""
    try:
        found = path.stat()
    except OSError:
        return {os.path.realpath(path)}
    return set() if is_stream(path) else {os.path.realpath(path), (found.st_dev, found.st_ino)}


def _check_writable(what: str, path: Path) -> None:
    if str(path) == "-":
        raise click.UsageError(f"{what} names a file; standard output is /dev/stdout there")
    if path.is_dir():
        raise click.UsageError(f"{what} is a directory: {path}")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise AccessRefused(f"{what} {path} is not writable", "Check its owner and mode")
        return
    folder = real(path).absolute().parent
    try:
        there = folder.is_dir()
    except OSError as error:
        raise from_os(error, f"cannot write {what} {path}") from error
    if not there:
        raise click.UsageError(f"the directory of {what} does not exist: {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AccessRefused(f"the directory of {what}, {folder}, is not writable", "Check its owner and mode")
