"""The lines of one block in pieces, until the identifiers that belong between them are known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

from anyvar_step.vrs.old_digest import STRIDE

#: Pieces of a line: what comes before the field of identifiers, its name, the identifiers, two parts of what
#: follows them in INFO, the tab before FORMAT, FORMAT and genotypes, the line end.
PIECES = 8
_IDS = 2


class Rows:
    """Lines in their order; ``widths`` are the bytes that each one's identifiers take in ``Block.ids``.

    ``kinds`` are those of all ALTs. The annotator's fast path adds to these itself.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.widths: list[int] = []
        self.kinds: list[str] = []
        self._gaps: dict[int, Sequence[object]] = {}

    def __len__(self) -> int:
        return len(self.widths)

    def add(
        self,
        head: bytes,
        name: bytes = b"",
        alleles: Sequence[object] = (),
        rest: bytes = b"",
        tab: bytes = b"",
        calls: bytes = b"",
    ) -> None:
        """Add a line by its pieces; of its ``alleles`` those that are None have no identifier."""
        number = len(alleles)
        if None in alleles:
            self._gaps[len(self.widths)] = alleles
            number -= sum(allele is None for allele in alleles)
        self.pieces += (head, name, b"", rest, b"", tab, calls, b"\n")
        self.widths.append(number * STRIDE)

    def text(self, ids: bytes) -> bytes:
        """All lines with their identifiers, ``ids`` being those of the block's alleles."""
        ends = list(accumulate(self.widths))
        spans = zip(chain((0,), ends), ends)  # noqa: B905 - the last end begins nothing
        found = [ids[begin + 1 : end] for begin, end in spans]
        for index, alleles in self._gaps.items():
            known = iter(found[index].split(b","))
            found[index] = b",".join([b"." if allele is None else next(known) for allele in alleles])
        self.pieces[_IDS::PIECES] = found
        return b"".join(self.pieces)
