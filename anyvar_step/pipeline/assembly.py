"""Is this file of the reference's assembly? By its ##contig lines before any work, then by its first REFs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from anyvar_step.errors import InvalidInput
from anyvar_step.models import Counts
from anyvar_step.pipeline.judgement import SAMPLE, check_refs, compared
from anyvar_step.reference import Contig, Reference
from anyvar_step.reference.without import Without
from anyvar_step.vcf.header import contig_lengths

#: Lengths of a contig in two assemblies are nearer to each other than this factor. What is further apart is
#: a FASTA of cut-outs or a header that was made up, and says nothing of the assembly.
FACTOR = 2
#: Lengths of chromosome 1, by which assemblies are told (NCBI assembly reports).
_CHROMOSOME_1 = {247249719: "NCBI36", 249250621: "GRCh37", 248956422: "GRCh38", 248387328: "T2T-CHM13"}
#: Contigs that may differ where all others agree: UCSC's hg19 is GRCh37 but for its older mitochondrion.
_MITOCHONDRION = ("M", "MT")


class _Declared(NamedTuple):
    """A contig that the reference has: its name and bases as the header has them, and the reference's own."""

    name: str
    length: int
    ours: Contig

    @property
    def agrees(self) -> bool:
        return self.length == self.ours.length

    @property
    def is_cut_out(self) -> bool:
        shorter, longer = sorted((self.length, self.ours.length))
        return longer >= FACTOR * shorter

    @property
    def is_mitochondrion(self) -> bool:
        return self.ours.name.removeprefix("chr") in _MITOCHONDRION


class Doubt:
    """Stops a file that was called on another assembly before it is full of errors (PITFALLS.md 30).

    Raises InvalidInput from construction where contig lengths are those of another assembly, and from
    ``judge`` where REFs are. ``force`` does neither. Of a VCF in pieces the first REFs lie in the first
    ``piece``; 0 is a whole VCF.

    ``reference`` is what to annotate with: a contig of another length is another sequence, and is left out
    of it. ``notes`` are for the user of a file that passes.
    """

    def __init__(
        self, header: Sequence[bytes], reference: Reference, name: str, *, force: bool = False, piece: int = 0
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self.reference = reference
        self._name = name
        self._sample = 0 if force or piece > 1 else SAMPLE
        declared = _declared(header, reference)
        others = [contig for contig in declared if not contig.agrees]
        if other := [contig for contig in others if not contig.is_cut_out]:
            passes = all(contig.is_mitochondrion for contig in other) and len(declared) > len(others)
            if not (force or passes):
                agreeing = {contig.length for contig in declared if contig.agrees}
                raise self._refusal(other, {*contig_lengths(header).values()} - agreeing)
            self.reference = Without(reference, [contig.name for contig in other])
            self.notes = (f"{self._differing(other)}: its records are left without VRS ids",)
        elif others:
            self._sample = min(self._sample, 1)
            self.notes = (f"{self._differing(others[:1])}: is it a part of it?",)
        if piece > 1:
            self.notes = ()  # the first piece has the same header, and says it

    def judge(self, counts: Counts) -> None:
        """Look at the first records' REFs once there are enough of them; to be called after each block."""
        if self._sample and compared(counts) >= self._sample:
            self._sample = 0
            check_refs(counts, self.reference.assembly, self._name)

    def _differing(self, others: Sequence[_Declared]) -> str:
        contig, length, ours = others[0]
        more = f"; {len(others) - 1} more contigs differ" if len(others) > 1 else ""
        return (
            f"the header of {self._name} says that {contig} has {length} bases, the reference "
            f"{self.reference.assembly} has {ours.length}{more}"
        )

    def _refusal(self, others: Sequence[_Declared], lengths: Collection[int]) -> InvalidInput:
        contig, length, ours = others[0]
        more = f", and {len(others) - 1} more contigs differ" if len(others) > 1 else ""
        meant = next((name for length, name in _CHROMOSOME_1.items() if length in lengths), "")
        hint = f"Its lengths are those of {meant}: use --assembly {meant}" if meant else "Name its --assembly"
        return InvalidInput(
            f"{self._name} is not of the assembly {self.reference.assembly}: its header says that {contig} "
            f"has {length} bases, the reference has {ours.length}{more}",
            f"{hint}, or use --force to go on with the contigs whose lengths agree",
        )


def _declared(header: Sequence[bytes], reference: Reference) -> list[_Declared]:
    """The contigs whose lengths both the header and the reference tell."""
    pairs = [(name, n, reference.contig(name)) for name, n in contig_lengths(header).items()]
    return [_Declared(name, n, contig) for name, n, contig in pairs if contig is not None and contig.length]
