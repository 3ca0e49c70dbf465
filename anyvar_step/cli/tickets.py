"""Small files on the step's side: tickets read, reports and tickets written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.cli.types import RunId
from anyvar_step.step.drafts import publish, temporary

if TYPE_CHECKING:
    from anyvar_step.models import Manifest
    from anyvar_step.transport import Transport


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
