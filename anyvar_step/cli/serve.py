"""``anyvar-step serve``: AnyVar's VCF endpoints over HTTP."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from anyvar_step.cli import factories, options


@click.command(
    epilog="""\b
Examples:
  anyvar-step serve
  ANYVAR_AUTH_TOKEN_LIST=a-long-random-word anyvar-step serve --host 0.0.0.0 --workers 4"""
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 = any free.",
)
@click.option(
    "--workers", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Web processes."
)
@click.option("--insecure", is_flag=True, help="Serve other hosts although no token is asked for.")
@options.connection
@click.pass_context
def serve_command(
    ctx: click.Context,
    host: str,
    port: int,
    workers: int,
    insecure: bool,
    work_dir: Path | None,
    broker_url: str | None,
    latency_wait: float | None,
) -> None:
    """Serve AnyVar's run endpoints over HTTP.

    PUT /vcf, GET /vcf/ID and so on, for the runs of the queue. Bearer tokens come from
    ANYVAR_AUTH_TOKEN_LIST. The page at / describes the endpoints.
    """
    import os

    settings = factories.load_settings(work_dir, broker_url, latency_wait)
    serve = factories.with_extra("web", "anyvar_step.web.app", "fastapi", "uvicorn", "python_multipart").serve
    settings.required_work_dir()
    shown = ctx.find_root().params
    if not shown["quiet"]:
        logging.getLogger().setLevel(logging.DEBUG if shown["debug"] else logging.INFO)
    # Each web process reads its settings from the environment: uvicorn starts them anew.
    given = {
        "ANYVAR_VCF_ASYNC_WORK_DIR": work_dir,
        "CELERY_BROKER_URL": broker_url,
        "ANYVAR_STEP_LATENCY_WAIT": latency_wait,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    serve(settings, host, port, processes=workers, insecure=insecure)
