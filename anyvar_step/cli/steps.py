"""What the commands that are a step share: private servers (--local), retries, and who wants the run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anyvar_step.cli import options

if TYPE_CHECKING:
    from anyvar_step.models import RunReport

local = options.options(
    click.option("--local", is_flag=True, help="Run with a private Redis and worker: no server needed."),
    click.option(
        "--workers", metavar="N", type=click.IntRange(min=1), default=1, help="Worker processes of --local."
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


@contextlib.contextmanager
def servers(
    private: bool, workers: int, store: Path | None, reference: tuple[str, ...]
) -> Iterator[dict[str, str] | None]:
    """The environment to read the settings from: private servers' with --local, else this process's own."""
    from anyvar_step.step.signals import interruptible

    if not private:
        if reference or store:
            name = "--reference" if reference else "--store"
            raise click.UsageError(f"{name} is the worker's: name it there, or add --local")
        with interruptible():  # to the command's end: OUT may be there, and a report still to be written
            yield None
        return
    from anyvar_step.embedded import embedded

    environ = dict(os.environ)
    if reference:
        environ["ANYVAR_STEP_REFERENCE"] = ",".join(reference)
    if store:
        if "?" in str(store.absolute()):
            raise click.UsageError(f"--store {store}: a URI ends at a question mark, so choose another name")
        environ["ANYVAR_STORAGE_URI"] = f"duckdb:///{store.absolute()}"
    # Interrupted must be raised in here, so that the servers end with the step.
    with interruptible(), embedded(workers=workers, environ=environ) as ours:
        yield ours


def files(store: Path | None, reference: tuple[str, ...]) -> dict[str, Path | None]:
    """The files that private servers use, by what messages call them."""
    named = {f"--reference {value}": Path(value.partition("=")[2]) for value in reference}
    return {"--store": store, **named}


def refuse_retries_of_a_stream(times: int, source: Path) -> None:
    """Standard input is gone once it has been read."""
    if times and str(source) == "-":
        raise click.UsageError("--retries needs a file: standard input can be read only once")


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
    from anyvar_step.step.drafts import is_stream
    from anyvar_step.transport.holders import holder_for

    return None if output is None or is_stream(output) else holder_for(output)
