"""The index of a BGZF VCF or a BCF: .tbi, or .csi for contigs that are too long for a .tbi.

A .tbi is made in three ways: while the VCF is written (``TbiBuilder``), from the indexes of the pieces that
were joined (``JoinedIndex``), or by htslib from the finished file (``write_index``). Format: the tabix
specification. "Virtual offset" is the offset of a BGZF block and, in the low 16 bits, that in its payload.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import struct
import subprocess
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyvar_step.errors import FileTrouble, InvalidInput, StepError, from_os
from anyvar_step.vcf.bgzf import EOF_BLOCK, PAYLOAD, BgzfWriter
from anyvar_step.vcf.header import contig_lengths
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.select import MAGIC_BYTES, is_bcf, open_vcf

#: The bases of a contig that a .tbi can address, and log2 of the bases of a window, its smallest bin.
TBI_REACH, _WINDOW = 1 << 29, 14
#: Format, columns of CHROM, POS and the end, comment sign, lines to skip: a VCF's.
_VCF = (2, 1, 2, 0, ord("#"), 0)
_MAGIC = b"TBI\1"
#: Magic, number of contigs, the six numbers above, bytes of names.
_HEAD = struct.Struct("<4s8i")
#: Number of a bin, and of its chunks.
_BIN = struct.Struct("<Ii")
_COUNT = struct.Struct("<i")
#: The pseudo-bin with the contig's first and last offset and its number of records; the first window's bin.
_META, _FIRST_WINDOW = 37450, 4681


@dataclass
class TbiContig:
    """The virtual offsets of a contig's records: begin, end, begin, end of each bin's chunks; by window."""

    bins: dict[int, list[int]] = field(default_factory=dict)
    windows: MutableSequence[int] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    records: int = 0


def fits_tbi(header: Sequence[bytes]) -> bool:
    """Whether a .tbi can address all contigs, as far as the header gives their lengths."""
    return max(contig_lengths(header).values(), default=0) <= TBI_REACH


def read_tbi(path: Path) -> dict[bytes, TbiContig]:
    """The contigs of a VCF's index. Raises ValueError if it is none, or damaged, and OSError."""
    try:
        data = gzip.decompress(path.read_bytes())
        magic, number, *form, length = _HEAD.unpack_from(data)
        if magic != _MAGIC or tuple(form) != _VCF:
            raise ValueError(f"{path} is not the .tbi of a VCF")
        at = _HEAD.size + length
        contigs = {}
        for name in data[_HEAD.size : at].split(b"\0")[:number]:
            contigs[name], at = _unpacked(data, at)
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error, KeyError) as damage:
        raise ValueError(f"{path} is damaged: {damage}") from None
    return contigs


