"""A FASTA as a reference, plain or BGZF, read by windows and the arithmetic of the .fai.

No contig is ever held whole. The format of a .fai: faidx(5) of samtools.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from isal import isal_zlib

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference.aliases import ContigAliases
from anyvar_step.reference.base import Contig

#: Whether a prepared file is whole and of this FASTA.
Fresh = Callable[[Path], bool]


def _user_cache() -> Path | None:
    """``$XDG_CACHE_HOME/anyvar-step``, or the same below ``~/.cache``; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path("~/.cache").expanduser()) / "anyvar-step"
    except RuntimeError:
        return None


def _stems(fasta: Path) -> list[Path]:
    """Paths to which a suffix is added: beside the name given, beside the file itself, in the user's cache.

    Pipelines give references as links in folders that live as long as one task, so that what is prepared
    belongs to the file that the link points at.
    """
    real = fasta.resolve()
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    cache = _user_cache()
    return [fasta.absolute(), real, *([cache / f"{real.name}-{key}"] if cache else [])]


def prepared(
    fasta: Path, suffixes: Sequence[str], fresh: Fresh, build: Callable[[list[Path]], None]
) -> list[Path]:
    """The first complete set of fresh files, in the order of ``suffixes``, else what ``build`` writes.

    ``build`` gets temporary names, and may be called again for another folder. One process builds while the
    others wait, where the file system can lock. The lock is on the FASTA itself, opened for reading, so that
    no lock file is left. Where it is refused (NFS), several processes do the same work and the last rename
    counts: slower, not wrong.

    Raises OSError where neither the FASTA's folder nor the user's cache can be written.
    """
    if found := _find(fasta, suffixes, fresh):
        return found
    with fasta.open("rb") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        return _find(fasta, suffixes, fresh) or _publish(fasta, suffixes, build)


def _find(fasta: Path, suffixes: Sequence[str], fresh: Fresh) -> list[Path] | None:
    for stem in _stems(fasta):
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        if all(file.is_file() and fresh(file) for file in files):
            return files
    return None


def _publish(fasta: Path, suffixes: Sequence[str], build: Callable[[list[Path]], None]) -> list[Path]:
    trouble: OSError | None = None
    for stem in _stems(fasta)[1:]:
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".anyvar-step-", dir=stem.parent) as folder:
                drafts = [Path(folder) / file.name for file in files]
                build(drafts)
                for draft, file in zip(drafts, files, strict=True):
                    draft.replace(file)
        except OSError as error:
            trouble = trouble or error
        else:
            return files
    assert trouble is not None
    raise trouble


_logger = logging.getLogger(__name__)


