"""Whether a VCF was called on the reference: by contig lengths, by its first REFs, by all its REFs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice, repeat
from typing import NamedTuple, cast

from anyvar_step.errors import InvalidInput
from anyvar_step.models import Counts, RunReport
from anyvar_step.reference import Contig, Reference
from anyvar_step.reference.base import MaskedReference
from anyvar_step.vcf.header import contig_lengths

#: Causes of VRS_Error that are evidence of another reference; a REF of N is none.
MISFITS = ("ref_mismatch", "position")
#: Compared records after which REFs are judged first, and the share of mismatches that is too large.
SAMPLE = 1000
MISMATCHES = 0.1
#: How an example of a record at POS 0 begins.
_AT_ZERO = re.compile(r"\S+:0 ")
#: Contig names shown in a message.
SHOWN = 5


def count_contigs(counts: Counts, lines: Sequence[bytes]) -> None:
    """Count a block's records by contig; nearly all blocks are of one contig, which is quick to see."""
    first = lines[0].partition(b"\t")[0]
    if sum(map(bytes.startswith, lines, repeat(first + b"\t"))) == len(lines):
        found = {first: len(lines)}
    else:
        found = Counter(line.partition(b"\t")[0] for line in lines)
    for chrom, number in found.items():
        name = chrom.decode("utf-8", "backslashreplace")
        counts.contigs[name] = counts.contigs.get(name, 0) + number


def on_known_contigs(counts: Counts) -> int:
    """Records whose contig the reference has."""
    return counts.records - sum(counts.unknown_contigs.values())


def compared(counts: Counts) -> int:
    """Records whose REF was compared with the reference, as far as the counts tell."""
    return on_known_contigs(counts) - counts.errors.get("ref_n", 0) - before_contigs(counts)


def before_contigs(counts: Counts) -> int:
    """Records at POS 0, the telomere before a contig, which no REF of the reference can confirm or deny.

    They are counted among positions off the contig, of which a few examples are kept: the share among the
    examples stands for the share among all.
    """
    examples = counts.examples.get("position", [])
    if not examples:
        return 0
    share = sum(_AT_ZERO.match(example) is not None for example in examples) / len(examples)
    return round(share * counts.errors.get("position", 0))


def misfits(counts: Counts) -> int:
    """Records whose REF differs from the reference."""
    return sum(counts.errors.get(cause, 0) for cause in MISFITS)


def notes_on(counts: Counts, assembly: str, name: str, *, annotated: bool = True) -> Iterator[str]:
    """What the user should know of a run that went well, ``annotated`` or else ingested."""
    if unknown := counts.unknown_contigs:
        left = "left without VRS ids" if annotated else "not registered"
        yield (
            f"{name} has {sum(unknown.values()):,} of {counts.records:,} records on contigs that the "
            f"reference {assembly} does not have, {left}: {_listed(unknown)}"
        )
    if counts.kept:
        yield f"{name} has {counts.kept:,} of {counts.records:,} records whose VRS fields were kept"
    if counts.uneven:
        yield (
            f"{name} has {counts.uneven:,} of {counts.records:,} records whose genotype columns do not match "
            "the header: htslib and most tools refuse such a file"
        )
    if unreadable := counts.alleles.get("other", 0):
        yield (
            f"{name} has {unreadable:,} ALT alleles that are no alleles of a VCF, or whose REF is none "
            "(blanks, other characters); they have no VRS ids"
        )
    carry = "; they carry VRS_Error" if annotated else "; they are not registered"
    if wrong := misfits(counts):
        yield (
            f"{name} has {wrong:,} of {counts.records:,} records with a REF that differs from the "
            f"reference {assembly}{carry}"
        )
    if blank := counts.errors.get("ref_n", 0):
        yield (
            f"{name} has {blank:,} of {counts.records:,} records with N for REF where the reference "
            f"{assembly} has bases{carry}"
        )
    if others := sum(counts.errors.values()) - wrong - blank:
        yield f"{name} has {others:,} of {counts.records:,} records " + (
            "with another VRS_Error" if annotated else "from which no allele can be made, not registered"
        )


def with_notes(whole: RunReport, pieces: Sequence[RunReport]) -> RunReport:
    """The report on a VCF that was annotated in ``pieces``, with notes on the whole, under its name."""
    notes = []
    for piece in pieces:
        counted = set(notes_on(piece.counts, piece.options.assembly, piece.input_name))
        others = (note for note in piece.notes if note not in counted)
        notes += [note.replace(piece.input_name, whole.input_name) for note in others]
    notes += notes_on(whole.counts, whole.options.assembly, whole.input_name)
    return whole.model_copy(update={"notes": tuple(dict.fromkeys(notes))})


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(islice(names, SHOWN)) + (f" and {more} more" if more > 0 else "")


#: Lengths of a contig in two assemblies are nearer to each other than this factor. What is further apart is
#: a FASTA of cut-outs or a made-up header, and no evidence of another assembly.
FACTOR = 2
#: Lengths of chromosome 1, which differ between assemblies (NCBI assembly reports).
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


