"""VCFs that others ship in the sources of their packages, and a reference that agrees with each of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pysam
import pysam.bcftools
from oracle.sparse import Sparse
from vrs_oracle import NUCLEOTIDES

from anyvar_step.vcf.header import contig_lengths

#: Bases behind the last REF.
MARGIN = 1000


def find(folder: Path) -> list[Path]:
    """The files below ``folder`` that are VCF or BCF by their first bytes, compressed or not."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and _begins_well(path))


def _begins_well(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as packed:
                head = packed.read(16)
        except (OSError, EOFError):
            return False
    return head.startswith((b"##fileformat=VCF", b"BCF\x02"))


def bcftools_reads(path: Path) -> bool:
    """Whether ``bcftools view`` takes it."""
    done = subprocess.run(["bcftools", "view", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def split_lines(path: Path) -> list[bytes]:
    """Its lines with LF line ends; of a BCF those of the VCF that htslib makes of it."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data.startswith(b"BCF"):
        data = pysam.bcftools.view("--no-version", str(path)).encode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
    return data.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")


class SparseContig:
    """One contig of a sparse reference (see ``reference.protocols.Contig``)."""

    def __init__(self, name: str, length: int, patches: list[tuple[int, str]]) -> None:
        digest = hashlib.sha512(f"{name} {length} {patches}".encode()).digest()[:24]
        self.name = name
        self.accession = "SQ." + base64.urlsafe_b64encode(digest).decode()
        self.length = length
        self.patches = patches
        self._sequence = Sparse(length, patches)

    def fetch(self, start: int, end: int) -> bytes:
        return self._sequence.fetch(start, end).encode("ascii")

    def bases(self, positions: Sequence[int]) -> bytes:
        return b"".join(self.fetch(position, position + 1) for position in positions)


class SparseReference:
    """Contigs that have what the REF of each record says; where two disagree, what the first says.

    They are as long as the header declares, or as the records need where that is twice as much.
    """

    assembly = "GRCh38"

    def __init__(self, lines: Sequence[bytes]) -> None:
        declared = contig_lengths(lines)
        self._contigs = {
            name: SparseContig(name, length if length >= 2 * (n := declared.get(name, 0)) else n, patches)
            for name, (length, patches) in _contents(lines)
        }

    def contig(self, name: str) -> SparseContig | None:
        return self._contigs.get(name)

    def contigs(self) -> list[SparseContig]:
        return list(self._contigs.values())

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, path: Path) -> Path:
        """The same for the reference implementation."""
        known = {
            contig.name: {"accession": contig.accession, "length": contig.length, "patches": contig.patches}
            for contig in self._contigs.values()
        }
        path.write_text(json.dumps(known))
        return path


def _contents(records: Iterable[bytes]) -> Iterator[tuple[str, tuple[int, list[tuple[int, str]]]]]:
    """Name, length and patches of each contig."""
    known: dict[str, dict[int, str]] = {}
    ends: dict[str, int] = {}
    for line in records:
        columns = line.split(b"\t", 5)
        if line.startswith(b"#") or len(columns) < 6 or not columns[1].isdigit():
            continue
        name, start = columns[0].decode("utf-8", "backslashreplace"), int(columns[1]) - 1
        bases = known.setdefault(name, {})
        ends[name] = max(ends.get(name, 0), start + len(columns[3]))
        if NUCLEOTIDES.fullmatch(columns[3]):
            for place, base in enumerate(columns[3].decode("ascii").upper(), start):
                bases.setdefault(place, base)
    for name, bases in known.items():
        patches: list[tuple[int, str]] = []
        for place in sorted(bases):
            if patches and place == patches[-1][0] + len(patches[-1][1]):
                patches[-1] = (patches[-1][0], patches[-1][1] + bases[place])
            else:
                patches.append((place, bases[place]))
        yield name, (ends[name] + MARGIN, patches)
