"""The compressed or plain bytes of one input: exact reads, a look ahead, a position, a running digest.

Works on pipes as on files: it never seeks and never asks for a size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from anyvar_step.errors import from_os

if TYPE_CHECKING:
    from hashlib import _Hash

#: Bytes asked of the operating system at once.
CHUNK = 1 << 18


class Source:
    """Bytes of ``raw``; ``name`` is what messages call it, ``digest`` is fed every byte that is read."""

    def __init__(self, raw: BinaryIO, name: str, digest: _Hash | None = None) -> None:
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
