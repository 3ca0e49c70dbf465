"""Annotate blocks of VCF record lines with VRS: lines in, lines out, nothing but INFO changed.

The rules are CONTRACTS.md §4's; where the reference implementation is wrong they differ from it.
"""

from __future__ import annotations

from collections import Counter

from anyvar_step.models import Counts, Existing
from anyvar_step.reference.protocols import Reference
from anyvar_step.vrs import digest, fields
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.digest import STRIDE
from anyvar_step.vrs.kept import KeptAlleles
from anyvar_step.vrs.plan import END, START, Plans
from anyvar_step.vrs.record import DIGITS, MISSING, Row, Translator, add

#: What follows an empty INFO, and one that has fields.
_FIRST, _FURTHER = fields.IDS + b"=", b";" + fields.IDS + b"="


class RecordError(ValueError):
    """A line cannot be a VCF record; ``index`` is its 0-based place in the block."""

    def __init__(self, index: int, reason: str, remedy: str = "") -> None:
        super().__init__(index, reason, remedy)
        self.index = index
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return self.reason


class Annotator:
    """Adds VRS fields to records.

    ``for_ref``: identifiers of REF too. ``attributes``: location and state fields too. ``keep_alleles``:
    after each block ``alleles`` holds that block's alleles. ``existing``: whether VRS fields that a record
    has already are replaced, kept (the record stays as it is, and has no alleles), or an error.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        for_ref: bool,
        attributes: bool,
        keep_alleles: bool = False,
        existing: Existing = "replace",
    ) -> None:
        self.counts = Counts()
        self.alleles: KeptAlleles = Block().kept_alleles(b"")
        self._keep = keep_alleles
        self._plans = Plans(for_ref=for_ref, attributes=attributes)
        self._translator = Translator(
            reference,
            self.counts,
            for_ref=for_ref,
            attributes=attributes,
            keep=keep_alleles,
            existing=existing,
        )

    @property
    def sequences(self) -> dict[str, str]:
        """The refget accessions of the contigs that were met and that the reference has."""
        known = self._translator.contigs.items()
        return {chrom.decode("utf-8", "backslashreplace"): k.contig.accession for chrom, k in known if k}

    def annotate(self, lines: list[bytes]) -> list[bytes]:
        """The lines with their VRS fields, record for record; without line ends, as they come.

        Blocks of up to 32 KB stay in the processor's cache. Raises RecordError, after which counts and
        alleles are those of no whole block.
        """
        block = Block()
        rows = self._rows(lines, block)
        ids = block.ids() if block.tails else b""
        self.counts.records += len(lines)
        self.counts.ids += len(block.tails)
        if self._keep:
            self.alleles = block.kept_alleles(ids)
        return [
            b"".join((head, ids[alleles] if type(alleles) is slice else _listed(ids, alleles), rest, tail))
            for head, alleles, rest, tail in rows
        ]

    def _translate(self, columns: list[bytes], block: Block, index: int) -> Row:
        try:
            return self._translator.row(columns, block)
        except ValueError as error:
            raise RecordError(index, *error.args) from None

    def _rows(self, lines: list[bytes], block: Block) -> list[Row]:
        """The rows of all lines.

        One long function since a call per record would cost a tenth of the throughput. It takes a record
        that has a plan, whose REF agrees and whose INFO has no older VRS field; all others, and every doubt,
        go to the translator, which would give a planned record the same row.
        """
        plans, contigs = self._plans, self._translator.contigs
        locations, where, tails = block.locations, block.where, block.tails
        places, states, keep = block.places, block.states, self._keep
        location_of, ours, first, further = digest.location, fields.PREFIX, _FIRST, _FURTHER
        letter, zero = ours[0], b"0"[0]
        rows: list[Row] = []
        used: list[tuple[str, ...]] = []
        for line in lines:
            columns = line.split(b"\t", 8)
            if (
                len(columns) > 7
                and (plan := plans[columns[3], columns[4]])
                and (known := contigs.get(columns[0]))
                and (pos := columns[1]).isdigit()
                and len(pos) <= DIGITS
                and 0 < (position := int(pos)) <= known.length
                and known.base(position - 1) == plan.base
                and (info := columns[7])
                and (letter not in info or ours not in info)  # to look for one byte is much cheaper
            ):
                start, end = b"%d" % (position - 1), pos if pos[0] != zero else b"%d" % position
                number = len(locations)
                locations.append(location_of(known.middle, start, end))
                begin = len(tails) * STRIDE
                for tail in plan.tails:
                    where.append(number)
                    tails.append(tail)
                if keep:
                    states.extend(plan.states)
                    places.append((known.contig.accession, position - 1, position))
                cut = len(line) - len(columns[8]) - 1 if len(columns) > 8 else len(line)
                head = line[: cut - 1] + first if info == b"." else line[:cut] + further
                rest = plan.rest.replace(START, start).replace(END, end)
                rows.append((head, slice(begin, len(tails) * STRIDE - 1), rest, line[cut:]))
                used.append(plan.kinds)
            else:
                rows.append(self._translate(columns, block, len(rows)))
        for kinds, times in Counter(used).items():
            for kind in kinds:
                add(self.counts.alleles, kind, times)
        return rows


def _listed(ids: bytes, alleles: list[int]) -> bytes:
    """The identifiers of these alleles, ``.`` where one has none; nothing for no alleles."""
    return b",".join([b"." if i == MISSING else ids[i * STRIDE : (i + 1) * STRIDE - 1] for i in alleles])
