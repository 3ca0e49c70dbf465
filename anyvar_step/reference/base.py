"""What a reference is, and a reference without contigs to whose names a VCF gives another meaning."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol


class Contig(Protocol):
    """One sequence of a reference."""

    name: str
    #: refget accession: ``SQ.`` and 32 characters
    accession: str
    #: bases
    length: int

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` if start < 0.

        The reference implementation answers a negative start (POS 0) with an empty sequence too.
        """


class Reference(Protocol):
    """The sequences of one assembly."""

    assembly: str

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None if the reference does not have it."""

    def contigs(self) -> list[Contig]:
        """All contigs, in the order of the file."""

    def is_current(self) -> bool:
        """Whether the files are those, and as they were, when the reference was opened."""

    def close(self) -> None:
        """Close the files."""


class MaskedReference:
    """``reference`` without the contigs that a VCF calls ``names``; all else is the reference's.

    The same sequence under another name stays: a VCF may declare hg19's chrM and the revised chrMT.
    """

    def __init__(self, reference: Reference, names: Collection[str]) -> None:
        self._reference = reference
        self._names = frozenset(names)

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None if it is masked or the reference does not have it."""
        return None if name in self._names else self._reference.contig(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)
