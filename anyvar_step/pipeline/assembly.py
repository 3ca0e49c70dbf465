"""Whether a VCF was called on the reference: by contig lengths, by its first REFs, by all its REFs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

from anyvar_step.errors import InvalidInput
from anyvar_step.models import Counts, RunReport
from anyvar_step.reference import Contig, Reference
from anyvar_step.reference.base import MaskedReference
from anyvar_step.vcf.header import contig_lengths

#: Compared records after which REFs are judged first, and the share of mismatches that is too large.
SAMPLE, _MAX_MISMATCHES = 1000, 0.1
#: Contig names shown in a message.
_SHOWN = 5
#: How an example of a record at POS 0 begins.
_AT_ZERO = re.compile(r"\S+:0 ")


def count_contigs(counts: Counts, lines: Sequence[bytes]) -> None:
    """Count a block's records by contig."""
    for chrom, number in Counter(line.partition(b"\t")[0] for line in lines).items():
        name = chrom.decode("utf-8", "backslashreplace")
        counts.contigs[name] = counts.contigs.get(name, 0) + number


def _on_known_contigs(counts: Counts) -> int:
    """Records whose contig the reference has."""
    return counts.records - sum(counts.unknown_contigs.values())


def _mismatches(counts: Counts) -> int:
    """Records that are evidence of another reference; a REF of N is none."""
    return counts.errors.get("ref_mismatch", 0) + counts.errors.get("position", 0)


def _before_contigs(counts: Counts) -> int:
    """Records at POS 0, the telomere before a contig, which no REF of the reference can confirm or deny.

    They are counted among positions off the contig, of which a few examples are kept: the share among the
    examples stands for the share among all.
    """
    examples = counts.examples.get("position", [])
    if not examples:
        return 0
    share = sum(_AT_ZERO.match(example) is not None for example in examples) / len(examples)
    return round(share * counts.errors.get("position", 0))


def _compared(counts: Counts) -> int:
    """Records whose REF was compared with the reference, as far as the counts tell."""
    return _on_known_contigs(counts) - counts.errors.get("ref_n", 0) - _before_contigs(counts)


def notes_on(counts: Counts, assembly: str, name: str, *, annotated: bool = True) -> Iterator[str]:
    """What the user should know of a run that went well, ``annotated`` or else ingested."""

    def some(number: int) -> str:
        return f"{name} has {number:,} of {counts.records:,} records"

    if unknown := counts.unknown_contigs:
        left = "left without VRS ids" if annotated else "not registered"
        where = f"on contigs that the reference {assembly} does not have"
        yield f"{some(sum(unknown.values()))} {where}, {left}: {_listed(unknown)}"
    if counts.kept:
        yield f"{some(counts.kept)} whose VRS fields were kept"
    if counts.uneven:
        yield (
            f"{some(counts.uneven)} whose genotype columns do not match the header: htslib and most tools "
            "refuse such a file"
        )
    if malformed := counts.alleles.get("other", 0):
        yield (
            f"{name} has {malformed:,} ALT alleles that are no alleles of a VCF, or whose REF is none "
            "(blanks, other characters); they have no VRS ids"
        )
    result = "they carry VRS_Error" if annotated else "they are not registered"
    if wrong := _mismatches(counts):
        yield f"{some(wrong)} with a REF that differs from the reference {assembly}; {result}"
    if blank := counts.errors.get("ref_n", 0):
        yield f"{some(blank)} with N for REF where the reference {assembly} has bases; {result}"
    if others := sum(counts.errors.values()) - wrong - blank:
        what = "with another VRS_Error" if annotated else "from which no allele can be made, not registered"
        yield f"{some(others)} {what}"


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
    more = len(names) - _SHOWN
    return ", ".join(islice(names, _SHOWN)) + (f" and {more} more" if more > 0 else "")


#: Lengths of a contig in two assemblies are nearer to each other than this factor. If they are further apart,
#: the reference is a FASTA of cut-outs or the header is made up: no evidence of another assembly.
_FACTOR = 2
#: Lengths of chromosome 1, which differ between assemblies (NCBI assembly reports).
_CHROMOSOME_1 = {247249719: "NCBI36", 249250621: "GRCh37", 248956422: "GRCh38", 248387328: "T2T-CHM13"}
#: Contigs that may differ if all others agree: UCSC's hg19 is GRCh37 except for its older mitochondrion.
_MITOCHONDRION = ("M", "MT")


