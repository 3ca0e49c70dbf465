"""A step is light: what it loads is listed here, what it costs and how it holds Redis is bounded."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from servers import private_redis
from support import ROOT, Site, until

from anyvar_step.runs.connection import redis_url

#: Third-party packages that a step through Celery may load; whatever else one brings in is listed, too.
A_STEP_LOADS = {"click", "deflate", "dotenv", "isal", "pydantic", "pysam", "redis"}
#: What those load in turn, the last ones where they are installed.
BEHIND_THEM = {
    *("annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"),  # pydantic
    *("tzdata",),  # zoneinfo, where the system has no time zones
    *("async_timeout",),  # redis, before Python 3.11.3, which has asyncio.timeout as it needs it
    *("cryptography", "greenlet", "msgpack", "opentelemetry", "yaml"),
}
#: What comes with the environment, and with `make coverage`.
TESTS_LOAD = {"_distutils_hack", "coverage"}
#: What the worker does, and Celery.
NEVER = {"celery", "kombu", "anyvar_step.pipeline", "anyvar_step.vrs", "anyvar_step.worker"}

WATCHED = """
import runpy, sys
try:
    runpy.run_module("anyvar_step", run_name="__main__")
finally:
    with open({log!r}, "w") as log:
        for name, module in list(sys.modules.items()):
            print(name, getattr(module, "__file__", None) or "", file=log)
"""


def test_a_step_loads_no_package_beyond_the_list(served: Site, vcf: Path, tmp_path: Path) -> None:
    log = tmp_path / "modules"
    code = WATCHED.format(log=str(log))
    arguments = ["annotate", str(vcf), "-o", str(tmp_path / "out.vcf.gz")]
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=served.environ,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    loaded = dict(line.partition(" ")[::2] for line in log.read_text().splitlines())
    installed = {name.partition(".")[0] for name, file in loaded.items() if "site-packages" in file}
    assert installed - BEHIND_THEM - TESTS_LOAD <= A_STEP_LOADS
    assert NEVER & set(loaded) == set()


def cpu_of(argv: list[str], environ: dict[str, str], folder: Path) -> float:
    """Seconds of user and system time of a command that ends well."""
    process = subprocess.Popen(argv, env=environ, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


@pytest.mark.services
@pytest.mark.flaky(reruns=2)  # seconds of CPU time, on a machine that others may use
def test_help_and_a_small_step_cost_little(served: Site, vcf: Path, tmp_path: Path) -> None:
    """The goals are 0.15 s and 0.5 s on a quiet core (benchmarks/start_up.py); a busy one may take twice."""
    command = [sys.executable, "-m", "anyvar_step"]
    environ = {**served.environ, "PYTHONPATH": str(ROOT)}
    steps = [[*command, "annotate", str(vcf), "-o", str(tmp_path / f"{n}.vcf.gz")] for n in range(5)]
    helps = [cpu_of([*command, "--help"], environ, tmp_path) for _ in range(5)]
    assert statistics.median(helps) < 0.3
    assert statistics.median(cpu_of(step, environ, tmp_path) for step in steps) < 1.0


def test_a_waiting_step_holds_one_connection_to_redis(tmp_path: Path, genome: Path, vcf: Path) -> None:
    with private_redis(tmp_path) as url, redis.Redis.from_url(redis_url(url)) as client:
        site = Site(tmp_path / "site", url, genome)
        site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf.gz"))
        until(lambda: client.llen(site.queue) == 1, what="a queued run")
        until(lambda: len(client.client_list()) == 2, what="one connection beside this test's own")
