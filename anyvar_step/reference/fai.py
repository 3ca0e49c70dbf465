"""FASTA index files (.fai, and .gzi for BGZF): found or built, read and checked.

Format: samtools faidx(5) — name, length, offset of the first base, bases per line, bytes per line.
"""

from __future__ import annotations

import logging
import struct
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from anyvar_step.errors import ConfigurationError
from anyvar_step.reference import places

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One line of a .fai file; lengths in bases, offsets and widths in bytes of the uncompressed file."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    @property
    def end(self) -> int:
        """Offset just behind the last base."""
        return (
            self.offset
            + self.length
            + (self.length - 1) // self.line_bases * (self.line_width - self.line_bases)
        )


def prepare(fasta: Path, *, blocked: bool) -> list[Path]:
    """The index files of a FASTA, built where they are missing or older than it: [.fai] or [.fai, .gzi].

    Raises ConfigurationError where the FASTA cannot be indexed, or the index cannot be written.
    """
    suffixes = (".fai", ".gzi") if blocked else (".fai",)
    changed = fasta.stat().st_mtime_ns

    def fresh(file: Path) -> bool:
        return file.stat().st_mtime_ns >= changed

    if found := places.find(fasta, suffixes, fresh):
        return found
    with places.one_at_a_time(fasta):
        if found := places.find(fasta, suffixes, fresh):
            return found
        _log.info("indexing %s: its index is missing or older than the file", fasta)
        try:
            return places.publish(fasta, suffixes, lambda drafts: _build(fasta, drafts))
        except OSError as error:
            raise ConfigurationError(
                f"the index of {fasta} is missing or older than the file, and cannot be written: {error}",
                f"Run `samtools faidx {fasta}` where the folder can be written",
            ) from None


def _build(fasta: Path, drafts: list[Path]) -> None:
    import pysam
    import pysam.utils

    options = [
        word for pair in zip(("--fai-idx", "--gzi-idx"), map(str, drafts), strict=False) for word in pair
    ]
    # htslib writes its own lines to stderr; ours says the same with the remedy.
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.faidx(*options, str(fasta))
    except pysam.utils.SamtoolsError:
        raise ConfigurationError(
            f"{fasta} cannot be indexed: it is truncated or damaged, no FASTA, or the lines of a sequence "
            "differ in length",
            "Check BGZF with `bgzip -t`; write all lines of a sequence with the same number of bases",
        ) from None
    finally:
        pysam.set_verbosity(verbosity)


def read(file: Path) -> list[Entry]:
    """The entries of a .fai file, checked for numbers that no FASTA can have.

    Raises ConfigurationError with file and line.
    """
    entries: list[Entry] = []
    names: set[str] = set()
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        columns = line.split("\t")
        try:
            entry = Entry(columns[0], *(int(column) for column in columns[1:5]))
        except (TypeError, ValueError):
            raise corrupt(file, f"line {number} does not hold a name and four numbers") from None
        extra = entry.line_width - entry.line_bases
        if min(entry[1:]) < 0 or (entry.length and (entry.line_bases < 1 or extra not in (0, 1, 2))):
            raise corrupt(file, f"line {number} ({entry.name}) has impossible numbers")
        if entry.name in names:
            raise corrupt(file, f"{entry.name} stands there twice")
        names.add(entry.name)
        if entry.length:
            entries.append(entry)
    if not entries:
        raise corrupt(file, "it names no sequence")
    return entries


def read_gzi(file: Path) -> list[tuple[int, int]]:
    """(compressed, uncompressed) offsets at which BGZF blocks begin, the first block included.

    Format: bgzip(1), a count and that many pairs of little-endian 64-bit numbers. Raises ConfigurationError.
    """
    data = file.read_bytes()
    count = int.from_bytes(data[:8], "little")
    if len(data) < 8 or len(data) != 8 + 16 * count:
        raise corrupt(file, "its length does not fit its count of blocks")
    pairs = [(0, 0), *struct.iter_unpack("<QQ", data[8:])]
    if any(a[0] >= b[0] or a[1] > b[1] for a, b in pairwise(pairs)):
        raise corrupt(file, "its offsets do not grow")
    return pairs


def corrupt(file: Path, why: str) -> ConfigurationError:
    """The error for an index that is not the FASTA's."""
    return ConfigurationError(
        f"{file} is not the index of this FASTA: {why}", "Delete it, and it is built anew"
    )
