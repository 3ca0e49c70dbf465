"""annotate_file: one VCF through reference and VRS annotation to one output, without Celery or a work dir.

The checks that need the whole stream live here: records in = records out, known contigs, likely assembly.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from anyvar_step.errors import InvalidInput, StepError
from anyvar_step.models import AnnotateOptions, Counts, Existing, OutputFormat, Progress, Registered
from anyvar_step.pipeline.assembly import AssemblyCheck, notes_on
from anyvar_step.pipeline.progress import Reporter, Stopwatch
from anyvar_step.reference import Reference
from anyvar_step.store.registrar import Registration
from anyvar_step.vcf.bgzf import BlockThreads, Digest
from anyvar_step.vcf.header import attributes_of, contig_names, declared_fields, with_fields, with_provenance
from anyvar_step.vcf.index import LiveIndex, write_tbi
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.select import open_vcf
from anyvar_step.vcf.writer import VcfWriter
from anyvar_step.vrs import Annotated, Engine, EngineChoice, RecordError, make_engine
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


#: Blocks for each thread that may be annotated ahead of the one that is written.
_AHEAD = 3


@dataclass(frozen=True)
class Outcome:
    """What annotate_file did: ``size`` and hex ``sha256`` are of the output as stored.

    ``seconds`` are of wall-clock time by phase: read, annotate, write (with what compression holds up),
    register (what the store holds up). ``registered`` is None where there is no store.
    ``sequences`` are the refget accessions of the contigs that were met and are known. ``engine`` names the
    VRS engine that annotated; empty where none did.
    """

    counts: Counts
    notes: tuple[str, ...]
    seconds: dict[str, float]
    size: int
    sha256: str
    registered: Registered | None = None
    sequences: dict[str, str] = field(default_factory=dict)
    engine: str = ""


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
    digest: Digest | None = None,
) -> Outcome:
    """Annotate ``source`` (VCF as text, BGZF or gzip; BCF) into ``target``, a temporary name of the caller's.

    An open ``source`` is a VCF that may be read once only, and then ``name`` is needed. ``digest`` takes all
    of its bytes as they are stored.
    ``name`` and ``target_name`` are what messages call source and target. ``target`` is fsynced when this
    returns and gone when it raises. ``on_progress`` is called at the start, then between blocks, and may
    raise to cancel. ``check`` judges whether the VCF is of the reference's assembly (None = as a whole
    VCF). ``existing`` says what becomes of VRS fields that are there already, ``command`` what the header's
    provenance lines say. All alleles go to ``registration``, and are committed when this returns unless
    ``options.allow_async_write``. With ``index`` there is a .tbi beside ``target`` where there can be one.
    ``threads`` annotate and compress blocks, which changes nothing in the output; the Python engine leaves
    them the compression alone. ``engine`` is the VRS engine to use (see ``vrs.make_engine``).

    Raises InvalidInput (not a VCF, damaged, a malformed record, another assembly, no known contig),
    InputNotFound, FileTrouble or AccessRefused, and what the store fails with.
    """
    watch, later = Stopwatch(), options.allow_async_write
    with contextlib.ExitStack() as stack:
        reader, size = stack.enter_context(opened(source, name, digest))
        name = reader.name
        header = heading(reader.header, options, existing, command, name)
        check = check or AssemblyCheck(reference.assembly, name)
        fitting = check.compare_lengths(reader.header, reference)
        wanted = {"for_ref": options.for_ref, "attributes": options.add_vrs_attributes}
        wanted["keep_alleles"] = registration is not None
        made = make_engine(fitting, **wanted, existing=existing, choice=engine)
        pool = stack.enter_context(BlockThreads(threads)) if threads > 1 else None
        writer = stack.enter_context(
            VcfWriter(target, output_format, level=level, name=target_name, executor=pool)
        )
        report = Reporter(on_progress, size)
        live = LiveIndex(header) if index else None
        output = _Output(writer, live, registration, watch, report, check)
        with registering(registration, later=later, tick=report.again):
            writer.write(header)
            output.take(reader, _AnnotatedBlocks(reader, made, watch, pool, _AHEAD * threads))
            check.end(output.counts)
        _note_undeclared(output.counts, reader.header, reference)
        watch.lap("register" if registration else "write")
    if live:
        write_tbi(target, live, writer.blocks)
    watch.lap("write")
    notes = (*reader.notes, *check.notes, *notes_on(output.counts, reference.assembly, name))
    stored, sequences = registered(registration, later=later), dict(made.sequences)
    done = output.counts, notes, watch.seconds, writer.size, writer.sha256
    return Outcome(*done, registered=stored, sequences=sequences, engine=made.name)


@contextlib.contextmanager
def opened(source: Path | BinaryIO, name: str, digest: Digest | None) -> Iterator[tuple[VcfReader, int]]:
    """A reader of the source, and the source's bytes as it is stored; 0 where it is a pipe."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, Path):
            name, size = name or source.name, source.stat().st_size if source.exists() else 0
            raw = stack.enter_context(open_vcf(source, name))
        else:
            raw, size = source, os.fstat(source.fileno()).st_size if source.seekable() else 0
        yield VcfReader(raw, name, digest), size


