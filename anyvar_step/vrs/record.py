"""Any record line, read and translated with care; the annotator's fast path is a shortcut through this.

Nothing of a line is changed but INFO, and genotype columns are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from anyvar_step.models import Counts, Existing
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.vrs import fields, mismatch
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.allele import is_nucleotides, kind_of_change, kind_of_other
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.indel import Indels
from anyvar_step.vrs.kept import state_of
from anyvar_step.vrs.old_normalize import MARGIN, justify, trim
from anyvar_step.vrs.rows import Rows

#: Digits of the largest 64-bit position.
DIGITS = 19
#: The field of identifiers, up to its values.
NAME = fields.IDS + b"="


class Known(NamedTuple):
    """A contig that the reference has, and its part of a location's serialisation."""

    contig: Contig
    middle: bytes


class Translator:
    """Turns record lines into rows and puts their alleles into a block; counts what it meets."""

    def __init__(
        self,
        reference: Reference,
        counts: Counts,
        *,
        for_ref: bool,
        attributes: bool,
        keep: bool,
        existing: Existing,
    ) -> None:
        #: Contigs by the name that the VCF uses; None = the reference does not have it.
        self.contigs: dict[bytes, Known | None] = {}
        self._reference = reference
        self._counts = counts
        self._indels = Indels(for_ref=for_ref, attributes=attributes, keep=keep)
        self._quick = (True,) * (1 + for_ref)
        self._for_ref = for_ref
        self._attributes = attributes
        self._keep = keep
        self._existing = existing

    def translate(self, columns: list[bytes], block: Block, rows: Rows) -> None:
        """Add the line that is split at its first eight tabs, and its alleles.

        Raises ValueError with the reason where it cannot be a VCF record, and with reason and remedy where
        it must not have VRS fields and has.
        """
        if len(columns) < 8:
            raise ValueError(f"it has {len(columns)} tab-separated columns, and a VCF record has at least 8")
        chrom, pos, _, ref, alts, _, _, info = columns[:8]
        start = _position(pos) - 1
        tab, calls = (b"\t", columns[8]) if len(columns) > 8 else (b"", b"")
        if fields.PREFIX in info and (others := fields.without_ours(info)) != info:
            if self._existing == "keep":
                self._counts.kept += 1
                rows.add(b"\t".join(columns))
                return
            if self._existing == "error":
                raise ValueError("it has VRS fields already", "Use --existing replace or --existing keep")
            info = others
        known = self.known(chrom)
        if known is None:
            add(self._counts.unknown_contigs, text_of(chrom))
        name, alleles, rest = self.field(chrom, known, start, ref, alts, block, rows.kinds)
        head = b"\t".join(columns[:7]) + b"\t"
        if not name:
            head += info
        elif info not in (b".", b""):
            head += info + b";"
        rows.add(head, name, alleles, rest, tab, calls)

    def field(
        self,
        chrom: bytes,
        known: Known | None,
        start: int,
        ref: bytes,
        alts: bytes,
        block: Block,
        kinds: list[str],
    ) -> tuple[bytes, Sequence[object], bytes]:
        """The record's field of identifiers: name, alleles, None where one has none, and what follows them.

        The alleles go into the block, the kinds of the ALTs to ``kinds``. Where REF is not the reference's
        the name is that of VRS_Error with its value; empty where the record gets no field.
        """
        if known is not None:
            quick = self._indels.field(*known, start, ref, alts, block)
            if quick is not None:
                kinds.append("insertion" if len(ref) == 1 else "deletion")
                return NAME, self._quick, quick
        ref = ref.upper()
        changes = self._changes(ref, alts.upper(), kinds)
        if not changes:
            return b"", (), b""
        if known is None or not any(changes):
            return NAME, [None] * len(changes), self._attributes_of([fields.NO_TEXTS] * len(changes))
        first, end = max(start - MARGIN, 0), start + len(ref)
        near = known.contig.fetch(first, end + MARGIN)
        found = near[start - first : end - first] if start >= 0 else b""
        if found != ref:
            return self._error(chrom, start, ref, found), (), b""
        values = self._values(known, start, changes, near, first, block)
        return NAME, changes, self._attributes_of(values)

    def _attributes_of(self, values: Sequence[fields.Texts]) -> bytes:
        return fields.attributes(values) if self._attributes else b""

    def _changes(self, ref: bytes, alts: bytes, kinds: list[str]) -> list[tuple[int, bytes, bytes] | None]:
        """What ``trim`` leaves of each allele that gets a field's value; None for what has no VRS allele.

        ALT ``.`` alone is no allele: REF stands there by itself. ``kinds`` gets the kind of each ALT.
        """
        readable = is_nucleotides(ref)
        changes: list[tuple[int, bytes, bytes] | None] = []
        if self._for_ref:
            changes.append((0, ref, ref) if readable else None)
        for alt in alts.split(b","):
            if readable and is_nucleotides(alt):
                change = trim(ref, alt)
                kinds.append(kind_of_change(change[1], change[2]))
                changes.append(change)
            else:
                kinds.append(kind_of_other(alt))
                if alts != b".":
                    changes.append(None)
        return changes

    def known(self, chrom: bytes) -> Known | None:
        """The contig of that name; None where the reference does not have it."""
        if chrom not in self.contigs:
            found = self._reference.contig(text_of(chrom))
            self.contigs[chrom] = Known(found, digest.location_middle(found.accession)) if found else None
        return self.contigs[chrom]

    def _error(self, chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
        """The VRS_Error field for a REF that is not what the reference has there; counted by cause."""
        cause = mismatch.cause_of(ref, found)
        add(self._counts.errors, cause)
        self._counts.exemplify(cause, text_of(mismatch.example(chrom, start, ref, found)))
        return fields.ERROR + b"=" + mismatch.message(self._reference.assembly, chrom, start, ref, found)

    def _values(
        self,
        known: Known,
        start: int,
        changes: Sequence[tuple[int, bytes, bytes] | None],
        near: bytes,
        first: int,
        block: Block,
    ) -> list[fields.Texts]:
        """Put the alleles into the block; the values of their attribute fields."""
        values: list[fields.Texts] = []
        contig, middle = known
        for change in changes:
            if change is None:
                values.append(fields.NO_TEXTS)
                continue
            skipped, ref, alt = change
            allele = justify(contig, start + skipped, ref, alt, near, first)
            texts = begin, end, state, length, subunit = fields.texts(allele)
            values.append(texts)
            block.add(digest.location(middle, begin, end), digest.tail(state, length, subunit))
            if self._keep:
                block.keep((contig.accession, allele.start, allele.end), state_of(allele))
        return values


def text_of(value: bytes) -> str:
    """A name or value of a VCF, which may not be UTF-8, for messages."""
    return value.decode("utf-8", "backslashreplace")


def _position(pos: bytes) -> int:
    """POS as a number; ValueError where it is none."""
    if not pos.isdigit() or len(pos) > DIGITS:
        raise ValueError(f"its POS {text_of(pos[:DIGITS])!r} is not a position")
    return int(pos)


def add(counts: dict[str, int], key: str, number: int = 1) -> None:
    """Count."""
    counts[key] = counts.get(key, 0) + number
