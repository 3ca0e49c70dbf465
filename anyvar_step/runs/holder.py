"""Names of lease holders: by its name a step knows which leases its own killed predecessors left."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from functools import cache
from pathlib import Path

#: Hashes of the output's path and of the host, then the process's number and the tick at which it began.
_NAME = re.compile(r"([0-9a-f]{16})([0-9a-f]{16})p([0-9]{1,9})s([0-9]{1,18})")


def holder_for(output: Path) -> str:
    """The name of this process as the one that writes ``output``: letters and digits, as a header has."""
    began = _began(os.getpid())
    name = f"{_hash(str(output.absolute()))}{_host()}p{os.getpid()}s{began}"
    return name if began else secrets.token_hex(8)


def is_predecessor(other: str, holder: str) -> bool:
    """Whether ``other`` wrote the path of ``holder``, from the same host, and is no more.

    It was killed, or left its run for the next call. What ended on another host cannot be seen from here.
    """
    ours, theirs = _NAME.fullmatch(holder), _NAME.fullmatch(other)
    if ours is None or theirs is None or ours.group(1, 2) != theirs.group(1, 2):
        return False
    return not _lives(int(theirs[3]), theirs[4])


def _lives(pid: int, began: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, whose /proc may be hidden
        return True
    return _began(pid) == began


def _began(pid: int) -> str:
    """When that process began, in ticks of the kernel; empty where it is dead or there is no /proc."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


@cache
def _host() -> str:
    """The host since it booted, and the namespace of its process numbers: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return _hash(f"{boot} {Path('/proc/self/ns/pid').readlink()}")
    except OSError:
        return secrets.token_hex(8)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
