"""``anyvar-step worker``: serve AnyVar's tasks from the queue."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from anyvar_step.cli import making, options, types
from anyvar_step.machine import processors


@click.command(
    epilog="""\b
Examples:
  anyvar-step worker --reference GRCh38=GRCh38.fa --concurrency 8
  anyvar-step worker --idle-timeout 10m --max-lifetime 11h"""
)
@click.option(
    "--concurrency", metavar="N", type=click.IntRange(min=1), help="Processes. [default: one per core]"
)
@click.option("--name", help="The worker's name in Celery. [default: anyvar-step-PID@HOST]")
@click.option(
    "--idle-timeout", type=types.Duration(), help="End after so long without a run. [default: never]"
)
@click.option(
    "--max-lifetime", type=types.Duration(), help="Take nothing new after so long. [default: never]"
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve metrics for Prometheus, at /metrics. 0 = any free port.",
)
@click.option(
    "--metrics-host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address of the metrics."
)
@options.connection
@options.references
@click.pass_context
def command(
    ctx: click.Context,
    concurrency: int | None,
    name: str | None,
    idle_timeout: float | None,
    max_lifetime: float | None,
    metrics_port: int | None,
    metrics_host: str,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
    reference: tuple[str, ...],
) -> None:
    """Serve runs from the queue.

    In place of AnyVar's own worker or beside it. At SIGTERM, after --idle-timeout and after --max-lifetime
    it takes nothing new, hands back what it has reserved, and ends once the runs at work are finished. A
    second SIGTERM hands back those, too: other workers start them again.
    """
    from anyvar_step.worker.lifetime import Lifetime
    from anyvar_step.worker.start import serve

    settings = making.load_settings(work_dir, broker_url, latency_wait, reference)
    shown = ctx.find_root().params
    level = logging.DEBUG if shown["debug"] else logging.ERROR if shown["quiet"] else logging.INFO
    logging.getLogger().setLevel(level)
    if metrics_port is not None:
        making.with_extra("metrics", "anyvar_step.worker.metrics", "prometheus_client")
    processes = concurrency or processors()
    serve(
        settings,
        concurrency=processes,
        name=name or f"anyvar-step-{os.getpid()}@%h",
        loglevel=logging.getLevelName(level),
        lifetime=Lifetime(idle_timeout, max_lifetime),
        metrics_at=None if metrics_port is None else (metrics_host, metrics_port),
    )
