"""The VRS engine in Python: the rules, record by record.

This is the specification of what the program writes, and what the native engine is compared with. The rules
and their sources: docs/contract.md#vrs-identifiers, #vrs-normalization, #vrs-fields, #vrs-cases and
#vrs-differences.
"""

from __future__ import annotations

from array import array
from functools import cache
from itertools import accumulate
from typing import Unpack

from anyvar_step.models import EXAMPLES
from anyvar_step.reference.base import Contig, Reference
from anyvar_step.vcf.reader import split_lines
from anyvar_step.vrs import fields
from anyvar_step.vrs.engine import (
    DIGITS,
    FARTHEST,
    AlleleCollector,
    Annotated,
    EngineOptions,
    count,
    record_error,
    text_of,
)
from anyvar_step.vrs.normalize import Trimmed, is_nucleotides, kind_of_other, normalize, trim


class _Refused(Exception):
    """A record cannot be annotated: code and raw text, as ``engine.record_error`` takes them."""


class PythonEngine:
    """Adds VRS fields to blocks of record lines; see ``engine.Engine`` and ``engine.EngineOptions``."""

    name = "python"

    def __init__(self, reference: Reference, **options: Unpack[EngineOptions]) -> None:
        self._reference = reference
        self._for_ref = options["for_ref"]
        self._attributes = options["attributes"]
        self._keep_alleles = options.get("keep_alleles", False)
        self._existing = options.get("existing", "replace")
        self.sequences: dict[str, str] = {}
        self._contig = cache(self._look_up)

    def annotate(self, block: bytes) -> Annotated:
        """Annotate whole lines, each ended by a newline. Raises RecordError."""
        done, lines = _Block(keep_alleles=self._keep_alleles), []
        for index, line in enumerate(split_lines(block)):
            try:
                annotated = self._annotate(line, done)
            except _Refused as refused:
                raise record_error(index, *refused.args) from None
            lines.append(annotated)
        return done.finish(lines)

    def _look_up(self, chrom: bytes) -> Contig | None:
        name = text_of(chrom)
        if contig := self._reference.contig(name):
            self.sequences[name] = contig.accession
        return contig

    def _annotate(self, line: bytes, block: _Block) -> bytes:
        """The line with its VRS fields. Genotype columns are counted, and not looked at.

        A record's INFO may end with a semicolon (VCF 4.5 §1.6.1 forbids it, and tools write it): it then
        separates the VRS fields, and no other is added.
        """
        columns = line.split(b"\t", 8)
        if len(columns) < 8:
            if not line:
                raise _Refused("empty", b"")
            raise _Refused("columns", b"%d" % len(columns))
        count(block.facts.columns, 8 if len(columns) == 8 else 9 + columns[8].count(b"\t"))
        chrom, pos, _, ref, alts, _, _, info = columns[:8]
        if not pos.isdigit() or len(pos) > DIGITS:
            raise _Refused("position", pos)
        start = int(pos) - 1
        contig = self._contig(chrom)  # of records that are kept, too, since ``sequences`` names it
        if fields.PREFIX in info and (others := fields.without_ours(info)) != info:
            if self._existing == "error":
                raise _Refused("existing", b"")
            if self._existing == "keep":
                block.facts.kept += 1
                block.add_place(chrom, start, ref, alts, info)
                return line
        else:
            others = info
        block.add_place(chrom, start, ref, alts, info)
        added = self._fields(chrom, contig, start, ref.upper(), alts.upper().split(b","), block)
        if not added:
            columns[7] = others
        elif others in (b"", b"."):
            columns[7] = added
        elif others.endswith(b";"):
            columns[7] = others + added
        else:
            columns[7] = others + b";" + added
        return b"\t".join(columns)

    def _fields(
        self,
        chrom: bytes,
        contig: Contig | None,
        start: int,
        ref: bytes,
        alts: list[bytes],
        block: _Block,
    ) -> bytes:
        """The record's VRS fields; empty where no allele gets a value.

        REF and ALT are upper-case. An allele that has no sequence gets ``.``, and ALT ``.`` by itself is no
        allele at all. Where the reference lacks the contig all alleles get ``.``. Where REF is not what the
        reference has there, VRS_Error is the only field.
        """
        changes = self._changes(ref, alts, block.facts.kinds)
        if contig is None:
            count(block.facts.unknown, chrom)
        if not changes:
            return b""
        if contig is None or not any(changes):
            return self._joined([b"."] * len(changes), [fields.NO_TEXTS] * len(changes))
        found = contig.fetch(start, start + len(ref))
        if found != ref:
            cause = fields.mismatch_cause(ref, found)
            block.add_error(cause, fields.mismatch_example(chrom, start, ref, found))
            return fields.mismatch(self._reference.assembly, chrom, start, ref, found)
        ids, texts = [], []
        for change in changes:
            if change is None:
                ids.append(b".")
                texts.append(fields.NO_TEXTS)
                continue
            prefix, trimmed_ref, trimmed_alt = change
            allele = normalize(contig, start + prefix, trimmed_ref, trimmed_alt)
            values = fields.texts(allele)
            ids.append(block.alleles.identifier(contig.accession, allele, values))
            texts.append(values)
        return self._joined(ids, texts)

    def _changes(self, ref: bytes, alts: list[bytes], kinds: dict[str, int]) -> list[Trimmed | None]:
        """REF and ALT of each allele that gets a value, trimmed; None for what has no sequence."""
        readable = is_nucleotides(ref)
        changes: list[Trimmed | None] = []
        if self._for_ref:
            changes.append(Trimmed(0, ref, ref) if readable else None)
        for alt in alts:
            if readable and is_nucleotides(alt):
                change = trim(ref, alt)
                count(kinds, change.kind)
                changes.append(change)
            else:
                count(kinds, kind_of_other(alt))
                if alts != [b"."]:
                    changes.append(None)
        return changes

    def _joined(self, ids: list[bytes], texts: list[fields.Texts]) -> bytes:
        """The fields with one value for each allele."""
        joined = fields.IDS + b"=" + b",".join(ids)
        return joined + fields.attributes(texts) if self._attributes else joined