class FaiEntry(NamedTuple):
    """One line of a .fai file; lengths in bases, offsets and widths in bytes of the uncompressed file."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    @property
    def end(self) -> int:
        """Offset after the last base."""
        line_ends = (self.length - 1) // self.line_bases
        return self.offset + self.length + line_ends * (self.line_width - self.line_bases)


def prepare_fai(fasta: Path, *, blocked: bool) -> list[Path]:
    """The index files of a FASTA, built where they are missing or older than it: [.fai] or [.fai, .gzi].

    Raises ConfigurationError where the FASTA cannot be indexed, or the index cannot be written.
    """
    suffixes = (".fai", ".gzi") if blocked else (".fai",)
    changed = fasta.stat().st_mtime_ns

    def fresh(file: Path) -> bool:
        return file.stat().st_mtime_ns >= changed

    try:
        return prepared(fasta, suffixes, fresh, lambda drafts: _build_fai(fasta, drafts))
    except OSError as error:
        raise ConfigurationError(
            f"the index of {fasta} is missing or older than the file, and cannot be written: {error}",
            f"Run `samtools faidx {fasta}` where the folder can be written",
        ) from None


def _build_fai(fasta: Path, drafts: list[Path]) -> None:
    import pysam
    import pysam.utils

    _logger.info("indexing %s: its index is missing or older than the file", fasta)
    options = [f"{name}={file}" for name, file in zip(("--fai-idx", "--gzi-idx"), drafts, strict=False)]
    # htslib writes to stderr; the exception says the same with the remedy.
    verbosity = pysam.set_verbosity(0)
    try:
        # Names are bytes, UTF-8 or not.
        pysam.faidx(*map(os.fsencode, (*options, str(fasta))))  # type: ignore[arg-type]  # its stub has str
    except pysam.utils.SamtoolsError:
        raise ConfigurationError(
            f"{fasta} cannot be indexed: it is truncated or damaged, no FASTA, or the lines of a sequence "
            "differ in length",
            "Check BGZF with `bgzip -t`; write all lines of a sequence with the same number of bases",
        ) from None
    finally:
        pysam.set_verbosity(verbosity)


def read_fai(file: Path) -> list[FaiEntry]:
    """The entries of a .fai file, checked for numbers that no FASTA can have.

    Raises ConfigurationError with file and line.
    """
    entries: list[FaiEntry] = []
    names: set[str] = set()
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        columns = line.split("\t")
        try:
            entry = FaiEntry(columns[0], *(int(column) for column in columns[1:5]))
        except (TypeError, ValueError):
            raise corrupt_index(file, f"line {number} does not hold a name and four numbers") from None
        extra = entry.line_width - entry.line_bases
        if min(entry[1:]) < 0 or (entry.length and (entry.line_bases < 1 or extra not in (0, 1, 2))):
            raise corrupt_index(file, f"line {number} ({entry.name}) has impossible numbers")
        if entry.name in names:
            raise corrupt_index(file, f"{entry.name} stands there twice")
        names.add(entry.name)
        entries.append(entry)
    if not any(entry.length for entry in entries):
        raise corrupt_index(file, "it names no sequence")
    return entries


def read_gzi(file: Path) -> list[tuple[int, int]]:
    """(compressed, uncompressed) offsets at which BGZF blocks begin, the first block included.

    Format: bgzip(1), a count and that many pairs of little-endian 64-bit numbers. Raises ConfigurationError.
    """
    data = file.read_bytes()
    count = int.from_bytes(data[:8], "little")
    if len(data) < 8 or len(data) != 8 + 16 * count:
        raise corrupt_index(file, "its length does not fit its count of blocks")
    pairs = [(0, 0), *struct.iter_unpack("<QQ", data[8:])]
    if any(a[0] >= b[0] or a[1] > b[1] for a, b in pairwise(pairs)):
        raise corrupt_index(file, "its offsets do not grow")
    return pairs


def corrupt_index(file: Path, why: str) -> ConfigurationError:
    """The error for an index that is not the FASTA's."""
    return ConfigurationError(
        f"{file} is not the index of this FASTA: {why}", "Delete it, and it is built anew"
    )


_UPPER = bytes(range(256)).upper()
_LINE_ENDS = b"\r\n"
#: Bytes read at once of a plain FASTA, and how many of them lie before what is asked for: records come in
#: order, and the bases before an insertion or deletion are asked for, too. A read of 16 KB takes 3 µs.
WINDOW, _BEFORE = 1 << 14, 1 << 11
#: Bases read at once where a whole sequence passes by.
_PIECE = 1 << 20
_GZIP = 31  # window bits: gzip members, whose CRC32 and length zlib checks


def unreadable(path: Path, reason: str) -> ConfigurationError:
    """The error for a FASTA that the system does not read."""
    return ConfigurationError(f"the FASTA {path} cannot be read: {reason}", "Check its disk or file system")


def changed(path: Path) -> ConfigurationError:
    """The error for a FASTA that is no longer what it was when it was opened."""
    return ConfigurationError(
        f"the FASTA {path} was changed while it was in use",
        "Run it again when the file is whole; replace a FASTA by renaming another over it, not by "
        "writing into it",
    )


