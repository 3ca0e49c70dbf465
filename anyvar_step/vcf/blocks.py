"""The checking reader of BGZF: whole blocks only, each against its BSIZE, ISIZE and CRC."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import deflate

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf.bgzf import EOF_BLOCK, FEXTRA, TRAILER
from anyvar_step.vcf.source import Source

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
