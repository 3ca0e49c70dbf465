"""The .tbi of a VCF made while it is written: nothing is decompressed and read again.

It is htslib's index for records whose end POS and REF tell. Where symbolic alleles, END or SVLEN do, records
are not sorted, or lie beyond what .tbi can hold, there is none, and htslib is the one to make it or to say
what is wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from anyvar_step.vcf import tbi
from anyvar_step.vcf.bgzf import PAYLOAD
from anyvar_step.vcf.tbi import LIMIT, WINDOW, Contig

#: The first of the bins of one window.
_FIRST = 4681
#: What tells an end in INFO.
_ENDS = (b"END=", b"SVLEN=")


@dataclass
class _Contig:
    """Where a contig's records lie, in little memory: bin, begin and end of each stretch in turn."""

    begin: int
    end: int
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

    def whole(self) -> Contig:
        """The same by bin."""
        contig = Contig({}, self.windows, self.begin, self.end, self.records)
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
        self._chrom = b""
        self._start = 0
        #: Whether there can still be an index.
        self.possible = tbi.reaches(header)

    def add(
        self,
        chrom: bytes,
        starts: Sequence[int],
        refs: Sequence[bytes],
        alts: Sequence[bytes],
        infos: Sequence[bytes],
        lines: Sequence[bytes],
    ) -> None:
        """Add records of one contig, by column: POS - 1, REF, ALT, INFO as it was or is, and the lines."""
        if self.possible and self._follows(chrom, starts) and _plain(alts, infos):
            self._place(starts, refs, lines)
        else:
            self.possible = False

    def add_lines(self, chrom: bytes, lines: Sequence[bytes]) -> None:
        """Add records of one contig by their lines alone."""
        if self.possible:
            _, pos, _, refs, alts, _, _, infos = zip(
                *(line.split(b"\t", 8)[:8] for line in lines), strict=True
            )
            starts = [int(text) - 1 for text in pos]
            self.possible = min(starts) >= 0
            self.add(chrom, starts, refs, alts, infos, lines)

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
            tbi.write(path, self._contigs, contigs, offset)
        return self.possible

    def _follows(self, chrom: bytes, starts: Sequence[int]) -> bool:
        """Whether the records are in order, and behind those before."""
        if chrom != self._chrom:
            if chrom in self._contigs:
                return False
            self._contigs[chrom] = _Contig(self._at, self._at)
            self._chrom, self._start = chrom, 0
        before, self._start = self._start, starts[-1]
        return before <= starts[0] and list(starts) == sorted(starts)

    def _place(self, starts: Sequence[int], refs: Sequence[bytes], lines: Sequence[bytes]) -> None:
        """Put stretches of records in one window into its bin, and those across its border into theirs."""
        contig, longest, count = self._contigs[self._chrom], max(map(len, refs)), len(starts)
        places = list(accumulate([len(line) + 1 for line in lines], initial=self._at))
        if starts[-1] + longest > LIMIT:
            self.possible = False
            return
        done = 0
        while done < count:
            window = starts[done] >> WINDOW
            border = window + 1 << WINDOW
            beyond = bisect_left(starts, border, done)
            for number in range(bisect_left(starts, border - longest + 1, done, beyond), beyond):
                last = starts[number] + len(refs[number]) - 1 >> WINDOW
                if last > window:
                    if number > done:
                        contig.add(_FIRST + window, window, places[done], places[number])
                    crossing = _smallest(window, last)
                    contig.add(crossing, last, places[number], places[number + 1])
                    done = number + 1
            if beyond > done:
                contig.add(_FIRST + window, window, places[done], places[beyond])
            done = beyond
        self._at = contig.end = places[-1]
        contig.records += count


def _smallest(first: int, last: int) -> int:
    """The smallest bin that holds these windows (tabix specification, reg2bin)."""
    number = _FIRST
    while first != last:
        first, last, number = first >> 3, last >> 3, number - 1 >> 3
    return number + first


def _plain(alts: Sequence[bytes], infos: Sequence[bytes]) -> bool:
    """Whether nothing but REF tells where these records end."""
    info = b"\t".join(infos)
    return b"<" not in b"\t".join(alts) and not any(end in info for end in _ENDS)
