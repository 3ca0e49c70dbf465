"""The web API as a step over HTTP sees it: there, with workers behind it, and our token good."""

from __future__ import annotations

import time
from collections.abc import Iterator

from anyvar_step.check.findings import Finding, failed
from anyvar_step.check.limits import is_local
from anyvar_step.errors import StepError, Unavailable
from anyvar_step.transport.client import Client


def look(url: str, token: str | None) -> Iterator[Finding]:
    """Findings about the web API at ``url`` and the token shown to it."""
    with Client(url, token, "", 0.0) as client:
        try:
            begin = time.perf_counter()
            response, info = client.ask("GET", "service-info")
            seconds = time.perf_counter() - begin
            if response.status_code != 200:
                raise client.trouble(response, info)
            name, version = info.get("name", "a web API"), info.get("version", "")
            what = f"{name} {version} at {client.url} answers in {seconds * 1000:.0f} ms"
            yield Finding("web API", "ok", what)
            yield from _health(client)
        except StepError as error:
            yield failed("web API", error)
            return
        if token and response.url.scheme == "http" and not is_local(response.url.host):
            what = "the token goes through the network in plain text"
            yield Finding("web API", "warning", what, "Use https:// in ANYVAR_STEP_URL")


def _health(client: Client) -> Iterator[Finding]:
    """What our web API says of the parts behind it."""
    response, health = client.ask("GET", "healthz")
    if response.status_code == 404:
        what = "it is not ours, and does not tell whether broker, work dir and workers are there"
        yield Finding("web API", "note", what)
        return
    for part in ("broker", "backend", "work_dir"):
        if health.get(part) != "ok":
            trouble = Unavailable(f"its {part} is {health.get(part)}", "Run anyvar-step check on its host")
            yield failed("web API", trouble)
    if health.get("workers") == "ok":
        yield Finding("workers", "ok", f"{health.get('processes')} processes serve the queue")
    else:
        yield failed("workers", Unavailable("no worker serves the queue", "Start one: anyvar-step worker"))
