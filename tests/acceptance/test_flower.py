"""A real Flower shows our workers and their runs, as docs/monitoring.md says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Site, until

pytestmark = pytest.mark.services


@pytest.fixture
def watched(site: Site) -> Site:
    """A site whose workers send events."""
    site.extra["CELERY_WORKER_SEND_TASK_EVENTS"] = "true"
    return site


@contextlib.contextmanager
def flower(site: Site, tools: Path) -> Iterator[str]:
    """The address of a Flower that is started as the page says."""
    [command] = re.findall(r"^celery .* flower .*$", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environ = {**site.environ, "PYTHONPATH": "", "PATH": f"{tools}:{os.environ['PATH']}"}
    log = (site.folder / "flower.log").open("w")
    process = subprocess.Popen(
        ["bash", "-c", "exec " + command.replace("5555", str(port))],
        env={**environ, "FLOWER_UNAUTHENTICATED_API": "true"},
        cwd=site.folder,
        stdout=log,
        stderr=log,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def asked(url: str) -> str:
    """The answer; an empty one while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def test_flower_shows_worker_and_runs(watched: Site, tools: Path, vcf: Path) -> None:
    with flower(watched, tools) as url:
        until(lambda: asked(f"{url}/healthcheck"), 60, "Flower")
        with watched.worker("--name", "seen@%h"):
            until(lambda: "seen@" in asked(f"{url}/workers?json=1"), 60, "the worker in Flower")
            assert watched.run("annotate", vcf, "-o", "out.vcf").returncode == 0
            bad = watched.folder / "bad.vcf"
            bad.write_text(vcf.read_text() + "chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
            assert watched.run("annotate", bad, "-o", "out2.vcf").returncode == 65

            def states() -> list[str]:
                return sorted(
                    task["state"] for task in json.loads(asked(f"{url}/api/tasks") or "{}").values()
                )

            until(lambda: states() == ["FAILURE", "SUCCESS"], 60, "both runs in Flower")
            names = {task["name"] for task in json.loads(asked(f"{url}/api/tasks")).values()}
            assert names == {"anyvar.queueing.celery_worker.annotate_vcf"}
