"""From a fetched output to OUT: checked, in the form that was asked for, indexed, published by rename."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyvar_step.errors import ConfigurationError, FileSpoiled, InvalidInput
from anyvar_step.files import copy_and_hash, file_sha256, sync_folder
from anyvar_step.models import Counts, Manifest, OutputFormat
from anyvar_step.step.companions import Companions, drafted
from anyvar_step.step.drafts import is_stream, publish, put_aside, real, temporary
from anyvar_step.step.signals import settle
from anyvar_step.transport import Fetched
from anyvar_step.vcf import VcfReader, VcfWriter, tbi, write_index
from anyvar_step.vcf.provenance import with_provenance
from anyvar_step.vcf.view import write_bcf

#: How many records the input has, asked where no report vouches for the output; None = cannot be told.
ExpectedRecords = Callable[[], int | None]


@dataclass(frozen=True)
class Target:
    """Where the output goes: a path, or None for standard output; its format; whether to index it.

    ``level`` is for what has to be compressed here, because the worker wrote it as text. With ``bcf`` the
    VCF in ``output_format`` becomes a BCF at last. ``csi`` asks for a .csi where a .tbi would do.
    ``companions`` are written beside it from the same VCF.
    """

    path: Path | None
    output_format: OutputFormat
    index: bool
    level: int = 6
    bcf: bool = False
    csi: bool = False
    companions: Companions = field(default_factory=Companions)

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


def deliver(fetched: Fetched, ticket: Manifest, target: Target, expected: ExpectedRecords) -> Delivered:
    """Write OUT from the fetched output. Raises FileTrouble where either is not whole."""
    with drafted(target.companions) as drafts, published(target) as part:
        delivered = _write(fetched, part, target, expected, unvouched(fetched, ticket))
        drafts.fill(part, fetched.report)
        return Delivered(*become_bcf(part, target), delivered.counts) if target.bcf else delivered


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


def unvouched(fetched: Fetched, ticket: Manifest) -> str:
    """The command for the header, where a worker wrote the output that knows none: AnyVar's own.

    Raises ConfigurationError where it was asked for what AnyVar's workers do not do.
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
    fetched: Fetched, part: Path, target: Target, expected: ExpectedRecords, command: str
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
                tbi.copy(fetched.index, Path(f"{part}.tbi"))
        else:
            digest = hashlib.sha256()
            reader = VcfReader(raw, str(fetched.path), digest)
            delivered = _convert(reader, part, target, command, report.counts if report else None)
            read = digest.hexdigest()
    if report and read != report.output_sha256:
        raise FileSpoiled(
            f"{fetched.path} is not what the worker wrote", "Check the shared filesystem, run it again"
        )
    records, found = None if report else expected(), delivered.counts.records
    if records not in (None, found):
        raise FileSpoiled(f"the worker's output has {found} records, the input {records}", "Run it again")
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
        raise FileSpoiled(f"the worker's output is not whole: {error}") from error
    return Delivered(writer.size, writer.sha256, counts)


def count(lines: Sequence[bytes], counts: Counts) -> None:
    """Count a block of what AnyVar's worker wrote, which reports nothing. Raises FileSpoiled."""
    # Here, since our own workers count, and then the step needs no engine.
    from anyvar_step.pipeline.judgement import count_contigs
    from anyvar_step.vrs.tally import tally

    try:
        tally(lines, counts)
    except ValueError as error:
        raise FileSpoiled(f"the worker's output is not whole: {error}") from None
    count_contigs(counts, lines)


def become_bcf(part: Path, target: Target) -> tuple[int, str]:
    """Put a BCF in the place of the whole BGZF VCF ``part``; its bytes and hex SHA-256.

    Raises InvalidInput where htslib cannot: BCF numbers contigs, filters and fields by their header lines.
    """
    bcf = part.with_name(f"{part.name}.bcf")
    try:
        with bcf.open("wb") as out:
            write_bcf(part, out, target.level, str(target.path or "the output"))
            os.fsync(out.fileno())
        bcf.replace(part)
    finally:
        bcf.unlink(missing_ok=True)
    return part.stat().st_size, file_sha256(part)


def _publish(part: Path, index: Path | None, final: Path) -> None:
    """Data first, then its index, never older (PITFALLS.md 18); an older output's index goes before both.

    It comes back where OUT cannot be replaced. Where OUT is a symbolic link, the index lies beside the file
    and has a link beside OUT.
    """
    place = real(final)
    older = [Path(f"{path}{suffix}") for path in {final, place} for suffix in (".tbi", ".csi")]
    with put_aside(older):
        publish(part, final)
    if index:
        suffix = index.name.removeprefix(part.name)
        os.utime(index)
        index.replace(f"{place}{suffix}")
        if place != final:
            Path(f"{final}{suffix}").symlink_to(f"{place}{suffix}")
        sync_folder(place.absolute().parent)
