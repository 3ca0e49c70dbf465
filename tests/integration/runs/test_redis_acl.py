"""The Redis users of docs/security.md, made by its very lines: what they may do, and may not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
from kombu.exceptions import OperationalError
from pages import blocks
from servers import tcp_redis
from support import ROOT, Site, until, write_vcf

from anyvar_step.runs.queue import make_app
from anyvar_step.runs.sweep import SETTLED_SECONDS, UNACKED
from anyvar_step.runs.worker_registry import WorkerRegistry
from anyvar_step.settings import load

pytestmark = pytest.mark.services  # a minute

#: The default user's, so that whoever comes without a name is refused.
ADMIN = "password-of-admin"
QUEUE = "anyvar_q"
#: ``redis-cli`` of the page's lines.
REDIS_CLI = f"""#!{sys.executable}
import os, sys, redis
redis.Redis(port=int(os.environ["PORT"]), password="{ADMIN}").execute_command(*sys.argv[1:])
"""


@dataclass
class Guarded:
    """A site on a Redis with the page's users; its commands run as the step's."""

    site: Site
    port: int
    admin: redis.Redis

    def url(self, user: str, password: str) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def be_step(self) -> None:
        self.site.redis_url = self.url("anyvar-step", "PASSWORD-OF-STEPS")

    @contextlib.contextmanager
    def worker(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        self.site.redis_url = self.url("anyvar-worker", "PASSWORD-OF-WORKERS")
        with self.site.worker(*arguments) as process:
            self.be_step()
            yield process

    def run(self, *arguments: object) -> str:
        """What a command said that went well."""
        done = self.site.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def denied(self) -> set[tuple[str, str]]:
        """Who was denied what since Redis started; ``check`` does without CONFIG."""
        log = {(entry["username"], entry["object"]) for entry in self.admin.acl_log()}
        return log - {("anyvar-step", "config|get")}


@pytest.fixture
def guarded(site: Site, tmp_path: Path) -> Iterator[Guarded]:
    [lines] = [block.text for block in blocks(ROOT / "docs/security.md") if "ACL SETUSER" in block.text]
    program = tmp_path / "bin" / "redis-cli"
    program.parent.mkdir()
    program.write_text(REDIS_CLI)
    program.chmod(0o755)
    with tcp_redis(tmp_path / "redis", "--requirepass", ADMIN, "--appendonly", "yes") as port:
        environ = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PORT": str(port)}
        subprocess.run(["bash", "-e", "-c", lines], env=environ, cwd=tmp_path, check=True)
        with redis.Redis(port=port, password=ADMIN, decode_responses=True) as admin:
            site.queue = QUEUE
            found = Guarded(site, port, admin)
            found.be_step()
            yield found


@pytest.fixture
def long_vcf(genome: Path, tmp_path: Path) -> Path:
    """A VCF that is at work long enough to be seen so."""
    return write_vcf(tmp_path / "long.vcf", genome, records=250_000)


def test_every_command_ends_well_and_is_denied_nothing(
    guarded: Guarded, vcf: Path, long_vcf: Path, tmp_path: Path
) -> None:
    site, ticket, out = guarded.site, tmp_path / "ticket", tmp_path / "out.vcf"
    with guarded.worker("--metrics-port", "0") as worker, guarded.worker():
        guarded.run("annotate", vcf, "-o", out)
        guarded.run("annotate", vcf, "-o", tmp_path / "pieces.vcf", "--chunks", "3")
        assert (tmp_path / "pieces.vcf").read_bytes() == out.read_bytes()
        guarded.run("submit", vcf, "--ticket", ticket)
        guarded.run("wait", ticket)
        guarded.run("collect", ticket, "-o", tmp_path / "collected.vcf")
        assert (tmp_path / "collected.vcf").read_bytes() == out.read_bytes()
        guarded.run("submit", long_vcf, "--ticket", tmp_path / "long")
        until(lambda: "PROGRESS" in guarded.run("status", tmp_path / "long"))
        guarded.run("cancel", tmp_path / "long")
        guarded.run("check")
        until(
            lambda: guarded.admin.info("server")["uptime_in_seconds"] >= SETTLED_SECONDS, SETTLED_SECONDS + 5
        )
        assert "removed 0" in guarded.run("sweep")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(100) == 0
    guarded.run("submit", vcf, "--ticket", ticket)
    guarded.run("cancel", ticket)
    assert guarded.denied() == set()
    assert site.left_over() == []


def test_the_web_api_is_a_step(guarded: Guarded, vcf: Path, long_vcf: Path, tmp_path: Path) -> None:
    with guarded.worker(), guarded.site.web() as api, httpx.Client(base_url=api.url, timeout=60) as http:
        assert http.put("/vcf", files={"vcf": vcf.read_bytes()}).status_code == 200
        for run_id, content in (("short", vcf), ("long", long_vcf)):
            asked = http.put(f"/vcf?run_async=true&run_id={run_id}", files={"vcf": content.read_bytes()})
            assert asked.status_code == 202, asked.text
        until(lambda: http.get("/vcf/short").status_code == 200)
        assert http.delete("/vcf/long").status_code == 204
        assert http.get("/healthz").status_code == 200
        guarded.site.extra = {"ANYVAR_STEP_URL": api.url, "ANYVAR_VCF_ASYNC_WORK_DIR": ""}
        guarded.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        guarded.run("check")
    assert guarded.denied() == set()


def test_what_a_killed_worker_held_is_put_back_by_a_worker(
    guarded: Guarded, vcf: Path, long_vcf: Path, tmp_path: Path
) -> None:
    """Kombu does it in a worker; the run's message is made as old as the visibility timeout."""
    admin, ticket = guarded.admin, tmp_path / "ticket"
    guarded.run("submit", long_vcf, "--ticket", ticket)
    with guarded.worker() as worker:
        until(lambda: admin.hlen(UNACKED) == 1)
        os.killpg(worker.pid, signal.SIGKILL)
    [held] = admin.hkeys(UNACKED)
    admin.zadd("unacked_index", {held: 0})
    with guarded.worker():
        until(lambda: "200" in guarded.run("status", ticket), 60)
    guarded.run("collect", ticket, "-o", tmp_path / "out.vcf")
    assert guarded.denied() == set()


