"""Sentinel over TLS with passwords of its own, and Celery's lists of URLs, with real servers and runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sentinels import Group, require_sentinel
from servers import RedisServer, certificates
from support import Site, until, write_vcf

pytestmark = pytest.mark.services

GUARD = "password-of-the-sentinels"


@contextlib.contextmanager
def group(folder: Path, guard: str, tls: Path | None) -> Iterator[Group]:
    require_sentinel()
    made = Group(folder, guard, tls)
    try:
        made.begin()
        until(made.in_step, 30, "a replica in step")
        yield made
    finally:
        made.end()


@pytest.mark.parametrize(("guard", "encrypted"), [(GUARD, False), ("", True), (GUARD, True)])
def test_runs_get_through_a_failover_of_sentinels_with_passwords_and_tls(
    site: Site, genome: Path, tmp_path: Path, guard: str, encrypted: bool
) -> None:
    tls = tmp_path / "tls" if encrypted else None
    if tls:
        certificates(tls)
    path = write_vcf(tmp_path / "in.vcf", genome)
    with group(tmp_path / "group", guard, tls) as servers:
        site.redis_url = servers.url
        with site.worker() as worker:
            for number, failover in enumerate((lambda: None, servers.promote, servers.kill)):
                until(servers.in_step, 60, "a replica in step")
                before = servers.primary()
                failover()
                if servers.primary() != before:
                    until(lambda: servers.demoted(before), 60, "a former primary that is a replica")  # noqa: B023
                out = tmp_path / f"out-{number}.vcf"
                done = site.run("annotate", path, "-o", out)
                assert done.returncode == 0, done.stderr
                assert "VRS_Allele_IDs=ga4gh:VA." in out.read_text()
            assert worker.poll() is None
            until(servers.in_step, 60, "a replica in step")
            checked = site.run("check")
            assert checked.returncode == 0, checked.stdout
        assert site.left_over() == []


def test_wrong_passwords_of_sentinels_and_missing_tls_are_failures_without_the_password(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    certificates(tmp_path / "tls")
    with group(tmp_path / "group", GUARD, tmp_path / "tls") as servers:
        wrong = {
            "password of the sentinels": servers.url.replace(GUARD, "another-guard"),
            "no password of the sentinels": servers.url.replace(f"&sentinel_password={GUARD}", ""),
            "password of the primary": servers.url.replace(":a-password@", ":another-secret@"),
            "no TLS": servers.url.partition("&ssl_ca_certs")[0],
        }
        for what, url in wrong.items():
            site.redis_url = url
            done = site.run("status", "a-run")
            assert done.returncode in (69, 77, 78), (what, done.stderr)
            for secret in (GUARD, "another-guard", "a-password", "another-secret"):
                assert secret not in done.stdout + done.stderr, what
            assert "Traceback" not in done.stderr


def test_runs_get_through_where_the_first_of_two_urls_fails(site: Site, genome: Path, tmp_path: Path) -> None:
    """The second server is a replica of the first, and is promoted as that is killed."""
    servers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        servers.append(RedisServer(tmp_path / name))
    first, second = servers
    path = write_vcf(tmp_path / "in.vcf", genome)
    try:
        first.start()
        second.start("--replicaof", "127.0.0.1", str(first.port))
        with second.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", 30, "a replica in step")
        site.redis_url = f"{first.url};{second.url}"
        with site.worker() as worker:
            assert site.run("annotate", path, "-o", tmp_path / "before.vcf").returncode == 0
            first.kill()
            with second.client() as client:
                client.replicaof("NO", "ONE")
            done = site.run("annotate", path, "-o", tmp_path / "after.vcf")
            assert done.returncode == 0, done.stderr
            assert worker.poll() is None
        assert (tmp_path / "before.vcf").read_bytes() == (tmp_path / "after.vcf").read_bytes()
        assert site.left_over() == []
    finally:
        first.end()
        second.end()
