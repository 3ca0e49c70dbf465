"""Small acts on files that must survive a crash: copy and hash in one pass, sync a folder, remove a tree."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import from_os

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
        with suppress(OSError):  # another process has made a folder of that name, which is kept
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
    sha256 = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # it can readinto
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    return size, sha256


#: What comes of a part on its way to OUT.
_MADE_OF_IT = (".tbi", ".csi", ".bcf")
#: What a part, what comes of one, an index put aside, and nothing else has after OUT's name.
_TAIL = re.compile(r"\.[0-9a-f]{12}(\.tbi|\.csi|\.bcf)?|\.(tbi|csi)\.[0-9a-f]{12}")
#: Bytes of OUT's name in a part's: filesystems take 255, and some more follow.
_LONGEST = 200


def is_stream(path: Path) -> bool:
    """Whether a device, a FIFO or a socket has that name: nothing that a file could take the place of."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def real(path: Path) -> Path:
    """Where a file of that name is, or will be: symbolic links are followed."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def publish(part: Path, path: Path | None) -> None:
    """Give the whole ``part`` its name, or its bytes to what can have none; None = standard output."""
    if path is None:
        try:
            _pour(part, sys.stdout.buffer)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise from_os(error, "cannot write to standard output") from error
    elif is_stream(path):
        with path.open("wb") as stream:
            _pour(part, stream)
    else:
        part.replace(real(path))
        sync_folder(real(path).absolute().parent)


@contextmanager
def move_aside(paths: Iterable[Path]) -> Iterator[None]:
    """Files that lose their meaning by what the block does: gone when it ends well, else as they were."""
    aside = {}
    try:
        for path in paths:
            hidden = _hidden(path)
            with suppress(FileNotFoundError):
                path.rename(hidden)
                aside[path] = hidden
        yield
    except BaseException:
        for path, hidden in aside.items():
            with suppress(OSError):
                hidden.rename(path)
        raise
    for hidden in aside.values():
        hidden.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    """An unused hidden name in the file's folder."""
    return path.with_name(f".{_short(path.name)}.{secrets.token_hex(6)}")


def _short(name: str) -> str:
    """The name, or what stands for one that is too long to be followed by anything."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{os.fsdecode(raw[: _LONGEST - len(digest)])}{digest}"


def _pour(part: Path, stream: BinaryIO) -> None:
    with part.open("rb") as whole:
        shutil.copyfileobj(whole, stream)
    stream.flush()


@contextmanager
def temporary(path: Path | None) -> Iterator[Path]:
    """A name for a part beside OUT (so that a rename can publish it), gone when the block ends.

    For standard output (None) and streams it is in the temporary directory. Raises FileTrouble where it
    cannot be written. Parts of steps that were killed go first.
    """
    try:
        with _apart() if path is None or is_stream(path) else _beside(real(path).absolute()) as part:
            yield part
    except BrokenPipeError:
        raise  # the reader of standard output has closed it
    except OSError as error:
        raise from_os(error, f"cannot write the output {path or 'to ' + tempfile.gettempdir()}") from error


@contextmanager
def _apart() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="anyvar-step-") as folder:
        yield Path(folder) / "output.vcf"


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """The part is locked as long as its step lives: one that can be locked is a dead step's."""
    name = _short(path.name)
    for left in sorted(path.parent.glob(".*"), key=lambda left: len(left.name)):  # parts before theirs
        if left.name.startswith(f".{name}.") and _TAIL.fullmatch(left.name[len(name) + 1 :]):
            _remove_dead(left)
    part = _hidden(path)
    with part.open("xb") as file:
        try:
            with suppress(OSError):  # a filesystem without locks keeps dead parts
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield part
        finally:
            for leftover in (part, *(Path(f"{part}{suffix}") for suffix in _MADE_OF_IT)):
                with suppress(OSError):  # a disk that became read-only; the next call removes it
                    leftover.unlink()


def _remove_dead(left: Path) -> None:
    """Remove a part unless its step lives; what comes of one lives as long as it is there."""
    if left.suffix in _MADE_OF_IT:
        if not left.with_suffix("").exists():
            left.unlink(missing_ok=True)
        return
    with suppress(OSError), left.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(left)  # noqa: PTH108  # while it is locked
