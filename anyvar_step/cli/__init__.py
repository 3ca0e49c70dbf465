"""The command line: one module for each family of commands, imported when one of them is called.

A module holds the click commands ``<name>_command``. Heavy packages (celery, redis, pysam, pydantic) are
imported in the body of a command, so that ``--help`` takes a tenth of a second at most.
"""

from __future__ import annotations

import os
from typing import Any

import click

from anyvar_step import VRS_VERSION, __version__
from anyvar_step.cli import logs
from anyvar_step.cli.group import WIDTH, LazyGroup

#: Commands in the order of ``--help``, each with the module of ``anyvar_step.cli`` that defines it.
COMMANDS = {
    "annotate": "annotate",
    "ingest": "annotate",
    "submit": "runs",
    "wait": "runs",
    "status": "runs",
    "collect": "runs",
    "cancel": "runs",
    "report": "report",
    "worker": "worker",
    "serve": "serve",
    "local": "local",
    "reference": "reference",
    "config": "config",
    "check": "check",
    "sweep": "worker",
}

EXAMPLES = """\b
Examples:
  anyvar-step annotate in.vcf -o out.vcf --local --reference GRCh38.fa
  anyvar-step annotate --help"""

#: README.md has a table of them.
EXIT_CODES = """\b
Exit codes (* run it again):
  0 done          2 wrong usage    65 input is no VCF  66 input unreadable
  69* no server   70 run failed    74* file trouble    75* worker lost
  77 not allowed  78 wrong config  124 time limit      130, 143, 129 stopped"""


def print_versions(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print program, VRS, engine and main libraries in one line, whose second word is the version; exit."""
    if not asked or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    from pysam.version import __htslib_version__ as htslib

    from anyvar_step.vrs import engine_name

    choice = os.environ.get("ANYVAR_STEP_ENGINE")
    engine = "python" if choice == "python" else engine_name()
    parts = (
        f"GA4GH VRS {VRS_VERSION}",
        f"{engine} engine",
        f"Celery {version('celery')}",
        f"htslib {htslib}",
        f"Python {platform.python_version()}",
    )
    click.echo(f"anyvar-step {__version__} ({', '.join(parts)})")
    if engine == "native":
        from anyvar_step.vrs import native_engine

        if native_engine.is_stale():
            click.echo("The native engine is not that of the sources in native/: run `make native`", err=True)
    ctx.exit()


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_versions,
    help="Print all versions, and the engine.",
)
def cli(**messages: Any) -> None:
    """Annotate VCFs with GA4GH VRS identifiers as one step of a pipeline."""
    logs.configure(**messages)


cli.params[:0] = logs.options()
