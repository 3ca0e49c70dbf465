"""``anyvar-step sweep``: remove what dead runs left in the work dir."""

from __future__ import annotations

from pathlib import Path

import click

from anyvar_step.cli import making, options
from anyvar_step.cli.types import Duration


@click.command(
    epilog="""\b
Examples:
  anyvar-step sweep --dry-run
  anyvar-step sweep --older-than 1h"""
)
@click.option(
    "--older-than",
    type=Duration(),
    default="2d",
    show_default=True,
    help="Only what nobody has touched for so long; 10m at least.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Say what would be removed, and remove nothing.")
@options.connection
def command(
    older_than: float,
    dry_run: bool,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Remove what dead runs left in the work dir.

    That is inputs, partial outputs, and results that nobody can fetch any more. A run is dead when its folder
    is old and Redis knows neither a state of it, nor a worker's claim, nor a step that waits for it, nor a
    message in the queue. Folders that anyvar-step did not make are let be. Workers and web APIs do the same
    by themselves every ten minutes, one of them for all.
    """
    from anyvar_step.errors import AccessRefused
    from anyvar_step.sweep import YOUNGEST, sweep
    from anyvar_step.workdir import WorkDir

    if older_than < YOUNGEST:
        raise click.BadParameter(
            "a run that was touched within ten minutes may be alive", param_hint="--older-than"
        )
    settings = making.load_settings(work_dir, broker_url, latency_wait)
    workdir = WorkDir(settings.required_work_dir())
    done, size, kept = 0, 0, []
    for left in sweep(settings, workdir, older_than, dry_run=dry_run):
        if not (left.gone or dry_run):
            kept.append(left.path)
            continue
        done, size = done + 1, size + left.size
        click.echo(f"{left.path}\t{left.what}\t{left.size} bytes")
    click.echo(f"{'would remove' if dry_run else 'removed'} {done}, {size} bytes")
    if kept:
        raise AccessRefused(
            f"{len(kept)} could not be removed, such as {kept[0]}",
            "Sweep as the user that owns them, or as the workers' user",
        )
