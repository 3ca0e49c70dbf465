"""The records of a VCF by column: what can be done for many at once costs least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from anyvar_step.reference.base import Contig


class Columns(NamedTuple):
    """What the annotator needs of records on one contig; ``tab`` is what stands between INFO and FORMAT.

    ``start`` is POS - 1, ``base`` what the contig has there. Where there are no genotypes ``calls`` and
    ``tab`` are empty.
    """

    pos: Sequence[bytes]
    start: Sequence[int]
    base: bytes
    ref: Sequence[bytes]
    alts: Sequence[bytes]
    info: Sequence[bytes]
    calls: Iterable[bytes]
    tab: bytes


def by_columns(contig: Contig, records: Sequence[list[bytes]]) -> Columns | None:
    """Records of one contig, each split at its first eight tabs, by column.

    None where one of them must be looked at by itself: it has fewer columns than the others, or than a VCF
    has, or its POS is no position on the contig.
    """
    try:
        columns = list(zip(*records, strict=True))
        _, pos, _, ref, alts, _, _, info, *calls = columns
        starts = [int(text) - 1 for text in pos]
    except ValueError:
        return None
    if not b"".join(pos).isdigit() or min(starts) < 0 or max(starts) >= contig.length:
        return None
    bases = contig.bases(starts)
    if calls:
        return Columns(pos, starts, bases, ref, alts, info, calls[0], b"\t")
    return Columns(pos, starts, bases, ref, alts, info, repeat(b"", len(records)), b"")
