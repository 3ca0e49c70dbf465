"""The input of a step: a VCF as it is, or what ``bcftools view`` makes of a BCF or of a selection.

The step selects, not the worker: less is copied, and AnyVar's workers get plain VCFs, too.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import InvalidInput, from_os
from anyvar_step.text import escaped
from anyvar_step.vcf import check_input, count_records
from anyvar_step.vcf.bgzf import CHUNK, damage_at_end, stream_of
from anyvar_step.vcf.reader import open_input
from anyvar_step.vcf.select import MAGIC_BYTES, Selection, is_bcf


@dataclass(frozen=True)
class InputSource:
    """The VCF or BCF at ``path`` (None = standard input), and the selection of its records.

    A named pipe (``mkfifo``, Snakemake's ``pipe()``, the shell's ``<(…)``) is a stream, as standard input is.
    """

    path: Path | None
    selection: Selection = field(default_factory=Selection)

    @property
    def name(self) -> str:
        """The file name as messages and reports show it, one line of Unicode."""
        if self.path is None:
            return "standard input"
        return escaped(str(self.path) if self.is_stream else self.path.name)

    @cached_property
    def is_stream(self) -> bool:
        """Whether the input can be read once only."""
        try:
            return self.path is None or stat.S_ISFIFO(self.path.stat().st_mode)
        except OSError:  # opening it says why
            return False

    def check(self) -> tuple[str, ...]:
        """Notes on the file, found at its two ends; nothing of a stream.

        Raises InputNotFound or InvalidInput.
        """
        self.selection.check()
        if self.path is None or self.is_stream:
            return ()
        with open_input(self.path, str(self.path)) as raw:
            head = raw.read(MAGIC_BYTES)
            if not is_bcf(head):
                path = str(self.path)
                return tuple(note.replace(path, self.name, 1) for note in check_input(self.path))
            if not head.startswith(b"BCF") and (damage := damage_at_end(raw)):
                raise InvalidInput(f"{self.path} {damage}", "Copy it again, or check it with `bgzip -t`")
        return ()

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The VCF to stage: text, gzip or BGZF. Raises as ``check`` does, also from reading."""
        with self._raw() as raw:
            if raw.seekable():
                head = raw.peek(MAGIC_BYTES)  # type: ignore[attr-defined]
            else:
                head = raw.read(MAGIC_BYTES)
                raw = stream_of(chain([head], iter(partial(raw.read1, CHUNK), b"")))  # type: ignore[attr-defined]
            if not (self.selection or is_bcf(head)):
                yield raw
                return
            path = None if self.is_stream else self.path
            with self.selection.apply(raw, path, str(path or self.name)) as viewed:
                yield viewed

    def count(self) -> int | None:
        """The number of records that ``open`` gives; None where the input cannot be read again."""
        if self.is_stream:
            return None
        with self.open() as raw:
            return count_records(raw, self.name)

    @contextlib.contextmanager
    def as_file(self, folder: Path | None) -> Iterator[Path]:
        """The VCF to stage as a file; where it has to be made, in ``folder`` until the block ends."""
        assert self.path
        with self.open() as raw:
            if raw.seekable():
                yield self.path
                return
            with tempfile.TemporaryDirectory(prefix=".anyvar-step-", dir=folder) as scratch:
                made = Path(scratch) / self.path.name
                with made.open("wb") as out:
                    shutil.copyfileobj(raw, out, 1 << 20)
                yield made

    @contextlib.contextmanager
    def _raw(self) -> Iterator[BinaryIO]:
        if self.path is None:
            # Not sys.stdin: Python aborts at its end where a thread still waits for that.
            yield io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
        elif self.is_stream:
            try:
                stream = self.path.open("rb")  # waits for the program that writes
            except OSError as error:
                raise from_os(error, f"cannot open {self.path}") from error
            with stream:
                yield stream
        else:
            with open_input(self.path, str(self.path)) as raw:
                yield raw
