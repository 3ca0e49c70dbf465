"""Two ways to check what records already claim in their VRS fields.

``Trusted`` takes location and state as they stand and looks whether the identifier follows from them;
``Recomputed`` looks whether all three follow from REF and ALT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from anyvar_step.models import Counts
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.vrs import fields
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.allele import is_nucleotides
from anyvar_step.vrs.annotate import Annotator, RecordError
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.claims import Claim, claims_of
from anyvar_step.vrs.kept import KeptAlleles, state_of
from anyvar_step.vrs.old_digest import STRIDE
from anyvar_step.vrs.old_normalize import SHOWN, Normalized
from anyvar_step.vrs.record import DIGITS, add, text_of


class Conflict(NamedTuple):
    """A claim that does not hold: its record's ``place`` in the block, and the identifier it should have.

    ``new_id`` is empty where that cannot be told, and the claim's own where its location or state is wrong.
    """

    place: int
    claim: Claim
    new_id: bytes


class Trusted:
    """Checks claims against their own location and state; ``alleles`` are those of a block that hold."""

    def __init__(self, reference: Reference) -> None:
        self.counts = Counts()
        self.alleles = Block().kept_alleles(b"")
        self._reference = reference
        self._contigs: dict[bytes, tuple[Contig, bytes] | None] = {}

    def check(self, lines: Sequence[bytes], claims: Sequence[Sequence[Claim]]) -> list[Conflict]:
        """The claims of a block's records that do not hold; those on unknown contigs are passed over."""
        block = Block()
        conflicts: list[Conflict] = []
        claimed: list[tuple[int, Claim]] = []
        for index, (line, named) in enumerate(zip(lines, claims, strict=True)):
            known = self._contig(line.split(b"\t", 1)[0]) if named else None
            for claim in named if known else ():
                if claim.id == b".":
                    continue
                assert known is not None
                if (allele := _meant(known, claim)) is None:
                    conflicts.append(Conflict(index, claim, b""))
                else:
                    _add(block, known, allele)
                    claimed.append((index, claim))
        ids = block.ids() if claimed else b""
        found = (ids[place + 1 : place + STRIDE] for place in range(0, len(ids), STRIDE))
        wrong = {
            place: Conflict(index, claim, id_)
            for place, ((index, claim), id_) in enumerate(zip(claimed, found, strict=True))
            if claim.id != id_
        }
        self.alleles = block.kept_alleles(ids).without(wrong)
        self.counts.records += len(lines)
        self.counts.ids += len(self.alleles)
        return sorted([*conflicts, *wrong.values()], key=lambda conflict: conflict.place)

    def _contig(self, chrom: bytes) -> tuple[Contig, bytes] | None:
        """The contig of a record with claims, and its part of a location's serialisation; counts it."""
        name = text_of(chrom)
        add(self.counts.contigs, name)
        if chrom not in self._contigs:
            found = self._reference.contig(name)
            self._contigs[chrom] = (found, digest.location_middle(found.accession)) if found else None
        if self._contigs[chrom] is None:
            add(self.counts.unknown_contigs, name)
        return self._contigs[chrom]


