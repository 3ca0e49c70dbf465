"""A reference as if it lacked some contigs: those of which a VCF means other sequences by the same names."""

from __future__ import annotations

from collections.abc import Collection

from anyvar_step.reference.protocols import Contig, Reference


class Without:
    """``reference`` without the contigs that a VCF calls ``names`` (see ``protocols.Reference``).

    The same sequence under another name stays: a VCF may declare hg19's chrM and the revised chrMT.
    """

    def __init__(self, reference: Reference, names: Collection[str]) -> None:
        self.assembly = reference.assembly
        self._reference = reference
        self._names = frozenset(names)

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None where the reference lacks it or is to lack it."""
        return None if name in self._names else self._reference.contig(name)

    def contigs(self) -> list[Contig]:
        """All contigs of the reference, in the order of the file."""
        return self._reference.contigs()

    def release(self) -> None:
        """Give back the memory that reading has filled."""
        self._reference.release()

    def close(self) -> None:
        """Let go of the file."""
        self._reference.close()
