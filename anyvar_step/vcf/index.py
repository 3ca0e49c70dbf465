"""The index of a BGZF VCF or a BCF: .tbi, or .csi where a position is beyond what .tbi can hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from anyvar_step.errors import FileTrouble, InvalidInput, StepError, from_os
from anyvar_step.vcf import tbi
from anyvar_step.vcf.bcf import HEAD, is_bcf, open_vcf
from anyvar_step.vcf.live_index import LiveIndex
from anyvar_step.vcf.stream import VcfReader

#: From here on the reach of a .csi depends on what lengths the header declares (htslib, tbx_index).
FARTHEST = 1 << 31
_END = re.compile(rb"(?:^|;)END=(\d{1,19})(?:;|$)")
#: Digits of the largest 64-bit position.
_DIGITS = 19


def write_index(path: Path, name: str = "", *, csi: bool = False) -> Path:
    """Index the BGZF VCF or BCF at ``path``; the path of the index, published by rename beside it.

    A BCF's is .csi, a VCF's too where ``csi`` asks for it. The data file is not touched, and an index of the
    other kind, now stale, is removed. Raises InvalidInput, which names the record, where they are not
    sorted or one has a position that no index can hold.
    """
    name = name or str(path)
    for suffix in _kinds(path, name, csi):
        if _build(path, suffix):
            for other in {".tbi", ".csi"} - {suffix}:
                Path(f"{path}{other}").unlink(missing_ok=True)
            return Path(f"{path}{suffix}")
    raise _why_not(path, name)


def write_tbi(path: Path, live: LiveIndex, blocks: Sequence[int]) -> None:
    """Put a .tbi beside the BGZF VCF at ``path``, where one can hold its positions and it is sorted.

    It is the one that was made while the VCF was written in these ``blocks``, where it could be.
    """
    if not live.write(Path(f"{path}.tbi"), blocks) and _kinds(path, str(path), csi=False)[0] == ".tbi":
        _build(path, ".tbi")


def _kinds(path: Path, name: str, csi: bool) -> tuple[str, ...]:
    """Which indexes to try, the first that can be built."""
    with path.open("rb") as raw:
        if is_bcf(raw.read(HEAD)):
            return (".csi",)
        raw.seek(0)
        reader = VcfReader(raw, name)
    if reader.kind != "bgzf":
        raise InvalidInput(f"{name} cannot be indexed: it is not BGZF", "Write it with -O z")
    return (".csi",) if csi or not tbi.reaches(reader.header) else (".tbi", ".csi")


def _build(path: Path, suffix: str) -> bool:
    """Build that kind of index under a temporary name and publish it; False where htslib cannot."""
    import pysam

    final = Path(f"{path}{suffix}")
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.tabix_index(
            str(path),
            preset="vcf",
            force=True,
            keep_original=True,
            csi=suffix == ".csi",
            index=str(temporary),
        )
        newest = max(path.stat().st_mtime_ns, temporary.stat().st_mtime_ns)
        os.utime(temporary, ns=(newest, newest))
        temporary.replace(final)
    except OSError:
        return False
    finally:
        pysam.set_verbosity(verbosity)
        temporary.unlink(missing_ok=True)
    return True


def _why_not(path: Path, name: str) -> StepError:
    """The reason why no index could be built: htslib says it on stderr only."""
    try:
        with open_vcf(path, name) as raw:
            fault, remedy = _first_fault(VcfReader(raw, name))
    except OSError as error:
        return from_os(error, f"cannot index {name}")
    if fault:
        return InvalidInput(f"{name} cannot be indexed: its {fault}", remedy)
    return FileTrouble(f"cannot write the index of {name}", "Check the directory's mode and free space")


def _first_fault(reader: VcfReader) -> tuple[str, str]:
    """The first record that is out of order, else the first that lies too far out, and the remedy.

    Records count as in IN, whose header has fewer lines. Both are empty where an index could be built.
    """
    contig, last, seen, too_far = b"", 0, set[bytes](), ""
    records = (line for lines in reader.blocks() for line in lines)
    for number, line in enumerate(records, 1):
        chrom, pos, *others = [*line.split(b"\t", 8), b""]
        position = int(pos) if pos.isdigit() and len(pos) <= _DIGITS else -1
        if (chrom != contig and chrom in seen) or (chrom == contig and position < last):
            fault = f"{_named(number, line)} is not in order of contig and position"
            return fault, "Sort it with `bcftools sort`, or use --no-write-index"
        if not too_far and max(position, *map(int, _END.findall(b"".join(others[5:6]))), 0) >= FARTHEST:
            too_far = f"{_named(number, line)} reaches beyond the positions that an index can hold"
        contig, last = chrom, position
        seen.add(chrom)
    return too_far, "Correct the record, or use --no-write-index"


def _named(number: int, line: bytes) -> str:
    place = b":".join(line.split(b"\t", 2)[:2]).decode("utf-8", "backslashreplace")
    return f"record {number} ({place})"
