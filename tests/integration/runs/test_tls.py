"""Redis over TLS: certificates are checked on every way to it, and what is wrong with one is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import certificates, tcp_redis
from support import Site, skip


@dataclass
class Tls:
    """A Redis that speaks TLS alone, and the CA that vouches for it under the address 127.0.0.1."""

    port: int
    ca: Path

    def url(self, host: str = "127.0.0.1", **query: str) -> str:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return f"rediss://{host}:{self.port}/0" + (f"?{asked}" if asked else "")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    missing = [name for name in ("openssl", "redis-server") if shutil.which(name) is None]
    if missing:
        skip("NOT TESTED OVER TLS", f"no {' and no '.join(missing)}: apt install openssl redis-server")
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder / "ours")
    certificates(folder / "another")
    named = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
    with tcp_redis(folder / "ours", *named, "--tls-auth-clients", "no", tls=True) as port:
        yield Tls(port, folder / "ours" / "ca.pem")


def test_a_run_gets_through_where_broker_and_board_speak_tls(
    site: Site, tls: Tls, vcf: Path, tmp_path: Path
) -> None:
    site.redis_url = tls.url(ssl_ca_certs=str(tls.ca))
    with site.worker():
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        assert done.returncode == 0, done.stderr
        checked = site.run("check")
        assert checked.returncode == 0, checked.stdout
        assert "plain text" not in checked.stdout
    assert site.left_over() == []


@pytest.mark.quick(2)
@pytest.mark.parametrize("command", ["annotate", "status", "worker", "check", "sweep"])
def test_a_certificate_of_a_ca_nobody_named_is_refused_by_every_command(
    site: Site, tls: Tls, vcf: Path, tmp_path: Path, command: str
) -> None:
    arguments = {"annotate": (vcf, "-o", tmp_path / "out.vcf"), "status": ("a-run",)}.get(command, ())
    for url in (tls.url(), tls.url(ssl_ca_certs=str(tls.ca.parents[1] / "another" / "ca.pem"))):
        site.redis_url = url
        done = site.run(command, *arguments)
        assert done.returncode == 78, done.stderr
        assert "is not trusted" in done.stdout + done.stderr
        assert "ssl_ca_certs=" in done.stdout + done.stderr
    assert site.left_over() == []


def test_a_certificate_for_another_host_is_refused(site: Site, tls: Tls) -> None:
    site.redis_url = tls.url("localhost", ssl_ca_certs=str(tls.ca))
    done = site.run("status", "a-run")
    assert done.returncode == 78
    assert "ostname mismatch" in done.stderr


def test_a_ca_file_that_is_not_there_and_a_port_without_tls_are_named(
    site: Site, tls: Tls, tmp_path: Path
) -> None:
    site.redis_url = tls.url(ssl_ca_certs="/no/such/ca.pem")
    done = site.run("status", "a-run")
    assert (done.returncode, "ssl_ca_certs" in done.stderr) == (78, True), done.stderr
    with tcp_redis(tmp_path / "plain") as port:
        site.redis_url = f"rediss://127.0.0.1:{port}/0"
        done = site.run("status", "a-run")
    assert (done.returncode, "is that its TLS port?" in done.stderr) == (69, True), done.stderr
