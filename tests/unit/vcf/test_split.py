"""A VCF cut into pieces and joined again is the same VCF, whatever its size, line lengths and compression."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from typing import Literal

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyvar_step.errors import FileTrouble
from anyvar_step.files import file_sha256
from anyvar_step.vcf import VcfReader, split
from anyvar_step.vcf.bgzf import EOF_BLOCK, BgzfWriter, ByteReader, read_blocks
from anyvar_step.vcf.split import Joiner, cut

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def text_of(records: int, width: int) -> str:
    lines = (
        f"chr1\t{n}\t.\tA\tC\t.\t.\tX={'y' * (n * 7919 % (width + 1))}{n}\n" for n in range(1, records + 1)
    )
    return HEADER + "".join(lines)


def write(path: Path, text: str, stored: str) -> Path:
    if stored == "bgzf":
        with path.open("wb") as raw, BgzfWriter(raw) as writer:
            writer.write(text.encode())
    elif stored == "gzip":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def pieces_of(path: Path, count: int, folder: Path) -> list[Path]:
    made, digest = [], hashlib.sha256()
    for number, piece in enumerate(cut(path, path.name, count)):
        target = folder / f"piece-{number}"
        with piece.open(digest.update) as stream:
            target.write_bytes(stream.read())
        assert target.stat().st_size == piece.size
        made.append(target)
    assert digest.hexdigest() == file_sha256(path)
    return made


def records_of(path: Path) -> list[bytes]:
    with path.open("rb") as raw:
        return [line for lines in VcfReader(raw, str(path)).blocks() for line in lines]


def joined(pieces: list[Path], output_format: Literal["v", "z"], folder: Path) -> Path:
    target = folder / "joined"
    with target.open("w+b") as out:
        joiner = Joiner(out, output_format)
        for piece in pieces:
            assert joiner.add(piece) == file_sha256(piece)
        joiner.close()
    assert (joiner.stored.size, joiner.stored.sha256) == (target.stat().st_size, file_sha256(target))
    return target


@pytest.mark.parametrize("stored", ["text", "bgzf"])
@given(records=st.integers(0, 6000), width=st.sampled_from([0, 30, 400]), count=st.integers(1, 12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_are_vcfs_that_join_to_the_whole(
    tmp_path: Path, stored: str, records: int, width: int, count: int
) -> None:
    text = text_of(records, width)
    source = write(tmp_path / "in", text, stored)
    pieces = pieces_of(source, count, tmp_path)
    assert 1 <= len(pieces) <= count
    together = [line for piece in pieces for line in records_of(piece)]
    assert together == text.removeprefix(HEADER).encode().splitlines()
    assert joined(pieces, "v", tmp_path).read_text() == text
    whole = joined(pieces, "z", tmp_path)
    assert b"".join(read_blocks(ByteReader(io.BytesIO(whole.read_bytes()), "whole"))).decode() == text


def test_pieces_of_a_large_file_are_of_about_one_size_and_no_empty_ones(tmp_path: Path) -> None:
    source = write(tmp_path / "in", text_of(60_000, 60), "bgzf")
    sizes = [piece.size for piece in cut(source, "in", 5)]
    assert len(sizes) == 5
    assert max(sizes) < 2 * min(sizes)


def test_a_line_longer_than_many_blocks_is_never_cut(tmp_path: Path) -> None:
    lines = "".join(f"chr1\t{n}\t.\tA\tC\t.\t.\tX={str(n) * 90_000}\n" for n in range(1, 9))
    source = write(tmp_path / "in", HEADER + lines, "bgzf")
    pieces = pieces_of(source, 6, tmp_path)
    assert len(pieces) > 1
    assert joined(pieces, "v", tmp_path).read_text() == HEADER + lines


def test_plain_gzip_is_one_piece(tmp_path: Path) -> None:
    source = write(tmp_path / "in", text_of(9000, 60), "gzip")
    [piece] = cut(source, "in", 4)
    with piece.open() as stream:
        assert stream.read() == source.read_bytes()


def test_joined_bgzf_is_htslibs_bgzf(tmp_path: Path) -> None:
    source = write(tmp_path / "in.vcf.gz", text_of(9000, 60), "bgzf")
    whole = joined(pieces_of(source, 4, tmp_path), "z", tmp_path).rename(tmp_path / "out.vcf.gz")
    pysam.tabix_index(str(whole), preset="vcf")
    with pysam.TabixFile(str(whole)) as file:
        assert [int(row.split("\t")[1]) for row in file.fetch("chr1")] == list(range(1, 9001))


def test_a_piece_that_was_cut_off_is_not_joined(tmp_path: Path) -> None:
    """Its blocks are copied as they are; that one is missing shows at the end alone."""
    source = write(tmp_path / "in", text_of(20_000, 60), "bgzf")
    pieces = pieces_of(source, 3, tmp_path)
    whole = pieces[1].read_bytes()
    pieces[1].write_bytes(whole.removesuffix(EOF_BLOCK))
    with pytest.raises(FileTrouble, match="piece-1 is truncated"):
        joined(pieces, "z", tmp_path)


@pytest.mark.parametrize("stored", ["text", "bgzf"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_header_alone_is_one_piece_whatever_its_end(tmp_path: Path, stored: str, end: str) -> None:
    path = write(tmp_path / "in.vcf", HEADER.rstrip("\n") + end, stored)
    (piece,) = pieces_of(path, 4, tmp_path)
    assert piece.read_bytes() == path.read_bytes()
    assert records_of(joined([piece], "z", tmp_path)) == []


def test_a_file_that_is_cut_short_while_it_is_cut_ends_no_process(tmp_path: Path, monkeypatch) -> None:
    """As a memory map would."""
    path = write(tmp_path / "in.vcf", text_of(20_000, 400), "text")
    real = split.VcfReader

    def truncated(*arguments: object) -> VcfReader:
        reader = real(*arguments)
        path.write_text(HEADER)
        return reader

    monkeypatch.setattr(split, "VcfReader", truncated)
    assert len(cut(path, "in.vcf", 4)) == 1
