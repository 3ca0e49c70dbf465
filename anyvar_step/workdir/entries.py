"""The names in a run's folder, and the modes with which files and folders are made."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import AccessRefused

MANIFEST = "manifest.json"
#: AnyVar's worker appends this to the input's path.
OUTPUT_SUFFIX = "_outputvcf"
CONFLICTS_SUFFIX = "_conflictlog"
REPORT_SUFFIX = "_report.json"


def index_of(output: Path, sha256: str) -> Path:
    """The .tbi of an output of that hex SHA-256, so that one of another attempt is not taken for it."""
    return output.with_name(f"{output.name}.{sha256}.tbi")


#: Bytes of a small file (manifest, report) that are read at most.
_SMALL = 16 << 20


def read_small(path: Path) -> bytes:
    """The content of a manifest, report or the like; what is no plain file of a decent size is refused.

    A FIFO or device in its place is not waited for, no symlink followed. Raises OSError, AccessRefused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise AccessRefused(f"{path} is not a regular file")
        if found.st_size > _SMALL:
            raise AccessRefused(f"{path} has {found.st_size} bytes, more than such a file ever has")
        return file.read()


def create(path: Path, mode: int | None) -> BinaryIO:
    """A new file for the owner and the group, as far as the umask or the configured mode lets them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o660)
    if mode is not None:
        os.fchmod(descriptor, mode)
    return os.fdopen(descriptor, "wb")


def make_folder(path: Path, mode: int | None) -> None:
    """A folder whose files belong to the work dir's group (setgid), searchable by whoever may read."""
    try:
        path.mkdir(mode=0o770)
    except FileExistsError:
        return
    made = stat.S_IMODE(path.stat().st_mode)
    wanted = made if mode is None else mode | (mode & 0o444) >> 2
    with contextlib.suppress(PermissionError):
        path.chmod(wanted | stat.S_ISGID)