def _unpacked(data: bytes, at: int) -> tuple[TbiContig, int]:
    """The contig at that byte, and the byte at which the next one begins."""
    contig = TbiContig()
    (bins,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(bins):
        number, chunks = _BIN.unpack_from(data, at)
        at += _BIN.size
        contig.bins[number] = list(struct.unpack_from(f"<{2 * chunks}Q", data, at))
        at += 16 * chunks
    contig.begin, contig.end, contig.records, _ = contig.bins.pop(_META)
    (windows,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    contig.windows = list(struct.unpack_from(f"<{windows}Q", data, at))
    return contig, at + 8 * windows


def write_tbi(
    path: Path,
    names: Collection[bytes],
    contigs: Iterable[TbiContig],
    offset: Callable[[int], int] = int,
) -> None:
    """Write the index of the contigs of these names; ``offset`` makes virtual offsets of theirs."""
    joined = b"".join(name + b"\0" for name in names)
    with path.open("wb") as raw, BgzfWriter(raw) as out:
        out.write(_HEAD.pack(_MAGIC, len(names), *_VCF, len(joined)) + joined)
        for contig in contigs:
            out.write(_packed(contig, offset))
        out.write(bytes(8))  # records without a position


def _packed(contig: TbiContig, offset: Callable[[int], int]) -> bytes:
    meta = offset(contig.begin), offset(contig.end), contig.records, 0
    bins = ((number, list(map(offset, chunks))) for number, chunks in contig.bins.items())
    parts = [_COUNT.pack(len(contig.bins) + 1)]
    for number, chunks in itertools.chain(bins, [(_META, meta)]):
        parts += (_BIN.pack(number, len(chunks) // 2), struct.pack(f"<{len(chunks)}Q", *chunks))
    windows = list(map(offset, contig.windows))
    parts += (_COUNT.pack(len(windows)), struct.pack(f"<{len(windows)}Q", *windows))
    return b"".join(parts)


def copy_tbi(source: Path, target: Path) -> None:
    """Copy a VCF's index; nothing if it cannot be read or is damaged, since another can be made."""
    try:
        data = source.read_bytes()
        sound = gzip.decompress(data).startswith(_MAGIC) and data.endswith(EOF_BLOCK)
    except (OSError, EOFError, zlib.error):
        return
    if sound:
        target.write_bytes(data)


@dataclass
class _GrowingContig:
    """A contig of ``TbiBuilder`` in little memory: bin, begin and end of each chunk in turn."""

    begin: int = 0
    end: int = 0
    records: int = 0
    chunks: array[int] = field(default_factory=lambda: array("Q"))
    windows: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, number: int, last_window: int, begin: int, end: int) -> None:
        """Add records of the bin ``number``, which reach up to a window, from one offset to another."""
        chunks = self.chunks
        if chunks and chunks[-1] == begin and chunks[-3] == number:
            chunks[-1] = end
        else:
            chunks.extend((number, begin, end))
        if (missing := last_window + 1 - len(self.windows)) > 0:
            self.windows.extend([begin] * missing)

    def finished(self) -> TbiContig:
        contig = TbiContig({}, self.windows, self.begin, self.end, self.records)
        for at in range(0, len(self.chunks), 3):
            number, begin, end = self.chunks[at : at + 3]
            contig.bins.setdefault(number, []).extend((begin, end))
        return contig


class TbiBuilder:
    """Builds a .tbi of records in the order in which they are written, behind the ``header``.

    Offsets are those of the text until ``write``, since the blocks are not compressed yet. ``possible`` is
    False once there can be no .tbi: the records are out of order, or reach too far.
    """

    def __init__(self, header: Sequence[bytes]) -> None:
        self.possible = fits_tbi(header)
        self._size = sum(len(line) + 1 for line in header)
        self._contigs: dict[bytes, _GrowingContig] = {}
        self._chrom: bytes | None = None
        self._start = 0

    def add(
        self,
        runs: Iterable[tuple[bytes, int]],
        starts: Sequence[int],
        ends: Sequence[int],
        offsets: Sequence[int],
        size: int,
        *,
        plain: bool,
    ) -> None:
        """Add a block of ``size`` bytes of text.

        ``runs``: contig and number of consecutive records. ``starts``, ``ends`` and ``offsets``, an item per
        record: its interval on the contig (0-based, half open), and where its line begins in the block.
        ``plain``: whether these are known, and the starts of each run are in order.
        """
        self.possible = self.possible and plain
        first = 0
        for chrom, number in runs:
            beyond = first + number
            if not (self.possible and self._is_in_order(chrom, starts[first])):
                self.possible = False
                return
            end = offsets[beyond] if beyond < len(offsets) else size
            self._add_run(self._contigs[chrom], starts, ends, offsets, (first, beyond), self._size + end)
            self._start = starts[beyond - 1]
            first = beyond
        self._size += size

    def write(self, path: Path, blocks: Sequence[int]) -> bool:
        """Write the index to ``path`` and return True, or return False if it is not possible.

        ``blocks`` are the offsets at which the blocks of the file begin, the last of them the end-of-file
        block; all but the last two are full.
        """

        def offset(at: int) -> int:
            number, within = divmod(at, PAYLOAD)
            return blocks[number] << 16 | within if at < self._size else blocks[-1] << 16

        if self.possible:
            contigs = (contig.finished() for contig in self._contigs.values())
            write_tbi(path, self._contigs, contigs, offset)
        return self.possible

    def _is_in_order(self, chrom: bytes, start: int) -> bool:
        """Whether a record at that place may come next."""
        if chrom == self._chrom:
            return self._start <= start
        if chrom in self._contigs:
            return False
        self._chrom, self._contigs[chrom] = chrom, _GrowingContig()
        return True

    def _add_run(
        self,
        contig: _GrowingContig,
        starts: Sequence[int],
        ends: Sequence[int],
        offsets: Sequence[int],
        run: tuple[int, int],
        end: int,
    ) -> None:
        """Add the records from the first to before the last of ``run``, whose text ends at byte ``end``.

        Records that lie in one window go into its bin together; if one leaves the window, each by itself.
        """
        before, (first, beyond) = self._size, run
        contig.begin = contig.begin or before + offsets[first]
        contig.records += beyond - first
        while first < beyond:
            window = starts[first] >> _WINDOW
            border = window + 1 << _WINDOW
            next_window = bisect_left(starts, border, first, beyond)
            farthest = max(ends[first:next_window])
            if farthest > TBI_REACH:
                self.possible = False
                return
            step = next_window - first if farthest <= border else 1
            for number in range(first, next_window, step):
                last = max(window, ends[number] - 1 >> _WINDOW)
                after = before + offsets[number + step] if number + step < beyond else end
                contig.add(_smallest_bin(window, last), last, before + offsets[number], after)
            first = next_window
        contig.end = end


def _smallest_bin(first: int, last: int) -> int:
    """The smallest bin that holds these windows (tabix specification, reg2bin)."""
    number = _FIRST_WINDOW
    while first != last:
        first, last, number = first >> 3, last >> 3, number - 1 >> 3
    return number + first


@dataclass(frozen=True)
class OffsetMap:
    """From virtual offsets in a piece to those in the joined file.

    The records that share the block at byte ``first`` of the piece with the end of its header, from byte
    ``within`` of the payload on, are a block of their own at byte ``start`` of the joined file. All later
    blocks move by ``shift`` bytes, up to the one at byte ``end``, which ends the piece.
    """

    first: int
    within: int
    start: int
    shift: int
    end: int

    def joined(self, offset: int) -> int:
        """The virtual offset in the joined file; 0, which stands for none, stays 0."""
        block = offset >> 16
        if block > self.first:
            return min(offset, self.end << 16) + (self.shift << 16)
        return (self.start << 16) + max(0, (offset & 0xFFFF) - self.within) if offset else 0


class JoinedIndex:
    """The index of pieces that are added in order, from theirs; there is none if one of theirs is missing."""

    def __init__(self) -> None:
        self._contigs: dict[bytes, TbiContig] = {}
        self._last: tuple[bytes, int] = (b"", 0)
        self._complete = True

    def add(self, piece: Path, index: Path | None, offsets: OffsetMap | None) -> None:
        """Add the index of a piece; None if there is none, or the piece was compressed anew."""
        if self._complete:
            try:
                self._complete = bool(index and offsets and self._add(piece, read_tbi(index), offsets))
            except (OSError, ValueError):  # an index that cannot be read counts as missing
                self._complete = False

    def write(self, path: Path) -> None:
        """Write the index of the joined file to ``path``, if there is one."""
        if self._complete:
            write_tbi(path, self._contigs, self._contigs.values())

    def _add(self, piece: Path, contigs: dict[bytes, TbiContig], offsets: OffsetMap) -> bool:
        """Whether the piece could be added: it is sorted, as it has an index, and lies behind the others."""
        in_order = sorted(contigs, key=lambda name: contigs[name].begin)
        if not in_order:
            return True
        known = [name for name in in_order if name in self._contigs]
        first, last = contigs[in_order[0]], contigs[in_order[-1]]
        last_chunk = max(max(chunks[::2]) for chunks in last.bins.values())
        begins, ends = _position(piece, first.begin), _position(piece, last_chunk, to_the_end=True)
        if known and not (known == in_order[:1] == [self._last[0]] and begins >= self._last[1]):
            return False
        for name in in_order:
            _append(self._contigs.setdefault(name, TbiContig()), contigs[name], offsets.joined)
        self._last = in_order[-1], ends
        return True


def _append(contig: TbiContig, part: TbiContig, joined: Callable[[int], int]) -> None:
    """Add what the next piece has of the contig."""
    for number, chunks in part.bins.items():
        known, more = contig.bins.setdefault(number, []), list(map(joined, chunks))
        if known and known[-1] >= more[0]:
            known.pop()
            del more[0]
        known += more
    contig.windows += map(joined, part.windows[len(contig.windows) :])
    contig.begin = contig.begin or joined(part.begin)
    contig.end = joined(part.end)
    contig.records += part.records


def _position(piece: Path, offset: int, *, to_the_end: bool = False) -> int:
    """POS of the record at that virtual offset, or of the last record from there on."""
    import pysam

    with pysam.BGZFile(str(piece), "rb", None) as file:
        file.seek(offset)
        line = file.readline()
        while to_the_end and (following := file.readline()):
            line = following
    return int(line.split(b"\t", 2)[1])


def write_index(path: Path, name: str = "", *, csi: bool = False) -> Path:
    """Index the BGZF VCF or BCF at ``path``; the path of the index, published by rename beside it.

    A BCF's is .csi, a VCF's too with ``csi``. The data file is not touched, and an index of the other kind,
    now stale, is removed. Raises InvalidInput, which names the record, if they are not sorted or one has a
    position that no index can hold.
    """
    name = name or str(path)
    for suffix in _suffixes(path, name, csi):
        if _build(path, suffix):
            for other in {".tbi", ".csi"} - {suffix}:
                Path(f"{path}{other}").unlink(missing_ok=True)
            return Path(f"{path}{suffix}")
    raise _index_error(path, name)


def write_output_index(path: Path, builder: TbiBuilder, blocks: Sequence[int]) -> None:
    """Put a .tbi beside the BGZF VCF at ``path``, if it is sorted and a .tbi can hold its positions.

    ``builder`` got the records while they were written in these ``blocks``; htslib makes what it cannot.
    """
    if not builder.write(Path(f"{path}.tbi"), blocks) and _suffixes(path, str(path))[0] == ".tbi":
        _build(path, ".tbi")


def _suffixes(path: Path, name: str, csi: bool = False) -> tuple[str, ...]:
    """The kinds of index to try, in order."""
    with path.open("rb") as raw:
        if is_bcf(raw.read(MAGIC_BYTES)):
            return (".csi",)
        raw.seek(0)
        reader = VcfReader(raw, name)
    if reader.kind != "bgzf":
        raise InvalidInput(f"{name} cannot be indexed: it is not BGZF", "Write it with -O z")
    return (".csi",) if csi or not fits_tbi(reader.header) else (".tbi", ".csi")


def _build(path: Path, suffix: str) -> bool:
    """Build that kind of index under a temporary name and publish it; False if htslib cannot."""
    import pysam

    final = Path(f"{path}{suffix}")
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    verbosity, csi = pysam.set_verbosity(0), suffix == ".csi"
    try:
        pysam.tabix_index(
            str(path), preset="vcf", force=True, keep_original=True, csi=csi, index=str(temporary)
        )
        newest = max(path.stat().st_mtime_ns, temporary.stat().st_mtime_ns)
        os.utime(temporary, ns=(newest, newest))
        temporary.replace(final)
    except OSError:
        return False
    finally:
        pysam.set_verbosity(verbosity)
        temporary.unlink(missing_ok=True)
    return True


#: Builds an index and lets htslib write its errors, which it writes to standard error only.
_PROGRAM = """
import sys, pysam
pysam.set_verbosity(3)
pysam.tabix_index(sys.argv[1], preset="vcf", force=True, keep_original=True, csi=True, index=sys.argv[2])
"""


def _index_error(path: Path, name: str) -> StepError:
    """The reason for which no index could be built."""
    try:
        with path.open("rb") as stored, open_vcf(path, name) as raw:
            fault, remedy = _first_fault(VcfReader(raw, name), bcf=is_bcf(stored.read(MAGIC_BYTES)))
    except OSError as error:
        return from_os(error, f"cannot index {name}")
    if not fault:
        command = [sys.executable, "-P", "-c", _PROGRAM, str(path), os.devnull]
        errors = subprocess.run(command, capture_output=True, check=False).stderr.decode("utf-8", "replace")
        # The two places at which htslib refuses a record.
        found = re.search(r"\[E::hts_idx_(?:push|check_range)\] (.+)", errors)
        if found is None:
            return FileTrouble(
                f"cannot write the index of {name}", "Check the directory's mode and free space"
            )
        fault, remedy = f"records cannot be placed: {found[1]}", "Correct them, or use --no-write-index"
    return InvalidInput(f"{name} cannot be indexed: its {fault}", remedy)


def _csi_reach(header: Sequence[bytes], *, bcf: bool) -> int:
    """The bases of a contig that htslib lets a .csi address, by the longest contig of the header.

    htslib, ``tbx_index`` (at least six levels of bins above 16 kb) and ``bcf_idx_init`` (none).
    """
    longest = max(contig_lengths(header).values(), default=0)
    reach, longest = (1 << _WINDOW, longest or (1 << 31) - 1) if bcf else (1 << 32, longest)
    while reach < longest + 256:
        reach <<= 3
    return reach


def _first_fault(reader: VcfReader, *, bcf: bool) -> tuple[str, str]:
    """The first record that is out of order, else the first that reaches too far, and the remedy.

    For a BCF, htslib takes a second record at POS 0 for one out of order (hts_idx_push). Records are counted,
    not lines, since IN has fewer header lines. Both are empty if an index could be built.
    """
    contig, last, seen, fault = b"", -1, set[bytes](), ""
    reach = _csi_reach(reader.header, bcf=bcf)
    for number, line in enumerate((line for lines in reader.blocks() for line in lines), 1):
        chrom, pos, _, ref, alts, _, _, info = [*line.split(b"\t", 8), *[b""] * 8][:8]
        position = int(pos) if pos.isdigit() and len(pos) <= _DIGITS else -1
        record = f"record {number} ({b':'.join((chrom, pos)).decode('utf-8', 'backslashreplace')})"
        if (chrom != contig and chrom in seen) or (chrom == contig and position < last):
            remedy = "Sort it with `bcftools sort`, or use --no-write-index"
            return f"{record} is not in order of contig and position", remedy
        if bcf and not fault and chrom == contig and position == last == 0:
            fault = f"{record} is the second at POS 0, which the index of a BCF cannot hold"
        if not fault and max(position, _end(position, ref, alts, info)) > reach:
            fault = f"{record} reaches beyond the {reach:,} bases that its index can hold"
        contig, last = chrom, position
        seen.add(chrom)
    return fault, f"Correct the record, {'write a VCF with -O z, ' * bcf}or use --no-write-index"


#: Fields of INFO that give the end of a record: a position, or bases (VCF 4.5 §1.6.1.8).
_END = re.compile(rb"(?:^|;)END=(\d{1,19})(?:;|$)")
_SVLEN = re.compile(rb"(?:^|;)SVLEN=([^;]+)")
#: Digits of the largest 64-bit position.
_DIGITS = 19


def _end(position: int, ref: bytes, alts: bytes, info: bytes) -> int:
    """The last position of a record."""
    ends = [position - 1 + len(ref), *map(int, _END.findall(info))]
    if b"<" in alts and (lengths := _SVLEN.search(info)):
        sizes = (size.lstrip(b"-") for size in lengths[1].split(b","))
        ends += [position + int(size) for size in sizes if size.isdigit() and len(size) <= _DIGITS]
    return max(ends)
