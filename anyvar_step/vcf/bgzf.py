"""BGZF, the blocked gzip of SAM specification §4.1: its blocks, and the compressing writer.

Blocks hold 65,280 bytes of payload as htslib's do, so that its tools read ours and ours theirs.
"""

from __future__ import annotations

import struct
from collections import deque
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Protocol, Self

import deflate

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
