"""From a fetched output to OUT: checked, in the form that was asked for, indexed, published by rename."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyvar_step.client.cancellation import settle
from anyvar_step.client.transport import Fetched
from anyvar_step.errors import ConfigurationError, CorruptFile, FileTrouble, InvalidInput
from anyvar_step.files import (
    copy_and_hash,
    file_sha256,
    is_stream,
    move_aside,
    publish,
    real,
    sync_folder,
    temporary,
)
from anyvar_step.models import Counts, Manifest, OutputFormat, RunReport
from anyvar_step.vcf import VcfReader, VcfWriter, index, write_index
from anyvar_step.vcf.header import with_provenance
from anyvar_step.vcf.select import write_bcf

#: Turns a block of record lines into lines of a side output.
_Make = Callable[[list[bytes]], list[bytes]]


@dataclass(frozen=True)
class SideOutputs:
    """Files that are written from the same VCF as OUT; BGZF of that ``level`` where a name ends with .gz."""

    ndjson: Path | None = None
    tsv: Path | None = None
    level: int = 6


@contextmanager
def side_outputs(outputs: SideOutputs) -> Iterator[Callable[..., None]]:
    """Yields a function that writes the side outputs; they get their names, all or none, at the end.

    Its arguments are the whole annotated VCF and the reports of its workers. It raises ConfigurationError
    where these do not say enough, InvalidInput where fields that were kept from IN do not belong together.
    """
    with ExitStack() as stack:
        paths = (path for path in (outputs.ndjson, outputs.tsv) if path)
        parts = {path: stack.enter_context(temporary(path)) for path in paths}
        yield partial(_fill, outputs, parts)
        for path, part in parts.items():
            publish(part, path)


def _fill(outputs: SideOutputs, parts: Mapping[Path, Path], vcf: Path, *reports: RunReport | None) -> None:
    if not parts:
        return
    accessions = {name: sq for report in reports if report for name, sq in report.sequences.items()}
    with vcf.open("rb") as raw, ExitStack() as stack:
        reader = VcfReader(raw, "the annotated VCF")
        making = []
        for path, title, make in _makers(outputs, reader, accessions):
            form: OutputFormat = "z" if path.suffix.lower() in (".gz", ".bgz") else "v"
            writer = VcfWriter(parts[path], form, level=outputs.level, name=str(path))
            stack.enter_context(writer)
            writer.write(title)
            making.append((writer, make))
        for lines in reader.blocks():
            for writer, make in making:
                writer.write(_made(make, lines, reader))


def _makers(
    outputs: SideOutputs, reader: VcfReader, accessions: Mapping[str, str]
) -> Iterator[tuple[Path, list[bytes], _Make]]:
    """Each file with its first lines and the function that makes its other lines."""
    # Imported here: few steps write any, and the others need no engine.
    from anyvar_step.vrs.objects import COLUMNS, objects, rows
    from anyvar_step.vrs.validate import includes_ref, lacking

    if outputs.ndjson:
        if missing := lacking(reader.header):
            raise ConfigurationError(
                f"--ndjson needs {', '.join(name.decode() for name in missing)}, and the run was "
                "submitted without",
                "Submit it with --attributes",
            )
        yield outputs.ndjson, [], partial(objects, accessions=accessions)
    if outputs.tsv:
        title = b"\t".join(COLUMNS)
        yield outputs.tsv, [title], partial(rows, for_ref=includes_ref(reader.header))


def _made(make: _Make, lines: list[bytes], reader: VcfReader) -> list[bytes]:
    from anyvar_step.vrs.objects import UnknownSequence

    try:
        return make(lines)
    except UnknownSequence as contig:
        raise ConfigurationError(
            f"--ndjson needs to know which sequence {contig} is, and this run's worker does not say: "
            "it is AnyVar's own, or behind AnyVar's web API",
            "Leave out --ndjson, or let anyvar-step's workers do the run",
        ) from None
    except ValueError as error:
        raise InvalidInput(
            f"the annotated VCF has a record at line {reader.first_line} or soon after it of which nothing "
            f"else can be made: {error}",
            "Use --existing replace where IN had VRS fields already",
        ) from None


@dataclass(frozen=True)
class Target:
    """Where the output goes: a path, or None for standard output; its format; whether to index it.

    ``level`` is for what has to be compressed here, because the worker wrote it as text. With ``bcf`` the
    VCF in ``output_format`` becomes a BCF at the end. ``csi`` asks for a .csi where a .tbi would do.
    """

    path: Path | None
    output_format: OutputFormat
    index: bool
    level: int = 6
    bcf: bool = False
    csi: bool = False
    side_outputs: SideOutputs = field(default_factory=SideOutputs)

    @property
    def tbi(self) -> bool:
        """Whether a .tbi is asked for of BGZF as it comes: then the worker can make it."""
        return self.index and self.output_format == "z" and not (self.csi or self.bcf)

    @property
    def folder(self) -> Path | None:
        """The directory of OUT, where all is written that becomes OUT; None for a stream."""
        if self.path is None or is_stream(self.path):
            return None
        return real(self.path).absolute().parent


@dataclass(frozen=True)
class Delivered:
    """What OUT holds: bytes, hex SHA-256, and what was counted in it."""

    size: int
    sha256: str
    counts: Counts


def deliver(
    fetched: Fetched, ticket: Manifest, target: Target, expected: Callable[[], int | None]
) -> Delivered:
    """Write OUT and the side outputs from the fetched output. Raises FileTrouble where one is not whole.

    ``expected`` gives the number of the input's records (None = unknown) where the worker wrote no report.
    """
    with side_outputs(target.side_outputs) as fill, published(target) as part:
        delivered = _write(fetched, part, target, expected, provenance_command(fetched, ticket))
        if fetched.report is None and ticket.digest:  # of a run that only its id is known of, --force is not
            _judge(ticket, delivered.counts)
        fill(part, fetched.report)
        if target.bcf:
            return Delivered(*become_bcf(part, target, delivered.counts), delivered.counts)
        return delivered


def deliver_conflicts(fetched: Fetched, conflicts: Path | None) -> Delivered:
    """Publish the conflict log of an ingestion as a whole, if it is asked for."""
    if conflicts is None:
        known = (fetched.report.output_size, fetched.report.output_sha256) if fetched.report else (0, "")
        return Delivered(*known, Counts())
    with temporary(conflicts) as part:
        try:
            with fetched.path.open("rb") as log, part.open("wb") as out:
                size, sha256 = copy_and_hash(log, out)
        except FileNotFoundError:
            raise FileTrouble(
                "the worker wrote no conflict log", "AnyVar's own does so with --require-validation only"
            ) from None
        check_digest(fetched, sha256)
        settle()
        publish(part, conflicts)
    return Delivered(size, sha256, Counts())


def check_digest(fetched: Fetched, sha256: str) -> None:
    """Raise CorruptFile where the bytes that were read are not those that our worker wrote."""
    if fetched.report and sha256 != fetched.report.output_sha256:
        raise CorruptFile(
            f"{fetched.path} is not what the worker wrote", "Check the shared filesystem, run it again"
        )


def _judge(ticket: Manifest, counts: Counts) -> None:
    """Refuse, as our own worker would have, what AnyVar's worker made of a VCF of another assembly."""
    from anyvar_step.pipeline.assembly import AssemblyCheck

    AssemblyCheck(ticket.options.assembly, ticket.input_name, force=ticket.force).end(counts)


