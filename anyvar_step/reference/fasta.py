"""A FASTA as a reference: plain through an mmap, BGZF through its blocks, both by the arithmetic of the .fai.

No contig is ever held whole: an mmap's pages belong to the system's cache, of a BGZF the last blocks stay.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, overload

from isal import isal_zlib

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference.aliases import ContigAliases
from anyvar_step.reference.base import Contig

#: A test of one prepared file: is it whole and of this FASTA?
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

    Pipelines hand references over as links in folders that live as long as one task, so what is prepared
    belongs to the file that the link points at.
    """
    real = fasta.resolve()
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    cache = _user_cache()
    return [fasta.absolute(), real, *([cache / f"{real.name}-{key}"] if cache else [])]


def find_prepared(fasta: Path, suffixes: Sequence[str], fresh: Fresh) -> list[Path] | None:
    """The first complete set of fresh files, in the order of ``suffixes``; None where there is none."""
    for stem in _stems(fasta):
        files = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        if all(file.is_file() and fresh(file) for file in files):
            return files
    return None


def publish_prepared(fasta: Path, suffixes: Sequence[str], build: Callable[[list[Path]], None]) -> list[Path]:
    """Let ``build`` write the files under temporary names, then rename them into place.

    Two processes that start at once both build, and neither sees half a file. Raises OSError where neither
    the FASTA's folder nor the user's cache can be written.
    """
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


@contextmanager
def preparing_alone(fasta: Path) -> Iterator[None]:
    """Let one process prepare while the others wait, where the file system can lock.

    The lock is taken on the FASTA itself, opened for reading, so that no lock file stays behind. Where it
    cannot be had (NFS), several processes do the same work and the last rename wins: slower, not wrong.
    """
    with fasta.open("rb") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        """Offset just behind the last base."""
        return (
            self.offset
            + self.length
            + (self.length - 1) // self.line_bases * (self.line_width - self.line_bases)
        )


def prepare_fai(fasta: Path, *, blocked: bool) -> list[Path]:
    """The index files of a FASTA, built where they are missing or older than it: [.fai] or [.fai, .gzi].

    Raises ConfigurationError where the FASTA cannot be indexed, or the index cannot be written.
    """
    suffixes = (".fai", ".gzi") if blocked else (".fai",)
    changed = fasta.stat().st_mtime_ns

    def fresh(file: Path) -> bool:
        return file.stat().st_mtime_ns >= changed

    if found := find_prepared(fasta, suffixes, fresh):
        return found
    with preparing_alone(fasta):
        if found := find_prepared(fasta, suffixes, fresh):
            return found
        _logger.info("indexing %s: its index is missing or older than the file", fasta)
        try:
            return publish_prepared(fasta, suffixes, lambda drafts: _build_fai(fasta, drafts))
        except OSError as error:
            raise ConfigurationError(
                f"the index of {fasta} is missing or older than the file, and cannot be written: {error}",
                f"Run `samtools faidx {fasta}` where the folder can be written",
            ) from None


def _build_fai(fasta: Path, drafts: list[Path]) -> None:
    import pysam
    import pysam.utils

    options = [
        word for pair in zip(("--fai-idx", "--gzi-idx"), map(str, drafts), strict=False) for word in pair
    ]
    # htslib writes its own lines to stderr; ours says the same with the remedy.
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.faidx(*options, str(fasta))
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
        if entry.length:
            entries.append(entry)
    if not entries:
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


_GZIP = 31  # window bits: gzip members, whose CRC32 and length zlib checks


def is_blocked(head: bytes) -> bool:
    """Whether a gzip file's first 16 bytes are a BGZF block's: the extra field BC comes first (SAM §4.1)."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


class BlockedFile:
    """``data[i]`` and ``data[i:j]`` of a BGZF file's uncompressed bytes; ``len(data)``.

    Raises ConfigurationError where a block is damaged or the .gzi is not the file's.
    """

    def __init__(self, path: Path, gzi: Path) -> None:
        self._path, self._gzi = path, gzi
        pairs = read_gzi(gzi)
        self._compressed = [pair[0] for pair in pairs]
        self._starts = [pair[1] for pair in pairs]
        self._descriptor = os.open(path, os.O_RDONLY)
        size = os.fstat(self._descriptor).st_size
        if self._compressed[-1] >= size:
            raise corrupt_index(gzi, "a block begins beyond the end of the file")
        self._compressed.append(size)
        self._window: tuple[int, bytes] = (0, b"")
        last = len(self._starts) - 1
        self._size = self._starts[last] + len(self._read(last, last + 1))

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, int):
            begin, window = self._window
            if not begin <= key < begin + len(window):
                begin, window = self._around(key, key + 1)
            return window[key - begin]
        start, stop, _ = key.indices(self._size)
        begin, window = self._window
        if not begin <= start <= stop <= begin + len(window):
            begin, window = self._around(start, stop)
        return window[start - begin : stop - begin]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _around(self, start: int, stop: int) -> tuple[int, bytes]:
        """The blocks that hold [start, stop), and the offset at which they begin; kept for the next call."""
        first = bisect_right(self._starts, start) - 1
        beyond = max(bisect_right(self._starts, stop - 1), first + 1)
        self._window = window = (self._starts[first], self._read(first, beyond))
        return window

    def _read(self, first: int, beyond: int) -> bytes:
        begin = self._compressed[first]
        data = os.pread(self._descriptor, self._compressed[beyond] - begin, begin)
        parts: list[bytes] = []
        try:
            while data:
                member = isal_zlib.decompressobj(wbits=_GZIP)
                parts.append(member.decompress(data))
                if not member.eof:
                    raise ConfigurationError(f"{self._path} is cut short", "Copy the file again")
                data = member.unused_data
        except isal_zlib.IsalError as error:  # type: ignore[misc]  # declared as an instance there
            raise ConfigurationError(
                f"a block between bytes {begin} and {self._compressed[beyond]} of {self._path} is damaged, "
                f"or {self._gzi} is not its index: {error}",
                f"Delete {self._gzi} and its .fai; if that does not help, copy the FASTA again",
            ) from None
        window = b"".join(parts)
        if beyond < len(self._starts) and len(window) != self._starts[beyond] - self._starts[first]:
            raise corrupt_index(self._gzi, f"the blocks at byte {begin} hold {len(window)} bytes")
        return window


Data = mmap.mmap | BlockedFile

_UPPER = bytes(range(256)).upper()
_LINE_ENDS = b"\r\n"
#: Bases read at once where a whole sequence passes by.
_PIECE = 1 << 20


class FastaContig:
    """One sequence of a FASTA (see ``protocols.Contig``)."""

    __slots__ = ("_bases", "_data", "_extra", "_offset", "accession", "length", "name")

    def __init__(self, data: Data, entry: FaiEntry) -> None:
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

    def __init__(self, assembly: str, data: Data, contigs: list[FastaContig], names: ContigAliases) -> None:
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
    indexes = prepare_fai(path, blocked=blocked)
    entries = read_fai(indexes[0])
    data: Data
    if blocked:
        data = BlockedFile(path, indexes[1])
    else:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for entry in entries:
        if why := misfit(data, entry):
            raise corrupt_index(indexes[0], why)
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


def misfit(data: Data, entry: FaiEntry) -> str:
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
