"""The .tbi of a VCF that was joined from pieces, made of the pieces' own: the joined file is not read again.

BGZF blocks are joined as they are, so that their offsets are shifted. A .csi keeps no windows from which one
of the whole could be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyvar_step.vcf import tbi
from anyvar_step.vcf.tbi import Contig


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


class JoinedIndex:
    """Takes the index of each piece in order; where one was missing or does not fit, there is nothing."""

    def __init__(self) -> None:
        self._contigs: dict[bytes, Contig] = {}
        self._last: tuple[bytes, int] = (b"", 0)
        self._whole = True

    def add(self, piece: Path, index: Path | None, place: Place | None) -> None:
        """Add the piece, whose index and place in the joined file are None where there is none."""
        try:
            self._whole = (
                self._whole
                and index is not None
                and place is not None
                and self._add(piece, tbi.read(index), place)
            )
        except (OSError, ValueError):  # what cannot be read is as good as missing
            self._whole = False

    def write(self, path: Path) -> None:
        """Write the index of the joined file to ``path``, if it could be made."""
        if self._whole:
            tbi.write(path, self._contigs, self._contigs.values())

    def _add(self, piece: Path, contigs: dict[bytes, Contig], place: Place) -> bool:
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
            _append(self._contigs.setdefault(name, Contig()), contigs[name], place)
        self._last = in_order[-1], ends
        return True


def _last(contig: Contig) -> int:
    """Where the stretch begins that has the last record."""
    return max(max(stretches[::2]) for stretches in contig.bins.values())


def _append(whole: Contig, part: Contig, place: Place) -> None:
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