@contextmanager
def published(target: Target) -> Iterator[Path]:
    """A path to write the whole output to; it becomes OUT, indexed, when the block ends well."""
    with temporary(target.path) as part:
        yield part
        if target.path is None or target.folder is None:
            publish(part, target.path)
            settle()
        else:
            index = _index(part, target) if target.index else None
            settle()
            _publish(part, index, target.path)


def _index(part: Path, target: Target) -> Path:
    """The index that came with ``part`` from its workers, else one that is made of it here."""
    given = Path(f"{part}.tbi")
    return given if given.exists() else write_index(part, str(target.path), csi=target.csi)


def provenance_command(fetched: Fetched, ticket: Manifest) -> str:
    """The command for the header's provenance lines, which AnyVar's workers do not write; "" for ours.

    Raises ConfigurationError where AnyVar's worker took a run that it cannot do.
    """
    if fetched.report:
        return ""
    if ticket.existing != "replace":
        raise ConfigurationError(
            f"AnyVar's own worker took the run, and cannot do --existing {ticket.existing}: it replaces",
            "Leave the option out, or have anyvar-step's workers serve the queue",
        )
    return ticket.command


def _write(
    fetched: Fetched, part: Path, target: Target, expected: Callable[[], int | None], command: str
) -> Delivered:
    report = fetched.report
    with fetched.path.open("rb") as raw:
        stored: OutputFormat = "z" if raw.read(2) == b"\x1f\x8b" else "v"
        raw.seek(0)
        if report and stored == target.output_format:
            with part.open("wb") as out:
                size, sha256 = copy_and_hash(raw, out)
                os.fsync(out.fileno())
            delivered, read = Delivered(size, sha256, report.counts), sha256
            if target.tbi and fetched.index:
                index.copy_tbi(fetched.index, Path(f"{part}.tbi"))
        else:
            digest = hashlib.sha256()
            reader = VcfReader(raw, str(fetched.path), digest.update)
            delivered = _convert(reader, part, target, command, report.counts if report else None)
            read = digest.hexdigest()
    check_digest(fetched, read)
    records, found = None if report else expected(), delivered.counts.records
    if records not in (None, found):
        raise CorruptFile(f"the worker's output has {found} records, the input {records}", "Run it again")
    return delivered


