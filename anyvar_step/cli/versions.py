"""``anyvar-step --version``: program, VRS, engine, and the libraries that decide on results."""

from __future__ import annotations

import os

import click

from anyvar_step import VRS_VERSION, __version__


def show(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print one line, whose second word is the version, and exit."""
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