class Recomputed:
    """Checks claims against what REF and ALT give; ``alleles`` are those of a block's REF and ALT."""

    def __init__(self, reference: Reference, *, for_ref: bool) -> None:
        self._annotator = Annotator(reference, for_ref=for_ref, attributes=True, keep_alleles=True)
        self._reference = reference
        self.counts = self._annotator.counts

    @property
    def alleles(self) -> KeptAlleles:
        """The alleles of the last block's records, as far as these make claims."""
        return self._annotator.alleles

    def check(self, lines: Sequence[bytes], claims: Sequence[Sequence[Claim]]) -> list[Conflict]:
        """The claims of a block's records that differ in identifier, location or state.

        Those on unknown contigs are passed over. Raises RecordError.
        """
        places = [place for place, named in enumerate(claims) if named]
        try:
            annotated = self._annotator.annotate([lines[place] for place in places])
        except RecordError as error:
            raise RecordError(places[error.index], error.reason) from None
        self.counts.records += len(lines) - len(places)
        conflicts: list[Conflict] = []
        for place, line in zip(places, annotated, strict=True):
            if line != lines[place]:  # what we have written comes out as it was
                conflicts += self._differences(place, line, claims[place])
        return conflicts

    def _differences(self, index: int, line: bytes, claims: Sequence[Claim]) -> Iterator[Conflict]:
        """The claims that are not what stands in their place in the record as annotated anew.

        An identifier that was missing is no conflict.
        """
        contig = self._reference.contig(line.split(b"\t", 1)[0].decode("utf-8", "backslashreplace"))
        if contig is None:
            return
        nothing = Claim(b".", fields.NO_TEXTS)
        for claim, found in zip_longest(claims, claims_of(line), fillvalue=nothing):
            if claim.id != b"." and not (claim.id == found.id and _same(contig, claim, found)):
                yield Conflict(index, claim, b"" if found.id == b"." else found.id)


def _same(contig: Contig, claim: Claim, found: Claim) -> bool:
    """Whether location and state are those found, were they also written in another way."""
    if claim.texts == found.texts:
        return True
    allele = _allele(contig, claim)
    return allele is not None and fields.texts(allele) == found.texts


def _meant(known: tuple[Contig, bytes], claim: Claim) -> Normalized | None:
    """The allele that a claim describes; None where that is none, or cannot be told."""
    contig, middle = known
    allele = _allele(contig, claim)
    if allele and claim.is_ambiguous and _literal_id(middle, allele) != claim.id:
        return None
    return allele


def _allele(contig: Contig, claim: Claim) -> Normalized | None:
    """The allele that location and state describe; None where they describe none on that contig."""
    start_text, end_text, state, length_text, subunit_text = claim.texts
    if not (_is_number(start_text) and _is_number(end_text) and _is_state(state)):
        return None
    start, end = int(start_text), int(end_text)
    if not start <= end <= contig.length:
        return None
    if length_text == subunit_text == b".":
        return Normalized(start, end, b"" if state == b"." else state)
    if not (_is_number(length_text) and _is_number(subunit_text)):
        return None
    length, subunit = int(length_text), int(subunit_text)
    if not 0 < subunit <= end - start:
        return None
    # The reference, going round, is the sequence; older versions do not always show it.
    shown = _round(contig.fetch(start, start + subunit), length) if length <= SHOWN else None
    if state != b"." and state != shown:
        return None
    return Normalized(start, end, shown, length, subunit)


def _is_number(text: bytes) -> bool:
    """Whether it is one that a sequence can have; Python refuses to read one of thousands of digits."""
    return text.isdigit() and len(text) <= DIGITS


def _is_state(text: bytes) -> bool:
    return text == b"." or is_nucleotides(text)


def _round(unit: bytes, length: int) -> bytes:
    return (unit * (length // len(unit) + 1))[:length]


def _add(block: Block, known: tuple[Contig, bytes], allele: Normalized) -> None:
    contig, middle = known
    start, end, state, length, subunit = fields.texts(allele)
    sequence = (allele.sequence or b"") if length == b"." else state
    block.add(digest.location(middle, start, end), digest.tail(sequence, length, subunit))
    block.keep((contig.accession, allele.start, allele.end), state_of(allele))


def _literal_id(middle: bytes, allele: Normalized) -> bytes:
    """The identifier of a literal allele by itself."""
    place = digest.sha512t24u(digest.location(middle, b"%d" % allele.start, b"%d" % allele.end))
    tail = digest.literal_tail(allele.sequence or b"")
    return digest.ALLELE_PREFIX + digest.sha512t24u(digest.ALLELE_HEAD + place + tail)