class Source:
    """An open FASTA, plain, that is read by windows and must stay as it is.

    ``size``: bytes, uncompressed. ``identity`` tells the file and its state from others. The window that was
    read last is kept; threads may share it, since each replaces it as a whole. A memory map would be no
    faster, and a file that is truncated while it is mapped ends the process by SIGBUS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self.identity = _identity(os.fstat(self._descriptor))
        self.size = self.identity[2]
        self._kept: tuple[int, bytes] = (0, b"")

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), uncompressed, 0 <= start, cut off at ``size``.

        Raises ConfigurationError where the file has changed since it was opened, or is damaged.
        """
        begin, data = self._kept
        if start < begin or stop > begin + len(data):
            stop = min(stop, self.size)
            if start >= stop:
                return b""
            self._kept = begin, data = self._window(start, stop)
        return data[start - begin : stop - begin]

    def _window(self, start: int, stop: int) -> tuple[int, bytes]:
        """Bytes of which [start, stop) is a part, and the offset of the first.

        At least WINDOW bytes, as far as the file has them.
        """
        begin = max(0, start - _BEFORE)
        return begin, self._stored(begin, min(max(stop, begin + WINDOW), self.size))

    def _stored(self, start: int, stop: int) -> bytes:
        """The stored bytes [start, stop)."""
        try:
            data = os.pread(self._descriptor, stop - start, start)
        except OSError as error:
            raise unreadable(self.path, str(error.strerror)) from None
        if len(data) < stop - start or _identity(os.fstat(self._descriptor)) != self.identity:
            raise changed(self.path)
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def is_current(self) -> bool:
        """Whether the path still leads to this file, and it is as it was when it was opened."""
        try:
            return _identity(self.path.stat()) == self.identity
        except OSError:
            return False


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a file and its state from others: device, inode, size and modification time in ns."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class BlockedSource(Source):
    """A FASTA in BGZF, read by whole blocks; raises ConfigurationError where the .gzi is not the file's."""

    def __init__(self, path: Path, gzi: Path) -> None:
        super().__init__(path)
        self._gzi = gzi
        pairs = read_gzi(gzi)
        self._compressed = [pair[0] for pair in pairs]
        self._starts = [pair[1] for pair in pairs]
        if self._compressed[-1] >= self.size:
            raise corrupt_index(gzi, "a block begins beyond the end of the file")
        self._compressed.append(self.size)
        last = len(self._starts) - 1
        self.size = self._starts[last] + len(self._blocks(last, last + 1))

    def _window(self, start: int, stop: int) -> tuple[int, bytes]:
        """The blocks that hold [start, stop)."""
        first = bisect_right(self._starts, start) - 1
        beyond = max(bisect_right(self._starts, stop - 1), first + 1)
        return self._starts[first], self._blocks(first, beyond)

    def _blocks(self, first: int, beyond: int) -> bytes:
        begin = self._compressed[first]
        data = self._stored(begin, self._compressed[beyond])
        parts: list[bytes] = []
        try:
            while data:
                member = isal_zlib.decompressobj(wbits=_GZIP)
                parts.append(member.decompress(data))
                if not member.eof:
                    raise ConfigurationError(f"{self.path} is cut short", "Copy the file again")
                data = member.unused_data
        except isal_zlib.IsalError as error:  # type: ignore[misc]  # declared as an instance there
            raise ConfigurationError(
                f"a block between bytes {begin} and {self._compressed[beyond]} of {self.path} is damaged, "
                f"or {self._gzi} is not its index: {error}",
                f"Delete {self._gzi} and its .fai; if that does not help, copy the FASTA again",
            ) from None
        text = b"".join(parts)
        if beyond < len(self._starts) and len(text) != self._starts[beyond] - self._starts[first]:
            raise corrupt_index(self._gzi, f"the blocks at byte {begin} hold {len(text)} bytes")
        return text


class FastaContig:
    """One sequence of a FASTA (see ``base.Contig``)."""

    __slots__ = ("_bases", "_extra", "_offset", "_source", "accession", "length", "name")

    def __init__(self, source: Source, entry: FaiEntry) -> None:
        self.name = entry.name
        self.accession = ""  # known once the reference is prepared
        self.length = entry.length
        self._source = source
        self._offset = entry.offset
        self._bases = entry.line_bases
        self._extra = entry.line_width - entry.line_bases

    @property
    def layout(self) -> tuple[int, int, int]:
        """Offset of the first base in the file, bases of a line, and bytes of a line with its end."""
        return self._offset, self._bases, self._bases + self._extra

    def fetch(self, start: int, end: int) -> bytes:
        """The upper-case bases of [start, end), cut off at ``length``; ``b""`` where start < 0."""
        end = min(end, self.length)
        if start < 0 or start >= end:
            return b""
        bases, extra, last = self._bases, self._extra, end - 1
        first = self._offset + start + start // bases * extra
        beyond = self._offset + last + last // bases * extra + 1
        return self._source.read(first, beyond).translate(_UPPER, _LINE_ENDS)

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
            ends = self._source.read(due, due + count * width)[::width] if self._extra else b""
            if len(piece) != end - start or ends.strip(_LINE_ENDS) or b">" in piece:
                raise ValueError(f"the lines between bases {start} and {end} of {self.name} differ in length")
            yield piece


class FastaReference:
    """The sequences of one FASTA (see ``base.Reference``)."""

    def __init__(
        self, assembly: str, source: Source, contigs: list[FastaContig], names: ContigAliases
    ) -> None:
        self.assembly = assembly
        #: the FASTA where it is a plain one, so that its bytes can be read by ``FastaContig.layout``
        self.path = None if isinstance(source, BlockedSource) else source.path
        #: device, inode, size and modification time (ns) of the FASTA when it was opened
        self.identity = source.identity
        self._source = source
        self._contigs = {contig.name: contig for contig in contigs}
        self._names = names

    def is_current(self) -> bool:
        """Whether the FASTA is still the file, and as it was, when it was opened."""
        return self._source.is_current()

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

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def open_fasta(path: Path) -> tuple[Source, list[FastaContig]]:
    """The bytes and contigs of a FASTA whose index is there afterwards; accessions are not yet known.

    Raises ConfigurationError where the file is not a FASTA we can use, its index is not its own, or two of
    its sequences have one name.
    """
    blocked = is_bgzipped(path)
    indexes = prepare_fai(path, blocked=blocked)
    entries = read_fai(indexes[0])
    source = BlockedSource(path, indexes[1]) if blocked else Source(path)
    _check_layout(path, indexes[0], source, [entry for entry in entries if entry.length])
    return source, [FastaContig(source, entry) for entry in entries if entry.length]


