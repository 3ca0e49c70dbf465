"""BGZF, the blocked gzip of SAM specification §4.1: its blocks, and the compressing writer.

Blocks hold 65,280 bytes of payload as htslib's do, so that its tools read ours and ours theirs.
"""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import deflate

from anyvar_step.errors import InvalidInput, from_os

#: Bytes of payload in a full block.
PAYLOAD = 65280
#: The empty block that ends a file (SAM specification §4.1.2).
EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
#: Blocks that may be compressed ahead of writing.
AHEAD = 8

# ID1 ID2 CM FLG MTIME XFL OS XLEN, then the subfield SI1 SI2 SLEN BSIZE
_HEADER = struct.Struct("<4BI2BH2B2H")
#: CRC32 and ISIZE.
TRAILER = struct.Struct("<2I")
#: The FLG that says that an extra field follows.
FEXTRA = 4


class Sink(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


def block(payload: bytes | bytearray | memoryview, level: int) -> bytes:
    """One BGZF block of at most 65,280 bytes of payload.

    libdeflate adds at most 5 bytes to each 5,000 that it cannot compress, some 80 in all: even noise stays
    below the 65,536 bytes that BSIZE can name.
    """
    body = deflate.deflate_compress(payload, level)
    size = _HEADER.size + len(body) + TRAILER.size
    head = _HEADER.pack(0x1F, 0x8B, 8, FEXTRA, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return b"".join((head, body, TRAILER.pack(deflate.crc32(payload), len(payload))))


def compressed(text: bytes | bytearray, level: int = 6) -> bytes:
    """The text as BGZF blocks that others may follow: without the EOF block."""
    return b"".join(block(text[i : i + PAYLOAD], level) for i in range(0, len(text), PAYLOAD))


class BgzfWriter:
    """Write bytes to ``raw`` as BGZF; ``close`` adds the EOF block and leaves ``raw`` open.

    Where an ``executor`` is given it compresses, at most ``AHEAD`` blocks ahead of what is written.
    As a context manager it closes on success only: what an exception leaves behind has no EOF block.
    """

    def __init__(self, raw: Sink, level: int = 6, executor: Executor | None = None) -> None:
        self._raw = raw
        self._level = level
        self._executor = executor
        self._pending: deque[Future[bytes]] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._closed = False
        #: Bytes at which blocks begin: those written, and the one to come.
        self.blocks = [0]

    def write(self, data: bytes) -> None:
        """Add ``data``; full blocks are compressed at once, the rest waits for more."""
        self._parts.append(data)
        self._size += len(data)
        if self._size < PAYLOAD:
            return
        text = memoryview(b"".join(self._parts))
        full = len(text) - len(text) % PAYLOAD
        for start in range(0, full, PAYLOAD):
            self._put(text[start : start + PAYLOAD])
        self._parts, self._size = [bytes(text[full:])], len(text) - full

    def flush(self) -> None:
        """Write what is left as a block of its own; others may follow."""
        if rest := b"".join(self._parts):
            self._put(rest)
        self._parts, self._size = [], 0
        while self._pending:
            self._out(self._pending.popleft().result())

    def close(self) -> None:
        """Write what is left and the EOF block; a second call does nothing."""
        if not self._closed:
            self.flush()
            self._raw.write(EOF_BLOCK)
            self._closed = True

    def _put(self, payload: bytes | memoryview) -> None:
        if self._executor is None:
            self._out(block(payload, self._level))
            return
        self._pending.append(self._executor.submit(block, payload, self._level))
        if len(self._pending) > AHEAD:
            self._out(self._pending.popleft().result())

    def _out(self, data: bytes) -> None:
        self._raw.write(data)
        self.blocks.append(self.blocks[-1] + len(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


#: Seconds for which a busy thread keeps the interpreter's lock from the others: about what a block takes to
#: be compressed. With Python's own 0.005 the pool's threads spend most of their lives waiting (measured).
SWITCHING = 0.0005


class BlockThreads(ThreadPoolExecutor):
    """``threads`` threads for work on blocks that runs without the interpreter's lock.

    Until the pool is shut down all threads of the process switch more often.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, "block")
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCHING)

    def __exit__(self, *_: object) -> None:
        """Drop what has not begun and wait for the rest."""
        self.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._before)


#: Bytes asked of the operating system at once.
CHUNK = 1 << 18


class Digest(Protocol):
    """What takes bytes as they are read: a hash of hashlib, for one."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""


class Source:
    """Bytes of ``raw``; ``name`` is what messages call it, ``digest`` is fed every byte that is read."""

    def __init__(self, raw: BinaryIO, name: str, digest: Digest | None = None) -> None:
        self.name = name
        self.position = 0
        self._raw = raw
        self._digest = digest
        self._buffer = b""
        self._start = 0

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end, without taking them."""
        self._fill(count)
        return self._buffer[self._start : self._start + count]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end."""
        self._fill(count)
        data = self._buffer[self._start : self._start + count]
        self._start += len(data)
        self.position += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Put back the bytes that were taken last and not used."""
        self._buffer = data + self._buffer[self._start :]
        self._start = 0
        self.position -= len(data)

    def _fill(self, count: int) -> None:
        """Read until ``count`` bytes lie ahead, or the end is reached."""
        have = len(self._buffer) - self._start
        if have >= count:
            return
        parts = [self._buffer[self._start :]]
        while have < count:
            try:
                part = self._raw.read(max(CHUNK, count - have))
            except OSError as error:
                raise from_os(error, f"cannot read {self.name}") from error
            if not part:
                break
            if self._digest is not None:
                self._digest.update(part)
            parts.append(part)
            have += len(part)
        self._buffer, self._start = b"".join(parts), 0


#: Bytes of payload in a block at most (SAM specification §4.1).
_LARGEST = 65536

_FIXED = struct.Struct("<4BI2BH")


def block_size(head: bytes) -> int | None:
    """The size in bytes of the block that begins with ``head``; None if it does not begin a BGZF block.

    ``head`` holds at least the 12 fixed bytes and the extra field, in which BC may follow other subfields.
    """
    if len(head) < _FIXED.size or head[:3] != b"\x1f\x8b\x08" or head[3] != FEXTRA:
        return None
    extra = head[_FIXED.size : _FIXED.size + int.from_bytes(head[10:12], "little")]
    while len(extra) >= 4:
        length = int.from_bytes(extra[2:4], "little")
        if extra[:2] == b"BC" and length == 2 and len(extra) >= 6:
            return int.from_bytes(extra[4:6], "little") + 1
        extra = extra[4 + length :]
    return None


def peek_block_size(source: Source) -> int | None:
    """The size of the BGZF block ahead, None if what lies ahead is no such block."""
    fixed = source.peek(_FIXED.size)
    if fixed[:3] != b"\x1f\x8b\x08" or len(fixed) < _FIXED.size:
        return None
    return block_size(source.peek(_FIXED.size + int.from_bytes(fixed[10:12], "little")))


def read_blocks(raw: BinaryIO | Source, name: str = "input") -> Iterator[bytearray]:
    """The payload of each block that is not empty, checked against its BSIZE, ISIZE and CRC.

    The file must end with the EOF block; such a block in the middle (files put end to end) is allowed.
    Raises InvalidInput with the byte offset of the block at fault.
    """
    source = raw if isinstance(raw, Source) else Source(raw, name)
    ended = False
    while source.peek(1):
        offset = source.position
        size = peek_block_size(source)
        if size is None:
            raise _not_a_block(source, offset)
        data = source.take(size)
        if len(data) < size:
            raise _truncated(source, f"its last block, at byte {offset}, has {len(data)} of {size} bytes")
        payload = _payload(data, source, offset)
        ended = data == EOF_BLOCK
        if payload:
            yield payload
    if not ended:
        raise _truncated(source, f"no BGZF end-of-file block at byte {source.position}")


def _payload(data: bytes, source: Source, offset: int) -> bytearray:
    """The decompressed payload of one whole block."""
    try:
        return block_payload(data)
    except ValueError as error:
        raise _corrupt(source, offset, str(error)) from None


def block_payload(data: bytes) -> bytearray:
    """The decompressed payload of one whole block; ValueError with the reason where it is damaged."""
    start = _FIXED.size + int.from_bytes(data[10:12], "little")
    if len(data) < start + TRAILER.size:
        raise ValueError(f"a block of {len(data)} bytes cannot hold its header")
    crc, length = TRAILER.unpack_from(data, len(data) - TRAILER.size)
    try:
        payload = deflate.deflate_decompress(memoryview(data)[start : -TRAILER.size], _LARGEST)
    except deflate.DeflateError:
        raise ValueError("compressed data cannot be read") from None
    if len(payload) != length:
        raise ValueError(f"{len(payload):,} bytes where the block says {length:,}")
    if deflate.crc32(payload) != crc:
        raise ValueError("wrong checksum (CRC32)")
    return payload


def _not_a_block(source: Source, offset: int) -> InvalidInput:
    """What lies ahead at ``offset`` is something else, or the first bytes of a block that was cut."""
    head = source.peek(_FIXED.size)
    if offset and b"\x1f\x8b\x08\x04".startswith(head[:4]) and len(source.peek(28)) < 28:
        return _truncated(source, f"its last block, at byte {offset}, has no whole header")
    if head[:2] == b"\x1f\x8b":
        return _corrupt(source, offset, "a gzip member that is not a BGZF block")
    return _corrupt(source, offset, "bytes that are not a BGZF block")


def _truncated(source: Source, reason: str) -> InvalidInput:
    return InvalidInput(f"{source.name} is truncated: {reason}", "Copy it again, or check it with `bgzip -t`")


def _corrupt(source: Source, offset: int, reason: str) -> InvalidInput:
    return InvalidInput(
        f"{source.name} is corrupt at byte {offset}: {reason}", "Copy it again, or check it with `bgzip -t`"
    )


#: The first bytes of each block.
_MAGIC = EOF_BLOCK[:4]
#: Blocks that must follow each other where bytes are taken for the beginning of one.
_CONSECUTIVE = 3


def next_block(raw: BinaryIO, size: int, target: int) -> int:
    """The offset of the first block that begins at ``target`` or later, or -1."""
    offset = find_bytes(raw, _MAGIC, target)
    while offset >= 0 and not _is_block(raw, size, offset):
        offset = find_bytes(raw, _MAGIC, offset + 1)
    return offset


def _is_block(raw: BinaryIO, size: int, offset: int) -> bool:
    """Whether blocks follow each other from there on: compressed data may hold the magic by chance."""
    for _ in range(_CONSECUTIVE):
        raw.seek(offset)
        length = block_size(raw.read(512))
        if length is None:
            return False
        offset += length
        if offset == size:
            return True
    return True


def find_bytes(raw: BinaryIO, what: bytes, start: int) -> int:
    """The offset of the first ``what`` from ``start`` on, or -1."""
    raw.seek(start)
    held = b""
    while chunk := raw.read(CHUNK):
        held += chunk
        if (at := held.find(what)) >= 0:
            return raw.tell() - len(held) + at
        held = held[len(held) - len(what) + 1 :]
    return -1


def ends_with_empty_line(path: Path) -> bool:
    """Whether the last line of a text in BGZF is empty; False also where the last blocks are damaged."""
    with path.open("rb") as raw, contextlib.suppress(InvalidInput):
        size = raw.seek(0, io.SEEK_END)
        offset = next_block(raw, size, max(0, size - 2 * _LARGEST))
        if offset < 0:
            return False
        raw.seek(offset)
        end = b""
        for payload in read_blocks(raw):
            end = (end + payload)[-4:]
        return b"\n" in end[:-1] and end.removesuffix(b"\n").endswith((b"\n", b"\n\r"))
    return False
