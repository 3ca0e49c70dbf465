"""Is this file of the reference's assembly? By its ##contig lines before any work, then by its first REFs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anyvar_step.errors import InvalidInput
from anyvar_step.models import Counts
from anyvar_step.pipeline.judgement import misfits, on_known_contigs
from anyvar_step.reference import Reference
from anyvar_step.vcf.header import contig_lengths

#: Records on known contigs after which REFs are judged, and the share of mismatches that damns the file.
SAMPLE = 1000
MISMATCHES = 0.1
#: Lengths of a contig in two assemblies are nearer to each other than this factor. What is further apart is
#: a FASTA of cut-outs or a header that was made up, and says nothing of the assembly.
FACTOR = 2
#: Lengths of chromosome 1, by which assemblies are told (NCBI assembly reports).
_CHROMOSOME_1 = {247249719: "NCBI36", 249250621: "GRCh37", 248956422: "GRCh38", 248387328: "T2T-CHM13"}


class Doubt:
    """Stops a file that was called on another assembly before it is full of errors (PITFALLS.md 30).

    Raises InvalidInput from construction where contig lengths are those of another assembly, and from
    ``judge`` where REFs are. ``notes`` are for the user of a file that passes.
    """

    def __init__(self, header: Sequence[bytes], reference: Reference, name: str) -> None:
        self.notes: tuple[str, ...] = ()
        self._reference = reference
        self._name = name
        self._sample = SAMPLE
        declared = contig_lengths(header)
        pairs = [(known, n, _length(reference, known)) for known, n in declared.items()]
        others = [pair for pair in pairs if pair[2] not in (0, pair[1])]
        if near := [(known, n, ours) for known, n, ours in others if max(n, ours) < FACTOR * min(n, ours)]:
            raise self._refusal(near, declared.values())
        if others:
            self._sample = 1
            contig, length, ours = others[0]
            self.notes = (
                f"the header of {name} says that {contig} has {length} bases, the reference "
                f"{reference.assembly} has {ours}: is it a part of it?",
            )

    def judge(self, counts: Counts) -> None:
        """Look at the first records' REFs once there are enough of them; to be called after each block."""
        known = on_known_contigs(counts)
        if not self._sample or known < self._sample:
            return
        self._sample = 0
        share = misfits(counts) / known
        if share > MISMATCHES:
            raise InvalidInput(
                f"{self._name} does not fit the reference {self._reference.assembly}: REF differs from it in "
                f"{share:.0%} of the first {known:,} records",
                "Probably the file is of another assembly (hg38 is GRCh38, hg19 is GRCh37): name that with "
                "--assembly, or use --force to go on with the records that fit",
            )

    def _refusal(self, others: Sequence[tuple[str, int, int]], lengths: Iterable[int]) -> InvalidInput:
        contig, length, ours = others[0]
        more = f", and {len(others) - 1} more contigs differ" if len(others) > 1 else ""
        meant = next((_CHROMOSOME_1[length] for length in lengths if length in _CHROMOSOME_1), "")
        hint = f"Its lengths are those of {meant}: use --assembly {meant}" if meant else "Name its --assembly"
        return InvalidInput(
            f"{self._name} is not of the assembly {self._reference.assembly}: its header says that {contig} "
            f"has {length} bases, the reference has {ours}{more}",
            f"{hint}, or use --force to go on with the records that fit",
        )


def _length(reference: Reference, name: str) -> int:
    """The contig's length in the reference, 0 where that does not have it."""
    contig = reference.contig(name)
    return contig.length if contig else 0
