"""Small acts on files that must survive a crash: copy and hash in one pass, sync a folder, remove a tree."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_CHUNK = 4 << 20
#: Answers of copy_file_range that mean "not between these two files".
_UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
)


def copy_and_hash(source: BinaryIO, target: BinaryIO) -> tuple[int, str]:
    """Copy all of ``source``; the bytes copied and their hex SHA-256.

    The bytes are read once, for the digest; where the kernel can copy (reflinks, server-side copies on
    NFS 4.2), they are not written by us. A seekable source must stand at its beginning.
    """
    digest = hashlib.sha256()
    size = 0
    in_kernel = hasattr(os, "copy_file_range") and source.seekable()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        copied = _copy_range(source, target, size, len(chunk)) if in_kernel else 0
        if copied < len(chunk):
            in_kernel = False
            target.seek(size + copied)
            target.write(chunk[copied:])
        size += len(chunk)
    target.flush()
    return size, digest.hexdigest()


def _copy_range(source: BinaryIO, target: BinaryIO, offset: int, length: int) -> int:
    """Bytes that the kernel copied from the same offset to the same offset; 0 where it cannot."""
    done = 0
    while done < length:
        try:
            step = os.copy_file_range(
                source.fileno(), target.fileno(), length - done, offset + done, offset + done
            )
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return done
            raise
        if step == 0:
            return done
        done += step
    return done


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path, spare: Callable[[Path], bool] = lambda _: False) -> bool:
    """Remove a folder; renamed first, so that a killed removal leaves nothing that looks alive.

    ``spare`` is asked when the folder has its other name; True, or an exception, puts it back. Returns
    whether it is gone.
    """
    doomed = folder.with_name(f".gone-{secrets.token_hex(8)}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return True
    except OSError:
        doomed = folder
    try:
        spared = spare(doomed)
    except BaseException:
        with suppress(OSError):
            doomed.rename(folder)
        raise
    if spared:
        with suppress(OSError):  # somebody has made another of that name: then this one is not wanted
            doomed.rename(folder)
            return False
    shutil.rmtree(doomed, ignore_errors=True)
    return not doomed.exists()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(source: BinaryIO) -> tuple[int, str]:
    """Bytes and hex SHA-256 of all of a seekable ``source``, which then stands at its beginning."""
    source.seek(0)
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    source.seek(0)
    return size, digest.hexdigest()
