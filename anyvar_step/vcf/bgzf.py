"""BGZF, the blocked gzip of SAM specification §4.1: blocks, a reader of bytes, a compressing writer.

Full blocks hold 65,280 bytes of payload, as those of htslib do.
"""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import deflate

from anyvar_step.errors import InvalidInput, from_os

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

#: Bytes of payload in a full block, and the most that a block can hold.
PAYLOAD, MAX_PAYLOAD = 65280, 65536
#: The empty block that ends a file (SAM specification §4.1.2).
EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
#: ID1, ID2, CM, and FLG with an extra field; what stands before BSIZE where BC is the only extra subfield.
MAGIC, _HEAD = EOF_BLOCK[:4], EOF_BLOCK[:16]
#: Bytes before the extra field, the last two of them its length; bytes of CRC32 and ISIZE at the end.
_FIXED, _TRAILER = 12, 8
#: Blocks that may be compressed ahead of the one that is written.
_AHEAD = 8
#: Bytes read at once.
CHUNK = 1 << 18
_REMEDY = "Copy it again, or check it with `bgzip -t`"


def block(payload: bytes | bytearray | memoryview, level: int) -> bytes:
    """One BGZF block of at most 65,280 bytes of payload.

    libdeflate adds at most 5 bytes to each 5,000 that it cannot compress, some 80 in all: even noise stays
    below the 65,536 bytes that BSIZE can name.
    """
    body = deflate.deflate_compress(payload, level)
    bsize = len(_HEAD) + 2 + len(body) + _TRAILER - 1
    trailer = struct.pack("<II", deflate.crc32(payload), len(payload))
    return b"".join((_HEAD, struct.pack("<H", bsize), body, trailer))


def compressed(text: bytes | bytearray, level: int = 6) -> bytes:
    """The text as BGZF blocks, without the EOF block."""
    return b"".join(block(text[i : i + PAYLOAD], level) for i in range(0, len(text), PAYLOAD))


