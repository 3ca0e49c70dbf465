"""Cut a VCF into pieces, and join VCFs into one: the header once, BGZF blocks as they are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import FileTrouble, InvalidInput
from anyvar_step.models import OutputFormat
from anyvar_step.vcf.bgzf import (
    CHUNK,
    EOF_BLOCK,
    MAX_PAYLOAD,
    PAYLOAD,
    BgzfWriter,
    ByteReader,
    block_payload,
    block_size,
    compressed,
    find_bytes,
    next_block,
    peek_block_size,
    stream_of,
)
from anyvar_step.vcf.header import with_provenance
from anyvar_step.vcf.index import OffsetMap
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.writer import HashingWriter


@dataclass(frozen=True)
class Piece:
    """A VCF made of ``head``, the bytes [start, end) of the file at ``path``, and ``tail``.

    The bytes [end, until) are the block in which this piece ends and the next one begins.
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

    def open(self, on_read: Callable[[bytes], object] = lambda _: None) -> BinaryIO:
        """The piece as a stream, not seekable; ``on_read`` gets the file's bytes [start, until).

        With one hash for all pieces, each read to its end, in order, it is the hash of the file.
        """
        return stream_of(self._chunks(on_read))

    def _chunks(self, on_read: Callable[[bytes], object]) -> Iterator[bytes]:
        yield self.head
        with self.path.open("rb") as file:
            file.seek(self.start)
            while chunk := file.read(min(CHUNK, self.end - file.tell())):
                on_read(chunk)
                yield chunk
            on_read(file.read(self.until - self.end))
        yield self.tail


@dataclass(frozen=True)
class _Border:
    """The place between two records of different pieces, in a block at the file's bytes [start, end).

    ``before`` and ``after`` are the two parts of the block, compressed anew; both are empty in text.
    """

    start: int
    end: int
    before: bytes = b""
    after: bytes = b""


def cut(path: Path, name: str, pieces: int) -> list[Piece]:
    """At most so many pieces of about equal size, which together hold the file's records in order.

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
            line_ends = (find_bytes(raw, b"\n", max(first, size * i // pieces)) for i in range(1, pieces))
            borders = _in_order(_Border(end + 1, end + 1) for end in line_ends if 0 <= end < size - 1)
        elif reader.kind == "bgzf":
            header = compressed(b"\n".join(reader.header) + b"\n")
            targets = (max(reader.consumed, size * i // pieces) for i in range(1, pieces))
            borders = _in_order(_bgzf_border(raw, size, target) for target in targets)
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
        for left, right in pairwise([_Border(0, 0), *borders, _Border(size, size)])
    ]


def _in_order(found: Iterable[_Border | None]) -> list[_Border]:
    """Borders in order; the first of two that overlap."""
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
        block = raw.read(MAX_PAYLOAD)
        length = block_size(block)
        if length is None:
            return None
        try:
            payload = block_payload(block[:length])
        except ValueError:
            return None  # the reader of the piece names the damage
        if (line := payload.find(b"\n") + 1) > 0:
            before, after = compressed(payload[:line]), compressed(payload[line:])
            return _Border(offset, offset + length, before, after)
        offset += length
    return None


class Joiner:
    """Adds whole VCFs to ``out``, an output in the given format; ``close`` ends it.

    ``stored`` has size and hash of what was written so far. All is read once and written once.
    ``offsets`` maps the virtual offsets of the last VCF, and is None if it was compressed anew.
    """

    def __init__(self, out: BinaryIO, output_format: OutputFormat, level: int = 6) -> None:
        self.stored = HashingWriter(out)
        self._level = level
        self._format = output_format
        self._empty = True
        self.offsets: OffsetMap | None = None

    def add(self, path: Path, command: str = "") -> str:
        """Append the records of the VCF at ``path``, and its header if it is the first; its hex SHA-256.

        ``command`` is for provenance lines, if the worker that wrote the VCF knows none. Raises FileTrouble
        if the VCF is not whole.
        """
        digest = hashlib.sha256()
        with path.open("rb") as raw:
            stored = "z" if raw.read(2) == EOF_BLOCK[:2] else "v"
            raw.seek(0)
            if stored == self._format == "z":
                self.offsets = self._add_blocks(ByteReader(raw, str(path), digest.update))
            else:
                self.offsets = None
                self._add_lines(VcfReader(raw, str(path), digest.update), command)
        self._empty = False
        return digest.hexdigest()

    def close(self) -> None:
        """End the output."""
        if self._format == "z":
            self.stored.write(EOF_BLOCK)

    def _add_blocks(self, source: ByteReader) -> OffsetMap | None:
        first, within, start, rest = -1, 0, self.stored.size, b""
        if not self._empty:
            first, within, rest = _skip_header(source)
            self.stored.write(compressed(rest, self._level))
        shift = self.stored.size - source.position
        held = b""
        while data := source.take(CHUNK):
            data = held + data
            self.stored.write(data[: -len(EOF_BLOCK)])
            held = data[-len(EOF_BLOCK) :]
        if held != EOF_BLOCK:
            raise FileTrouble(f"{source.name} is truncated: it has no BGZF end-of-file block", "Run it again")
        end = source.position - len(EOF_BLOCK)
        return OffsetMap(first, within, start, shift, end) if len(rest) <= PAYLOAD else None

    def _add_lines(self, reader: VcfReader, command: str) -> None:
        blocks = BgzfWriter(self.stored, self._level) if self._format == "z" else None
        sink = blocks or self.stored
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


def _skip_header(source: ByteReader) -> tuple[int, int, bytes]:
    """Take the header, and the rest of the block in which it ends.

    The offset of that block, the byte of its payload at which records begin, and these records.
    """
    text = b""
    while source.peek(1):
        begin, before = source.position, len(text)
        size = peek_block_size(source)
        if size is None:
            raise FileTrouble(f"{source.name} is not BGZF at byte {begin}", "Run it again")
        try:
            text += block_payload(source.take(size))
        except ValueError as error:
            raise FileTrouble(f"{source.name} is corrupt: {error}", "Run it again") from None
        chrom = text.find(b"\n#CHROM\t") + 1
        if chrom and (end := text.find(b"\n", chrom) + 1):
            return begin, end - before, text[end:]
    raise FileTrouble(f"{source.name} has no #CHROM line", "Run it again")
