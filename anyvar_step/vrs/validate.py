"""VRS fields that records already have: read, checked against each other or against REF and ALT, counted.

``StatedCheck`` takes location and state as they stand and checks that the identifier follows from them;
``RecomputedCheck`` checks that all three follow from REF and ALT. ``tally`` counts the records of an
annotated VCF by its own fields (docs/contract.md#vrs-fields).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from anyvar_step.models import Counts
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.vcf.header import attributes_of, declared_fields
from anyvar_step.vcf.reader import split_lines
from anyvar_step.vrs import fields
from anyvar_step.vrs.engine import (
    DIGITS,
    AlleleCollector,
    EngineChoice,
    KeptAlleles,
    RecordError,
    count,
    make_engine,
    text_of,
)
from anyvar_step.vrs.normalize import SHOWN, Normalized, around, is_nucleotides, kind_of_other, trim

#: The fields without which an allele cannot be read back; AnyVar asks for the same.
NEEDED = (fields.IDS, *fields.ATTRIBUTES)
#: The VRS_Error of a REF that differs, in AnyVar's words and in ours, which are cut at ``QUOTED`` bases.
_MISMATCH = re.compile(rb"Reference mismatch .*correct ref is '([A-Za-z]*)'")


class Claim(NamedTuple):
    """One allele as its record's fields name it: identifier and the values of the attribute fields."""

    id: bytes
    texts: fields.Texts

    @property
    def is_ambiguous(self) -> bool:
        """State ``.`` without a length: an empty literal, or a sequence that older versions left out."""
        return self.texts[2] == self.texts[3] == b"."


def lacking(header: Iterable[bytes]) -> list[bytes]:
    """The needed fields that no ##INFO line of the header declares."""
    declared = declared_fields(header)
    return [name for name in NEEDED if name not in declared]


def claims_of(line: bytes) -> list[Claim]:
    """The alleles that a record names, ``.`` among them; none where it has no identifiers.

    Raises ValueError where its fields cannot belong together.
    """
    if fields.IDS not in line:
        return []
    columns = line.split(b"\t", 8)
    if len(columns) < 8:
        raise ValueError(f"it has {len(columns)} tab-separated columns, and a VCF record has at least 8")
    info = dict(item.partition(b"=")[::2] for item in columns[7].split(b";"))
    if not info.get(fields.IDS):
        return []
    missing = [name.decode() for name in fields.ATTRIBUTES if name not in info]
    if missing:
        raise ValueError(f"it has {fields.IDS.decode()} without {', '.join(missing)}")
    values = [info[name].split(b",") for name in NEEDED]
    if len({len(value) for value in values}) > 1:
        raise ValueError("its VRS fields have different numbers of values")
    return [Claim(id_, tuple(texts)) for id_, *texts in zip(*values, strict=True)]


def ids_of(line: bytes) -> list[bytes]:
    """The identifiers that a record carries, ``.`` among them; none where it has no such field."""
    info = line.split(b"\t", 8)[7]
    return info.rpartition(fields.IDS + b"=")[2].partition(b";")[0].split(b",") if fields.IDS in info else []


def includes_ref(header: Iterable[bytes]) -> bool:
    """Whether the identifiers are those of REF, too, by the header's ##INFO line."""
    return attributes_of(declared_fields(header).get(fields.IDS, b"")).get(b"Number") != b"A"


class Conflict(NamedTuple):
    """A claim that does not hold: its record's ``place`` in the block, and the identifier it should have.

    ``new_id`` is empty where that is not known, and the claim's own where its location or state is wrong.
    """

    place: int
    claim: Claim
    new_id: bytes


class StatedCheck:
    """Checks claims against their own location and state.

    ``counts`` are of all blocks so far, ``alleles`` those of the last block's claims that hold.
    """

    def __init__(self, reference: Reference) -> None:
        self.counts = Counts()
        self.alleles = KeptAlleles()
        #: none: nothing is computed from REF and ALT
        self.engine = ""
        self._contig_of = cache(reference.contig)

    def check(self, lines: Sequence[bytes], claims: Sequence[Sequence[Claim]]) -> list[Conflict]:
        """The claims of a block's records that do not hold; those on unknown contigs are passed over."""
        collector = AlleleCollector(keep=True)
        conflicts: list[Conflict] = []
        for index, (line, named) in enumerate(zip(lines, claims, strict=True)):
            contig = self._contig(line.split(b"\t", 1)[0]) if named else None
            if contig is None:
                continue
            for claim in named:
                if claim.id == b".":
                    continue
                allele = _described(contig, claim)
                if allele is None:
                    conflicts.append(Conflict(index, claim, b""))
                    continue
                identifier = collector.identifier(contig.accession, allele, fields.texts(allele))
                if identifier != claim.id:
                    collector.drop_last()
                    conflicts.append(Conflict(index, claim, b"" if claim.is_ambiguous else identifier))
        self.alleles = collector.kept()
        self.counts.records += len(lines)
        self.counts.ids += len(self.alleles)
        return conflicts

    def _contig(self, chrom: bytes) -> Contig | None:
        """The contig of a record with claims; counts it."""
        name = text_of(chrom)
        count(self.counts.contigs, name)
        contig = self._contig_of(name)
        if contig is None:
            count(self.counts.unknown_contigs, name)
        return contig


