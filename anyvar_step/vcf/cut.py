"""Cut a VCF into pieces that are VCFs: at record borders, and BGZF without compressing it again.

Only the two halves of the block in which a border lies, and a copy of the header for each further piece,
are compressed; all other blocks are copied as they are.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anyvar_step.vcf.bgzf import EOF_BLOCK, compressed
from anyvar_step.vcf.blocks import block_payload, block_size
from anyvar_step.vcf.stream import VcfReader

if TYPE_CHECKING:
    from hashlib import _Hash

_MAGIC = b"\x1f\x8b\x08\x04"
#: Blocks that must follow each other before some bytes are believed to be the beginning of one.
_BELIEVED = 3


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
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
            size = len(data)
            header, borders = b"", list[_Border]()
            if reader.kind == "text":
                first = data.find(b"\n", data.find(b"\n#CHROM\t") + 1) + 1
                header = data[:first]
                borders = _in_order(_text_border(data, first, size * i // pieces) for i in range(1, pieces))
            elif reader.kind == "bgzf":
                header = compressed(b"\n".join(reader.header) + b"\n")
                first = reader.consumed
                targets = (max(first, size * i // pieces) for i in range(1, pieces))
                borders = _in_order(_bgzf_border(data, target) for target in targets)
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
    """Borders that lie behind each other; two that meet leave one."""
    borders: list[_Border] = []
    for border in found:
        if border and (not borders or border.start >= max(borders[-1].end, borders[-1].start + 1)):
            borders.append(border)
    return borders


def _text_border(data: mmap.mmap, first: int, target: int) -> _Border | None:
    """The first record border from ``target`` on that leaves records on both sides."""
    place = data.find(b"\n", max(first, target)) + 1
    return _Border(place, place, b"", b"") if 0 < place < len(data) else None


def _bgzf_border(data: mmap.mmap, target: int) -> _Border | None:
    """The same in BGZF: the first line end in a block that begins at ``target`` or later."""
    offset = _next_block(data, target)
    while offset is not None and offset < len(data) - len(EOF_BLOCK):
        size = block_size(data[offset : offset + 512])
        if size is None:
            return None
        try:
            payload = block_payload(data[offset : offset + size])
        except ValueError:
            return None  # whoever reads the piece says where the damage is
        if (place := payload.find(b"\n") + 1) > 0:
            before, after = compressed(payload[:place]), compressed(payload[place:])
            return _Border(offset, offset + size, before, after)
        offset += size
    return None


def _next_block(data: mmap.mmap, target: int) -> int | None:
    """Where the first block from ``target`` on begins."""
    offset = data.find(_MAGIC, target)
    while offset >= 0:
        if _is_block(data, offset):
            return offset
        offset = data.find(_MAGIC, offset + 1)
    return None


def _is_block(data: mmap.mmap, offset: int) -> bool:
    """Whether blocks follow each other from there on: compressed data may hold the magic by chance."""
    for _ in range(_BELIEVED):
        size = block_size(data[offset : offset + 512])
        if size is None:
            return False
        offset += size
        if offset == len(data):
            return True
    return True


class _Chain(io.RawIOBase):
    """The three parts of a piece, one behind the other."""

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
