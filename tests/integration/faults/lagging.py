"""A view of a directory that shows changes late, as an NFS client's does (docs/contract.md#file-systems).

    python lagging.py SOURCE MOUNT SECONDS

What is made through this view is there at once. What somebody else made appears after so many seconds, and
what somebody else removed is shown for as long, although opening it gives ESTALE. Needs FUSE, and ends when
MOUNT is unmounted.
"""

# The arguments are FUSE's, and each method is the call of the same name in os.
# ruff: noqa: ARG002, PTH101, PTH102, PTH104, PTH106, PTH108, PTH116, PTH208

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

import mfusepy

Attributes = dict[str, Any]
_FIELDS = ("mode", "ino", "nlink", "uid", "gid", "size", "blocks")


def _attributes(stat: os.stat_result) -> Attributes:
    times = {f"st_{name}": getattr(stat, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
    return {**{f"st_{name}": getattr(stat, f"st_{name}") for name in _FIELDS}, **times}


class Lagging(mfusepy.Operations):  # type: ignore[misc]  # it has no types
    """All acts go to ``source``; only what a look at a name tells is late."""

    use_ns = True

    def __init__(self, source: str, lag: float) -> None:
        self._source = source
        self._lag = lag
        #: By folder, name and inode: from when on the entry is shown.
        self._due: dict[tuple[int, str, int], float] = {}
        #: By path: when it was last seen to be there, and as what.
        self._seen: dict[str, tuple[float, Attributes]] = {}

    def _real(self, path: str) -> str:
        return self._source + path

    def _key(self, path: str) -> tuple[int, str, int]:
        folder, name = os.path.split(self._real(path))
        return os.stat(folder).st_ino, name, os.lstat(self._real(path)).st_ino

    def _own(self, path: str) -> None:
        self._due[self._key(path)] = 0.0

    def _hidden(self, path: str) -> bool:
        made = os.lstat(self._real(path)).st_ctime
        return path != "/" and time.time() < self._due.setdefault(self._key(path), made + self._lag)

    def _forget(self, path: str) -> None:
        for known in list(self._seen):  # a copy: other threads of FUSE look at names meanwhile
            if known == path or known.startswith(f"{path}/"):
                self._seen.pop(known, None)

    # -- what is late ------------------------------------------------------------------------------------

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        try:
            found = os.fstat(fh) if fh else os.lstat(self._real(path))
            hidden = not fh and self._hidden(path)
        except FileNotFoundError:
            when, before = self._seen.get(path, (float("-inf"), {}))
            if time.monotonic() - when > self._lag:
                raise
            return before
        if hidden:
            raise mfusepy.FuseOSError(errno.ENOENT)
        attributes = _attributes(found)
        self._seen[path] = time.monotonic(), attributes
        return attributes

    def readdir(self, path: str, fh: int) -> list[str]:
        shown = [".", ".."]
        for name in os.listdir(self._real(path)):
            try:
                if not self._hidden(f"{path.rstrip('/')}/{name}"):
                    shown.append(name)
            except FileNotFoundError:
                continue
        return shown

    def open(self, path: str, flags: int) -> int:
        try:
            return os.open(self._real(path), flags)
        except FileNotFoundError:
            raise mfusepy.FuseOSError(errno.ESTALE) from None

    # -- what is done at once ----------------------------------------------------------------------------

    def create(self, path: str, mode: int, fi: object = None) -> int:
        descriptor = os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self._own(path)
        return descriptor

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._real(path), mode)
        self._own(path)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._real(old), self._real(new))
        self._forget(old)
        self._own(new)
        return 0

    def link(self, target: str, source: str) -> int:
        os.link(self._real(source), self._real(target))
        self._own(target)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._real(path))
        self._forget(path)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._real(path))
        self._forget(path)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._real(path), ns=times)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(fh or self._real(path), length)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        os.fsync(fh)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real(path))
        return {
            name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"
        }


if __name__ == "__main__":
    source, mount, lag = sys.argv[1:]
    options = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0, "hard_remove": True}
    mfusepy.FUSE(Lagging(source, float(lag)), mount, foreground=True, **options)
