"""What a reference is, and a reference without the contigs by whose names a VCF means other sequences."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class Contig(Protocol):
    """One sequence of a reference."""

    name: str
    #: refget accession: ``SQ.`` and 32 characters
    accession: str
    #: bases
    length: int

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` where start < 0.

        The reference implementation answers a negative start (POS 0) with an empty sequence too.
        """


class Reference(Protocol):
    """The sequences of one assembly."""

    assembly: str

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None where the reference does not have it."""

    def contigs(self) -> list[Contig]:
        """All contigs, in the order of the file."""

    def is_current(self) -> bool:
        """Whether the files are those, and as they were, when the reference was opened."""

    def close(self) -> None:
        """Close the files."""


class MaskedReference:
    """``reference`` without the contigs that a VCF calls ``names`` (see ``Reference``).

    The same sequence under another name stays: a VCF may declare hg19's chrM and the revised chrMT.
    """

    def __init__(self, reference: Reference, names: Collection[str]) -> None:
        self.assembly = reference.assembly
        self._reference = reference
        self._names = frozenset(names)

    @property
    def path(self) -> Path | None:
        """The plain FASTA that the native engine can read; None where there is none."""
        return getattr(self._reference, "path", None)

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """That FASTA's device, inode, size and modification time (see ``fasta.FastaReference``)."""
        identity: tuple[int, int, int, int] = self._reference.identity  # type: ignore[attr-defined]
        return identity

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None where the reference lacks it or it is masked."""
        return None if name in self._names else self._reference.contig(name)

    def contigs(self) -> list[Contig]:
        """All contigs of the reference, in the order of the file."""
        return self._reference.contigs()

    def is_current(self) -> bool:
        """Whether the files are those, and as they were, when the reference was opened."""
        return self._reference.is_current()

    def close(self) -> None:
        """Close the files."""
        self._reference.close()
