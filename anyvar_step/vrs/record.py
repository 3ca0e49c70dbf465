"""Any record line, read and translated with care; the annotator's fast path is a shortcut through this.

Nothing of a line is changed but INFO, and genotype columns are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from anyvar_step.models import Counts, Existing
from anyvar_step.reference.protocols import Contig, Reference
from anyvar_step.vrs import digest, fields
from anyvar_step.vrs.allele import is_nucleotides, kind_of_change, kind_of_other
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.normalize import justify, trim

#: The number of an allele that has no identifier.
MISSING = -1
#: Bases of a sequence that an error message shows.
QUOTED = 50
#: Digits of the largest 64-bit position.
DIGITS = 19


class Known(NamedTuple):
    """A contig that the reference has, with what the fast path needs of it at hand."""

    contig: Contig
    base: Callable[[int], int]
    length: int
    middle: bytes


#: A line without its identifiers: what comes before them, whose they are, and twice what comes after. The
#: alleles are numbers in the block, or the slice of ``Block.ids`` where all of them have an identifier.
Row = tuple[bytes, list[int] | slice, bytes, bytes]


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
        self._for_ref = for_ref
        self._attributes = attributes
        self._keep = keep
        self._existing = existing

    def row(self, columns: list[bytes], block: Block) -> Row:
        """The row of a line that is split at its first eight tabs.

        Raises ValueError with the reason where it cannot be a VCF record, and with reason and remedy where
        it must not have VRS fields and has.
        """
        if len(columns) < 8:
            raise ValueError(f"it has {len(columns)} tab-separated columns, and a VCF record has at least 8")
        chrom, pos, _, ref, alts, _, _, info = columns[:8]
        start = _position(pos) - 1
        head = b"\t".join(columns[:7]) + b"\t"
        tail = b"\t" + columns[8] if len(columns) > 8 else b""
        if fields.PREFIX in info and (others := fields.without_ours(info)) != info:
            if self._existing == "keep":
                self._counts.kept += 1
                return b"\t".join(columns), [], b"", b""
            if self._existing == "error":
                raise ValueError("it has VRS fields already", "Use --existing replace or --existing keep")
            info = others
        ref = ref.upper()
        changes = self._changes(ref, alts.upper())
        known = self._known(chrom)
        if not changes:
            return head + info, [], b"", tail
        if info not in (b".", b""):
            head += info + b";"
        if known is None:
            changes = [None] * len(changes)
        elif any(changes):
            found = known.contig.fetch(start, start + len(ref))
            if found != ref:
                return head + self._error(chrom, start, ref, found), [], b"", tail
        return self._translated(head, tail, known, start, changes, block)

    def _known(self, chrom: bytes) -> Known | None:
        """The contig; an unknown one is counted."""
        known = self.contigs.get(chrom)
        if known is None:
            name = chrom.decode("utf-8", "backslashreplace")
            found = None if chrom in self.contigs else self._reference.contig(name)
            known = self.contigs[chrom] = None if found is None else _known(found)
            if known is None:
                add(self._counts.unknown_contigs, name)
        return known

    def _changes(self, ref: bytes, alts: bytes) -> list[tuple[int, bytes, bytes] | None]:
        """What ``trim`` leaves of each allele that gets a field's value; None for what has no VRS allele.

        ALT ``.`` alone is no allele: REF stands there by itself.
        """
        readable = is_nucleotides(ref)
        changes: list[tuple[int, bytes, bytes] | None] = []
        if self._for_ref:
            changes.append((0, ref, ref) if readable else None)
        for alt in alts.split(b","):
            if readable and is_nucleotides(alt):
                change = trim(ref, alt)
                kind = kind_of_change(change[1], change[2])
                changes.append(change)
            else:
                kind = kind_of_other(alt)
                if alts != b".":
                    changes.append(None)
            add(self._counts.alleles, kind)
        return changes

    def _error(self, chrom: bytes, start: int, ref: bytes, found: bytes) -> bytes:
        """The VRS_Error field for a REF that is not what the reference has there; counted by cause."""
        cause = cause_of(ref, found)
        add(self._counts.errors, cause)
        shown = b"%b:%d REF %b, reference %b" % (
            chrom,
            start + 1,
            ref[:QUOTED],
            found[:QUOTED] or b"(none)",
        )
        self._counts.exemplify(cause, shown.decode("utf-8", "backslashreplace"))
        message = b"Reference mismatch at %b:%b position %d-%d (input gave '%b' but correct ref is '%b')" % (
            self._reference.assembly.encode("utf-8"),
            chrom,
            start,
            start + len(ref),
            ref[:QUOTED],
            found[:QUOTED],
        )
        return fields.ERROR + b"=" + fields.escaped(message)

    def _translated(
        self,
        head: bytes,
        tail: bytes,
        known: Known | None,
        start: int,
        changes: list[tuple[int, bytes, bytes] | None],
        block: Block,
    ) -> Row:
        numbers: list[int] = []
        values: list[fields.Texts] = []
        for change in changes:
            if change is None or known is None:
                numbers.append(MISSING)
                values.append(fields.NO_TEXTS)
                continue
            skipped, ref, alt = change
            allele = justify(known.contig, start + skipped, ref, alt)
            texts = fields.texts(allele)
            numbers.append(block.add(known.middle, texts))
            values.append(texts)
            if self._keep:
                block.keep(known.contig.accession, allele)
        rest = fields.attributes(values) if self._attributes else b""
        if MISSING in numbers:
            return head + fields.IDS + b"=", numbers, rest, tail
        return head + fields.IDS + b"=", block.span(len(numbers)), rest, tail


def _known(contig: Contig) -> Known:
    return Known(contig, contig.base, contig.length, digest.location_middle(contig.accession))


def _position(pos: bytes) -> int:
    """POS as a number; ValueError where it is none."""
    if not pos.isdigit() or len(pos) > DIGITS:
        shown = pos[:DIGITS].decode("utf-8", "backslashreplace")
        raise ValueError(f"its POS {shown!r} is not a position")
    return int(pos)


def cause_of(ref: bytes, found: bytes) -> str:
    """Why REF is not what was found in the reference, both upper-case."""
    if len(found) < len(ref):
        return "position"
    return "ref_mismatch" if ref.strip(b"N") else "ref_n"


def add(counts: dict[str, int], key: str, number: int = 1) -> None:
    """Count."""
    counts[key] = counts.get(key, 0) + number
