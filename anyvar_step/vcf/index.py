"""The index of a BGZF VCF or a BCF: .tbi, or .csi where a position is beyond what .tbi can hold."""

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
from anyvar_step.vcf.select import HEAD, is_bcf, open_vcf

#: The bases of a contig that .tbi can address: six levels of bins.
LIMIT = 1 << 29
#: log2 of a window's bases.
WINDOW = 14
#: Format, columns of CHROM, POS and the end, comment sign, lines to skip: a VCF's.
VCF = (2, 1, 2, 0, ord("#"), 0)
_MAGIC = b"TBI\1"
#: Number of contigs, the format's six numbers, bytes of names.
_HEAD = struct.Struct("<4s8i")
_BIN = struct.Struct("<Ii")
_COUNT = struct.Struct("<i")
#: The bin that is none: where the contig begins and ends, and how many records it has.
_META = 37450

Offset = Callable[[int], int]


@dataclass
class TbiContig:
    """Where its records lie: begin, end, begin, end of each bin's stretches; by window; and in all."""

    bins: dict[int, list[int]] = field(default_factory=dict)
    windows: MutableSequence[int] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    records: int = 0


def tbi_reaches(header: Sequence[bytes]) -> bool:
    """Whether it can address all contigs, as far as the header tells their lengths."""
    return max(contig_lengths(header).values(), default=0) <= LIMIT


def read_tbi(path: Path) -> dict[bytes, TbiContig]:
    """The contigs of a VCF's index. Raises ValueError where it is none, or damaged, and OSError."""
    try:
        data = gzip.decompress(path.read_bytes())
        magic, number, *form, length = _HEAD.unpack_from(data)
        if magic != _MAGIC or tuple(form) != VCF:
            raise ValueError(f"{path} is not the .tbi of a VCF")
        at = _HEAD.size + length
        contigs = {}
        for name in data[_HEAD.size : at].split(b"\0")[:number]:
            contigs[name], at = _contig(data, at)
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error, KeyError) as damage:
        raise ValueError(f"{path} is damaged: {damage}") from None
    return contigs


def copy_tbi(source: Path, target: Path) -> None:
    """Copy a VCF's index; nothing where it cannot be read or is damaged, since another can be made."""
    try:
        data = source.read_bytes()
        sound = gzip.decompress(data).startswith(_MAGIC) and data.endswith(EOF_BLOCK)
    except (OSError, EOFError, zlib.error):
        return
    if sound:
        target.write_bytes(data)


def write_tbi_contigs(
    path: Path, names: Collection[bytes], contigs: Iterable[TbiContig], offset: Offset = int
) -> None:
    """Write the index of the contigs of these names, each gone through once.

    ``offset`` makes virtual offsets of theirs, where they are others.
    """
    together = b"".join(name + b"\0" for name in names)
    with path.open("wb") as raw, BgzfWriter(raw) as out:
        out.write(_HEAD.pack(_MAGIC, len(names), *VCF, len(together)) + together)
        for contig in contigs:
            out.write(_packed(contig, offset))
        out.write(bytes(8))  # records without a place


