"""The .tbi made of the pieces' own answers as htslib's of the whole file does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest
from indexes import check_as_htslibs

from anyvar_step.vcf import VcfWriter, write_index
from anyvar_step.vcf.index import JoinedIndex, _build
from anyvar_step.vcf.split import Joiner

LONGEST = 536_000_000
Record = tuple[str, int, str]


def header(width: int = 0) -> list[bytes]:
    contigs = [f"##contig=<ID=chr{n},length={LONGEST}>" for n in range(1, 9)]
    noise = random.Random(width).randbytes(width).hex()  # so that the header fills blocks
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    return [line.encode() for line in ("##fileformat=VCFv4.2", *contigs, f"##noise={noise}", columns)]


def piece(path: Path, records: list[Record], width: int = 0, *, indexed: bool = True) -> Path:
    with VcfWriter(path, "z") as writer:
        writer.write(header(width))
        writer.write(f"{chrom}\t{pos}\t.\tA\tC\t.\t.\t{info}".encode() for chrom, pos, info in records)
    if indexed:
        _build(path, ".tbi")
    return path


def joined(pieces: list[Path], folder: Path) -> tuple[Path, Path]:
    """The joined file, and where its index is if it could be made of the pieces'."""
    whole, made, index = folder / "whole.vcf.gz", folder / "made.tbi", JoinedIndex()
    with whole.open("w+b") as out:
        joiner = Joiner(out, "z")
        for path in pieces:
            joiner.add(path)
            index.add(path, Path(f"{path}.tbi"), joiner.offsets)
        joiner.close()
    index.write(made)
    return whole, made


def drawn(draw: random.Random) -> list[Record]:
    """Sorted records, dense and sparse, some with an END far away."""
    records = []
    for chrom in range(1, draw.randint(2, 5)):
        pos, gap = 1, draw.choice([0, 30, 700, 30_000])
        for _ in range(draw.choice([0, 1, 300, 4000])):
            pos += draw.randint(0, 2 * gap)
            end = min(pos + draw.choice([10, 10**6, 10**8]), LONGEST)
            info = f"END={end}" if draw.random() < 0.01 else f"X={draw.getrandbits(200):x}"
            records.append((f"chr{chrom}", pos, info))
    return records


def parts(draw: random.Random, records: list[Record]) -> Iterator[list[Record]]:
    """The records in runs of any length, none as well."""
    cuts = sorted(draw.choices(range(len(records) + 1), k=draw.randint(0, 7)))
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        yield records[begin:end]


@pytest.mark.parametrize("seed", range(30))
def test_it_finds_what_htslibs_index_of_the_whole_finds(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    records, width = drawn(draw), draw.choice([0, 1000, 100_000])
    whole, made = joined(
        [piece(tmp_path / f"{n}.vcf.gz", part, width) for n, part in enumerate(parts(draw, records))],
        tmp_path,
    )
    check_as_htslibs(made, whole, len(records), draw, LONGEST)


SORTED = [("chr1", 5, "."), ("chr2", 9, ".")]


@pytest.mark.parametrize(
    "following",
    [
        [("chr2", 8, ".")],
        [("chr1", 7, ".")],
        [("chr3", 1, "."), ("chr1", 7, ".")],
        [("chr3", 1, "."), ("chr2", 10, ".")],
    ],
    ids=["position", "contig", "contig later on", "last contig later on"],
)
def test_pieces_that_are_not_in_order_make_none(following: list[Record], tmp_path: Path) -> None:
    pieces = [piece(tmp_path / "1.vcf.gz", SORTED), piece(tmp_path / "2.vcf.gz", following)]
    assert not joined(pieces, tmp_path)[1].exists()


def test_an_end_beyond_the_last_record_is_no_disorder(tmp_path: Path) -> None:
    first = piece(tmp_path / "1.vcf.gz", [("chr1", 5, "END=9000000"), ("chr1", 6, ".")])
    whole, made = joined([first, piece(tmp_path / "2.vcf.gz", [("chr1", 6, ".")])], tmp_path)
    with pysam.TabixFile(str(whole), index=str(made)) as file:
        assert [row.split("\t")[1] for row in file.fetch("chr1", 8_000_000, 8_000_001)] == ["5"]


def test_a_piece_without_a_sound_index_makes_none(tmp_path: Path) -> None:
    first, second = piece(tmp_path / "1.vcf.gz", SORTED), piece(tmp_path / "2.vcf.gz", [("chr3", 1, ".")])
    index = Path(f"{second}.tbi")
    sound = index.read_bytes()
    for damaged in (sound[: len(sound) // 2], sound[:40] + b"?" + sound[41:], b"", pysam_csi(second)):
        index.write_bytes(damaged)
        assert not joined([first, second], tmp_path)[1].exists()
    index.unlink()
    assert not joined([first, second], tmp_path)[1].exists()
    index.write_bytes(sound)
    assert joined([first, second], tmp_path)[1].exists()


def pysam_csi(path: Path) -> bytes:
    return write_index(path, csi=True).read_bytes()


def test_a_piece_of_text_makes_none(tmp_path: Path) -> None:
    """AnyVar's workers write text: it is compressed here, and its offsets are not known."""
    first, text = piece(tmp_path / "1.vcf.gz", SORTED), tmp_path / "2.vcf"
    with VcfWriter(text, "v") as writer:
        writer.write([*header(), b"chr3\t1\t.\tA\tC\t.\t.\t."])
    assert not joined([first, text], tmp_path)[1].exists()
