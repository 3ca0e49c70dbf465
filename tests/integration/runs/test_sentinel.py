"""Redis Sentinel: broker, backend and our own keys follow the primary through planned failovers and kills."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sentinels import Group, require_sentinel
from support import Site, until, write_vcf

from anyvar_step.runs.connection import LONG_RETRY, connect
from anyvar_step.runs.state import RunState
from anyvar_step.settings import Settings, load

pytestmark = pytest.mark.services  # minutes

#: Failovers of one trial run; ``make faults`` sets 20.
FAILOVERS = int(os.environ.get("ANYVAR_STEP_FAILOVERS", "3"))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    require_sentinel()
    made = Group(tmp_path / "group")
    try:
        made.begin()
        yield made
    finally:
        made.end()


def test_a_state_follows_the_primary(group: Group) -> None:
    settings = Settings(broker_url=group.url, backend_url=group.url)
    with RunState(settings, LONG_RETRY) as state:
        assert state.create("run-1")
        until(group.in_step, 100)
        before = group.primary()
        group.promote()
        until(lambda: group.demoted(before), 60)
        assert state.cancel("run-1")
        until(group.in_step, 100)
        group.kill()
        assert not state.create("run-1")
        assert state.cancel_requested("run-1")


def test_the_name_of_the_primary_comes_from_the_url_or_the_setting(group: Group) -> None:
    plain = group.url.partition("?")[0]
    settings = load({"CELERY_BROKER_URL": plain, "ANYVAR_STEP_SENTINEL_MASTER": "anyvar"})
    for url in (settings.broker_url, settings.backend_url):
        with connect(url) as client:
            assert client.ping()
    with connect(plain) as client, pytest.raises(redis.ConnectionError, match="mymaster"):
        client.ping()


@pytest.mark.timeout(1800)
def test_runs_get_through_failovers_at_random_moments(
    group: Group, site: Site, genome: Path, tmp_path: Path
) -> None:
    site.redis_url = group.url
    site.extra = {"ANYVAR_STEP_SENTINEL_MASTER": "anyvar"}
    path = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    expected = tmp_path / "expected.vcf"
    with site.worker() as worker:
        begin = time.monotonic()
        done = site.run("annotate", path, "-o", expected, "--no-version")
        assert done.returncode == 0, done.stderr
        length = time.monotonic() - begin
        for number in range(FAILOVERS):
            until(group.in_step, 60, "a replica in step")
            out = tmp_path / f"out-{number}.vcf"
            step = site.start("annotate", path, "-o", out, "--no-version", "--outage", "300")
            time.sleep(random.uniform(0, length))  # the moment is the trial's chance, nothing is awaited
            (group.kill if number % 2 else group.promote)()
            said = step.communicate(timeout=400)
            # A write that the old primary took and the replica had not got is lost: then the step says so.
            assert step.returncode in (0, 75), said
            if step.returncode == 0:
                assert out.read_bytes() == expected.read_bytes()
            else:
                assert not out.exists()
        assert worker.poll() is None
    assert list(tmp_path.glob("out-*.vcf"))
