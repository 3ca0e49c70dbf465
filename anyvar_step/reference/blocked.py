"""Random access to the uncompressed bytes of a BGZF file, by its .gzi; as an mmap is to a plain file.

Reads by pread and keeps the last blocks read, so that processes and threads may share one object.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import overload

from isal import isal_zlib

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import fai

_GZIP = 31  # window bits: gzip members, whose CRC32 and length zlib checks


def is_blocked(head: bytes) -> bool:
    """Whether a gzip file's first 16 bytes are a BGZF block's: the extra field BC comes first (SAM §4.1)."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


class BlockedFile:
    """``data[i]`` and ``data[i:j]`` of a BGZF file's uncompressed bytes; ``len(data)``.

    Raises ConfigurationError where a block is damaged or the .gzi is not the file's.
    """

    def __init__(self, path: Path, gzi: Path) -> None:
        self._path, self._gzi = path, gzi
        pairs = fai.read_gzi(gzi)
        self._compressed = [pair[0] for pair in pairs]
        self._starts = [pair[1] for pair in pairs]
        self._descriptor = os.open(path, os.O_RDONLY)
        size = os.fstat(self._descriptor).st_size
        if self._compressed[-1] >= size:
            raise fai.corrupt(gzi, "a block begins beyond the end of the file")
        self._compressed.append(size)
        self._window: tuple[int, bytes] = (0, b"")
        last = len(self._starts) - 1
        self._size = self._starts[last] + len(self._read(last, last + 1))

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, int):
            begin, window = self._window
            if not begin <= key < begin + len(window):
                begin, window = self._around(key, key + 1)
            return window[key - begin]
        start, stop, _ = key.indices(self._size)
        begin, window = self._window
        if not begin <= start <= stop <= begin + len(window):
            begin, window = self._around(start, stop)
        return window[start - begin : stop - begin]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _around(self, start: int, stop: int) -> tuple[int, bytes]:
        """The blocks that hold [start, stop), and the offset at which they begin; kept for the next call."""
        first = bisect_right(self._starts, start) - 1
        beyond = max(bisect_right(self._starts, stop - 1), first + 1)
        self._window = window = (self._starts[first], self._read(first, beyond))
        return window

    def _read(self, first: int, beyond: int) -> bytes:
        begin = self._compressed[first]
        data = os.pread(self._descriptor, self._compressed[beyond] - begin, begin)
        parts: list[bytes] = []
        try:
            while data:
                member = isal_zlib.decompressobj(wbits=_GZIP)
                parts.append(member.decompress(data))
                if not member.eof:
                    raise ConfigurationError(f"{self._path} is cut short", "Copy the file again")
                data = member.unused_data
        except isal_zlib.IsalError as error:  # type: ignore[misc]  # declared as an instance there
            raise ConfigurationError(
                f"a block between bytes {begin} and {self._compressed[beyond]} of {self._path} is damaged, "
                f"or {self._gzi} is not its index: {error}",
                f"Delete {self._gzi} and its .fai; if that does not help, copy the FASTA again",
            ) from None
        window = b"".join(parts)
        if beyond < len(self._starts) and len(window) != self._starts[beyond] - self._starts[first]:
            raise fai.corrupt(self._gzi, f"the blocks at byte {begin} hold {len(window)} bytes")
        return window
