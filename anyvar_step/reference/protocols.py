"""What a reference is to the rooms above: sequences by contig name, each with its refget accession.

Positions are inter-residue and 0-based, as in VRS: [start, end) lies between bases.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def bases(self, positions: Sequence[int]) -> bytes:
        """The upper-case base at each of these positions, 0 <= position < length."""


class Reference(Protocol):
    """The sequences of one assembly."""

    assembly: str

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None where the reference does not have it."""

    def contigs(self) -> list[Contig]:
        """All contigs, in the order of the file."""

    def release(self) -> None:
        """Give back the memory that reading has filled; to be called every thousand records or so."""

    def close(self) -> None:
        """Let go of the file."""
