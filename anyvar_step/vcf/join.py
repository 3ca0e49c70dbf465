"""Join VCFs in order into one: the header once, BGZF blocks as they are, one end-of-file block."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import FileTrouble, InvalidInput
from anyvar_step.models import OutputFormat
from anyvar_step.vcf.bgzf import EOF_BLOCK, PAYLOAD, BgzfWriter, compressed
from anyvar_step.vcf.blocks import block_payload, block_size
from anyvar_step.vcf.join_index import Place
from anyvar_step.vcf.provenance import with_provenance
from anyvar_step.vcf.source import Source
from anyvar_step.vcf.stream import VcfReader
from anyvar_step.vcf.writer import Digested

#: Bytes copied at once.
_PIECE = 1 << 20


class Joiner:
    """Adds whole VCFs to ``out``, an output in the given format; ``close`` ends it.

    ``size`` and hex ``sha256`` are of what was written so far. All is read once and written once. ``place``
    is where the last VCF's records lie; None where they were compressed anew.
    """

    def __init__(self, out: BinaryIO, output_format: OutputFormat, level: int = 6) -> None:
        self._out = Digested(out)
        self._level = level
        self._format = output_format
        self._empty = True
        self.place: Place | None = None

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._out.size

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of the bytes written so far."""
        return self._out.digest.hexdigest()

    def add(self, path: Path, command: str = "") -> str:
        """Append the records of the VCF at ``path``, and its header where it is the first; its hex SHA-256.

        ``command`` is for provenance lines, where the worker that wrote the VCF knows none. Raises
        FileTrouble where it is not whole.
        """
        digest = hashlib.sha256()
        with path.open("rb") as raw:
            stored = "z" if raw.read(2) == b"\x1f\x8b" else "v"
            raw.seek(0)
            if stored == self._format == "z":
                self.place = self._add_blocks(Source(raw, str(path), digest))
            else:
                self.place = None
                self._add_lines(VcfReader(raw, str(path), digest), command)
        self._empty = False
        return digest.hexdigest()

    def close(self) -> None:
        """End the output."""
        if self._format == "z":
            self._out.write(EOF_BLOCK)

    def _add_blocks(self, source: Source) -> Place | None:
        first, within, start, rest = -1, 0, self.size, b""
        if not self._empty:
            first, within, rest = _rest_of_header_block(source)
            self._out.write(compressed(rest, self._level))
        shift = self.size - source.position
        held = b""
        while data := source.take(_PIECE):
            data = held + data
            self._out.write(data[: -len(EOF_BLOCK)])
            held = data[-len(EOF_BLOCK) :]
        if held != EOF_BLOCK:
            raise FileTrouble(f"{source.name} is truncated: it has no BGZF end-of-file block", "Run it again")
        end = source.position - len(EOF_BLOCK)
        return Place(first, within, start, shift, end) if len(rest) <= PAYLOAD else None

    def _add_lines(self, reader: VcfReader, command: str) -> None:
        blocks = BgzfWriter(self._out, self._level) if self._format == "z" else None
        sink = blocks or self._out
        try:
            if self._empty:
                header = with_provenance(reader.header, command) if command else reader.header
                sink.write(b"\n".join(header) + b"\n")
            for lines in reader.blocks():
                sink.write(b"\n".join(lines) + b"\n")
        except InvalidInput as error:
            raise FileTrouble(f"the worker's output is not whole: {error}") from error
        if blocks:
            blocks.flush()


def _rest_of_header_block(source: Source) -> tuple[int, int, bytes]:
    """The records that share a block with the header's end; ``source`` stands behind that block then.

    Before them, the byte at which the block begins, and the byte of its payload at which they do.
    """
    text = b""
    while head := source.take(18):
        size = block_size(head)
        if size is None:
            raise FileTrouble(
                f"{source.name} is not BGZF at byte {source.position - len(head)}", "Run it again"
            )
        begin, before = source.position - len(head), len(text)
        try:
            text += block_payload(head + source.take(size - len(head)))
        except ValueError as error:
            raise FileTrouble(f"{source.name} is corrupt: {error}", "Run it again") from None
        chrom = text.find(b"\n#CHROM\t") + 1
        if chrom and (end := text.find(b"\n", chrom) + 1):
            return begin, end - before, text[end:]
    raise FileTrouble(f"{source.name} has no #CHROM line", "Run it again")
