"""The lines of one block in pieces, until the identifiers of their alleles are known and stand between them."""

from __future__ import annotations

from itertools import accumulate, chain
from typing import NamedTuple

from anyvar_step.vrs.digest import STRIDE

#: Pieces of a line: what comes before the field of identifiers, its name, the identifiers, what follows
#: them in INFO, the tab before FORMAT, FORMAT and genotypes, the line end.
PIECES = 7
_IDS = 2


class Row(NamedTuple):
    """A line without its identifiers, as the pieces say; ``has`` tells which alleles have one."""

    head: bytes
    name: bytes = b""
    has: tuple[bool, ...] = ()
    rest: bytes = b""
    tab: bytes = b""
    calls: bytes = b""


class Rows:
    """Lines in their order; ``widths`` are the bytes that each one's identifiers take in ``Block.ids``.

    The annotator's fast path adds to ``pieces`` and ``widths`` itself.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.widths: list[int] = []
        self._gaps: dict[int, tuple[bool, ...]] = {}

    def __len__(self) -> int:
        return len(self.widths)

    def add(self, row: Row) -> None:
        """Add a line."""
        if False in row.has:
            self._gaps[len(self)] = row.has
        self.pieces += (row.head, row.name, b"", row.rest, row.tab, row.calls, b"\n")
        self.widths.append(sum(row.has) * STRIDE)

    def text(self, ids: bytes) -> bytes:
        """All lines with their identifiers, ``ids`` being those of the block's alleles."""
        ends = list(accumulate(self.widths))
        spans = zip(chain((0,), ends), ends)  # noqa: B905 - the last end begins nothing
        found = [ids[begin + 1 : end] for begin, end in spans]
        for index, has in self._gaps.items():
            known = iter(found[index].split(b","))
            found[index] = b",".join([next(known) if one else b"." for one in has])
        self.pieces[_IDS::PIECES] = found
        return b"".join(self.pieces)