def _convert(
    reader: VcfReader, part: Path, target: Target, command: str, reported: Counts | None
) -> Delivered:
    counts = reported or Counts()
    try:
        with VcfWriter(part, target.output_format, level=target.level) as writer:
            writer.write(with_provenance(reader.header, command) if command else reader.header)
            for lines in reader.blocks():
                writer.write(lines)
                if reported is None:
                    count(lines, counts)
    except InvalidInput as error:
        raise CorruptFile(f"the worker's output is not whole: {error}") from error
    return Delivered(writer.stored.size, writer.stored.sha256, counts)


def count(lines: Sequence[bytes], counts: Counts) -> None:
    """Count a block of what AnyVar's worker wrote, which reports nothing. Raises CorruptFile."""
    # Imported here: our own workers count, and then the step needs no engine.
    from anyvar_step.pipeline.assembly import count_contigs
    from anyvar_step.vrs.validate import tally

    try:
        tally(lines, counts)
    except ValueError as error:
        raise CorruptFile(f"the worker's output is not whole: {error}") from None
    count_contigs(counts, lines)


def become_bcf(part: Path, target: Target, counts: Counts) -> tuple[int, str]:
    """Put a BCF in the place of the whole BGZF VCF ``part``; its bytes and hex SHA-256.

    Contigs of records that its header does not declare are declared, with the bases that a worker counted.

    Raises InvalidInput where htslib cannot: BCF numbers contigs, filters and fields by their header lines.
    """
    bcf = Path(f"{part}.bcf")  # goes with the part where this fails
    contigs = {name: counts.undeclared.get(name, 0) for name in counts.contigs}
    with bcf.open("wb") as out:
        write_bcf(part, out, target.level, str(target.path or "the output"), contigs)
        os.fsync(out.fileno())
    bcf.replace(part)
    return part.stat().st_size, file_sha256(part)


def _publish(part: Path, index: Path | None, final: Path) -> None:
    """Publish the data, then its index, never older (docs/contract.md#file-systems).

    An index of an older output is removed first; it comes back where OUT cannot be replaced. Where OUT is a
    symbolic link, the index lies beside the file and has a link beside OUT.
    """
    place = real(final)
    older = [Path(f"{path}{suffix}") for path in {final, place} for suffix in (".tbi", ".csi")]
    with move_aside(older):
        publish(part, final)
    if index:
        suffix = index.name.removeprefix(part.name)
        os.utime(index)
        index.replace(f"{place}{suffix}")
        if place != final:
            Path(f"{final}{suffix}").symlink_to(f"{place}{suffix}")
        sync_folder(place.absolute().parent)
