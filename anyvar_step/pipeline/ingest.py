"""ingest_file: the alleles of a VCF that carries VRS fields, checked and handed to a store.

An allele whose fields are wrong becomes a line of the conflict log, AnyVar's CSV with the state as JSON.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import InvalidInput
from anyvar_step.models import IngestOptions, Progress
from anyvar_step.pipeline.annotate import (
    Outcome,
    ProgressReporter,
    Stopwatch,
    open_reader,
    registered,
    registering,
)
from anyvar_step.pipeline.assembly import AssemblyCheck, count_contigs, notes_on
from anyvar_step.reference import Reference
from anyvar_step.store.registrar import Registration
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.writer import VcfWriter
from anyvar_step.vrs import EngineChoice, RecordError
from anyvar_step.vrs.validate import (
    Claim,
    Conflict,
    RecomputedCheck,
    StatedCheck,
    claims_of,
    includes_ref,
    lacking,
)

#: The conflict log's columns, as AnyVar names them.
COLUMNS = ("vrs_id", "assembly", "chrom", "pos", "start", "end", "state", "new_vrs_id")


def ingest_file(
    source: Path | BinaryIO,
    target: Path,
    reference: Reference,
    options: IngestOptions,
    *,
    name: str = "",
    check: AssemblyCheck | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    registration: Registration | None = None,
    engine: EngineChoice = "auto",
    on_read: Callable[[bytes], object] | None = None,
) -> Outcome:
    """Register the alleles that the VCF ``source`` names; the conflict log goes to ``target``.

    With ``options.require_validation`` all alleles are computed anew from REF and ALT, and these are
    registered; an allele whose identifier, location or state differs in the file is a conflict. Without,
    location and state are taken from the file, and an allele whose identifier does not follow from them is a
    conflict and left out.

    ``source``, ``name`` and ``on_read`` are as for annotate_file. ``check`` judges whether the VCF is
    of the reference's assembly (None = as a whole VCF); REFs are compared with validation only. ``target``
    is fsynced when this returns and removed if it raises. ``engine`` is the VRS engine that computes anew.
    Raises InvalidInput, also if the header lacks VRS fields, and what annotate_file raises.
    """
    watch, later = Stopwatch(), options.allow_async_write
    with open_reader(source, name, on_read) as (reader, size):
        name = reader.name
        if missing := lacking(reader.header):
            raise InvalidInput(
                f"{name} lacks the INFO fields {', '.join(field.decode() for field in missing)}",
                "Ingest a VCF that was annotated with attributes: anyvar-step annotate --attributes",
            )
        check = check or AssemblyCheck(reference.assembly, name)
        fitting = check.compare_lengths(reader.header, reference)
        report = ProgressReporter(on_progress, size)
        checker: RecomputedCheck | StatedCheck = StatedCheck(fitting)
        if options.require_validation:
            checker = RecomputedCheck(fitting, for_ref=includes_ref(reader.header), choice=engine)
        ingestion = _Ingestion(reader, checker, check, registration, reference.assembly)
        with VcfWriter(target) as log:
            log.write([",".join(COLUMNS).encode()])
            with registering(registration, later=later, tick=report.repeat):
                report(0, reader.consumed)
                for lines in reader.blocks():
                    watch.lap("read")
                    log.write(ingestion.take(lines))
                    watch.lap("annotate")
                    report(checker.counts.records, reader.consumed)
                check.end(checker.counts)
            watch.lap("register")
        watch.lap("write")
    stored = registered(registration, later=later, conflicts=ingestion.conflicts)
    found = notes_on(checker.counts, reference.assembly, name, annotated=False)
    notes = (*reader.notes, *check.notes, *found, *ingestion.notes())
    done = checker.counts, notes, watch.seconds, log.stored.size, log.stored.sha256
    return Outcome(*done, registered=stored, engine=checker.engine)


@dataclass
class _Ingestion:
    """The records on their way to the registration and the conflict log."""

    reader: VcfReader
    checker: RecomputedCheck | StatedCheck
    check: AssemblyCheck
    registration: Registration | None
    assembly: str
    conflicts: int = 0
    without: int = 0  # records

    def take(self, lines: list[bytes]) -> list[bytes]:
        """Register a block's alleles; the lines of the conflict log."""
        claims: list[list[Claim]] = []
        for line in lines:
            try:
                claims.append(claims_of(line))
            except ValueError as error:
                raise self._malformed(len(claims), str(error)) from None
        try:
            conflicts = self.checker.check(lines, claims)
        except RecordError as error:
            raise self._malformed(error.index, error.reason) from None
        if without := [line for line, named in zip(lines, claims, strict=True) if not named]:
            count_contigs(self.checker.counts, without)
        self.check.judge(self.checker.counts)
        if self.registration is not None:
            self.registration.add(self.checker.alleles)
        self.without += len(without)
        self.conflicts += len(conflicts)
        return [_row(conflict, lines[conflict.place], self.assembly) for conflict in conflicts]

    def _malformed(self, index: int, reason: str) -> InvalidInput:
        return InvalidInput(
            f"{self.reader.name} line {self.reader.first_line + index}: {reason}",
            "Correct the line, or annotate the VCF again",
        )

    def notes(self) -> Iterator[str]:
        """What the user should know of a run that went well."""
        name, records = self.reader.name, self.checker.counts.records
        if self.without:
            yield f"{name} has {self.without:,} of {records:,} records without VRS ids, not registered"
        if self.conflicts:
            alleles = "alleles" if self.conflicts > 1 else "allele"
            yield f"{name} has {self.conflicts:,} {alleles} whose VRS fields are wrong; " + (
                "the alleles of REF and ALT are registered instead"
                if isinstance(self.checker, RecomputedCheck)
                else "not registered: --require-validation registers what REF and ALT say"
            )
        if self.registration is None:
            yield f"the alleles of {name} were checked, not registered: the worker has no ANYVAR_STORAGE_URI"


def _row(conflict: Conflict, line: bytes, assembly: str) -> bytes:
    """One line of the conflict log."""
    chrom, pos = line.split(b"\t", 2)[:2]
    values = (conflict.claim.id, chrom, pos, *conflict.claim.texts, conflict.new_id)
    claimed, chrom_text, pos_text, start, end, *state, new_id = (
        value.decode("utf-8", "backslashreplace") for value in values
    )
    out = io.StringIO()
    row = (claimed, assembly, chrom_text, pos_text, start, end, _shown_state(*state), new_id)
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue().encode()


def _shown_state(sequence: str, length: str, subunit: str) -> str:
    """The claimed state as JSON; ``.`` if it can be an empty sequence as well as one left out."""
    if length == sequence == ".":
        return "."
    shown = {} if sequence == "." else {"sequence": sequence}
    if length == ".":
        return json.dumps({"type": "LiteralSequenceExpression", **shown})
    texts = {"length": length, "repeatSubunitLength": subunit}
    numbers = {key: int(text) if re.fullmatch("[0-9]{1,19}", text) else text for key, text in texts.items()}
    return json.dumps({"type": "ReferenceLengthExpression", **numbers, **shown})
