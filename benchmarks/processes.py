"""Processes as benchmarks watch them: what a command costs, what a tree of processes has cost and holds."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks at the memory of a process.
LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: CPU and wall-clock seconds, private memory at its peak in MB."""

    cpu: float
    wall: float
    memory: float = 0.0


def measure(
    argv: list[str], where: Path, environ: Mapping[str, str] | None = None, cores: int | None = None
) -> Cost:
    """Run a command in a folder to its end, its output thrown away, on so many cores, or all of them.

    Fails where the command does.
    """
    own = set(sorted(os.sched_getaffinity(0))[-cores:]) if cores else os.sched_getaffinity(0)
    begin = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=where,
        env=environ,
        preexec_fn=lambda: os.sched_setaffinity(0, own),  # before there are threads
    )
    assert process.stderr is not None
    with memory_watched({"it": process.pid}) as peaks:
        with process.stderr as stream:
            said = stream.read()
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} failed with {process.returncode}: {said.decode()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - begin, peaks["it"])


def tree(root: int) -> Iterator[tuple[int, list[str]]]:
    """A process and all below it: id and the fields of /proc/PID/stat from the third, the state, on."""
    stats: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    pending = [root]
    while pending:
        pid = pending.pop()
        if pid in stats:
            yield pid, stats[pid]
        pending += [child for child, fields in stats.items() if int(fields[1]) == pid]


def cpu_of(root: int) -> float:
    """CPU seconds of a tree of processes so far, those that have ended and were waited for included."""
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in tree(root))
    return ticks / os.sysconf("SC_CLK_TCK")


def private_memory(pids: Iterable[int]) -> float:
    """MB of pages that none but these processes has mapped (USS)."""
    kilobytes = 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return kilobytes / 1024


@contextmanager
def memory_watched(roots: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """While the block runs: the most private memory, MB, that each named tree of processes has had."""
    peaks, ended = dict.fromkeys(roots, 0.0), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            for name, root in roots.items():
                peaks[name] = max(peaks[name], private_memory(pid for pid, _ in tree(root)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()
