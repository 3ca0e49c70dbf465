"""annotate_file: one VCF through reference and VRS annotation to one output; knows no Celery, no work dir.

The checks that need the whole stream live here: records in = records out, known contigs, likely assembly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyvar_step.errors import InvalidInput, StepError
from anyvar_step.models import AnnotateOptions, Counts, Existing, OutputFormat, Progress, Registered
from anyvar_step.pipeline.assembly import AssemblyCheck, check_contigs, notes_on
from anyvar_step.pipeline.progress import Reporter, Stopwatch
from anyvar_step.reference import Reference
from anyvar_step.store.registrar import Registration
from anyvar_step.vcf.header import attributes_of, declared_fields, with_fields, with_provenance
from anyvar_step.vcf.index import LiveIndex, write_tbi
from anyvar_step.vcf.reader import VcfReader, lines_of
from anyvar_step.vcf.select import open_vcf
from anyvar_step.vcf.writer import VcfWriter
from anyvar_step.vrs.annotate import Annotator, RecordError
from anyvar_step.vrs.fields import FIELD_NAMES, IDS, header_lines


def heading(
    header: Sequence[bytes], options: AnnotateOptions, existing: Existing, command: str, name: str
) -> list[bytes]:
    """The header to write; ``command`` is what its provenance lines say, empty for none.

    Raises InvalidInput where VRS fields are declared already and must not be, or cannot be kept beside new
    ones because they have another number of values.
    """
    ours = header_lines(for_ref=options.for_ref, attributes=options.add_vrs_attributes)
    if existing == "replace":
        return with_provenance(with_fields(header, ours, FIELD_NAMES), command)
    declared = {field: line for field, line in declared_fields(header).items() if field in FIELD_NAMES}
    if existing == "error" and declared:
        raise InvalidInput(
            f"{name} has been annotated already: its header declares {next(iter(declared)).decode()}",
            "Use --existing replace or --existing keep",
        )
    number = b"R" if options.for_ref else b"A"
    if IDS in declared and attributes_of(declared[IDS]).get(b"Number") != number:
        raise InvalidInput(
            f"the {IDS.decode()} of {name} cannot be kept: they are not of Number={number.decode()}, as new "
            "ones would be",
            "Use --existing replace, or choose --for-ref or --no-for-ref as it was done before",
        )
    missing = [line for line in ours if not declared.keys() & declared_fields([line]).keys()]
    return with_provenance(with_fields(header, missing, ()), command, keep=True)


@contextlib.contextmanager
def registering(
    registration: Registration | None, *, later: bool, tick: Callable[[], None]
) -> Iterator[None]:
    """When the block ends well, wait until all its alleles are committed, or do not (``later``).

    ``tick`` is called while waiting and may raise. When the block, or the waiting, ends with an exception,
    what has not been written yet is given up.
    """
    if registration is None:
        yield
        return
    try:
        yield
        if later:
            registration.detach(tick)
        else:
            registration.finish(tick)
    except BaseException:
        registration.drop()
        raise


def registered(registration: Registration | None, *, later: bool, conflicts: int = 0) -> Registered | None:
    """What the report says of it; how many alleles were new is not known where they are written later."""
    if registration is None:
        return None
    added = None if later else registration.added
    return Registered(alleles=registration.alleles, added=added, conflicts=conflicts)


#: Records after which the pages of the reference are given back; a block of many samples has a few.
_RELEASE_AFTER = 500


@dataclass(frozen=True)
class Outcome:
    """What annotate_file did: ``size`` and hex ``sha256`` are of the output as stored.

    ``seconds`` are of wall-clock time by phase: read, annotate, write (with what compression holds up),
    register (what the store holds up). ``registered`` is None where there is no store.
    ``sequences`` are the refget accessions of the contigs that were met and are known.
    """

    counts: Counts
    notes: tuple[str, ...]
    seconds: dict[str, float]
    size: int
    sha256: str
    registered: Registered | None = None
    sequences: dict[str, str] = field(default_factory=dict)


def annotate_file(
    source: Path,
    target: Path,
    reference: Reference,
    options: AnnotateOptions,
    *,
    name: str = "",
    output_format: OutputFormat = "v",
    level: int = 6,
    index: bool = False,
    force: bool = False,
    piece: int = 0,
    existing: Existing = "replace",
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    registration: Registration | None = None,
) -> Outcome:
    """Annotate ``source`` (VCF as text, BGZF or gzip; BCF) into ``target``, a temporary name of the caller's.

    ``name`` is what messages call the source. ``target`` is fsynced when this returns and gone when it
    raises, whatever it raises. ``on_progress`` is called at the start, then between blocks, and may raise
    to cancel. ``force`` goes on where contigs or REF alleles say that the reference is another one; so does
    a ``piece`` of a VCF (1 = the first, 0 = a whole one) where only the whole can tell.
    ``existing`` says what becomes of VRS fields that are there already, ``command`` what the header's
    provenance lines say. All alleles go to ``registration``, and are committed when this returns unless
    ``options.allow_async_write``. With ``index`` there is a .tbi beside ``target`` where there can be one.

    Raises InvalidInput (not a VCF, damaged, a malformed record, another assembly, no known contig),
    InputNotFound, FileTrouble or AccessRefused, and what the store fails with.
    """
    name = name or source.name
    flags = {"for_ref": options.for_ref, "attributes": options.add_vrs_attributes}
    watch = Stopwatch()
    later = options.allow_async_write
    with open_vcf(source, name) as raw:
        reader = VcfReader(raw, name)
        header = heading(reader.header, options, existing, command, name)
        doubt = AssemblyCheck(reader.header, reference, name, force=force, piece=piece)
        annotator = Annotator(
            doubt.reference, **flags, keep_alleles=registration is not None, existing=existing
        )
        report = Reporter(on_progress, source.stat().st_size)
        with VcfWriter(target, output_format, level=level) as writer:
            with registering(registration, later=later, tick=report.again):
                writer.write(header)
                live = LiveIndex(header) if index else None
                records = _Records(reference, annotator, reader, writer, registration, watch, live)
                records.annotate(report, doubt)
                if not (force or piece):
                    check_contigs(annotator.counts, options.assembly, name, reference)
            if registration is not None:
                watch.lap("register")
        if live:
            write_tbi(target, live, writer.blocks)
        watch.lap("write")
    notes = (*reader.notes, *doubt.notes, *notes_on(annotator.counts, reference.assembly, name))
    stored = registered(registration, later=later)
    return Outcome(
        annotator.counts, notes, watch.seconds, writer.size, writer.sha256, stored, annotator.sequences
    )


@dataclass(frozen=True)
class _Records:
    """The records on their way from the reader to the writer and the store."""

    reference: Reference
    annotator: Annotator
    reader: VcfReader
    writer: VcfWriter
    registration: Registration | None
    watch: Stopwatch
    index: LiveIndex | None

    def annotate(self, report: Reporter, doubt: AssemblyCheck) -> None:
        """All of them, block by block."""
        annotator, reader, watch = self.annotator, self.reader, self.watch
        records = released = 0
        report(records, reader.consumed)
        for lines in reader.blocks():
            watch.lap("read")
            annotated = self._annotated(lines)
            if records - released >= _RELEASE_AFTER:
                self.reference.release()
                released = records
            watch.lap("annotate")
            self.writer.write_text(annotated)
            if self.index and self.index.possible:
                self._place(self.index, annotated)
            watch.lap("write")
            records += len(lines)
            doubt.judge(annotator.counts)
            if self.registration is not None:
                self.registration.add(annotator.alleles, report.again)
                watch.lap("register")
            report(records, reader.consumed)
        watch.lap("read")
        if annotator.counts.records != records:
            raise StepError(
                f"{reader.name} has {records} records, and {annotator.counts.records} were annotated",
                "This is a fault of anyvar-step: please report it",
            )

    def _place(self, index: LiveIndex, annotated: bytes) -> None:
        """Put the block that was annotated last into the index."""
        lines, first = lines_of(annotated), 0
        for chrom, columns, number in self.annotator.runs:
            own = lines[first : first + number]
            if columns:
                index.add(chrom, columns.start, columns.ref, columns.alts, columns.info, own)
            else:
                index.add_lines(chrom, own)
            first += number

    def _annotated(self, lines: list[bytes]) -> bytes:
        """The text of the lines annotated; a malformed one is named by its number."""
        try:
            return self.annotator.text(lines)
        except RecordError as error:
            raise InvalidInput(
                f"{self.reader.name} line {self.reader.first_line + error.index}: {error.reason}",
                error.remedy or "Correct the line, or copy the file again if it was cut",
            ) from None