class _Block:
    """A block while its records are annotated: the facts so far, and its alleles."""

    def __init__(self, *, keep_alleles: bool) -> None:
        self.facts = Annotated()
        self.alleles = AlleleCollector(keep=keep_alleles)
        self._starts, self._ends = array("q"), array("q")
        self._chrom, self._run, self._start = b"", 0, 0

    def add_place(self, chrom: bytes, start: int, ref: bytes, alts: bytes, info: bytes) -> None:
        """Note where the record lies, for the runs and the index; columns as they came."""
        if chrom != self._chrom:
            self._end_run()
            self._chrom, self._start = chrom, 0
        self._run += 1
        if not self._start <= start < FARTHEST or b"<" in alts or b"END=" in info or b"SVLEN=" in info:
            self.facts.plain = False
        self._start = start
        if self.facts.plain:
            self._starts.append(start)
            self._ends.append(start + len(ref))

    def _end_run(self) -> None:
        """Note how many records in a row were on the contig."""
        if self._run:
            self.facts.runs.append((self._chrom, self._run))
        self._run = 0

    def add_error(self, cause: str, example: bytes) -> None:
        """Count a record with VRS_Error, and keep it as an example if it is among the first."""
        number = self.facts.errors[cause] = self.facts.errors.get(cause, 0) + 1
        if number <= EXAMPLES:
            self.facts.examples.append((cause, example))

    def finish(self, lines: list[bytes]) -> Annotated:
        """All facts of the block that has become these lines."""
        self._end_run()
        facts = self.facts
        facts.text = b"\n".join([*lines, b""])
        facts.records = len(lines)
        facts.ids = self.alleles.count
        if facts.plain:
            lengths = [len(line) + 1 for line in lines[:-1]]
            facts.starts, facts.ends = self._starts, self._ends
            facts.offsets = array("q", accumulate(lengths, initial=0))
        facts.alleles = self.alleles.kept()
        return facts
