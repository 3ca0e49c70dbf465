"""annotate_file: one VCF through reference and VRS engine to one output, without Celery or a work dir.

The checks that need the whole stream are here: records in = records out, known contigs, likely assembly.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import InvalidInput, StepError
from anyvar_step.models import (
    AnnotateOptions,
    Counts,
    Existing,
    Manifest,
    OutputFormat,
    Progress,
    Registered,
    RunReport,
    throughput,
    versions,
)
from anyvar_step.pipeline.assembly import AssemblyCheck, notes_on
from anyvar_step.reference import Reference
from anyvar_step.store.registrar import Registration
from anyvar_step.vcf.bgzf import BlockThreads
from anyvar_step.vcf.header import attributes_of, contig_names, declared_fields, with_fields, with_provenance
from anyvar_step.vcf.index import TbiBuilder, write_output_index
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.select import open_vcf
from anyvar_step.vcf.writer import VcfWriter
from anyvar_step.vrs import Annotated, Engine, EngineChoice, RecordError, make_engine
from anyvar_step.vrs.fields import FIELD_NAMES, IDS, header_lines

#: Seconds between two calls of on_progress, at least.
PROGRESS_EVERY = 0.5
#: Blocks for each thread that may be annotated ahead of the one that is written.
_AHEAD = 3


@dataclass(frozen=True)
class Outcome:
    """What annotate_file did: ``size`` and hex ``sha256`` are of the output as stored.

    ``seconds`` are of wall-clock time by phase: read, annotate, write (with waiting for compression),
    register (with waiting for the store). ``registered`` is None without a store. ``sequences`` are the
    refget accessions of the contigs in the VCF that the reference has. ``engine`` names the VRS engine that
    annotated; empty if none did.
    """

    counts: Counts
    notes: tuple[str, ...]
    seconds: dict[str, float]
    size: int
    sha256: str
    registered: Registered | None = None
    sequences: dict[str, str] = field(default_factory=dict)
    engine: str = ""

    @property
    def summary(self) -> str:
        """One line for the log."""
        seconds = sum(self.seconds.values())
        engine = f", {self.engine} engine" if self.engine else ""
        return f"{self.counts.records} records in {seconds:.1f} s{engine}"

    def report(self, ticket: Manifest, worker: str, settings: dict[str, str]) -> RunReport:
        """The report of ``worker`` on the run of that ticket, which has just ended."""
        return RunReport.on(
            ticket,
            output_size=self.size,
            output_sha256=self.sha256,
            options=ticket.options,
            counts=self.counts,
            registered=self.registered,
            seconds=self.seconds,
            records_per_second=throughput(self.counts.records, self.seconds),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            worker=worker,
            settings=settings,
            versions=versions() | ({"engine": self.engine} if self.engine else {}),
            sequences=self.sequences,
            notes=self.notes,
        )


def annotate_file(
    source: Path | BinaryIO,
    target: Path,
    reference: Reference,
    options: AnnotateOptions,
    *,
    name: str = "",
    target_name: str = "",
    output_format: OutputFormat = "v",
    level: int = 6,
    index: bool = False,
    check: AssemblyCheck | None = None,
    existing: Existing = "replace",
    command: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    registration: Registration | None = None,
    threads: int = 1,
    engine: EngineChoice = "auto",
    on_read: Callable[[bytes], object] | None = None,
) -> Outcome:
    """Annotate ``source`` (VCF as text, BGZF or gzip; BCF) into ``target``, a temporary name of the caller's.

    An open ``source`` is a VCF that may be read once only, and then ``name`` is needed. ``on_read`` is called
    with its bytes, as they are stored. ``name`` and ``target_name`` stand for the files in messages.
    ``target`` is fsynced when this returns and removed if it raises. ``on_progress`` is called at the start,
    then between blocks, and may raise to cancel. ``check`` judges whether the VCF is of the reference's
    assembly (None = as a whole VCF). ``existing`` says what to do with VRS fields in the input, ``command``
    is the text of the header's provenance lines. All alleles go to ``registration``, and are committed when
    this returns unless ``options.allow_async_write``. With ``index``, a .tbi is made beside ``target`` if one
    can be. ``threads`` annotate and compress blocks, which changes nothing in the output; with the Python
    engine they only compress. ``engine`` is the VRS engine to use (see ``vrs.make_engine``).

    Raises InvalidInput (not a VCF, damaged, a malformed record, another assembly, no known contig),
    InputNotFound, FileTrouble or AccessRefused, and the failures of the store.
    """
    watch, later = Stopwatch(), options.allow_async_write
    with contextlib.ExitStack() as stack:
        reader, size = stack.enter_context(open_reader(source, name, on_read))
        header = output_header(reader.header, options, existing, command, reader.name)
        check = check or AssemblyCheck(reference.assembly, reader.name)
        made = make_engine(
            check.compare_lengths(reader.header, reference),
            for_ref=options.for_ref,
            attributes=options.add_vrs_attributes,
            keep_alleles=registration is not None,
            existing=existing,
            choice=engine,
        )
        pool = stack.enter_context(BlockThreads(threads)) if threads > 1 else None
        writer = VcfWriter(target, output_format, level=level, name=target_name, executor=pool)
        stack.enter_context(writer)
        report = ProgressReporter(on_progress, size)
        builder = TbiBuilder(header) if index else None
        with registering(registration, later=later, tick=report.repeat):
            writer.write(header)
            blocks = _annotated_blocks(reader, made, watch, pool, _AHEAD * threads)
            counts = _write_blocks(reader, blocks, writer, builder, registration, watch, report, check)
            check.end(counts)
        _count_undeclared(counts, reader.header, reference)
        watch.lap("register" if registration else "write")
    if builder:
        write_output_index(target, builder, writer.blocks)
    watch.lap("write")
    return Outcome(
        counts,
        (*reader.notes, *check.notes, *notes_on(counts, reference.assembly, reader.name)),
        watch.seconds,
        writer.stored.size,
        writer.stored.sha256,
        registered=registered(registration, later=later),
        sequences=dict(made.sequences),
        engine=made.name,
    )


@contextlib.contextmanager
def open_reader(
    source: Path | BinaryIO, name: str, on_read: Callable[[bytes], object] | None
) -> Iterator[tuple[VcfReader, int]]:
    """A reader of the source, and the source's bytes as it is stored; 0 for a pipe."""
    if isinstance(source, Path):
        size = source.stat().st_size if source.exists() else 0
        with open_vcf(source, name or source.name) as raw:
            yield VcfReader(raw, name or source.name, on_read), size
    else:
        size = os.fstat(source.fileno()).st_size if source.seekable() else 0
        yield VcfReader(source, name, on_read), size


