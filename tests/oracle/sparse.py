"""Contigs that agree with a VCF and hold no more than its REF alleles: the rest is made up base by base.

For our tests and for the reference implementation's environment alike.
"""

from __future__ import annotations

from bisect import bisect_left

#: Background bases repeat after so many, which no allele of the corpus does.
_PERIOD = 1 << 16
_BACKGROUND = "".join("ACGT"[(i * i * 2654435761 >> 15) & 3] for i in range(_PERIOD))


class Sparse:
    """One sequence of ``length`` bases: ``patches`` are (start, bases), sorted, apart from each other."""

    def __init__(self, length: int, patches: list[tuple[int, str]]) -> None:
        self.length = length
        self._patches = patches
        self._ends = [start + len(bases) for start, bases in patches]

    def fetch(self, start: int, end: int) -> str:
        """The bases of [start, end), cut off at ``length``; nothing where start < 0."""
        end = min(end, self.length)
        if start < 0 or start >= end:
            return ""
        phase = start % _PERIOD
        turns = (phase + end - start) // _PERIOD + 1
        bases = list((_BACKGROUND * turns)[phase : phase + end - start])
        for place in range(bisect_left(self._ends, start + 1), len(self._patches)):
            begin, patch = self._patches[place]
            if begin >= end:
                break
            cut = patch[max(start - begin, 0) : end - begin]
            at = max(begin - start, 0)
            bases[at : at + len(cut)] = cut
        return "".join(bases)
