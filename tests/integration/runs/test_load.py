"""Five hundred steps at once on one Redis and two workers: none lost, none doubled, Redis bounded."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import RedisServer
from support import ROOT, Site, until, write_vcf

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

STEPS = 500
RECORDS = 20
#: Bytes that Redis may hold for each run that is queued, and for its step's questions; 11,500 were measured.
BYTES_EACH = 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own, so that what it holds is the crowd's."""
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    yield redis
    redis.end()


class Gauge:
    """Redis's clients and memory, looked at ten times a second while the block lasts."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.clients: list[int] = []
        self.memory: list[int] = []

    def __enter__(self) -> Gauge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        with self._server.client() as client:
            while not self._ended.wait(0.1):
                self.clients.append(client.info("clients")["connected_clients"] - 1)
                self.memory.append(client.info("memory")["used_memory_dataset"])


def test_five_hundred_steps_at_once_all_get_their_output_once(
    server: RedisServer, genome: Path, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", server.url, genome)
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    for number in range(STEPS):
        write_vcf(crowd / f"{number}.vcf", genome, records=RECORDS, seed=number)
    argv = [sys.executable, str(ROOT / "tests" / "crowd.py"), str(crowd), str(STEPS)]
    with server.client() as client:
        before = client.info("memory")["used_memory_dataset"]
    begin = time.monotonic()
    with Gauge(server) as gauge:
        steps = subprocess.Popen(
            argv, env=site.environ, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            with server.client() as client:
                until(lambda: client.llen(site.queue) == STEPS, 240, "all runs in the queue")
            # Now and then a step asks whether anybody serves the queue, over further connections of a moment.
            until(lambda: gauge.clients[-1] <= STEPS + 10, 60, "one connection for each waiting step")
            with site.worker(), site.worker():
                out, _ = steps.communicate(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(steps.pid, signal.SIGKILL)
            steps.wait()
    took = time.monotonic() - begin
    said = "".join((crowd / f"{n}.err").read_text() for n in range(STEPS))
    assert json.loads(out) == [0] * STEPS, said
    begun = re.findall(
        r"run (\S+): working on", "".join(p.read_text() for p in site.folder.glob("worker-*.log"))
    )
    assert len(begun) == len(set(begun)) == STEPS
    for number in range(STEPS):
        text = (crowd / f"{number}.out.vcf").read_text()
        assert text.count("VRS_Allele_IDs=ga4gh:VA.") == RECORDS
        positions = [
            re.findall(r"^chr1\t\d+", each, re.M) for each in (text, (crowd / f"{number}.vcf").read_text())
        ]
        assert positions[0] == positions[1]
    assert site.left_over() == []
    most, each = max(gauge.clients), (max(gauge.memory) - before) / STEPS
    print(f"{took:.0f} s; {most} connections at most; Redis held {each:.0f} bytes for each run")
    assert most <= STEPS * 3
    assert each < BYTES_EACH
