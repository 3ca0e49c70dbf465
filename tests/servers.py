"""Private servers for tests: a Postgres cluster in a temporary folder, and a Redis that can be disturbed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from support import free_ports

from anyvar_step.embedded import Supervisor, find_redis, short_folder, start_redis

#: The account that runs Postgres where the tests run as root, which it refuses.
ACCOUNT = "postgres"


def find_postgres() -> Path | None:
    """The folder of the newest Postgres's programs (Debian keeps them off PATH); None where there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return versions[-1].parent if versions else None


@dataclass
class Postgres:
    """A cluster; ``log`` is its server's log. Roles come in without a password, but for role ``guarded``."""

    programs: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def uri(self, database: str = "postgres", user: str = ACCOUNT, password: str = "") -> str:
        """A libpq URI of that database, in the form that SQLAlchemy and AnyVar read too."""
        who = f"{user}:{password}" if password else user
        return f"postgresql://{who}@/{database}?host={self.folder}"

    def run(self, program: str, *arguments: str) -> str:
        """What a client program of the cluster's version prints."""
        argv = [self.programs / program, "-h", self.folder, "-U", ACCOUNT, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """The rows that a statement gives, as text; NULL is an empty string."""
        out = self.run(
            "psql", "-X", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement
        )
        return [line.split("\t") for line in out.splitlines()]

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of a new, empty database, gone at the end whoever still uses it."""
        name = f"d{os.urandom(6).hex()}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield name
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self, *settings: str) -> None:
        """Start the server and return once it answers; ``settings`` are NAME=VALUE."""
        argv: list[str | Path] = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        for setting in ("listen_addresses=", "max_connections=60", *settings):
            argv += ["-c", setting]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_as_account("--pdeathsig", "INT"), *argv], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends its sessions, SIGQUIT crashes it (the next start recovers)."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """The server and its sessions stopped where they are, and going on at the end."""
        assert self.process is not None
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        processes = [self.process.pid, *map(int, listed.stdout.split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)


def _as_account(*options: str) -> Sequence[str | Path]:
    """The beginning of a command that must not run as root, and ends with us if ``options`` say so."""
    if os.geteuid() == 0:
        options = ("--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", *options)
    return ["setpriv", *options] if options else []


@contextlib.contextmanager
def private_postgres(*settings: str) -> Iterator[Postgres]:
    """A new cluster, running, and gone at the end. Durability is off unless ``settings`` say otherwise."""
    programs = find_postgres()
    assert programs is not None, "no Postgres is installed: apt install postgresql"
    folder = Path(tempfile.mkdtemp(prefix="anyvar-pg-", dir="/tmp"))
    server = Postgres(programs, folder)
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(ACCOUNT)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        initdb = [programs / "initdb", "-D", folder / "data", "-U", ACCOUNT, "--auth=trust"]
        subprocess.run(
            [*_as_account(), *initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all guarded scram-sha-256\nlocal all all trust\n")
        server.start(*(settings or ("fsync=off", "synchronous_commit=off", "full_page_writes=off")))
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def private_redis(folder: Path) -> Iterator[str]:
    """The private Redis of ``anyvar-step local``; its broker URL. ``folder`` gets its log and is left."""
    short = short_folder()
    with contextlib.closing(Supervisor(short)) as services:
        yield start_redis(services, folder, short / "redis.sock")


@dataclass
class RedisServer:
    """A Redis that may be killed, restarted and made to refuse connections.

    Steps and workers reach it on a port of 127.0.0.1, the test itself on a Unix socket that stays open.
    """

    folder: Path
    persistent: bool = True
    port: int = 0
    #: Of redis-server, beside ours.
    options: tuple[str, ...] = ()
    password: str = ""
    environ: dict[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._socket = Path(tempfile.mkdtemp(prefix="anyvar-redis-", dir="/tmp")) / "redis.sock"
        self.port = self.port or free_ports(1)[0]

    @property
    def url(self) -> str:
        """As Celery and the board understand it."""
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client of the test's own."""
        password = self.password or None
        with redis.Redis(
            unix_socket_path=str(self._socket), decode_responses=True, password=password
        ) as client:
            yield client

    def start(self, *once: str) -> None:
        """Start the server, with what it has kept and ``once`` more options; return once it answers."""
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--unixsocket": str(self._socket),
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes" if self.persistent else "no",
            **({"--requirepass": self.password} if self.password else {}),
        }
        argv = [*find_redis(), *(part for option in options.items() for part in option), *self.options, *once]
        environ = {**os.environ, **(self.environ or {})}
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True, env=environ)
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    return client.ping() and None
            except redis.ConnectionError:
                assert self.process.poll() is None, (self.folder / "redis.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "redis.log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing more is written, nobody is told."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def refuse(self) -> None:
        """Close all connections and the port: whoever comes is refused."""
        with self.client() as client:
            client.config_set("port", 0)
            client.client_kill_filter(_type="normal", skipme=True)

    def accept(self) -> None:
        """The end of ``refuse``."""
        with self.client() as client:
            client.config_set("port", self.port)

    def end(self) -> None:
        """Stop it and leave nothing."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self._socket.parent, ignore_errors=True)


@contextlib.contextmanager
def tcp_redis(folder: Path, *options: str, tls: bool = False) -> Iterator[int]:
    """A Redis on a port of this host, with these options of redis-server; the port."""
    folder.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    ports = ["--port", "0", "--tls-port", str(port)] if tls else ["--port", str(port)]
    log = folder / "redis.log"
    argv = [*find_redis(), *ports, "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    with log.open("w") as out:
        server = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 20
        while True:
            assert server.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """ca.pem, and server.pem with server.key, signed by it for 127.0.0.1.

    They have the extensions without which Python 3.13 refuses them.
    """
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    authority = ("-subj", "/CN=our CA", "-addext", "keyUsage=critical,keyCertSign")
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", *authority)
    openssl(folder, "req", *key[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=redis")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
