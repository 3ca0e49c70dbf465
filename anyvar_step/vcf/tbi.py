"""The .tbi of a VCF that was joined from pieces, made of the pieces' own: the joined file is not read again.

A .tbi (tabix specification) holds for each contig which stretches of the file have a bin's records, and
where the first record of each window of 16,384 bases begins, all in virtual offsets: the byte of a BGZF
block, and the byte within its payload. Blocks are joined as they are, so that theirs are shifted. A .csi
keeps no windows from which one of the whole could be made.
"""

from __future__ import annotations

import gzip
import itertools
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from anyvar_step.vcf.bgzf import EOF_BLOCK, compressed

_MAGIC = b"TBI\1"
#: Number of contigs; format, columns of CHROM, POS and the end, comment sign, lines to skip; bytes of names.
_HEAD = struct.Struct("<4s8i")
_BIN = struct.Struct("<Ii")
_COUNT = struct.Struct("<i")
#: The bin that is none: where the contig begins and ends, and how many records it has.
_META = 37450


@dataclass(frozen=True)
class Place:
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


@dataclass
class _Contig:
    """Where its records lie: begin, end, begin, end of each bin's stretches; by window; and in all."""

    bins: dict[int, list[int]] = field(default_factory=dict)
    windows: list[int] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    records: int = 0

    def last(self) -> int:
        """Where the stretch begins that has the last record."""
        return max(max(stretches[::2]) for stretches in self.bins.values())

    def add(self, other: _Contig, place: Place) -> None:
        """Add what another piece has of the contig, behind what there is."""
        for number, stretches in other.bins.items():
            mine, theirs = self.bins.setdefault(number, []), list(map(place.of, stretches))
            if mine and mine[-1] >= theirs[0]:
                mine.pop()
                del theirs[0]
            mine += theirs
        self.windows += map(place.of, other.windows[len(self.windows) :])
        self.begin = self.begin or place.of(other.begin)
        self.end = place.of(other.end)
        self.records += other.records

    def packed(self) -> bytes:
        """As it stands in the index."""
        meta = (self.begin, self.end, self.records, 0)
        bins = itertools.chain(self.bins.items(), [(_META, meta)])
        parts = [_COUNT.pack(len(self.bins) + 1)]
        for number, stretches in bins:
            parts += (_BIN.pack(number, len(stretches) // 2), struct.pack(f"<{len(stretches)}Q", *stretches))
        parts += (_COUNT.pack(len(self.windows)), struct.pack(f"<{len(self.windows)}Q", *self.windows))
        return b"".join(parts)


class JoinedIndex:
    """Takes the index of each piece in order; where one was missing or does not fit, there is nothing."""

    def __init__(self) -> None:
        self._contigs: dict[bytes, _Contig] = {}
        self._format: tuple[int, ...] = ()
        self._last: tuple[bytes, int] = (b"", 0)
        self._whole = True

    def add(self, piece: Path, index: Path | None, place: Place | None) -> None:
        """Add the piece, whose index and place in the joined file are None where there is none."""
        try:
            self._whole = self._whole and index is not None and place is not None
            if self._whole and index is not None and place is not None:
                self._whole = self._add(piece, index, place)
        except (OSError, EOFError, zlib.error, struct.error):  # what cannot be read is as good as missing
            self._whole = False

    def write(self, path: Path) -> None:
        """Write the index of the joined file to ``path``, if it could be made."""
        if self._whole and self._format:
            names = b"".join(name + b"\0" for name in self._contigs)
            head = _HEAD.pack(_MAGIC, len(self._contigs), *self._format, len(names))
            contigs = (contig.packed() for contig in self._contigs.values())
            path.write_bytes(compressed(b"".join((head, names, *contigs, bytes(8)))) + EOF_BLOCK)

    def _add(self, piece: Path, index: Path, place: Place) -> bool:
        """Whether the piece could be added: it is sorted, as it has an index, and lies behind the others."""
        form, contigs = _read(index)
        if self._format not in ((), form):
            return False
        self._format = form
        in_order = sorted(contigs, key=lambda name: contigs[name].begin)
        if not in_order:
            return True
        known = [name for name in in_order if name in self._contigs]
        first, last = contigs[in_order[0]], contigs[in_order[-1]]
        begins, ends = _position(piece, first.begin), _position(piece, last.last(), to_the_end=True)
        if known and not (known == in_order[:1] == [self._last[0]] and begins >= self._last[1]):
            return False
        for name in in_order:
            self._contigs.setdefault(name, _Contig()).add(contigs[name], place)
        self._last = in_order[-1], ends
        return True


def _position(piece: Path, offset: int, *, to_the_end: bool = False) -> int:
    """POS of the record at that virtual offset, or of the last from there on."""
    import pysam

    with pysam.BGZFile(str(piece), "rb", None) as file:
        file.seek(offset)
        line = file.readline()
        while to_the_end and (following := file.readline()):
            line = following
    return int(line.split(b"\t", 2)[1])


def _read(path: Path) -> tuple[tuple[int, ...], dict[bytes, _Contig]]:
    """The format (columns and signs) and the contigs of an index; one of several errors where it is none."""
    data = gzip.decompress(path.read_bytes())
    magic, number, *form, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise OSError(f"{path} is no .tbi")
    at = _HEAD.size + length
    names = data[_HEAD.size : at].split(b"\0")
    contigs = {}
    for name in names[:number]:
        contigs[name], at = _contig(data, at)
    return tuple(form), contigs


def _contig(data: bytes, at: int) -> tuple[_Contig, int]:
    """The contig at that byte, and where the next one is."""
    contig = _Contig()
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
