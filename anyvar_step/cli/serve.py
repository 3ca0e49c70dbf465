"""``anyvar-step serve``: AnyVar's VCF endpoints over HTTP."""

from __future__ import annotations

import logging
import os

import click

from anyvar_step.cli import factories, options
from anyvar_step.cli.options import Values


@click.command(
    epilog="""\b
Examples:
  anyvar-step serve
  ANYVAR_AUTH_TOKEN_LIST=a-long-random-word anyvar-step serve --host 0.0.0.0"""
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Address to serve on.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to serve on; 0 = any free one.",
)
@click.option(
    "--workers", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Web processes."
)
@click.option("--insecure", is_flag=True, help="Serve other hosts without tokens. [default: exit code 78]")
@options.connection
@click.pass_context
def serve_command(
    ctx: click.Context, host: str, port: int, workers: int, insecure: bool, connection: Values
) -> None:
    """Serve AnyVar's run endpoints over HTTP.

    PUT /vcf, GET /vcf/ID and so on, for the runs of the queue. Bearer tokens come from
    ANYVAR_AUTH_TOKEN_LIST. The page at / describes the endpoints.
    """
    settings = factories.load_settings(connection)
    web = factories.import_extra("web", "anyvar_step.web.app", "fastapi", "uvicorn", "python_multipart")
    settings.required_work_dir()
    messages = ctx.find_root().params
    if not messages["quiet"]:
        logging.getLogger().setLevel(logging.DEBUG if messages["debug"] else logging.INFO)
    # uvicorn starts web processes anew, which read their settings from the environment.
    for name, value in connection.items():
        if value is not None:
            os.environ[str(type(settings).model_fields[name].alias)] = str(value)
    web.serve(settings, host, port, processes=workers, insecure=insecure)
