"""An input on its way into the work dir, not yet visible under a run id."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import from_os
from anyvar_step.files import remove_tree


@dataclass(frozen=True)
class Staged:
    """An input copied into the work dir, not yet visible under a run id."""

    folder: Path
    input_name: str
    size: int
    sha256: str


class Staging:
    """An input that comes piece by piece, as an upload does; ``discard`` or ``finish`` ends it."""

    def __init__(self, folder: Path, input_name: str, file: BinaryIO) -> None:
        self._folder = folder
        self._input_name = input_name
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises FileTrouble where the disk is full."""
        try:
            self._file.write(piece)
        except OSError as error:
            raise from_os(error, f"cannot stage the input in {self._folder.parent}") from error
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self) -> Staged:
        """Make it durable; the caller commits it or removes its folder."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise from_os(error, f"cannot stage the input in {self._folder.parent}") from error
        return Staged(self._folder, self._input_name, self.size, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove what has come so far."""
        with contextlib.suppress(OSError):
            self._file.close()
        remove_tree(self._folder)
