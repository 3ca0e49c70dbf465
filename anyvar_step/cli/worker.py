"""``anyvar-step worker`` and ``anyvar-step sweep``: the side of the workers."""

from __future__ import annotations

import logging
import os

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.logs import say
from anyvar_step.cli.options import Values


@click.command(
    epilog="""\b
Examples:
  anyvar-step worker --reference GRCh38.fa --concurrency 8
  anyvar-step worker --idle-timeout 10m --max-lifetime 11h"""
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="Processes, each with a run at a time. [default: one for each core]",
)
@click.option("--name", metavar="NAME", help="The worker's name in Celery. [default: anyvar-step-PID@HOST]")
@click.option(
    "--idle-timeout", type=options.Duration(), help="End after so long without a run. [default: never]"
)
@click.option(
    "--max-lifetime", type=options.Duration(), help="Take no new run after so long. [default: never]"
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve metrics for Prometheus at /metrics; 0 = any free port. [default: none]",
)
@click.option(
    "--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address of the metrics."
)
@options.reference
@options.connection
@click.pass_context
def worker_command(
    ctx: click.Context,
    concurrency: int | None,
    name: str | None,
    idle_timeout: float | None,
    max_lifetime: float | None,
    metrics_port: int | None,
    metrics_host: str,
    reference: Values,
    connection: Values,
) -> None:
    """Serve runs from the queue.

    In place of AnyVar's own worker or beside it. At SIGTERM, after --idle-timeout and after --max-lifetime
    it takes no new run, requeues those that it has reserved, and ends when its active runs are finished. A
    second SIGTERM requeues these, too; other workers start them again.
    """
    from anyvar_step.settings import processors
    from anyvar_step.worker.app import serve
    from anyvar_step.worker.shutdown import Lifetime

    settings = factories.load_settings(connection, reference)
    messages = ctx.find_root().params
    level = logging.DEBUG if messages["debug"] else logging.ERROR if messages["quiet"] else logging.INFO
    logging.getLogger().setLevel(level)
    if metrics_port is not None:
        factories.import_extra("metrics", "anyvar_step.worker.metrics", "prometheus_client")
    serve(
        settings,
        concurrency=concurrency or processors(),
        name=name or f"anyvar-step-{os.getpid()}@%h",
        loglevel=logging.getLevelName(level),
        lifetime=Lifetime(idle_timeout, max_lifetime),
        metrics_at=None if metrics_port is None else (metrics_host, metrics_port),
    )


@click.command(
    epilog="""\b
Examples:
  anyvar-step sweep --dry-run
  anyvar-step sweep --older-than 1h"""
)
@click.option(
    "--older-than",
    type=options.Duration(),
    default="2d",
    show_default=True,
    help="Only what was not changed for so long; 10m at least.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Print what would be removed, and remove nothing.")
@click.option("--malformed", is_flag=True, help="Delete the malformed messages that workers set aside, too.")
@options.connection
def sweep_command(older_than: float, dry_run: bool, malformed: bool, connection: Values) -> None:
    """Remove what dead runs left in the work dir.

    That is inputs, partial outputs, and results that can no longer be fetched. A run is dead when its folder
    is old and Redis has neither its state, nor a worker's lock, nor a step's lease, nor its message in the
    queue. Other folders are kept. Workers and web APIs do the same every ten minutes, one of them for all.
    """
    from anyvar_step.errors import AccessRefused
    from anyvar_step.runs.queue import Queue
    from anyvar_step.runs.sweep import YOUNGEST, sweep
    from anyvar_step.runs.work_dir import WorkDir

    if older_than < YOUNGEST:
        raise click.BadParameter(
            "a run that was changed within ten minutes may be alive", param_hint="--older-than"
        )
    settings = factories.load_settings(connection)
    workdir = WorkDir(settings.required_work_dir())
    done, size, kept = 0, 0, []
    for leftover in sweep(settings, workdir, older_than, dry_run=dry_run):
        if not (leftover.removed or dry_run):
            kept.append(leftover.path)
            continue
        done, size = done + 1, size + leftover.size
        say(f"{leftover.path}\t{leftover.what}\t{leftover.size} bytes")
    removed = "would remove" if dry_run else "removed"
    say(f"{removed} {done}, {size} bytes")
    if malformed:
        say(f"{removed} {Queue(settings).delete_malformed(dry_run=dry_run)} malformed messages")
    if kept:
        raise AccessRefused(
            f"{len(kept)} could not be removed, such as {kept[0]}",
            "Sweep as the user that owns them, or as the workers' user",
        )
