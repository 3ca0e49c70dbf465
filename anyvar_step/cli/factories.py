"""Options that choose among an input's records and columns, named as those of ``bcftools view``."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anyvar_step.cli.options import RunId, combined
from anyvar_step.errors import AccessRefused, from_os
from anyvar_step.files import is_stream, publish, real, temporary

if TYPE_CHECKING:
    from anyvar_step.client.base import Transport
    from anyvar_step.models import Manifest


def write_text(path: Path | None, text: str) -> None:
    """Write a small file whole or not at all; None = standard output."""
    with temporary(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
        publish(part, path)


def read_ticket(run: str) -> Manifest | None:
    """The ticket in the file RUN; None where RUN is a run id. Wrong usage where it is neither."""
    from anyvar_step.models import Manifest

    path = Path(run)
    try:
        is_file = path.is_file()
    except OSError:  # too long for a path
        is_file = False
    if not is_file:
        RunId().convert(run, None, None)
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{run} cannot be read: {error.strerror}", param_hint="RUN") from None
    except ValueError:
        raise click.BadParameter(f"{run} is no ticket of `anyvar-step submit`", param_hint="RUN") from None


def find_ticket(transport: Transport, run: str) -> Manifest:
    """The ticket of RUN, a ticket file or a run id. Raises RunLost where the work dir has no such run."""
    return read_ticket(run) or transport.find(run)


if TYPE_CHECKING:
    from anyvar_step.client.deliver import Target

#: Paths, or None where there is none, by what messages call them.
Files = dict[str, Path | None]


def check(inputs: Files, outputs: Files) -> None:
    """Refuse an output that is an input or another output, or that has no directory to be in: wrong usage.

    Raises AccessRefused where it may not be written.
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


def of_input(source: Path, regions_file: str = "", targets_file: str = "") -> Files:
    """What is read of IN and its selection."""
    return {
        "IN": source,
        **{f"IN's {suffix}": Path(f"{source}{suffix}") for suffix in (".tbi", ".csi")},
        "--regions-file": Path(regions_file) if regions_file else None,
        "--targets-file": Path(targets_file.removeprefix("^")) if targets_file else None,
    }


def of_target(goal: Target) -> Files:
    """What is written to OUT and beside it; an older index is removed even where none is wanted."""
    out = goal.path if goal.folder else None
    indexes = {f"OUT's {suffix}": Path(f"{out}{suffix}") for suffix in (".tbi", ".csi")} if out else {}
    return {"OUT": goal.path, **indexes, "--ndjson": goal.side_outputs.ndjson, "--tsv": goal.side_outputs.tsv}


def _keys(path: Path) -> set[Hashable]:
    """What tells a file from others, whatever it is called; nothing for what holds no bytes to be lost."""
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


if TYPE_CHECKING:
    from anyvar_step.client.base import Transport
    from anyvar_step.client.deliver import Target
    from anyvar_step.client.source import InputSource
    from anyvar_step.client.wait import Patience
    from anyvar_step.models import RunRequest
    from anyvar_step.settings import Settings

#: The form of the output by the end of its name.
_TYPES = {".gz": "z", ".bgz": "z", ".bcf": "b"}


def over_http(settings: Settings, via: str | None) -> bool:
    """Whether runs are reached through a web API: as --via says, else where nothing else is set."""
    return via == "http" or (via is None and settings.url is not None and settings.work_dir is None)


def load_settings(
    work_dir: Path | None = None,
    broker_url: str | None = None,
    latency_wait: float | None = None,
    reference: tuple[str, ...] = (),
    environ: dict[str, str] | None = None,
    **others: Any,
) -> Settings:
    """The settings, with the options that were given over all else; ``others`` by the settings' fields."""
    from anyvar_step.settings import load

    return load(
        environ,
        work_dir=work_dir,
        broker_url=broker_url,
        latency_wait=latency_wait,
        references=",".join(reference) or None,
        **others,
    )


@contextlib.contextmanager
def reached(
    settings: Settings,
    via: str | None,
    holder: str | None = None,
    *,
    folder: Path | None = None,
    take: bool = True,
    outage: float | None = None,
) -> Iterator[Transport]:
    """The transport, while the block lasts.

    ``holder`` names who waits for the run. Over HTTP, downloads go to ``folder``, ``take`` False only
    looks at a run, and the web API may be away for ``outage`` seconds.
    """
    transport: Transport
    if over_http(settings, via):
        module = with_extra("http", "anyvar_step.client.http", "httpx")
        url = settings.required_url()
        patience = {} if outage is None else {"outage": outage}
        transport = module.HttpTransport(
            url, settings.token, holder=holder, folder=folder, take=take, **patience
        )
    else:
        from anyvar_step.client.celery import CeleryTransport

        transport = CeleryTransport(settings, holder)
    with contextlib.closing(transport):
        yield transport


def with_extra(extra: str, module: str, *packages: str) -> Any:
    """The module, whose packages come with an extra; a missing one is a ConfigurationError."""
    import importlib.util

    from anyvar_step.errors import ConfigurationError

    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} is not installed", f"Run: pip install 'anyvar-step[{extra}]'"
        )
    return importlib.import_module(module)


