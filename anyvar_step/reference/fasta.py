"""A FASTA as a reference: plain through an mmap, BGZF through its blocks, both by the arithmetic of the .fai.

No contig is ever held whole: an mmap's pages belong to the system's cache, of a BGZF the last blocks stay.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import fai
from anyvar_step.reference.aliases import Names
from anyvar_step.reference.blocked import BlockedFile, is_blocked
from anyvar_step.reference.fai import Entry
from anyvar_step.reference.protocols import Contig

Data = mmap.mmap | BlockedFile

_UPPER = bytes(range(256)).upper()
_LINE_ENDS = b"\r\n"
#: Bases read at once where a whole sequence passes by.
_PIECE = 1 << 20


class FastaContig:
    """One sequence of a FASTA (see ``protocols.Contig``)."""

    __slots__ = ("_bases", "_data", "_extra", "_offset", "accession", "length", "name")

    def __init__(self, data: Data, entry: Entry) -> None:
        self.name = entry.name
        self.accession = ""  # known once the reference is prepared
        self.length = entry.length
        self._data = data
        self._offset = entry.offset
        self._bases = entry.line_bases
        self._extra = entry.line_width - entry.line_bases

    def bases(self, positions: Sequence[int]) -> bytes:
        """The upper-case base at each of these positions, 0 <= position < length."""
        data, offset, bases, extra = self._data, self._offset, self._bases, self._extra
        return bytes([data[offset + i + i // bases * extra] for i in positions]).upper()

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` where start < 0."""
        end = min(end, self.length)
        if start < 0 or start >= end:
            return b""
        bases, extra, last = self._bases, self._extra, end - 1
        first = self._offset + start + start // bases * extra
        beyond = self._offset + last + last // bases * extra + 1
        return self._data[first:beyond].translate(_UPPER, _LINE_ENDS)

    def checked_pieces(self) -> Iterator[bytes]:
        """The whole sequence, in pieces; ValueError where the lines are not as the .fai says."""
        lines = max(1, _PIECE // self._bases)
        for start in range(0, self.length, lines * self._bases):
            end = min(start + lines * self._bases, self.length)
            piece = self.fetch(start, end)
            # Line ends at each place where one is due, and nowhere else since the count of bases is right.
            count = (end - start - 1) // self._bases
            due = self._offset + start + start // self._bases * self._extra + self._bases
            width = self._bases + self._extra
            ends = self._data[due : due + count * width][::width] if self._extra else b""
            if len(piece) != end - start or ends.strip(_LINE_ENDS) or b">" in piece:
                raise ValueError(f"the lines between bases {start} and {end} of {self.name} differ in length")
            yield piece
            release(self._data)


class FastaReference:
    """The sequences of one FASTA (see ``protocols.Reference``)."""

    def __init__(self, assembly: str, data: Data, contigs: list[FastaContig], names: Names) -> None:
        self.assembly = assembly
        self._data = data
        self._contigs = {contig.name: contig for contig in contigs}
        self._names = names

    def contig(self, name: str) -> Contig | None:
        """The contig of that name or alias; None where the FASTA does not have it."""
        found = self._contigs.get(name)
        if found is None:
            known = self._names.resolve(name)
            found = self._contigs[known] if known else None
        return found

    def contigs(self) -> list[Contig]:
        """All contigs, in the order of the file."""
        return list(self._contigs.values())

    def release(self) -> None:
        """Unmap the pages that were read; a BGZF keeps its last blocks, which are few."""
        release(self._data)

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()


def release(data: Data) -> None:
    """Unmap the pages of an mmap that were read: they stay in the system's cache, and are no longer ours.

    Else a worker that has gone through a genome is charged with all of it, by Slurm as by an administrator.
    """
    if isinstance(data, mmap.mmap):
        data.madvise(mmap.MADV_DONTNEED)


def open_fasta(path: Path) -> tuple[Data, list[FastaContig]]:
    """The bytes and contigs of a FASTA whose index is there afterwards; accessions are not yet known.

    Raises ConfigurationError where the file is not a FASTA we can use, or its index is not its own.
    """
    blocked = is_bgzipped(path)
    indexes = fai.prepare(path, blocked=blocked)
    entries = fai.read(indexes[0])
    data: Data
    if blocked:
        data = BlockedFile(path, indexes[1])
    else:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for entry in entries:
        if why := misfit(data, entry):
            raise fai.corrupt(indexes[0], why)
    return data, [FastaContig(data, entry) for entry in entries]


def is_bgzipped(path: Path) -> bool:
    """Whether the FASTA is BGZF. Raises ConfigurationError where it does not begin as one we can use."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ConfigurationError(
            f"the FASTA {path} cannot be read: {error.strerror}", "Check the path"
        ) from None
    if head[:2] == b"\x1f\x8b":
        if not is_blocked(head):
            raise ConfigurationError(
                f"{path} is plain gzip, in which no position can be found without reading all before it",
                f"Compress it with bgzip: gunzip -c {path} | bgzip > NEW.fa.gz",
            )
        return True
    if head[:1] != b">":
        raise ConfigurationError(f"{path} is not a FASTA: its first byte is not '>'", "Name a FASTA file")
    return False


def misfit(data: Data, entry: Entry) -> str:
    """Why the entry cannot be true of these bytes; empty where its borders fit.

    Looks at the header line before the sequence, the end of its first line and what follows its last.
    """
    size = len(data)
    if not 0 < entry.offset < entry.end <= size:
        return f"{entry.name} ends beyond the file"
    header = data[max(0, entry.offset - 65536) : entry.offset]
    title = header.rstrip(_LINE_ENDS).rpartition(b"\n")[2]
    words = title[1:].split(maxsplit=1)
    name = entry.name.encode("utf-8", "surrogateescape")
    if header[-1:] != b"\n" or title[:1] != b">" or not words or words[0] != name:
        return f"no line >{entry.name} stands before byte {entry.offset}"
    line_end = data[entry.offset + entry.line_bases : entry.offset + entry.line_width]
    if entry.length > entry.line_bases and (not line_end or line_end.strip(_LINE_ENDS)):
        return f"the first line of {entry.name} does not have {entry.line_bases} bases"
    after = data[entry.end : entry.end + 64]
    if after and (after[0] not in _LINE_ENDS or after.lstrip(_LINE_ENDS)[:1] not in (b">", b"")):
        return f"{entry.name} does not end at byte {entry.end}"
    return ""