class _Declared(NamedTuple):
    """A contig of the reference that the header declares: its name and bases there."""

    name: str
    length: int
    contig: Contig

    @property
    def agrees(self) -> bool:
        return self.length == self.contig.length

    @property
    def is_cut_out(self) -> bool:
        shorter, longer = sorted((self.length, self.contig.length))
        return longer >= _FACTOR * shorter

    @property
    def is_mitochondrion(self) -> bool:
        return self.contig.name.removeprefix("chr") in _MITOCHONDRION


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
        """The reference to annotate with, without contigs of another length, which are other sequences."""
        self._reference = reference
        lengths = contig_lengths(header)
        pairs = ((name, length, reference.contig(name)) for name, length in lengths.items())
        declared = [_Declared(name, n, contig) for name, n, contig in pairs if contig and contig.length]
        differing = [contig for contig in declared if not contig.agrees]
        if other := [contig for contig in differing if not contig.is_cut_out]:
            accepted = all(contig.is_mitochondrion for contig in other) and len(declared) > len(differing)
            if not (self._force or accepted):
                agreeing = {contig.length for contig in declared if contig.agrees}
                raise self._refusal(other, {*lengths.values()} - agreeing)
            self.notes = (f"{self._difference(other)}: its records are left without VRS ids",)
            return cast("Reference", MaskedReference(reference, [contig.name for contig in other]))
        if differing:
            self._sample = min(self._sample, 1)
            self.notes = (f"{self._difference(differing[:1])}: is it a part of it?",)
        return reference

    def judge(self, counts: Counts) -> None:
        """Judge the first records once enough are compared; to be called with the counts after each block."""
        if self._sample and _compared(counts) >= self._sample:
            self._sample = 0
            self._judge_refs(counts, "the first ")

    def end(self, counts: Counts) -> None:
        """Judge all compared records, and whether any contig is known, at the end of the stream."""
        if self._force or self._piece:
            return
        if counts.records and not _on_known_contigs(counts):
            known = [contig.name for contig in self._reference.contigs()] if self._reference else []
            has = f"; the reference has {_listed(known)}" if known else ""
            raise InvalidInput(
                f"{self._name} has no contig that the reference {self._assembly} knows: the file has "
                f"{_listed(counts.unknown_contigs)}{has}",
                "Use the reference that the file was called on, or give its other names to the workers with "
                "ANYVAR_STEP_REFERENCE_ALIASES; --force goes on without VRS ids",
            )
        if _compared(counts) >= self._least:
            self._judge_refs(counts)

    def _judge_refs(self, counts: Counts, which: str = "") -> None:
        wrong, number = _mismatches(counts) - _before_contigs(counts), _compared(counts)
        if wrong > _MAX_MISMATCHES * number:
            raise InvalidInput(
                f"{self._name} does not fit the reference {self._assembly}: REF differs from it in "
                f"{wrong:,} of {which}{number:,} compared records",
                "Probably the file is of another assembly (hg38 is GRCh38, hg19 is GRCh37): name that with "
                "--assembly, or use --force to go on with the records that fit",
            )

    def _difference(self, differing: Sequence[_Declared]) -> str:
        name, length, contig = differing[0]
        more = f"; {len(differing) - 1} more contigs differ" if len(differing) > 1 else ""
        return (
            f"the header of {self._name} says that {name} has {length} bases, the reference "
            f"{self._assembly} has {contig.length}{more}"
        )

    def _refusal(self, differing: Sequence[_Declared], lengths: Collection[int]) -> InvalidInput:
        name, length, contig = differing[0]
        more = f", and {len(differing) - 1} more contigs differ" if len(differing) > 1 else ""
        likely = next((assembly for bases, assembly in _CHROMOSOME_1.items() if bases in lengths), "")
        hint = (
            f"Its lengths are those of {likely}: use --assembly {likely}" if likely else "Name its --assembly"
        )
        return InvalidInput(
            f"{self._name} is not of the assembly {self._assembly}: its header says that {name} "
            f"has {length} bases, the reference has {contig.length}{more}",
            f"{hint}, or use --force to go on with the contigs whose lengths agree",
        )
