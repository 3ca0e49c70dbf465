"""Cut a VCF into pieces, and join VCFs into one: the header once, BGZF blocks as they are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anyvar_step.errors import FileTrouble, InvalidInput
from anyvar_step.models import OutputFormat
from anyvar_step.vcf.bgzf import (
    EOF_BLOCK,
    PAYLOAD,
    BgzfWriter,
    Source,
    block_payload,
    block_size,
    compressed,
    find_bytes,
    next_block,
)
from anyvar_step.vcf.header import with_provenance
from anyvar_step.vcf.index import OffsetMap
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.writer import Digested

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True)
class Piece:
    """A VCF made of ``head``, the bytes [start, end) of the file at ``path``, and ``tail``.

    ``until`` is where the next piece's bytes of the file begin: in between lies the block of the border.
    """

    path: Path
    head: bytes
    start: int
    end: int
    tail: bytes
    until: int

    @property
    def size(self) -> int:
        """Bytes of the whole piece."""
        return len(self.head) + self.end - self.start + len(self.tail)

    def open(self, digest: _Hash | None = None) -> BinaryIO:
        """The piece as a stream, not seekable; ``digest`` is fed the file's bytes [start, until) on the way.

        One digest for all pieces, each read to its end, in order, is the file's own.
        """
        return io.BufferedReader(_Chain(self, digest), 1 << 20)


@dataclass(frozen=True)
class _Border:
    """Between two records: ``before`` ends the one piece, ``after`` begins the next.

    They stand for the file's bytes [start, end), the block in which the border lies; nothing in text.
    """

    start: int
    end: int
    before: bytes
    after: bytes


def cut(path: Path, name: str, pieces: int) -> list[Piece]:
    """At most so many pieces of about one size, which together hold the file's records in order.

    Plain gzip cannot be cut, and a small file makes fewer pieces. Raises InvalidInput as VcfReader does.
    """
    with path.open("rb") as raw:
        reader = VcfReader(raw, name)
        size = raw.seek(0, io.SEEK_END)
        header, borders = b"", list[_Border]()
        if reader.kind == "text":
            first = find_bytes(raw, b"\n", find_bytes(raw, b"\n#CHROM\t", 0) + 1) + 1 or size
            raw.seek(0)
            header = raw.read(first)
            places = (find_bytes(raw, b"\n", max(first, size * i // pieces)) + 1 for i in range(1, pieces))
            borders = _in_order(_Border(p, p, b"", b"") for p in places if 0 < p < size)
        elif reader.kind == "bgzf":
            header = compressed(b"\n".join(reader.header) + b"\n")
            targets = (max(reader.consumed, size * i // pieces) for i in range(1, pieces))
            borders = _in_order(_bgzf_border(raw, size, target) for target in targets)
    ends = [_Border(0, 0, b"", b""), *borders, _Border(size, size, b"", b"")]
    last = EOF_BLOCK if reader.kind == "bgzf" else b""
    return [
        Piece(
            path,
            header + left.after if left.start else b"",
            left.end,
            right.start,
            right.before + last if right.start < size else b"",
            right.end,
        )
        for left, right in pairwise(ends)
    ]


def _in_order(found: Iterator[_Border | None]) -> list[_Border]:
    """Borders in order; of two that overlap the first."""
    borders: list[_Border] = []
    for border in found:
        if border and (not borders or border.start >= max(borders[-1].end, borders[-1].start + 1)):
            borders.append(border)
    return borders


def _bgzf_border(raw: BinaryIO, size: int, target: int) -> _Border | None:
    """The first line end in a block that begins at ``target`` or later, with records on both sides."""
    offset = next_block(raw, size, target)
    while 0 <= offset < size - len(EOF_BLOCK):
        raw.seek(offset)
        block = raw.read(1 << 16)
        length = block_size(block)
        if length is None:
            return None
        try:
            payload = block_payload(block[:length])
        except ValueError:
            return None  # the reader of the piece names the damage
        if (place := payload.find(b"\n") + 1) > 0:
            return _Border(offset, offset + length, compressed(payload[:place]), compressed(payload[place:]))
        offset += length
    return None


class _Chain(io.RawIOBase):
    """The three parts of a piece as one stream."""

    def __init__(self, piece: Piece, digest: _Hash | None) -> None:
        self._digest, self._gap = digest, piece.until - piece.end
        self._file = piece.path.open("rb")
        self._file.seek(piece.start)
        self._left = piece.end - piece.start
        self._head, self._tail = memoryview(piece.head), memoryview(piece.tail)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        if not self._head and not self._left:
            self._head, self._tail = self._tail, memoryview(b"")
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count], self._head = self._head[:count], self._head[count:]
            return count
        count = self._file.readinto(memoryview(buffer)[: min(len(buffer), self._left)])
        self._left -= count
        if self._digest is not None:
            self._digest.update(buffer[:count])
            if not self._left:
                self._digest.update(self._file.read(self._gap))
                self._gap = 0
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


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
        self.place: OffsetMap | None = None

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

    def _add_blocks(self, source: Source) -> OffsetMap | None:
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
        return OffsetMap(first, within, start, shift, end) if len(rest) <= PAYLOAD else None

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
    """The records that share a block with the header's end; ``source`` is after that block then.

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
