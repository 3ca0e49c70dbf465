"""A reference held in memory, which counts how it is read; for tests of the VRS engine alone."""

from __future__ import annotations

import base64
import hashlib


class MemoryContig:
    """One sequence; ``fetches`` counts the calls of ``fetch``."""

    def __init__(self, name: str, sequence: bytes) -> None:
        digest = hashlib.sha512(sequence.upper()).digest()[:24]
        self.name = name
        self.accession = "SQ." + base64.urlsafe_b64encode(digest).decode()
        self.length = len(sequence)
        self.fetches = 0
        self._sequence = sequence.upper()

    def fetch(self, start: int, end: int) -> bytes:
        self.fetches += 1
        return b"" if start < 0 else self._sequence[start:end]


class MemoryReference:
    """Contigs by name, without aliases."""

    def __init__(self, **sequences: bytes) -> None:
        self.assembly = "GRCh38"
        self._contigs = {name: MemoryContig(name, sequence) for name, sequence in sequences.items()}

    def contig(self, name: str) -> MemoryContig | None:
        return self._contigs.get(name)

    def contigs(self) -> list[MemoryContig]:
        return list(self._contigs.values())

    def is_current(self) -> bool:
        return True

    def close(self) -> None:
        pass
