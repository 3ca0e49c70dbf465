"""VcfWriter: lines to a file as text or BGZF, counted and hashed, and durable when it is closed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, Self

from anyvar_step.errors import from_os
from anyvar_step.models import OutputFormat
from anyvar_step.vcf.bgzf import BgzfWriter


class HashingWriter:
    """Writes bytes to ``raw``; ``size`` and ``sha256`` are of those written so far."""

    def __init__(self, raw: BinaryIO) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._raw = raw

    @property
    def sha256(self) -> str:
        """Hex SHA-256."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Write ``data``."""
        self._raw.write(data)
        self._digest.update(data)
        self.size += len(data)


class VcfWriter:
    """Write the VCF at ``path``, "v" as text or "z" as BGZF; ``name`` stands for it in messages.

    The threads of an ``executor``, if given, compress its blocks; the file is the same without.
    A context manager: the file is complete and fsynced when it ends, and removed if it ends with an
    exception. ``stored`` has size and hash of the bytes as stored. OSErrors become FileTrouble or
    AccessRefused.
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
        with self._os_errors():
            self._raw = path.open("wb", buffering=1 << 18)
        self.stored = HashingWriter(self._raw)
        self._bgzf = BgzfWriter(self.stored, level, executor) if output_format == "z" else None
        self._sink = self._bgzf or self.stored

    @property
    def blocks(self) -> Sequence[int]:
        """Offsets at which the blocks of a complete BGZF begin, the end-of-file block the last of them."""
        return self._bgzf.blocks if self._bgzf else ()

    def write(self, lines: Iterable[bytes]) -> None:
        """Add lines without line ends; nothing for no lines."""
        if text := b"\n".join(lines):
            self.write_text(text + b"\n")

    def write_text(self, text: bytes) -> None:
        """Add lines with line ends."""
        with self._os_errors():
            self._sink.write(text)

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os(error, f"cannot write {self._name}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        complete = False
        try:
            if kind is None:
                with self._os_errors():
                    if self._bgzf is not None:
                        self._bgzf.close()
                    self._raw.flush()
                    os.fsync(self._raw.fileno())
                    self._raw.close()
                complete = True
        finally:
            if not complete:
                self._path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a full disk may refuse the last flush
                    self._raw.close()