def make_request(
    output_type: str,
    level: int,
    intake: InputSource,
    *,
    assembly: str,
    for_ref: bool,
    attributes: bool,
    no_version: bool,
    **others: Any,
) -> RunRequest:
    """What the run is asked for; ``others`` are ``existing``, ``force``, ``index`` and ``run_id``."""
    from anyvar_step.models import AnnotateOptions, RunRequest

    chosen = AnnotateOptions(assembly=assembly, for_ref=for_ref, add_vrs_attributes=attributes)
    words = ["--assembly", assembly, *(() if for_ref else ("--no-for-ref",))]
    words += ["--attributes"] * attributes + ["--force"] * others["force"]
    words += [] if others["existing"] == "replace" else ["--existing", others["existing"]]
    command = "" if no_version else _one_line(["annotate", *words, *intake.selection.words()])
    return RunRequest.model_validate(
        {
            "options": chosen,
            "output_format": output_type,
            "compress_level": level,
            "command": command,
            **others,
        }
    )


def _one_line(words: list[str]) -> str:
    """A command for a header line: what decides on the records, and neither paths nor servers nor tokens."""
    from anyvar_step.models import LONGEST_COMMAND

    text = shlex.join(words).encode("utf-8", "backslashreplace").decode()
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 1] + "…"


def path_or_stdin(source: Path) -> Path | None:
    """IN's path, None where it is standard input; wrong usage where that is closed."""
    if str(source) != "-":
        return source
    if sys.stdin is None:
        raise click.UsageError("IN is standard input, and that is closed")
    return None


def make_target(
    output: Path,
    output_type: str | None,
    write_index: bool | None,
    compress_level: int,
    csi: bool,
    *,
    ndjson: Path | None = None,
    tsv: Path | None = None,
) -> Target:
    """Where the output goes; wrong combinations are wrong usage."""
    from anyvar_step.client.deliver import SideOutputs, Target
    from anyvar_step.files import is_stream

    stdout = output == Path("-")
    if stdout and sys.stdout is None:
        raise click.UsageError("OUT is standard output, and that is closed")
    indexable = not stdout and not is_stream(output)
    chosen = output_type or _TYPES.get(output.suffix.lower(), "v")
    if (write_index or csi) and (not indexable or chosen == "v"):
        raise click.UsageError("only a file in BGZF or BCF (-O z, -O b) can have an index")
    index = indexable and chosen != "v" if write_index is None else write_index
    return Target(
        None if stdout else output,
        "v" if chosen == "v" else "z",
        index,
        compress_level,
        bcf=chosen == "b",
        csi=csi,
        side_outputs=SideOutputs(ndjson, tsv, compress_level),
    )


def make_patience(
    timeout: float | None, queue_timeout: float, outage: float | None, resubmit: int = 0
) -> Patience:
    """How long to wait."""
    from anyvar_step.client.wait import Patience

    given = {} if outage is None else {"outage": outage}
    return Patience(timeout=timeout, queue_timeout=queue_timeout, resubmit=resubmit, **given)


if TYPE_CHECKING:
    from anyvar_step.client.source import InputSource

#: The options' names as arguments of a command.
NAMES = ("regions", "regions_file", "targets", "targets_file", "pass_only", "drop_genotypes")

selection = combined(
    click.option(
        "-r",
        "--regions",
        default="",
        metavar="CHROM[:FROM-TO],…",
        help="Only the records that overlap these; only they are read where IN has an index.",
    ),
    click.option("-R", "--regions-file", default="", metavar="FILE", help="The same from a BED or a table."),
    click.option(
        "-t",
        "--targets",
        default="",
        metavar="[^]CHROM[:FROM-TO],…",
        help="Only the records whose POS lies in these; with ^, all others.",
    ),
    click.option("-T", "--targets-file", default="", metavar="[^]FILE", help="The same from a file."),
    click.option(
        "--pass-only/--include-filtered",
        default=False,
        help="Only the records that no filter has failed (FILTER is PASS or .). [default: include-filtered]",
    ),
    click.option("-G", "--drop-genotypes", is_flag=True, help="Leave out FORMAT and the samples."),
)


def make_intake(source: Path, given: dict[str, Any]) -> InputSource:
    """The input and what is wanted of it; takes the selection's options out of ``given``."""
    from anyvar_step.client.source import InputSource
    from anyvar_step.vcf.select import Selection

    chosen = {name: given.pop(name) for name in NAMES}
    for place in ("regions", "targets"):
        if chosen[place] and chosen[f"{place}_file"]:
            raise click.UsageError(f"--{place} and --{place}-file exclude each other")
    for name in ("regions", "regions_file"):
        if chosen[name].startswith("^"):
            raise click.UsageError(f"--{name.replace('_', '-')} leaves nothing out: ^ goes with --targets")
    return InputSource(path_or_stdin(source), Selection(**chosen))
