"""Files on their way to their names: written beside them, gone unless published, even after SIGKILL.

What has no name to be given, standard output, a device or a FIFO, gets the whole file's bytes in the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import from_os
from anyvar_step.files import sync_folder

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
        _pour(part, sys.stdout.buffer)
    elif is_stream(path):
        with path.open("wb") as stream:
            _pour(part, stream)
    else:
        part.replace(real(path))
        sync_folder(real(path).absolute().parent)


@contextmanager
def put_aside(paths: Iterable[Path]) -> Iterator[None]:
    """Files that lose their meaning by what the block does: gone when it ends well, else as they were."""
    aside = {}
    try:
        for path in paths:
            hidden = _hidden(path)
            with contextlib.suppress(FileNotFoundError):
                path.rename(hidden)
                aside[path] = hidden
        yield
    except BaseException:
        for path, hidden in aside.items():
            with contextlib.suppress(OSError):
                hidden.rename(path)
        raise
    for hidden in aside.values():
        hidden.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    """A name beside the file's that nobody has."""
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
        raise  # whoever read standard output has had enough
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
            with contextlib.suppress(OSError):  # a filesystem without locks keeps dead parts
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield part
        finally:
            for leftover in (part, *(Path(f"{part}{suffix}") for suffix in _MADE_OF_IT)):
                with contextlib.suppress(OSError):  # a disk that became read-only; the next call removes it
                    leftover.unlink()


def _remove_dead(left: Path) -> None:
    """Remove a part unless its step lives; what comes of one lives as long as it is there."""
    if left.suffix in _MADE_OF_IT:
        if not left.with_suffix("").exists():
            left.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError), left.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(left)  # noqa: PTH108  # while it is locked
