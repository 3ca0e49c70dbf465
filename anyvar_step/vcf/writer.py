"""VcfWriter: lines to a file as text or BGZF; what it wrote is counted, digested and safe on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from anyvar_step.errors import from_os
from anyvar_step.models import OutputFormat
from anyvar_step.vcf.bgzf import BgzfWriter


class Digested:
    """Bytes on their way to ``raw``, counted and digested."""

    def __init__(self, raw: BinaryIO) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._raw = raw

    def write(self, data: bytes) -> None:
        """Pass them on."""
        self._raw.write(data)
        self.digest.update(data)
        self.size += len(data)


class VcfWriter:
    """Write the VCF at ``path``, "v" as text or "z" as BGZF; ``name`` is what messages call it.

    The threads of an ``executor``, where there is one, compress its blocks; the file is the same without.
    A context manager: the file is complete and fsynced when it ends, and gone if it ends with an exception.
    ``size`` and ``sha256`` are those of the bytes as stored. OSErrors become FileTrouble or AccessRefused.
    """

    def __init__(
        self,
        path: Path,
        output_format: OutputFormat = "v",
        *,
        level: int = 6,
        name: str = "",
        executor: Executor | None = None,
    ) -> None:
        self._path = path
        self._name = name or str(path)
        try:
            self._raw = path.open("wb", buffering=1 << 18)
        except OSError as error:
            raise from_os(error, f"cannot write {self._name}") from error
        self._file = Digested(self._raw)
        self._bgzf = BgzfWriter(self._file, level, executor) if output_format == "z" else None
        self._sink = self._bgzf or self._file

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of the bytes written so far."""
        return self._file.digest.hexdigest()

    @property
    def blocks(self) -> Sequence[int]:
        """Bytes at which the blocks of a complete BGZF begin, the end-of-file block the last of them."""
        return self._bgzf.blocks if self._bgzf else ()

    def write(self, lines: Iterable[bytes]) -> None:
        """Add lines, given without line ends; nothing for no lines."""
        if text := b"\n".join(lines):
            self.write_text(text + b"\n")

    def write_text(self, text: bytes) -> None:
        """Add lines that have their ends."""
        try:
            self._sink.write(text)
        except OSError as error:
            raise from_os(error, f"cannot write {self._name}") from error

    def close(self) -> None:
        """Finish the file and force it to disk."""
        try:
            if self._bgzf is not None:
                self._bgzf.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self._raw.close()
        except OSError as error:
            raise from_os(error, f"cannot write {self._name}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finished = False
        try:
            if kind is None:
                self.close()
                finished = True
        finally:
            if not finished:
                self._discard()

    def _discard(self) -> None:
        """Remove the unfinished file; a full disk may refuse the last flush, which no longer matters."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._raw.close()