def _note_undeclared(counts: Counts, header: Sequence[bytes], reference: Reference) -> None:
    """Note the contigs of records that the header does not declare, and how long they are."""
    declared = set(contig_names(header))
    for name in (name for name in counts.contigs if name not in declared):
        contig = reference.contig(name)
        counts.undeclared[name] = contig.length if contig else 0


@dataclass
class _Output:
    """What takes annotated blocks: the writer, the index of what is written, the store, the counts."""

    writer: VcfWriter
    index: LiveIndex | None
    registration: Registration | None
    watch: Stopwatch
    report: Reporter
    check: AssemblyCheck
    counts: Counts = field(default_factory=Counts)

    def take(self, reader: VcfReader, blocks: Iterable[Annotated]) -> None:
        """Take all blocks of the reader."""
        self.report(0, reader.consumed)
        columns = reader.header[-1].count(b"\t") + 1
        for block in blocks:
            block.add_to(self.counts)
            self.counts.uneven += sum(number for n, number in block.columns.items() if n != columns)
            self.writer.write_text(block.text)
            if self.index:
                places = block.starts, block.ends, block.offsets
                self.index.add(block.runs, *places, len(block.text), plain=block.plain)
            self.watch.lap("write")
            self.check.judge(self.counts)
            if self.registration is not None:
                self.registration.add(block.alleles, self.report.again)
                self.watch.lap("register")
            self.report(self.counts.records, reader.consumed)
        if self.counts.records != reader.records:
            raise StepError(
                f"{reader.name} has {reader.records} records, and {self.counts.records} were annotated",
                "This is a fault of anyvar-step: please report it",
            )


class _AnnotatedBlocks:
    """The blocks of a reader, annotated, in their order.

    The threads of a ``pool`` annotate up to ``ahead`` blocks at once, where the engine runs without the
    interpreter's lock. Iterating raises InvalidInput for a record that cannot be annotated, named by its
    line, and what the reader raises once all blocks before are done.
    """

    def __init__(
        self, reader: VcfReader, engine: Engine, watch: Stopwatch, pool: Executor | None, ahead: int
    ) -> None:
        self._reader = reader
        self._engine = engine
        self._watch = watch
        self._pool = pool if engine.name == "native" else None
        self._ahead = ahead

    def __iter__(self) -> Iterator[Annotated]:
        if self._pool is None:
            for text in self._reader.texts():
                self._watch.lap("read")
                yield self._result(self._reader.first_line, partial(self._engine.annotate, text))
            self._watch.lap("read")
            return
        pending: deque[tuple[int, Future[Annotated]]] = deque()
        texts, failure = self._reader.texts(), None
        while True:
            try:
                text = next(texts, b"")
            except StepError as error:
                text, failure = b"", error
            self._watch.lap("read")
            if not text:
                break
            pending.append((self._reader.first_line, self._pool.submit(self._engine.annotate, text)))
            if len(pending) > self._ahead:
                line, future = pending.popleft()
                yield self._result(line, future.result)
        for line, future in pending:
            yield self._result(line, future.result)
        if failure is not None:
            raise failure

    def _result(self, first_line: int, annotated: Callable[[], Annotated]) -> Annotated:
        try:
            block = annotated()
        except RecordError as error:
            raise InvalidInput(
                f"{self._reader.name} line {first_line + error.index}: {error.reason}",
                error.remedy or "Correct the line, or copy the file again if it was cut",
            ) from None
        self._watch.lap("annotate")
        return block
