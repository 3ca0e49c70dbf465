"""What the options are turned into: settings, transport, request, target, patience."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from anyvar_step.models import RunRequest
    from anyvar_step.settings import Settings
    from anyvar_step.step.delivery import Target
    from anyvar_step.step.intake import Intake
    from anyvar_step.step.waiting import Patience
    from anyvar_step.transport import Transport

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
) -> Settings:
    """The settings, with the options that were given over all else."""
    from anyvar_step.environment import load

    return load(
        environ,
        work_dir=work_dir,
        broker_url=broker_url,
        latency_wait=latency_wait,
        references=",".join(reference) or None,
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
        module = with_extra("http", "anyvar_step.transport.http", "httpx")
        url = settings.required_url()
        patience = {} if outage is None else {"outage": outage}
        transport = module.HttpTransport(
            url, settings.token, holder=holder, folder=folder, take=take, **patience
        )
    else:
        from anyvar_step.transport.celery import CeleryTransport

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
    intake: Intake,
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
    from anyvar_step.step.companions import Companions
    from anyvar_step.step.delivery import Target
    from anyvar_step.step.drafts import is_stream

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
        companions=Companions(ndjson, tsv, compress_level),
    )


def make_patience(
    timeout: float | None, queue_timeout: float, outage: float | None, resubmit: int = 0
) -> Patience:
    """How long to wait."""
    from anyvar_step.step.waiting import Patience

    given = {} if outage is None else {"outage": outage}
    return Patience(timeout=timeout, queue_timeout=queue_timeout, resubmit=resubmit, **given)