class RecomputedCheck:
    """Checks claims against what REF and ALT give.

    ``counts`` are of all blocks so far. ``alleles`` are those of REF and ALT of the last block's records, as
    far as these make claims.
    """

    def __init__(self, reference: Reference, *, for_ref: bool, choice: EngineChoice = "auto") -> None:
        self.counts = Counts()
        self.alleles = KeptAlleles()
        self._reference = reference
        self._engine = make_engine(
            reference, for_ref=for_ref, attributes=True, keep_alleles=True, choice=choice
        )
        #: the engine that computes
        self.engine = self._engine.name

    def check(self, lines: Sequence[bytes], claims: Sequence[Sequence[Claim]]) -> list[Conflict]:
        """The claims of a block's records that differ in identifier, location or state.

        Those on unknown contigs are passed over. Raises RecordError.
        """
        places = [place for place, named in enumerate(claims) if named]
        try:
            annotated = self._engine.annotate(b"".join([lines[place] + b"\n" for place in places]))
        except RecordError as error:
            raise RecordError(places[error.index], error.reason) from None
        annotated.add_to(self.counts)
        self.counts.records += len(lines) - len(places)
        self.alleles = annotated.alleles
        conflicts: list[Conflict] = []
        for place, line in zip(places, split_lines(annotated.text), strict=True):
            if line != lines[place]:  # what this program wrote comes out as it was
                conflicts += self._differences(place, line, claims[place])
        return conflicts

    def _differences(self, index: int, line: bytes, claims: Sequence[Claim]) -> Iterator[Conflict]:
        """The claims that are not what stands in their place in the record as annotated anew.

        An identifier that was missing is no conflict.
        """
        contig = self._reference.contig(text_of(line.split(b"\t", 1)[0]))
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
    allele = _described(contig, claim)
    return allele is not None and fields.texts(allele) == found.texts


def _described(contig: Contig, claim: Claim) -> Normalized | None:
    """The allele that location and state describe; None where they describe none on that contig."""
    start_text, end_text, state, length_text, subunit_text = claim.texts
    if not (_is_number(start_text) and _is_number(end_text) and (state == b"." or is_nucleotides(state))):
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
    shown = around(contig.fetch(start, start + subunit), 0, length) if length <= SHOWN else None
    if state != b"." and state != shown:
        return None
    return Normalized(start, end, shown, length, subunit)


def _is_number(text: bytes) -> bool:
    """Whether it is one that a sequence can have; Python refuses to read one of thousands of digits."""
    return text.isdigit() and len(text) <= DIGITS


def tally(lines: Sequence[bytes], counts: Counts) -> None:
    """Count a block's records as the annotator would have, contigs left out.

    Of a REF of more than ``QUOTED`` bases the error does not say whether it differs there or ends beyond the
    contig. Raises ValueError where a line is no record.
    """
    counts.records += len(lines)
    for line in lines:
        columns = line.split(b"\t", 8)
        if len(columns) < 8:
            raise ValueError(
                f"a record has {len(columns)} tab-separated columns, and at least 8 belong to it"
            )
        ref, alts = columns[3].upper(), columns[4].upper().split(b",")
        for alt in alts:
            count(counts.alleles, _kind(ref, alt))
        info = dict(item.partition(b"=")[::2] for item in columns[7].split(b";"))
        values = info.get(fields.IDS, b"").split(b",")
        if fields.ERROR in info:
            _count_error(columns, unquote_to_bytes(info[fields.ERROR]), counts)
        elif ids := sum(value not in (b"", b".") for value in values):
            counts.ids += ids
        elif _has_sequence(ref, alts, values):
            count(counts.unknown_contigs, text_of(columns[0]))


def _kind(ref: bytes, alt: bytes) -> str:
    if is_nucleotides(ref) and is_nucleotides(alt):
        return trim(ref, alt).kind
    return kind_of_other(alt)


def _has_sequence(ref: bytes, alts: Sequence[bytes], values: Sequence[bytes]) -> bool:
    """Whether one of the alleles that have a value would have an identifier on a known contig."""
    with_ref = len(values) > len(alts) or (alts == [b"."] and values == [b"."])
    return is_nucleotides(ref) and (with_ref or any(map(is_nucleotides, alts)))


def _count_error(columns: Sequence[bytes], message: bytes, counts: Counts) -> None:
    cause = "other"
    if match := _MISMATCH.match(message):
        ref, found = columns[3].upper()[: fields.QUOTED], match[1].upper()[: fields.QUOTED]
        cause = fields.mismatch_cause(ref, found)
    count(counts.errors, cause)
    counts.exemplify(cause, text_of(b"%b:%b %b" % (columns[0], columns[1], message)))