def _contig(data: bytes, at: int) -> tuple[TbiContig, int]:
    """The contig at that byte, and where the next one is."""
    contig = TbiContig()
    (bins,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(bins):
        number, stretches = _BIN.unpack_from(data, at)
        at += _BIN.size
        contig.bins[number] = list(struct.unpack_from(f"<{2 * stretches}Q", data, at))
        at += 16 * stretches
    contig.begin, contig.end, contig.records, _ = contig.bins.pop(_META)
    (windows,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    contig.windows = list(struct.unpack_from(f"<{windows}Q", data, at))
    return contig, at + 8 * windows


def _packed(contig: TbiContig, offset: Offset) -> bytes:
    """The contig as it stands in the index."""
    meta = offset(contig.begin), offset(contig.end), contig.records, 0
    bins = ((number, list(map(offset, stretches))) for number, stretches in contig.bins.items())
    parts = [_COUNT.pack(len(contig.bins) + 1)]
    for number, stretches in itertools.chain(bins, [(_META, meta)]):
        parts += (_BIN.pack(number, len(stretches) // 2), struct.pack(f"<{len(stretches)}Q", *stretches))
    windows = list(map(offset, contig.windows))
    parts += (_COUNT.pack(len(windows)), struct.pack(f"<{len(windows)}Q", *windows))
    return b"".join(parts)


#: The first of the bins of one window.
_FIRST = 4681


@dataclass
class _Contig:
    """Where a contig's records lie, in little memory: bin, begin and end of each stretch in turn."""

    begin: int = 0
    end: int = 0
    records: int = 0
    stretches: array[int] = field(default_factory=lambda: array("Q"))
    windows: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, number: int, last: int, begin: int, end: int) -> None:
        """Add records in that bin, up to the window ``last``, from one place to another."""
        stretches = self.stretches
        if stretches and stretches[-1] == begin and stretches[-3] == number:
            stretches[-1] = end
        else:
            stretches.extend((number, begin, end))
        if (missing := last + 1 - len(self.windows)) > 0:
            self.windows.extend([begin] * missing)

    def whole(self) -> TbiContig:
        """The same by bin."""
        contig = TbiContig({}, self.windows, self.begin, self.end, self.records)
        for at in range(0, len(self.stretches), 3):
            number, begin, end = self.stretches[at : at + 3]
            contig.bins.setdefault(number, []).extend((begin, end))
        return contig


class LiveIndex:
    """Takes the records in the order in which they are written, behind the ``header``.

    Until ``write`` a place is a byte of the text, since the blocks that hold it are yet to be compressed.
    """

    def __init__(self, header: Sequence[bytes]) -> None:
        self._at = sum(len(line) + 1 for line in header)
        self._contigs: dict[bytes, _Contig] = {}
        self._chrom: bytes | None = None
        self._start = 0
        #: Whether there can still be an index.
        self.possible = tbi_reaches(header)

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

        ``runs``: contig and number of consecutive records. ``starts``, ``ends`` and ``offsets``, one item a
        record: where it begins and ends on its contig, and where its line begins in the block. ``plain``:
        whether that is so, and the starts of each run are in order.
        """
        self.possible = self.possible and plain
        first = 0
        for chrom, number in runs:
            beyond = first + number
            if not (self.possible and self._follows(chrom, starts[first])):
                self.possible = False
                return
            end = offsets[beyond] if beyond < len(offsets) else size
            self._place(self._contigs[chrom], starts, ends, offsets, (first, beyond), self._at + end)
            self._start = starts[beyond - 1]
            first = beyond
        self._at += size

    def write(self, path: Path, blocks: Sequence[int]) -> bool:
        """Write the index to ``path``, if it could be made: whether it was.

        ``blocks`` are the bytes at which the file's blocks begin, full ones all but the last, and the
        end-of-file block.
        """

        def offset(place: int) -> int:
            number, within = divmod(place, PAYLOAD)
            return blocks[number] << 16 | within if place < self._at else blocks[-1] << 16

        if self.possible:
            contigs = (contig.whole() for contig in self._contigs.values())
            write_tbi_contigs(path, self._contigs, contigs, offset)
        return self.possible

    def _follows(self, chrom: bytes, start: int) -> bool:
        """Whether a record on that contig may come next."""
        if chrom == self._chrom:
            return self._start <= start
        if chrom in self._contigs:
            return False
        self._chrom, self._contigs[chrom] = chrom, _Contig()
        return True

    def _place(
        self,
        contig: _Contig,
        starts: Sequence[int],
        ends: Sequence[int],
        offsets: Sequence[int],
        run: tuple[int, int],
        end: int,
    ) -> None:
        """Add the records of a run, first to beyond the last, which end at the byte ``end``.

        Those that lie in one window go into its bin together; where one leaves the window, each by itself.
        """
        at, (first, beyond) = self._at, run
        contig.begin = contig.begin or at + offsets[first]
        contig.records += beyond - first
        while first < beyond:
            window = starts[first] >> WINDOW
            border = window + 1 << WINDOW
            behind = bisect_left(starts, border, first, beyond)
            farthest = max(ends[first:behind])
            if farthest > LIMIT:
                self.possible = False
                return
            step = behind - first if farthest <= border else 1
            for number in range(first, behind, step):
                last = max(window, ends[number] - 1 >> WINDOW)
                after = at + offsets[number + step] if number + step < beyond else end
                contig.add(_smallest(window, last), last, at + offsets[number], after)
            first = behind
        contig.end = end


def _smallest(first: int, last: int) -> int:
    """The smallest bin that holds these windows (tabix specification, reg2bin)."""
    number = _FIRST
    while first != last:
        first, last, number = first >> 3, last >> 3, number - 1 >> 3
    return number + first


@dataclass(frozen=True)
class OffsetMap:
    """Where the records of a piece lie in the joined file.

    The records that share the piece's block at byte ``first`` with the header's end, from byte ``within`` of
    its payload on, are in a block of their own at byte ``start`` there. All later blocks are ``shift`` bytes
    further on, up to the one at byte ``end``, which ends the piece.
    """

    first: int
    within: int
    start: int
    shift: int
    end: int

    def of(self, offset: int) -> int:
        """The virtual offset in the joined file; 0, which says nothing, stays 0."""
        block = offset >> 16
        if block > self.first:
            return min(offset, self.end << 16) + (self.shift << 16)
        return (self.start << 16) + max(0, (offset & 0xFFFF) - self.within) if offset else 0


class JoinedIndex:
    """Takes the index of each piece in order; where one was missing or does not fit, there is nothing."""

    def __init__(self) -> None:
        self._contigs: dict[bytes, TbiContig] = {}
        self._last: tuple[bytes, int] = (b"", 0)
        self._whole = True

    def add(self, piece: Path, index: Path | None, place: OffsetMap | None) -> None:
        """Add the piece, whose index and place in the joined file are None where there is none."""
        try:
            self._whole = (
                self._whole
                and index is not None
                and place is not None
                and self._add(piece, read_tbi(index), place)
            )
        except (OSError, ValueError):  # what cannot be read is as good as missing
            self._whole = False

    def write(self, path: Path) -> None:
        """Write the index of the joined file to ``path``, if it could be made."""
        if self._whole:
            write_tbi_contigs(path, self._contigs, self._contigs.values())

    def _add(self, piece: Path, contigs: dict[bytes, TbiContig], place: OffsetMap) -> bool:
        """Whether the piece could be added: it is sorted, as it has an index, and lies behind the others."""
        in_order = sorted(contigs, key=lambda name: contigs[name].begin)
        if not in_order:
            return True
        known = [name for name in in_order if name in self._contigs]
        first, last = contigs[in_order[0]], contigs[in_order[-1]]
        begins, ends = _position(piece, first.begin), _position(piece, _last(last), to_the_end=True)
        if known and not (known == in_order[:1] == [self._last[0]] and begins >= self._last[1]):
            return False
        for name in in_order:
            _append(self._contigs.setdefault(name, TbiContig()), contigs[name], place)
        self._last = in_order[-1], ends
        return True


def _last(contig: TbiContig) -> int:
    """Where the stretch begins that has the last record."""
    return max(max(stretches[::2]) for stretches in contig.bins.values())


def _append(whole: TbiContig, part: TbiContig, place: OffsetMap) -> None:
    """Add what a piece has of the contig behind what there is."""
    for number, stretches in part.bins.items():
        there, more = whole.bins.setdefault(number, []), list(map(place.of, stretches))
        if there and there[-1] >= more[0]:
            there.pop()
            del more[0]
        there += more
    whole.windows += map(place.of, part.windows[len(whole.windows) :])
    whole.begin = whole.begin or place.of(part.begin)
    whole.end = place.of(part.end)
    whole.records += part.records


def _position(piece: Path, offset: int, *, to_the_end: bool = False) -> int:
    """POS of the record at that virtual offset, or of the last from there on."""
    import pysam

    with pysam.BGZFile(str(piece), "rb", None) as file:
        file.seek(offset)
        line = file.readline()
        while to_the_end and (following := file.readline()):
            line = following
    return int(line.split(b"\t", 2)[1])


#: Fields of INFO that tell where a record ends: a position, or bases (VCF 4.5 §1.6.1.8).
_END = re.compile(rb"(?:^|;)END=(\d{1,19})(?:;|$)")
_SVLEN = re.compile(rb"(?:^|;)SVLEN=([^;]+)")
#: Digits of the largest 64-bit position.
_DIGITS = 19


def write_index(path: Path, name: str = "", *, csi: bool = False) -> Path:
    """Index the BGZF VCF or BCF at ``path``; the path of the index, published by rename beside it.

    A BCF's is .csi, a VCF's too where ``csi`` asks for it. The data file is not touched, and an index of the
    other kind, now stale, is removed. Raises InvalidInput, which names the record, where they are not
    sorted or one has a position that no index can hold.
    """
    name = name or str(path)
    for suffix in _kinds(path, name, csi):
        if _build(path, suffix):
            for other in {".tbi", ".csi"} - {suffix}:
                Path(f"{path}{other}").unlink(missing_ok=True)
            return Path(f"{path}{suffix}")
    raise _why_not(path, name)


def write_tbi(path: Path, live: LiveIndex, blocks: Sequence[int]) -> None:
    """Put a .tbi beside the BGZF VCF at ``path``, where one can hold its positions and it is sorted.

    It is the one that was made while the VCF was written in these ``blocks``, where it could be.
    """
    if not live.write(Path(f"{path}.tbi"), blocks) and _kinds(path, str(path), csi=False)[0] == ".tbi":
        _build(path, ".tbi")


def _kinds(path: Path, name: str, csi: bool) -> tuple[str, ...]:
    """Which indexes to try, the first that can be built."""
    with path.open("rb") as raw:
        if is_bcf(raw.read(HEAD)):
            return (".csi",)
        raw.seek(0)
        reader = VcfReader(raw, name)
    if reader.kind != "bgzf":
        raise InvalidInput(f"{name} cannot be indexed: it is not BGZF", "Write it with -O z")
    return (".csi",) if csi or not tbi_reaches(reader.header) else (".tbi", ".csi")


def _build(path: Path, suffix: str) -> bool:
    """Build that kind of index under a temporary name and publish it; False where htslib cannot."""
    import pysam

    final = Path(f"{path}{suffix}")
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.tabix_index(
            str(path),
            preset="vcf",
            force=True,
            keep_original=True,
            csi=suffix == ".csi",
            index=str(temporary),
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


def _why_not(path: Path, name: str) -> StepError:
    """The reason why no index could be built: htslib says it on stderr only."""
    try:
        with path.open("rb") as stored, open_vcf(path, name) as raw:
            fault, remedy = _first_fault(VcfReader(raw, name), bcf=is_bcf(stored.read(HEAD)))
    except OSError as error:
        return from_os(error, f"cannot index {name}")
    if not fault:
        # htslib refuses a record by hts_idx_push or hts_idx_check_range.
        command = [sys.executable, "-P", "-c", _PROGRAM, str(path), os.devnull]
        said = subprocess.run(command, capture_output=True, check=False).stderr.decode("utf-8", "replace")
        found = re.search(r"\[E::hts_idx_(?:push|check_range)\] (.+)", said)
        if found is None:
            return FileTrouble(
                f"cannot write the index of {name}", "Check the directory's mode and free space"
            )
        fault, remedy = f"records cannot be placed: {found[1]}", "Correct them, or use --no-write-index"
    return InvalidInput(f"{name} cannot be indexed: its {fault}", remedy)


_PROGRAM = """
import sys, pysam
pysam.set_verbosity(3)
pysam.tabix_index(sys.argv[1], preset="vcf", force=True, keep_original=True, csi=True, index=sys.argv[2])
"""


def csi_reach(header: Sequence[bytes], *, bcf: bool) -> int:
    """The bases of a contig that htslib lets a .csi address, by the longest contig of the header.

    htslib, ``tbx_index`` (at least six levels of bins above 16 kb) and ``bcf_idx_init`` (none).
    """
    longest = max(contig_lengths(header).values(), default=0)
    reach, longest = (1 << WINDOW, longest or (1 << 31) - 1) if bcf else (1 << 32, longest)
    while reach < longest + 256:
        reach <<= 3
    return reach


def _first_fault(reader: VcfReader, *, bcf: bool) -> tuple[str, str]:
    """The first record that is out of order, else the first that lies too far out, and the remedy.

    Of a BCF htslib takes a second record at POS 0 for one out of order (hts_idx_push). Records count as in
    IN, whose header has fewer lines. Both are empty where an index could be built.
    """
    contig, last, seen, other = b"", -1, set[bytes](), ""
    reach = csi_reach(reader.header, bcf=bcf)
    records = (line for lines in reader.blocks() for line in lines)
    for number, line in enumerate(records, 1):
        chrom, pos, *columns = [*line.split(b"\t", 8), *[b""] * 8][:8]
        position = int(pos) if pos.isdigit() and len(pos) <= _DIGITS else -1
        if (chrom != contig and chrom in seen) or (chrom == contig and position < last):
            fault = f"{_named(number, line)} is not in order of contig and position"
            return fault, "Sort it with `bcftools sort`, or use --no-write-index"
        if bcf and not other and chrom == contig and position == last == 0:
            other = f"{_named(number, line)} is the second at POS 0, which the index of a BCF cannot hold"
        if not other and max(position, _end(position, *columns)) > reach:
            other = f"{_named(number, line)} reaches beyond the {reach:,} bases that its index can hold"
        contig, last = chrom, position
        seen.add(chrom)
    return other, f"Correct the record, {'write a VCF with -O z, ' * bcf}or use --no-write-index"


def _end(
    position: int, _id: bytes, ref: bytes, alts: bytes, _qual: bytes, _filter: bytes, info: bytes
) -> int:
    """The last position of a record."""
    ends = [position - 1 + len(ref), *map(int, _END.findall(info))]
    if b"<" in alts and (lengths := _SVLEN.search(info)):
        sizes = (size.lstrip(b"-") for size in lengths[1].split(b","))
        ends += [position + int(size) for size in sizes if size.isdigit() and len(size) <= _DIGITS]
    return max(ends)


def _named(number: int, line: bytes) -> str:
    place = b":".join(line.split(b"\t", 2)[:2]).decode("utf-8", "backslashreplace")
    return f"record {number} ({place})"
