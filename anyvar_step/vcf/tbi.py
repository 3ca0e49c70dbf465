"""The .tbi index (tabix specification) of a BGZF VCF: what it holds, read and written.

For each contig it says which stretches of the file have a bin's records, and where the first record begins
that lies in each window of 16,384 bases. A place in the file is a virtual offset: the byte at which a BGZF
block begins, in its upper 48 bits, and the byte within its payload.
"""

from __future__ import annotations

import gzip
import itertools
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyvar_step.vcf.bgzf import EOF_BLOCK, BgzfWriter
from anyvar_step.vcf.header import contig_lengths

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
class Contig:
    """Where its records lie: begin, end, begin, end of each bin's stretches; by window; and in all."""

    bins: dict[int, list[int]] = field(default_factory=dict)
    windows: MutableSequence[int] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    records: int = 0


def reaches(header: Sequence[bytes]) -> bool:
    """Whether it can address all contigs, as far as the header tells their lengths."""
    return max(contig_lengths(header).values(), default=0) <= LIMIT


def read(path: Path) -> dict[bytes, Contig]:
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


def copy(source: Path, target: Path) -> None:
    """Copy a VCF's index; nothing where it cannot be read or is damaged, since another can be made."""
    try:
        data = source.read_bytes()
        sound = gzip.decompress(data).startswith(_MAGIC) and data.endswith(EOF_BLOCK)
    except (OSError, EOFError, zlib.error):
        return
    if sound:
        target.write_bytes(data)


def write(path: Path, names: Collection[bytes], contigs: Iterable[Contig], offset: Offset = int) -> None:
    """Write the index of the contigs of these names, each gone through once.

    ``offset`` makes virtual offsets of theirs, where they are others.
    """
    together = b"".join(name + b"\0" for name in names)
    with path.open("wb") as raw, BgzfWriter(raw) as out:
        out.write(_HEAD.pack(_MAGIC, len(names), *VCF, len(together)) + together)
        for contig in contigs:
            out.write(_packed(contig, offset))
        out.write(bytes(8))  # records without a place


def _contig(data: bytes, at: int) -> tuple[Contig, int]:
    """The contig at that byte, and where the next one is."""
    contig = Contig()
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


def _packed(contig: Contig, offset: Offset) -> bytes:
    """The contig as it stands in the index."""
    meta = offset(contig.begin), offset(contig.end), contig.records, 0
    bins = ((number, list(map(offset, stretches))) for number, stretches in contig.bins.items())
    parts = [_COUNT.pack(len(contig.bins) + 1)]
    for number, stretches in itertools.chain(bins, [(_META, meta)]):
        parts += (_BIN.pack(number, len(stretches) // 2), struct.pack(f"<{len(stretches)}Q", *stretches))
    windows = list(map(offset, contig.windows))
    parts += (_COUNT.pack(len(windows)), struct.pack(f"<{len(windows)}Q", *windows))
    return b"".join(parts)
