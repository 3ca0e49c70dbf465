"""Files on their way to their names: written beside them, gone unless published, even after SIGKILL."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anyvar_step.errors import from_os

#: What comes of a part on its way to OUT.
_MADE_OF_IT = (".tbi", ".csi", ".bcf")
#: What a part, what comes of one, and nothing else has after OUT's name.
_TAIL = re.compile(r"\.[0-9a-f]{12}(\.tbi|\.csi|\.bcf)?")


@contextmanager
def temporary(path: Path | None) -> Iterator[Path]:
    """A name beside OUT (so that a rename can publish it), gone when the block ends.

    Standard output (None) has its own in the temporary directory. Raises FileTrouble where it cannot be
    written. Parts of steps that were killed go first.
    """
    try:
        with _beside(path.absolute()) if path else _apart() as part:
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
    for left in sorted(path.parent.glob(".*"), key=lambda left: len(left.name)):  # parts before theirs
        if left.name.startswith(f".{path.name}.") and _TAIL.fullmatch(left.name[len(path.name) + 1 :]):
            _remove_dead(left)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
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