class BgzfWriter:
    """Write bytes to ``raw`` as BGZF; ``close`` adds the EOF block and leaves ``raw`` open.

    The threads of an ``executor``, if given, compress the blocks. As a context manager it closes on success
    only: after an exception there is no EOF block.
    """

    def __init__(self, raw: SupportsWrite[bytes], level: int = 6, executor: Executor | None = None) -> None:
        self._raw = raw
        self._level = level
        self._executor = executor
        self._pending: deque[Future[bytes]] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        #: Offsets at which the blocks written so far begin, and at which the next one will.
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
            self._compress(text[start : start + PAYLOAD])
        self._parts, self._size = [bytes(text[full:])], len(text) - full

    def flush(self) -> None:
        """Write what is left as a block of its own; others may follow."""
        if rest := b"".join(self._parts):
            self._compress(rest)
        self._parts, self._size = [], 0
        while self._pending:
            self._write_block(self._pending.popleft().result())

    def close(self) -> None:
        """Write what is left and the EOF block."""
        self.flush()
        self._raw.write(EOF_BLOCK)

    def _compress(self, payload: bytes | memoryview) -> None:
        if self._executor is None:
            self._write_block(block(payload, self._level))
            return
        self._pending.append(self._executor.submit(block, payload, self._level))
        if len(self._pending) > _AHEAD:
            self._write_block(self._pending.popleft().result())

    def _write_block(self, data: bytes) -> None:
        self._raw.write(data)
        self.blocks.append(self.blocks[-1] + len(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


#: Seconds for which a busy thread keeps the interpreter's lock from the others: about what a block takes to
#: be compressed. With Python's default of 0.005 the threads of the pool mostly wait (measured).
_SWITCH_INTERVAL = 0.0005


class BlockThreads(ThreadPoolExecutor):
    """``threads`` threads for work on blocks that runs without the interpreter's lock.

    Until the pool is shut down all threads of the process switch more often.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, "block")
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)

    def __exit__(self, *_: object) -> None:
        """Drop what has not begun and wait for the rest."""
        self.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._before)


class ByteReader:
    """Bytes of ``raw``, which may be a pipe, with a look ahead and the ``position`` reached.

    ``name`` stands for the file in messages. ``on_read`` is called with all bytes, in order, as they are read
    (such as ``update`` of a hash).
    """

    def __init__(self, raw: BinaryIO, name: str, on_read: Callable[[bytes], object] | None = None) -> None:
        self.name = name
        self.position = 0
        self._raw = raw
        self._on_read = on_read
        self._buffer = b""
        self._start = 0

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end, without taking them."""
        ahead = len(self._buffer) - self._start
        if ahead < count:
            parts = [self._buffer[self._start :]]
            while ahead < count and (part := self._read(count - ahead)):
                parts.append(part)
                ahead += len(part)
            self._buffer, self._start = b"".join(parts), 0
        return self._buffer[self._start : self._start + count]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end."""
        data = self.peek(count)
        self._start += len(data)
        self.position += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Put back the bytes that were taken last and not used."""
        self._buffer = data + self._buffer[self._start :]
        self._start = 0
        self.position -= len(data)

    def _read(self, count: int) -> bytes:
        try:
            part = self._raw.read(max(CHUNK, count))
        except OSError as error:
            raise from_os(error, f"cannot read {self.name}") from error
        if part and self._on_read is not None:
            self._on_read(part)
        return part


class _ChunkStream(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader passes
        while not self._rest:
            if (chunk := next(self._chunks, None)) is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def stream_of(chunks: Iterator[bytes]) -> BinaryIO:
    """The chunks as a stream, not seekable; reading raises what the iterator raises."""
    return io.BufferedReader(_ChunkStream(chunks), CHUNK)


def block_size(head: bytes) -> int | None:
    """The size in bytes of the block that begins with ``head``; None if it does not begin a BGZF block.

    ``head`` holds at least the 12 fixed bytes and the extra field, in which BC may follow other subfields.
    """
    if len(head) < _FIXED or not head.startswith(MAGIC):
        return None
    extra = head[_FIXED : _FIXED + int.from_bytes(head[10:12], "little")]
    while len(extra) >= 6:
        length = int.from_bytes(extra[2:4], "little")
        if extra[:2] == b"BC" and length == 2:
            return int.from_bytes(extra[4:6], "little") + 1
        extra = extra[4 + length :]
    return None


def peek_block_size(source: ByteReader) -> int | None:
    """The size of the BGZF block ahead, None if what lies ahead is no such block."""
    fixed = source.peek(_FIXED)
    if not fixed.startswith(MAGIC):
        return None
    return block_size(source.peek(_FIXED + int.from_bytes(fixed[10:12], "little")))


def block_payload(data: bytes) -> bytearray:
    """The decompressed payload of one whole block. Raises ValueError with the reason if it is damaged."""
    start = _FIXED + int.from_bytes(data[10:12], "little")
    if len(data) < start + _TRAILER:
        raise ValueError(f"a block of {len(data)} bytes cannot hold its header")
    try:
        payload = deflate.deflate_decompress(memoryview(data)[start:-_TRAILER], MAX_PAYLOAD)
    except deflate.DeflateError:
        raise ValueError("compressed data cannot be read") from None
    if len(payload) != (length := int.from_bytes(data[-4:], "little")):
        raise ValueError(f"{len(payload):,} bytes where the block says {length:,}")
    if deflate.crc32(payload) != int.from_bytes(data[-8:-4], "little"):
        raise ValueError("wrong checksum (CRC32)")
    return payload


def read_blocks(source: ByteReader) -> Iterator[bytearray]:
    """The payload of each block that is not empty, checked against BSIZE, ISIZE and CRC32.

    The file must end with the EOF block; such a block in the middle (concatenated files) is allowed.
    Raises InvalidInput with the byte offset of the block at fault.
    """
    data = b""
    while source.peek(1):
        offset = source.position
        size = peek_block_size(source)
        if size is None:
            raise _not_a_block(source)
        data = source.take(size)
        if len(data) < size:
            raise _truncated(source, f"its last block, at byte {offset}, has {len(data)} of {size} bytes")
        try:
            payload = block_payload(data)
        except ValueError as error:
            raise _corrupt(source, offset, str(error)) from None
        if payload:
            yield payload
    if data != EOF_BLOCK:
        raise _truncated(source, f"no BGZF end-of-file block at byte {source.position}")


def _not_a_block(source: ByteReader) -> InvalidInput:
    """The error for bytes ahead that are not a block, or the first bytes of a truncated one."""
    offset, head = source.position, source.peek(_FIXED)
    if offset and MAGIC.startswith(head[:4]) and len(source.peek(28)) < 28:
        return _truncated(source, f"its last block, at byte {offset}, has no whole header")
    is_gzip = head[:2] == MAGIC[:2]
    what = "a gzip member that is not a BGZF block" if is_gzip else "bytes that are not a BGZF block"
    return _corrupt(source, offset, what)


def _truncated(source: ByteReader, reason: str) -> InvalidInput:
    return InvalidInput(f"{source.name} is truncated: {reason}", _REMEDY)


def _corrupt(source: ByteReader, offset: int, reason: str) -> InvalidInput:
    return InvalidInput(f"{source.name} is corrupt at byte {offset}: {reason}", _REMEDY)


#: Blocks that must follow each other where bytes are taken for the beginning of one.
_CONSECUTIVE = 3


def next_block(raw: BinaryIO, size: int, target: int) -> int:
    """The offset of the first block that begins at ``target`` or later in a file of ``size`` bytes, or -1."""
    offset = find_bytes(raw, MAGIC, target)
    while offset >= 0 and not _is_block(raw, size, offset):
        offset = find_bytes(raw, MAGIC, offset + 1)
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


def damage_at_end(raw: BinaryIO) -> str:
    """What is wrong with the last bytes of a BGZF file, and where; empty where it ends with its EOF block."""
    size = raw.seek(0, io.SEEK_END)
    start = raw.seek(max(0, size - MAX_PAYLOAD))
    before, found, after = raw.read().rpartition(EOF_BLOCK)
    if found and not after:
        return ""
    if found and not after.startswith(MAGIC):
        offset = start + len(before) + len(EOF_BLOCK)
        return f"is corrupt at byte {offset}: bytes behind its end-of-file block that are not a BGZF block"
    return f"is truncated: it ends at byte {size} without the BGZF end-of-file block"


def ends_with_empty_line(path: Path) -> bool:
    """Whether the last line of a text in BGZF is empty; False if its last blocks are damaged."""
    with path.open("rb") as raw, contextlib.suppress(InvalidInput):
        size = raw.seek(0, io.SEEK_END)
        offset = next_block(raw, size, max(0, size - 2 * MAX_PAYLOAD))
        if offset < 0:
            return False
        raw.seek(offset)
        end = b""
        for payload in read_blocks(ByteReader(raw, str(path))):
            end = (end + payload)[-4:]
        return b"\n" in end[:-1] and end.removesuffix(b"\n").endswith((b"\n", b"\n\r"))
    return False
