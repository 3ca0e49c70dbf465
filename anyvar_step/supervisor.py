"""A process supervisor: starts services, and stops them when its owner ends, however it ends.

Run as a file, with the standard library alone; ``embedded.Supervisor`` is the owner's side.

    python supervisor.py FOLDER…

Each line of standard input is a JSON object {"name", "argv", "env", "log"}: a service to start. When standard
input ends (the owner closed it or died), or a service ends, all services are stopped, the last one started
first, and the folders are removed. If a service ended by itself, standard output gets a JSON object {"name",
"status", "log"}, where the log is its last lines, and the exit code is that of the service, 1 where that is 0
or a signal; else it is 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds from SIGTERM to SIGKILL.
PATIENCE = 10.0
#: Lines and bytes of a log that are reported.
LAST_LINES = 15
LAST_BYTES = 8192


@dataclass
class Service:
    """A process that leads a process group, so that its children can be stopped with it."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, order: dict[str, Any]) -> Service:
        """Start the service that a line of standard input describes."""
        log = Path(order["log"])
        with log.open("ab") as stream:
            process = subprocess.Popen(
                order["argv"],
                env=order["env"],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=0,
            )
        return cls(order["name"], log, process)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after PATIENCE, for the process and its children."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def report(self) -> dict[str, Any]:
        """Name, exit status and the last lines of the log."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - LAST_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return {"name": self.name, "status": self.process.returncode, "log": lines}


def supervise(services: list[Service]) -> Service | None:
    """Start services until standard input ends (None) or one of them has ended; that one.

    A signal to this process counts as the end of standard input.
    """
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    pending = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno(), wake], [], [])
        if wake in ready and set(os.read(wake, 512)) != {signal.SIGCHLD}:
            return None
        for service in services:
            if service.process.poll() is not None:
                return service
        if sys.stdin.fileno() in ready:
            block = os.read(sys.stdin.fileno(), 65536)
            if not block:
                return None
            *lines, pending = (pending + block).split(b"\n")
            services.extend(Service.start(json.loads(line)) for line in lines)


def main(folders: list[str]) -> int:
    """Supervise until the end, then stop the services and remove the folders; the exit code."""
    services: list[Service] = []
    ended = None
    try:
        ended = supervise(services)
    finally:
        for service in reversed(services):
            service.stop()
        if ended:
            with contextlib.suppress(BrokenPipeError):  # the owner has died
                print(json.dumps(ended.report()), flush=True)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return max(1, ended.process.returncode) if ended else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
