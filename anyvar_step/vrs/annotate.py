"""Annotate blocks of VCF record lines with VRS: lines in, lines out, nothing but INFO changed.

The rules are CONTRACTS.md §4's; where the reference implementation is wrong they differ from it.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from anyvar_step.models import Counts, Existing
from anyvar_step.reference.base import Reference
from anyvar_step.vcf.reader import lines_of
from anyvar_step.vrs import fields
from anyvar_step.vrs import old_digest as digest
from anyvar_step.vrs.block import Block
from anyvar_step.vrs.columns import Columns, by_columns
from anyvar_step.vrs.kept import KeptAlleles
from anyvar_step.vrs.old_digest import STRIDE
from anyvar_step.vrs.plan import Plans
from anyvar_step.vrs.record import NAME, Known, Translator, add, text_of
from anyvar_step.vrs.rows import Rows

#: What follows an INFO that has fields.
_FURTHER = b";" + NAME


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
        #: Of the last block, each contig in turn: its records by column, None where they were not read so,
        #: and how many they are.
        self.runs: list[tuple[bytes, Columns | None, int]] = []
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
        return {text_of(chrom): k.contig.accession for chrom, k in known if k}

    def annotate(self, lines: Sequence[bytes]) -> list[bytes]:
        """The lines with their VRS fields, record for record; without line ends, as they come.

        Raises RecordError, after which counts and alleles are those of no whole block.
        """
        return lines_of(self.text(lines))

    def text(self, lines: Sequence[bytes]) -> bytes:
        """The same as one text, in which each line has its end.

        Blocks of up to 64 KB stay in the processor's cache. They make no garbage, but have thousands of
        objects, which the collector would look through again and again.
        """
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._text(lines)
        finally:
            if collecting:
                gc.enable()

    def _text(self, lines: Sequence[bytes]) -> bytes:
        block, rows, self.runs = Block(), Rows(), []
        records = [line.split(b"\t", 8) for line in lines]
        for chrom, run in groupby(records, key=itemgetter(0)):
            first = len(rows)
            known, together = self._translator.known(chrom), list(run)
            add(self.counts.contigs, text_of(chrom), len(together))
            columns = by_columns(known.contig, together) if known else None
            self.runs.append((chrom, columns, len(together)))
            if known and columns:
                self._fill(chrom, known, columns, lines[first : first + len(together)], block, rows)
            else:
                for record in together:
                    self._translate(record, block, rows)
        for kind, number in Counter(rows.kinds).items():
            add(self.counts.alleles, kind, number)
        ids = block.ids()
        self.counts.records += len(rows)
        self.counts.ids += len(ids) // STRIDE
        if self._keep:
            self.alleles = block.kept_alleles(ids)
        return rows.text(ids)

    def _translate(self, record: list[bytes], block: Block, rows: Rows) -> None:
        try:
            self._translator.translate(record, block, rows)
        except ValueError as error:
            raise RecordError(len(rows), *error.args) from None

    def _fill(
        self,
        chrom: bytes,
        known: Known,
        columns: Columns,
        lines: Sequence[bytes],
        block: Block,
        rows: Rows,
    ) -> None:
        """Add the records of a contig to block and rows.

        One long loop since a call per record would cost a tenth of the throughput. Records with a plan whose
        REF agrees are filled in here, the alleles of others are the translator's, which would give a planned
        record the same field; a line with older VRS fields or an odd INFO or POS is its as a whole.
        """
        translator, middle, accession = self._translator, known.middle, known.contig.accession
        locations, tails, places, states = block.locations, block.tails, block.places, block.states
        pieces, widths, kinds, keep = rows.pieces, rows.widths, rows.kinds, self._keep
        location_head, location_tail = digest.LOCATION_HEAD, digest.LOCATION_TAIL
        tab, beyond, last = columns.tab, len(columns.tab), -1
        plans = map(self._plans.get, zip(columns.ref, columns.alts, strict=True))
        ours, zero = fields.PREFIX, b"0"[0]
        letter = ours[0]
        for line, plan, pos, start, base, ref, alts, info, calls in zip(
            lines, plans, *columns[:-1], strict=True
        ):
            if not info or pos[0] == zero or (letter in info and ours in info):  # one byte is quick to find
                self._translate(line.split(b"\t", 8), block, rows)
                last = -1
                continue
            end = len(line) - len(calls) - beyond
            if plan is None or plan[0] != base:  # its base, which takes twice as long by its name
                name, alleles, rest = translator.field(chrom, known, start, ref, alts, block, kinds)
                if not name:
                    head = line[:end]
                elif info == b".":
                    head = line[: end - 1]
                else:
                    head, name = line[:end], b";" + name
                rows.add(head, name, alleles, rest, tab, calls)
                self._plans.learn(ref, alts)
                last = -1
                continue
            _, own_tails, own_states, width, starts, ends, own_kinds = plan
            begin = b"%d" % start
            if start == last:
                tails[-1] += own_tails
            else:
                locations.append(b"".join((location_head, pos, middle, begin, location_tail)))
                tails.append(own_tails)
                last = start
                if keep:
                    places.append((accession, start, start + 1))
            if keep:
                states += own_states
            kinds += own_kinds
            head, name = (line[: end - 1], NAME) if info == b"." else (line[:end], _FURTHER)
            pieces += (head, name, b"", begin.join(starts), pos.join(ends), tab, calls, b"\n")
            widths.append(width)
