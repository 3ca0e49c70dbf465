"""The guard of private services: a small process that starts them and outlives its owner to stop them.

Run as a file with the standard library alone; ``embedded.Guard`` is the other end.

    python guard.py FOLDER…

Each line of stdin is a JSON object {"name", "argv", "env", "log"}: a service to start. Stdin ends when the
owner closes it or dies, however it dies. Then, or when a service ends by itself, the guard stops the
services, the last one started first, prints the last lines of the log of the one that ended by itself,
removes the folders and exits: 0, or the exit code of the service that ended by itself (1 where that is 0
or a signal).
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

#: Seconds that a service has to end after SIGTERM.
PATIENCE = 10.0
#: Lines and bytes of a dead service's log that are worth showing.
LAST_LINES = 15
LAST_BYTES = 8192


@dataclass
class Service:
    """One service: a process that leads a process group, so that its children end with it."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, order: dict[str, Any]) -> Service:
        """Start what one line of stdin asks for."""
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
        """SIGTERM, some patience, then SIGKILL for the service and for children it left behind."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def last_words(self) -> str:
        """Name, exit status and the end of the log."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - LAST_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join([f"{self.name} ended with exit status {self.process.returncode}", *lines])


def supervise(services: list[Service]) -> Service | None:
    """Start services as stdin asks; return when stdin ends (None) or with the service that ended by itself.

    A signal to the guard itself counts as the end of stdin.
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
    """Guard until the end, then leave nothing behind."""
    services: list[Service] = []
    dead = None
    try:
        dead = supervise(services)
    finally:
        for service in reversed(services):
            service.stop()
        if dead:
            # The owner may be gone, and its pipe with it.
            with contextlib.suppress(BrokenPipeError):
                print(dead.last_words(), flush=True)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return max(1, dead.process.returncode) if dead else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
