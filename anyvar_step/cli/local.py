"""``anyvar-step local -- COMMAND …``: run a command, such as a whole pipeline, with private servers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.options import Values


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  anyvar-step local --workers 4 -- snakemake --cores 4
  anyvar-step local -- nextflow run main.nf""",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@options.reference
@click.argument("argv", metavar="-- COMMAND …", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def local_command(ctx: click.Context, workers: int, reference: Values, argv: tuple[str, ...]) -> None:
    """Run COMMAND with a private Redis, workers and a work dir.

    Steps that COMMAND starts find them in their environment; they end with COMMAND. Exits with COMMAND's exit
    code, 128+n where signal n ended it.
    """
    from anyvar_step.embedded import embedded

    if shutil.which(argv[0]) is None:
        raise click.BadParameter(f"{argv[0]}: no such command", param_hint="COMMAND")
    with embedded(workers=workers, environ=factories.environment_for(reference)) as environ:
        code = _run(argv, environ)
    ctx.exit(code)


def _run(argv: tuple[str, ...], environ: dict[str, str]) -> int:
    """Run the command to its end, pass signals on, and return its exit code as a shell would."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if process is None:
            early.append(number)
        elif number == signal.SIGTERM or not _in_foreground():
            process.send_signal(number)

    before = {
        number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        process = subprocess.Popen(argv, env=environ)
        for number in early:
            process.send_signal(number)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Whether the terminal itself sends Ctrl-C and hangup to our process group, and so to the command."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