def _check_layout(path: Path, index: Path, source: Source, entries: list[FaiEntry]) -> None:
    """Raise ConfigurationError where the index cannot be the file's, or a name stands there twice.

    faidx leaves out a sequence whose name it has had.
    """
    names = {entry.name for entry in entries}
    following = ("", 0)
    for entry in sorted(entries, key=lambda entry: entry.offset):
        seen = following == (entry.name, entry.offset)
        if why := misfit(source, entry, header=not seen):
            raise corrupt_index(index, why)
        if following[0] in names and following[0] != entry.name:
            raise _twice(path, following[0])
        following = header_after(source, entry)
    if following[0] in names:
        raise _twice(path, following[0])


def _twice(path: Path, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"the FASTA {path} has two sequences named {name}",
        "Rename one of them, or leave it out: a VCF's name must mean one sequence",
    )


def is_bgzipped(path: Path) -> bool:
    """Whether the FASTA is BGZF. Raises ConfigurationError where it does not begin as one we can use."""
    try:
        with path.open("rb") as file:
            head = file.read(16)  # of a BGZF block, whose extra field BC comes first (SAM §4.1)
    except OSError as error:
        raise ConfigurationError(
            f"the FASTA {path} cannot be read: {error.strerror}", "Check the path"
        ) from None
    if head[:2] == b"\x1f\x8b":
        if not (head.startswith(b"\x1f\x8b\x08\x04") and head[12:14] == b"BC"):
            raise ConfigurationError(
                f"{path} is plain gzip, in which no position can be found without reading all before it",
                f"Compress it with bgzip: gunzip -c {path} | bgzip > NEW.fa.gz",
            )
        return True
    if head[:1] != b">":
        raise ConfigurationError(f"{path} is not a FASTA: its first byte is not '>'", "Name a FASTA file")
    return False


def misfit(source: Source, entry: FaiEntry, *, header: bool = True) -> str:
    """Why the entry cannot be true of these bytes; empty where its borders fit.

    Looks at the ``header`` line before the sequence, the end of its first line and what follows its last.
    """
    end = entry.end
    if not 0 < entry.offset < end <= source.size:
        return f"{entry.name} ends beyond the file"
    if header and not _has_header(source, entry):
        return f"no line >{entry.name} stands before byte {entry.offset}"
    if entry.length > entry.line_bases:
        line_end = source.read(entry.offset + entry.line_bases, entry.offset + entry.line_width)
        if not line_end or line_end.strip(_LINE_ENDS):
            return f"the first line of {entry.name} does not have {entry.line_bases} bases"
    after = source.read(end, end + 64)
    if after and (after[0] not in _LINE_ENDS or after.lstrip(_LINE_ENDS)[:1] not in (b">", b"")):
        return f"{entry.name} does not end at byte {end}"
    return ""


def _has_header(source: Source, entry: FaiEntry) -> bool:
    """Whether the line before the sequence is its header."""
    name = entry.name.encode("utf-8", "surrogateescape")
    text = b""
    for before in (len(name) + 200, 1 << 16):  # most header lines are short
        if b">" not in text:
            text = source.read(max(0, entry.offset - before), entry.offset)
    title = text.rstrip(_LINE_ENDS).rpartition(b"\n")[2]
    words = title[1:].split(maxsplit=1)
    return text[-1:] == b"\n" and title[:1] == b">" and words[:1] == [name]


def header_after(source: Source, entry: FaiEntry) -> tuple[str, int]:
    """The name of the sequence that follows in the file, and where its bases begin; "" where none does.

    The offset is -1 where the header is long.
    """
    end = entry.end
    text = source.read(end, end + 512)
    if not (title := _TITLE.match(text)):
        return "", -1
    return title[1].decode("utf-8", "surrogateescape"), end + title.end() if title[2] else -1


#: Line ends, a header's name, and the rest of the line if it is whole.
_TITLE = re.compile(rb"[\r\n]*>\s*(\S+)(?:[^\n]*(\n))?")
