"""Redis Sentinel: broker, backend and our own keys follow the primary through planned failovers and kills."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support import Site, until, write_vcf

from anyvar_step.embedded import find_redis
from anyvar_step.runs.connection import LONG_RETRY, connect
from anyvar_step.runs.state import RunState
from anyvar_step.settings import Settings, load

pytestmark = pytest.mark.services  # minutes

#: Failovers of one trial run; ``make faults`` sets 20.
FAILOVERS = int(os.environ.get("ANYVAR_STEP_FAILOVERS", "3"))
PASSWORD = "a-password"


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in found]


class Group:
    """A primary, a replica and three sentinels on this host."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(5)
        self.folder, self.servers, self.sentinels = folder, ports[:2], ports[2:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        hosts = [f"sentinel://:{PASSWORD}@127.0.0.1:{port}" for port in self.sentinels]
        return ";".join(hosts) + "/0?master_name=anyvar"

    def start(self, port: int) -> None:
        """Start the server of that port with what it kept, as a replica if another one is the primary."""
        place = self.folder / str(port)
        place.mkdir(exist_ok=True)
        argv = [*find_redis(), "--port", str(port), "--dir", str(place), "--appendonly", "yes", "--save", ""]
        argv += ["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--masterauth", PASSWORD]
        argv += ["--repl-diskless-sync-delay", "0"]
        if port == self.servers[1] and not self._processes.get(port):
            argv += ["--replicaof", "127.0.0.1", str(self.servers[0])]
        self._spawn(port, argv)
        self.ready(port)

    def start_sentinels(self) -> None:
        program = shutil.which("redis-sentinel")
        assert program
        for port in self.sentinels:
            place = self.folder / str(port)
            place.mkdir()
            (place / "sentinel.conf").write_text(
                f"port {port}\nbind 127.0.0.1\ndir {place}\n"
                f"sentinel monitor anyvar 127.0.0.1 {self.servers[0]} 2\n"
                f"sentinel auth-pass anyvar {PASSWORD}\n"
                "sentinel down-after-milliseconds anyvar 1000\nsentinel failover-timeout anyvar 6000\n"
            )
            self._spawn(port, [program, str(place / "sentinel.conf")])
        for port in self.sentinels:
            with redis.Redis(port=port, decode_responses=True) as sentinel:
                until(lambda: self._knows_all(sentinel), 30, "sentinels that know each other")

    @staticmethod
    def _knows_all(sentinel: redis.Redis) -> bool:
        with contextlib.suppress(redis.RedisError):
            state = sentinel.sentinel_masters()["anyvar"]
            return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] >= 1)
        return False

    def _spawn(self, port: int, argv: list[str]) -> None:
        with (self.folder / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen(argv, stdout=log, stderr=log)

    def ready(self, port: int) -> None:
        with redis.Redis(port=port, password=PASSWORD) as server:

            def answers() -> bool:
                with contextlib.suppress(redis.RedisError):
                    return bool(server.ping())
                return False

            until(answers, 20, "a Redis that answers")

    def primary(self) -> int:
        with redis.Redis(port=self.sentinels[0], decode_responses=True) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name("anyvar")[1])

    def in_step(self) -> bool:
        """Whether the replica has all that the primary has."""
        primary = self.primary()
        with redis.Redis(port=primary, password=PASSWORD) as server, contextlib.suppress(redis.RedisError):
            info = server.info("replication")
            return (
                info["role"] == "master"
                and info["connected_slaves"] == 1
                and info["slave0"]["state"] == "online"
            )
        return False

    def promote(self) -> None:
        """A planned failover."""
        before = self.primary()
        with redis.Redis(port=self.sentinels[0], decode_responses=True) as sentinel:

            def begun() -> bool:
                with contextlib.suppress(redis.ResponseError):  # one is still under way
                    return bool(sentinel.sentinel_failover("anyvar"))
                return False

            until(begun, 30, "a failover that begins")
        until(lambda: self.primary() != before, 30, "another primary")

    def demoted(self, port: int) -> bool:
        """Whether a former primary is a replica: until then, some 10 s, it takes writes that are lost."""
        with redis.Redis(port=port, password=PASSWORD) as server, contextlib.suppress(redis.RedisError):
            return bool(server.info("replication")["role"] == "slave")
        return False

    def kill(self) -> None:
        """SIGKILL to the primary; it comes back as a replica."""
        before = self.primary()
        self._processes[before].kill()
        self._processes[before].wait()
        until(lambda: self.primary() != before, 60, "another primary")
        self.start(before)

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    if shutil.which("redis-sentinel") is None:
        message = "redis-sentinel is not installed: apt install redis-sentinel"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(f"NOT TESTED WITH SENTINEL: {message}")
    made = Group(tmp_path / "group")
    made.folder.mkdir()
    try:
        for port in made.servers:
            made.start(port)
        made.start_sentinels()
        yield made
    finally:
        made.end()


def test_a_state_follows_the_primary(group: Group) -> None:
    settings = Settings(broker_url=group.url, backend_url=group.url)
    with RunState(settings, LONG_RETRY) as state:
        assert state.create("run-1")
        until(group.in_step, 30)
        before = group.primary()
        group.promote()
        until(lambda: group.demoted(before), 60)
        assert state.cancel("run-1")
        until(group.in_step, 30)
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


@pytest.mark.timeout(900)
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
            step = site.start("annotate", path, "-o", out, "--no-version", "--outage", "120")
            time.sleep(random.uniform(0, length))  # the moment is the trial's chance, nothing is awaited
            (group.kill if number % 2 else group.promote)()
            said = step.communicate(timeout=180)
            # A write that the old primary took and the replica had not got is lost: then the step says so.
            assert step.returncode in (0, 75), said
            if step.returncode == 0:
                assert out.read_bytes() == expected.read_bytes()
            else:
                assert not out.exists()
        assert worker.poll() is None
    assert list(tmp_path.glob("out-*.vcf"))