def test_a_step_can_take_no_run_from_the_queue_nor_see_other_keys(guarded: Guarded) -> None:
    guarded.admin.set("others", "1")
    with redis.Redis.from_url(guarded.url("anyvar-step", "PASSWORD-OF-STEPS")) as step:
        for command in (
            ("BRPOP", QUEUE, 1),
            ("RPOP", QUEUE),
            ("DEL", QUEUE),
            ("GET", "others"),
            ("KEYS", "*"),
            ("SUBSCRIBE", "/0.celery.pidbox"),
            ("PUBLISH", "/0.celery.pidbox", "{}"),
            ("PUBLISH", "anything", "{}"),
            ("LPUSH", "x.reply.celery.pidbox", "{}"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                step.execute_command(*command)


def test_a_step_can_neither_end_workers_nor_change_their_pools(
    guarded: Guarded, vcf: Path, tmp_path: Path
) -> None:
    with guarded.worker() as worker:
        with make_app(load(guarded.site.environ)) as app:
            for order in (app.control.shutdown, app.control.pool_grow, app.control.purge):
                with pytest.raises((OperationalError, redis.exceptions.NoPermissionError)):
                    order()
            with pytest.raises((OperationalError, redis.RedisError)):
                app.control.inspect(timeout=0.5).active_queues()
        guarded.run("annotate", vcf, "-o", tmp_path / "out.vcf")
        assert worker.poll() is None


def test_steps_wait_for_workers_of_anyvars_without_asking_them(guarded: Guarded) -> None:
    """A name in kombu's bindings that never registered may be a worker: it is taken for one."""
    registry = WorkerRegistry(load(guarded.site.environ))
    assert not registry.served()
    guarded.admin.sadd("_kombu.binding.celery.pidbox", "\x06\x16\x06\x16celery@other.celery.pidbox")
    assert registry.served()
    assert registry.unreceived(["a-run"]) == set()
    assert guarded.denied() != set()


@pytest.mark.parametrize("lacking", ["-@all", "resetkeys", "-set"])
def test_a_user_without_rights_ends_with_77_and_reads_where_they_are_written(
    guarded: Guarded, vcf: Path, tmp_path: Path, lacking: str
) -> None:
    guarded.admin.execute_command("ACL", "SETUSER", "anyvar-step", lacking)
    for arguments in (("annotate", vcf, "-o", tmp_path / "out.vcf"), ("submit", vcf), ("check",)):
        done = guarded.site.run(*arguments)
        assert done.returncode == 77, done.stderr
        assert "docs/security.md" in done.stdout + done.stderr
    assert guarded.site.left_over() == []


def test_a_worker_without_rights_ends_with_77(guarded: Guarded) -> None:
    guarded.admin.execute_command("ACL", "SETUSER", "anyvar-worker", "-@all")
    guarded.site.redis_url = guarded.url("anyvar-worker", "PASSWORD-OF-WORKERS")
    done = guarded.site.run("worker")
    assert done.returncode == 77, done.stderr
    assert "docs/security.md" in done.stderr


def test_a_worker_that_lacks_some_right_does_not_end_as_if_all_were_well(guarded: Guarded) -> None:
    guarded.admin.execute_command("ACL", "SETUSER", "anyvar-worker", "resetkeys", "resetchannels")
    guarded.site.redis_url = guarded.url("anyvar-worker", "PASSWORD-OF-WORKERS")
    done = guarded.site.run("worker")
    assert done.returncode == 77, done.stdout + done.stderr
    assert "docs/security.md" in done.stderr
