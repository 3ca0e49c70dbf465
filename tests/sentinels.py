"""A Redis primary, a replica and three sentinels on this host, with a password, and over TLS where asked."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import redis
from support import free_ports, skip, until

from anyvar_step.embedded import find_redis

PASSWORD = "a-password"
FAILOVER_TRIES = 6


def require_sentinel() -> None:
    """Skip where redis-sentinel is not installed; fail there in CI."""
    if shutil.which("redis-sentinel") is None:
        skip("NOT TESTED WITH SENTINEL", "redis-sentinel is not installed: apt install redis-sentinel")


class Group:
    """``start`` and ``start_sentinels`` begin it, ``end`` kills all of it.

    ``guard`` is a password of the sentinels themselves; ``tls`` a folder with ca.pem, server.pem and
    server.key, with which all of them speak TLS and nothing else.
    """

    def __init__(self, folder: Path, guard: str = "", tls: Path | None = None) -> None:
        ports = free_ports(5)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.servers, self.sentinels = folder, ports[:2], ports[2:]
        self.guard, self.tls = guard, tls
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """With the name of the primary, the sentinels' password, and the CA."""
        hosts = [f"sentinel://:{PASSWORD}@127.0.0.1:{port}" for port in self.sentinels]
        options = ["master_name=anyvar"]
        options += [f"sentinel_password={self.guard}"] if self.guard else []
        options += [f"ssl_ca_certs={self.tls / 'ca.pem'}"] if self.tls else []
        return f"{';'.join(hosts)}/0?{'&'.join(options)}"

    @contextlib.contextmanager
    def client(self, port: int, password: str | None = PASSWORD) -> Any:
        """A client of one server, or with ``guard`` of a sentinel."""
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(self.tls / "ca.pem")} if self.tls else {}
        with redis.Redis("127.0.0.1", port, password=password, decode_responses=True, **tls) as client:
            yield client

    def sentinel(self, number: int = 0) -> Any:
        """A client of a sentinel."""
        return self.client(self.sentinels[number], self.guard or None)

    def keys(self) -> Any:
        """A client of the primary."""
        return self.client(self.primary())

    def begin(self) -> None:
        """Start all, and return once each knows the others and the replica is in step."""
        for port in self.servers:
            self.start(port)
        self.start_sentinels()

    def _tls_options(self) -> dict[str, str]:
        if self.tls is None:
            return {}
        files = {
            f"tls-{kind}-file": str(self.tls / name)
            for kind, name in (("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem"))
        }
        return {**files, "tls-auth-clients": "no", "tls-replication": "yes"}

    def _port_options(self, port: int) -> dict[str, str]:
        return {"port": "0", "tls-port": str(port)} if self.tls else {"port": str(port)}

    def start(self, port: int) -> None:
        """Start the server of that port with what it kept, as a replica if another one is the primary."""
        place = self.folder / str(port)
        place.mkdir(exist_ok=True)
        options = {**self._port_options(port), **self._tls_options(), "dir": str(place), "save": ""}
        options |= {"bind": "127.0.0.1", "requirepass": PASSWORD, "masterauth": PASSWORD, "appendonly": "yes"}
        options["repl-diskless-sync-delay"] = "0"
        argv = [*find_redis(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        if port == self.servers[1] and not self._processes.get(port):
            argv += ["--replicaof", "127.0.0.1", str(self.servers[0])]
        self._spawn(port, argv)
        self.ready(port)

    def start_sentinels(self) -> None:
        """Start them, and return once each knows the others and the replica."""
        program = shutil.which("redis-sentinel")
        assert program
        for port in self.sentinels:
            place = self.folder / str(port)
            place.mkdir()
            options = {
                **self._port_options(port),
                **self._tls_options(),
                "bind": "127.0.0.1",
                "dir": str(place),
            }
            if self.guard:
                options |= {"requirepass": self.guard, "sentinel sentinel-pass": self.guard}
            lines = [f"{name} {value}\n" for name, value in options.items()]
            (place / "sentinel.conf").write_text(
                "".join(lines) + f"sentinel monitor anyvar 127.0.0.1 {self.servers[0]} 2\n"
                f"sentinel auth-pass anyvar {PASSWORD}\n"
                "sentinel down-after-milliseconds anyvar 1000\nsentinel failover-timeout anyvar 6000\n"
            )
            self._spawn(port, [program, str(place / "sentinel.conf")])
        for number in range(len(self.sentinels)):
            until(lambda: self._knows_all(number), 30, "sentinels that know each other")  # noqa: B023

    def _knows_all(self, number: int) -> bool:
        with contextlib.suppress(redis.RedisError), self.sentinel(number) as sentinel:
            state = sentinel.sentinel_masters()["anyvar"]
            return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] >= 1)
        return False

    def _spawn(self, port: int, argv: list[str]) -> None:
        with (self.folder / f"{port}.log").open("ab") as log:
            self._processes[port] = subprocess.Popen(argv, stdout=log, stderr=log)

    def ready(self, port: int) -> None:
        """Return once the server answers."""

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError), self.client(port) as server:
                return bool(server.ping())
            return False

        until(answers, 20, "a Redis that answers")

    def primary(self) -> int:
        """The port of the primary, as a sentinel says."""
        with self.sentinel() as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name("anyvar")[1])

    def in_step(self) -> bool:
        """Whether the replica has all that the primary has, as it says itself.

        The primary calls a replica online before it sends what was written since the copy began.
        """
        with contextlib.suppress(redis.RedisError), self.client(self.primary()) as server:
            server.set("written", 1, px=1)  # fails on a replica
            return bool(server.wait(1, 1000) == 1)
        return False

    def promote(self) -> None:
        """A planned failover, begun again where Sentinel aborts it: its replica did not answer in time."""
        before = self.primary()
        with self.sentinel() as sentinel:

            def begun() -> bool:
                with contextlib.suppress(redis.ResponseError):  # one is still under way
                    return bool(sentinel.sentinel_failover("anyvar"))
                return False

            for _ in range(FAILOVER_TRIES):
                until(begun, 30, "a failover that begins")
                with contextlib.suppress(AssertionError):
                    until(lambda: self.primary() != before, 15, "another primary")
                    return
        raise AssertionError(f"{FAILOVER_TRIES} failovers were begun and none was done")

    def demoted(self, port: int) -> bool:
        """Whether a former primary is a replica: until then, some 10 s, it takes writes that are lost."""
        with contextlib.suppress(redis.RedisError), self.client(port) as server:
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
        """Kill all of it."""
        for process in self._processes.values():
            process.kill()
            process.wait()