def output_header(
    header: Sequence[bytes], options: AnnotateOptions, existing: Existing, command: str, name: str
) -> list[bytes]:
    """The header to write; ``command`` is the text of its provenance lines, empty for none.

    Raises InvalidInput if VRS fields are declared already and must not be, or cannot be kept beside new
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


def _count_undeclared(counts: Counts, header: Sequence[bytes], reference: Reference) -> None:
    """Count the bases of the contigs of records that the header does not declare."""
    declared = set(contig_names(header))
    for name in (name for name in counts.contigs if name not in declared):
        contig = reference.contig(name)
        counts.undeclared[name] = contig.length if contig else 0


def _write_blocks(
    reader: VcfReader,
    blocks: Iterator[Annotated],
    writer: VcfWriter,
    index: TbiBuilder | None,
    registration: Registration | None,
    watch: Stopwatch,
    report: ProgressReporter,
    check: AssemblyCheck,
) -> Counts:
    """Give the annotated blocks of the reader to the writer, the index and the store; count them."""
    counts = Counts()
    report(0, reader.consumed)
    columns = reader.header[-1].count(b"\t") + 1
    for block in blocks:
        block.add_to(counts)
        counts.uneven += sum(number for n, number in block.columns.items() if n != columns)
        writer.write_text(block.text)
        if index:
            places = block.starts, block.ends, block.offsets
            index.add(block.runs, *places, len(block.text), plain=block.plain)
        watch.lap("write")
        check.judge(counts)
        if registration is not None:
            registration.add(block.alleles)
            watch.lap("register")
        report(counts.records, reader.consumed)
    if counts.records != reader.records:
        raise StepError(
            f"{reader.name} has {reader.records} records, and {counts.records} were annotated",
            "This is a fault of anyvar-step: please report it",
        )
    return counts


def _annotated_blocks(
    reader: VcfReader, engine: Engine, watch: Stopwatch, pool: Executor | None, ahead: int
) -> Iterator[Annotated]:
    """The blocks of a reader, annotated, in their order.

    The threads of a ``pool`` annotate up to ``ahead`` blocks at once, if the engine runs without the
    interpreter's lock. Raises InvalidInput for a record that cannot be annotated, with its line number, and
    what the reader raises once all blocks before are done.
    """

    def annotated(first_line: int, annotate: Callable[[], Annotated]) -> Annotated:
        try:
            block = annotate()
        except RecordError as error:
            raise InvalidInput(
                f"{reader.name} line {first_line + error.index}: {error.reason}",
                error.remedy or "Correct the line, or copy the file again if it was cut",
            ) from None
        watch.lap("annotate")
        return block

    texts, failure = reader.text_blocks(), None
    pending: deque[tuple[int, Future[Annotated]]] = deque()
    while True:
        try:
            text = next(texts, b"")
        except StepError as error:
            text, failure = b"", error
        watch.lap("read")
        if not text:
            break
        annotate = partial(engine.annotate, text)
        if pool is None or engine.name != "native":
            yield annotated(reader.first_line, annotate)
            continue
        pending.append((reader.first_line, pool.submit(annotate)))
        if len(pending) > ahead:
            line, future = pending.popleft()
            yield annotated(line, future.result)
    for line, future in pending:
        yield annotated(line, future.result)
    if failure is not None:
        raise failure


@contextlib.contextmanager
def registering(
    registration: Registration | None, *, later: bool, tick: Callable[[], None]
) -> Iterator[None]:
    """After the block, wait until all its alleles are committed; with ``later``, do not wait.

    ``tick`` is called while waiting and may raise. If the block, or the waiting, ends with an exception,
    alleles that have not been written yet are dropped.
    """
    if registration is None:
        yield
        return
    registration.tick = tick
    try:
        yield
        if later:
            registration.detach()
        else:
            registration.finish()
    except BaseException:
        registration.drop()
        raise


def registered(registration: Registration | None, *, later: bool, conflicts: int = 0) -> Registered | None:
    """The counts for the report; how many alleles were new is not known if they are written ``later``."""
    if registration is None:
        return None
    added = None if later else registration.added
    return Registered(alleles=registration.alleles, added=added, conflicts=conflicts)


class Stopwatch:
    """Wall-clock seconds by phase."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "annotate": 0.0, "write": 0.0}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to that phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


class ProgressReporter:
    """Calls ``on_progress`` at the first call, then at most every PROGRESS_EVERY seconds.

    ``size``: bytes of the input, 0 if unknown.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None, size: int) -> None:
        self._on_progress = on_progress
        self._size = size
        self._begin = time.monotonic()
        self._due = self._begin
        self._latest = (0, 0)

    def __call__(self, records: int, consumed: int) -> None:
        """Report that so many records are done and so many bytes read, if a report is due."""
        self._latest = records, consumed
        now = time.monotonic()
        if self._on_progress is None or now < self._due:
            return
        self._due = now + PROGRESS_EVERY
        fraction = min(1.0, consumed / self._size) if self._size else 0.0
        self._on_progress(Progress(records=records, fraction=fraction, seconds=now - self._begin))

    def repeat(self) -> None:
        """Report the latest numbers again, if a report is due; for a caller that waits."""
        self(*self._latest)