class AssemblyCheck:
    """Refuses a VCF that was called on another assembly, as InvalidInput, at three moments.

    ``compare_lengths`` judges the header's contig lengths before any work, ``judge`` the REFs of the first
    SAMPLE compared records, so that a large file ends early, and ``end`` the REFs of all compared records and
    the contigs, whatever their number.

    ``force`` refuses nothing. Of a VCF in pieces each worker sees one ``piece`` (from 1; 0 = a whole VCF):
    only the first has the first records, and the step judges the end from the reports of all pieces.
    ``least`` is the number of compared records from which ``end`` judges REFs: AnyVar's web API
    returns smaller files with VRS_Error in the records, whatever their REFs.

    ``notes`` are for the user of a VCF that passes.
    """

    def __init__(
        self, assembly: str, name: str, *, force: bool = False, piece: int = 0, least: int = 1
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._assembly, self._name = assembly, name
        self._force, self._piece, self._least = force, piece, least
        self._sample = 0 if force or piece > 1 else SAMPLE
        self._reference: Reference | None = None

    def compare_lengths(self, header: Sequence[bytes], reference: Reference) -> Reference:
        """The reference to annotate with: a contig of another length is another sequence and is left out."""
        self._reference = reference
        declared = _declared(header, reference)
        others = [contig for contig in declared if not contig.agrees]
        if other := [contig for contig in others if not contig.is_cut_out]:
            passes = all(contig.is_mitochondrion for contig in other) and len(declared) > len(others)
            if not (self._force or passes):
                agreeing = {contig.length for contig in declared if contig.agrees}
                raise self._refusal(other, {*contig_lengths(header).values()} - agreeing)
            self.notes = (f"{self._differing(other)}: its records are left without VRS ids",)
            return cast("Reference", MaskedReference(reference, [contig.name for contig in other]))
        if others:
            self._sample = min(self._sample, 1)
            self.notes = (f"{self._differing(others[:1])}: is it a part of it?",)
        return reference

    def judge(self, counts: Counts) -> None:
        """Judge the first records once enough are compared; to be called with the counts after each block."""
        if self._sample and compared(counts) >= self._sample:
            self._sample = 0
            self._judge_refs(counts, "the first ")

    def end(self, counts: Counts) -> None:
        """Judge all that was compared, and whether any contig is known, at the end of the stream."""
        if self._force or self._piece:
            return
        if counts.records and not on_known_contigs(counts):
            known = [contig.name for contig in self._reference.contigs()] if self._reference else []
            has = f"; the reference has {_listed(known)}" if known else ""
            raise InvalidInput(
                f"{self._name} has no contig that the reference {self._assembly} knows: the file has "
                f"{_listed(counts.unknown_contigs)}{has}",
                "Use the reference that the file was called on, or give its other names to the workers with "
                "ANYVAR_STEP_REFERENCE_ALIASES; --force goes on without VRS ids",
            )
        if compared(counts) >= self._least:
            self._judge_refs(counts)

    def _judge_refs(self, counts: Counts, which: str = "") -> None:
        wrong, number = misfits(counts) - before_contigs(counts), compared(counts)
        if wrong > MISMATCHES * number:
            raise InvalidInput(
                f"{self._name} does not fit the reference {self._assembly}: REF differs from it in "
                f"{wrong:,} of {which}{number:,} compared records",
                "Probably the file is of another assembly (hg38 is GRCh38, hg19 is GRCh37): name that with "
                "--assembly, or use --force to go on with the records that fit",
            )

    def _differing(self, others: Sequence[_Declared]) -> str:
        contig, length, ours = others[0]
        more = f"; {len(others) - 1} more contigs differ" if len(others) > 1 else ""
        return (
            f"the header of {self._name} says that {contig} has {length} bases, the reference "
            f"{self._assembly} has {ours.length}{more}"
        )

    def _refusal(self, others: Sequence[_Declared], lengths: Collection[int]) -> InvalidInput:
        contig, length, ours = others[0]
        more = f", and {len(others) - 1} more contigs differ" if len(others) > 1 else ""
        meant = next((name for length, name in _CHROMOSOME_1.items() if length in lengths), "")
        hint = f"Its lengths are those of {meant}: use --assembly {meant}" if meant else "Name its --assembly"
        return InvalidInput(
            f"{self._name} is not of the assembly {self._assembly}: its header says that {contig} "
            f"has {length} bases, the reference has {ours.length}{more}",
            f"{hint}, or use --force to go on with the contigs whose lengths agree",
        )


def _declared(header: Sequence[bytes], reference: Reference) -> list[_Declared]:
    """The contigs whose lengths both the header and the reference tell."""
    pairs = [(name, n, reference.contig(name)) for name, n in contig_lengths(header).items()]
    return [_Declared(name, n, contig) for name, n, contig in pairs if contig is not None and contig.length]
