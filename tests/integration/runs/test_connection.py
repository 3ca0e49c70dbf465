"""Connections to Redis: replies of an outage, lists of URLs, TLS where there is none and the reverse."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from servers import RedisServer, tcp_redis
from support import Site, free_ports, until

from anyvar_step.client.celery import CeleryTransport
from anyvar_step.errors import Unavailable
from anyvar_step.models import AnnotateOptions, RunRequest
from anyvar_step.runs.connection import BRIEF_RETRY, OUTAGE_REPLIES, connect, is_outage, ping
from anyvar_step.runs.queue import celery_config, make_app
from anyvar_step.runs.state import RunState
from anyvar_step.settings import Settings, load


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.end()


#: What makes Redis answer with an error, and what ends that.
FAULTS: dict[str, tuple[Callable[[redis.Redis], object], Callable[[redis.Redis], object]]] = {
    "READONLY": (lambda c: c.replicaof("127.0.0.1", 1), lambda c: c.replicaof("no", "one")),
    "MASTERDOWN": (
        lambda c: (c.config_set("replica-serve-stale-data", "no"), c.replicaof("127.0.0.1", 1)),
        lambda c: (c.replicaof("no", "one"), c.config_set("replica-serve-stale-data", "yes")),
    ),
    "NOREPLICAS": (
        lambda c: c.config_set("min-replicas-to-write", 1),
        lambda c: c.config_set("min-replicas-to-write", 0),
    ),
    "OOM": (lambda c: c.config_set("maxmemory", 1), lambda c: c.config_set("maxmemory", 0)),
}


@contextlib.contextmanager
def fault(server: RedisServer, name: str, seconds: float | None = None) -> Iterator[None]:
    """The fault, until the block ends or so many seconds have passed."""
    begin, end = FAULTS[name]
    over = threading.Event()

    def wait() -> None:
        over.wait(seconds)
        with server.client() as client:
            end(client)

    with server.client() as client:
        begin(client)
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", FAULTS)
def test_a_redis_that_answers_with_an_error_is_bridged(server: RedisServer, name: str) -> None:
    settings = Settings(broker_url=server.url, backend_url=server.url)
    with RunState(settings, 30.0) as state, RunState(settings) as quick:
        state.forget("run-1", "")
        with fault(server, name), pytest.raises(Unavailable, match="refuses commands for now"):
            quick.create("run-1")
        with fault(server, name, 1.5):
            assert state.create("run-1")
            assert state.cancel("run-1")


@pytest.mark.parametrize("name", FAULTS)
def test_a_step_that_is_about_to_submit_waits(server: RedisServer, site: Site, name: str, vcf: Path) -> None:
    """1.1.0 ended with 69 at once."""
    site.redis_url = server.url
    request = RunRequest(options=AnnotateOptions())
    with contextlib.closing(CeleryTransport(load(site.environ), outage=30.0)) as transport:
        with fault(server, name, 1.5), vcf.open("rb") as source:
            ticket, _ = transport.submit(source, vcf.name, request)
        assert transport.runs.queue.length() == 1
        transport.cancel(ticket)
        assert transport.runs.queue.length() == 0
    hasty = contextlib.closing(CeleryTransport(load(site.environ), outage=0.5))
    refused = pytest.raises(Unavailable, match="refuses")
    with hasty as transport, fault(server, name), vcf.open("rb") as source, refused:
        transport.submit(source, vcf.name, request)
    assert site.left_over() == []


@contextlib.contextmanager
def within_ten_seconds(site: Site) -> Iterator[None]:
    """Fail where the block waits for longer, whatever starting a process costs on this machine just now."""
    begin = time.monotonic()
    assert site.run("--version").returncode == 0
    start_up = time.monotonic() - begin
    yield
    took = time.monotonic() - begin - start_up
    assert took < 10 + 10 * start_up, f"{took:.1f} s, where --version takes {start_up:.1f} s"


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path, site: Site, vcf: Path) -> None:
    [port] = free_ports(1)
    site.redis_url = f"redis://127.0.0.1:{port}/0"
    with within_ten_seconds(site):
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 69, done.stderr


@pytest.mark.parametrize("reply", [*OUTAGE_REPLIES, "Error running script: @user_script: 3: -READONLY You"])
def test_outages_are_told_from_other_errors_by_their_code(reply: str) -> None:
    """Answers of a server that cannot be had here, such as those of a cluster."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                setup = data.count(b"CLIENT") + data.count(b"HELLO")
                connection.sendall(b"+OK\r\n" * setup if setup else f"-{reply} because of it\r\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = redis.Redis(port=listener.getsockname()[1], protocol=2, retry=None)
    with pytest.raises(redis.RedisError) as raised:
        client.set("key", "1")
    client.close()
    listener.close()
    assert is_outage(raised.value), repr(raised.value)


@pytest.mark.parametrize(
    "error", ["WRONGTYPE Operation against a key", "NOAUTH Authentication required.", "ERR x"]
)
def test_other_errors_are_no_outage(error: str) -> None:
    assert not is_outage(redis.ResponseError(error))
    assert not is_outage(redis.exceptions.NoPermissionError("no permissions"))
    assert not is_outage(redis.AuthenticationError("invalid username-password pair"))


# -- lists of URLs ----------------------------------------------------------------------------------------


def test_the_next_url_of_a_list_serves_where_one_fails_or_is_a_replica(tmp_path: Path) -> None:
    first, second = RedisServer(tmp_path), RedisServer(tmp_path, persistent=False)
    try:
        first.start()
        second.start()
        url = f"redis://127.0.0.1:{first.port}/0;redis://127.0.0.1:{second.port}/0"
        settings = Settings(broker_url=url, backend_url=url)
        with RunState(settings, 10.0) as state:
            assert state.create("run-1")
            with first.client() as client:
                assert client.exists("anyvar_celery-task-meta-run-1")
                client.replicaof("127.0.0.1", second.port)  # a planned failover
                until(lambda: client.info("replication")["master_link_status"] == "up")
            with RunState(settings, 10.0) as another:
                assert another.create("run-2")
                first.kill()
                assert another.create("run-3")
            assert state.create("run-4")
        with second.client() as client:
            keys = {key.rpartition("-")[2] for key in client.keys("anyvar_celery-task-meta-run-*")}
            assert keys >= {"2", "3", "4"}
        ping(url, "CELERY_BROKER_URL")
    finally:
        first.end()
        second.end()


@pytest.mark.quick(1)
@pytest.mark.parametrize("variable", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
def test_a_list_may_begin_with_a_replica(
    server: RedisServer, site: Site, vcf: Path, tmp_path: Path, variable: str
) -> None:
    """Steps and workers are started after a failover, and the list names the new replica first."""
    (tmp_path / "replica").mkdir()
    replica = RedisServer(tmp_path / "replica", persistent=False)
    replica.start()
    try:
        with replica.client() as client:
            client.replicaof("127.0.0.1", server.port)
            until(lambda: client.info("replication")["master_link_status"] == "up")
        site.extra |= {"CELERY_BROKER_URL": server.url, "CELERY_RESULT_BACKEND": server.url}
        site.extra[variable] = f"{replica.url};{server.url}"
        with site.worker() as worker:
            done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
            assert (done.returncode, done.stderr) == (0, "")
            assert site.run("check").returncode == 0
            assert worker.poll() is None
    finally:
        replica.end()
    [log] = site.folder.glob("worker-*.log")
    assert "does not serve" not in log.read_text()


def test_closing_a_connection_twice_goes_on_by_one_url(server: RedisServer, tmp_path: Path) -> None:
    """Celery's backend closes it once more than redis-py; with two URLs it came back to the failed one."""
    (tmp_path / "other").mkdir()
    other = RedisServer(tmp_path / "other")
    other.start()
    try:
        with connect(f"{server.url};{other.url}") as client:
            connection = client.connection_pool.get_connection()
            ports = []
            for _ in range(2):
                connection.connect()
                ports.append(connection.port)
                connection.disconnect()
                connection.disconnect()
            client.connection_pool.release(connection)
    finally:
        other.end()
    assert ports == [server.port, other.port]


def test_celery_gets_what_it_understands_of_lists_and_sentinels() -> None:
    url = "sentinel://h1:26379;sentinel://u:p@h2:26379/3?master_name=m&ssl_ca_certs=/ca.pem"
    config = celery_config(Settings(broker_url=url, backend_url=url))
    assert config["broker_url"] == "sentinel://u:p@h1:26379/3;sentinel://u:p@h2:26379/3"
    assert config["result_backend"] == config["broker_url"]
    assert config["broker_transport_options"]["master_name"] == "m"
    assert config["result_backend_transport_options"]["master_name"] == "m"
    assert config["broker_use_ssl"]["ssl_ca_certs"] == "/ca.pem"
    assert config["redis_backend_use_ssl"]["ssl_cert_reqs"].name == "CERT_REQUIRED"
    several = "rediss://:p@h1/1;rediss://:p@h2/1"
    settings = Settings(broker_url=several, backend_url=several)
    assert celery_config(settings)["broker_url"] == (
        "rediss://:p@h1/1?ssl_cert_reqs=required;rediss://:p@h2/1?ssl_cert_reqs=required"
    )
    with make_app(settings) as app:
        assert app.backend.connparams["host"] == "h1"


# -- TLS on one side only ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_tls_to_a_redis_without_it_ends_within_ten_seconds(site: Site, vcf: Path, tmp_path: Path) -> None:
    with tcp_redis(tmp_path / "plain") as port:
        site.redis_url = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none"
        for arguments in (("annotate", vcf, "-o", tmp_path / "out.vcf"), ("check",), ("worker",)):
            with within_ten_seconds(site):
                done = site.run(*arguments)
            assert done.returncode in (69, 78), done.stderr
            assert "TLS" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_connection_without_tls_to_a_port_with_it_ends_within_ten_seconds(
    site: Site, vcf: Path, tmp_path: Path
) -> None:
    """A TLS server sends an alert and closes, or waits for the rest of the handshake."""
    pem = tmp_path / "server.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    subprocess.run([*make, "-keyout", pem, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    tls = ("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(pem))
    with tcp_redis(tmp_path / "tls", *tls, "--tls-auth-clients", "no", tls=True) as port:
        site.redis_url = f"redis://127.0.0.1:{port}/0"
        for arguments in (("annotate", vcf, "-o", tmp_path / "out.vcf"), ("check",), ("worker",)):
            with within_ten_seconds(site):
                done = site.run(*arguments)
            assert done.returncode == 69, done.stdout + done.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.redis_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with within_ten_seconds(site), pytest.raises(Unavailable):
            ping(site.redis_url, "CELERY_BROKER_URL", BRIEF_RETRY)
