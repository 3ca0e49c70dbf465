"""What a user's file becomes: the same lines whatever its compression, or one clear error."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from anyvar_step.errors import FileTrouble, InvalidInput
from anyvar_step.vcf import reader
from anyvar_step.vcf.bgzf import EOF_BLOCK, BgzfWriter, block
from anyvar_step.vcf.reader import VcfReader

CHROM = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADER = b"##fileformat=VCFv4.3\n##contig=<ID=chr1>\n" + CHROM + b"\n"


def record(number: int) -> bytes:
    return b"chr1\t%d\t.\tA\tC\t.\t.\t." % number


VCF = HEADER + b"".join(record(n) + b"\n" for n in range(1, 5000))


def bgzf(data: bytes) -> bytes:
    raw = io.BytesIO()
    with BgzfWriter(raw) as writer:
        writer.write(data)
    return raw.getvalue()


def read(data: bytes, size: int = 32768) -> tuple[VcfReader, list[bytes]]:
    with patch("anyvar_step.vcf.reader.BLOCK", size):
        reader = VcfReader(io.BytesIO(data), "in.vcf")
        return reader, [line for lines in reader.blocks() for line in lines]


STORED = {"text": lambda data: data, "bgzf": bgzf, "gzip": gzip.compress}


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("size", [1, 1000, 32768, 10_000_000])
def test_lines_are_the_same_whatever_the_compression(kind, size):
    stored = STORED[kind](VCF)
    reader, lines = read(stored, size)
    assert reader.kind == kind
    assert b"\n".join([*reader.header, *lines, b""]) == VCF
    assert reader.consumed == len(stored)


@given(
    st.lists(
        st.binary(min_size=1, max_size=50).map(lambda b: b"c\t" + bytes(x | 0x80 for x in b)), max_size=60
    ),
    st.integers(1, 300),
    st.sampled_from(list(STORED)),
    st.integers(1, 200),
)
def test_any_bytes_beyond_ascii_pass_untouched_in_blocks_of_any_size(lines, size, kind, piece):
    data = HEADER + b"".join(line + b"\n" for line in lines)
    stored = STORED[kind](data)
    if kind == "bgzf":
        pieces = range(0, len(data), piece)
        stored = b"".join(block(data[at : at + piece], 6) for at in pieces) + EOF_BLOCK
    assert read(stored, size)[1] == lines


def test_first_line_numbers_the_block(monkeypatch):
    monkeypatch.setattr("anyvar_step.vcf.reader.BLOCK", 1000)
    reader = VcfReader(io.BytesIO(VCF), "in.vcf")
    numbers = [(reader.first_line, lines[0]) for lines in reader.blocks()]
    assert len(numbers) > 3
    assert all(line == VCF.split(b"\n")[number - 1] for number, line in numbers)


def test_a_line_longer_than_a_block_stays_whole():
    long = record(1) + b"\t" + b"0/1\t" * 100_000
    assert read(HEADER + record(1) + b"\n" + long + b"\n", 1000)[1] == [record(1), long]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            HEADER + record(1) + b"\n" + record(2) + b"A" * 200_000,
            "line 5: a line of more than 100,000 bytes",
        ),
        (b"##fileformat=VCFv4.2\n##x=" + b"A" * 200_000, "line 2: a line of more than 100,000 bytes"),
        (HEADER[:21] + (b"##x=" + b"y" * 95 + b"\n") * 4_000, "a header of more than 100,000 bytes"),
        (HEADER[:21] + b"##\n" * 20_000, "line 10001: a header of more than 10,000 lines"),
    ],
    ids=["record", "header line", "header", "header lines"],
)
def test_a_line_or_header_without_end_is_refused_before_it_fills_the_memory(data, message, monkeypatch):
    for bound, limit in (("MAX_LINE", 100_000), ("HEADER_BYTES", 100_000), ("HEADER_LINES", 10_000)):
        monkeypatch.setattr(reader, bound, limit)
    for stored in (data, bgzf(data), gzip.compress(data)):
        with pytest.raises(InvalidInput, match=message):
            read(stored)


def test_a_pipe_is_read_as_a_file_is():
    fd_read, fd_write = os.pipe()

    def feed() -> None:
        with os.fdopen(fd_write, "wb") as writer:
            for start in range(0, len(stored), 999):
                writer.write(stored[start : start + 999])
                writer.flush()

    stored = bgzf(VCF)
    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(fd_read, "rb", buffering=0) as raw:
        reader = VcfReader(raw, "standard input")
        lines = [line for lines in reader.blocks() for line in lines]
    thread.join()
    assert b"\n".join([*reader.header, *lines, b""]) == VCF


def test_crlf_becomes_lf_with_a_note():
    reader, lines = read(VCF.replace(b"\n", b"\r\n"), 100)
    assert b"\n".join([*reader.header, *lines, b""]) == VCF
    assert reader.notes == ["in.vcf has CRLF line ends; they become LF"]


def test_a_missing_last_newline_is_noted():
    reader, lines = read(HEADER + record(1) + b"\n" + record(2))
    assert lines == [record(1), record(2)]
    assert reader.notes == ["in.vcf does not end with a newline: make sure that it is whole"]


def test_plain_gzip_is_read_with_a_note():
    (note,) = read(gzip.compress(VCF))[0].notes
    assert "plain gzip" in note
    assert "bgzip" in note


def test_a_clean_file_has_no_notes():
    assert read(VCF)[0].notes == read(bgzf(VCF))[0].notes == []


@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 32768])
def test_empty_lines_at_the_end_are_ignored(tail, size):
    assert read(HEADER + record(1) + b"\n" + record(2) + b"\n" + tail, size)[1] == [record(1), record(2)]


@pytest.mark.parametrize("kind", STORED)
def test_a_header_without_records_is_a_vcf(kind):
    reader, lines = read(STORED[kind](HEADER))
    assert len(reader.header) == 3
    assert lines == []


def test_a_header_line_without_newline_at_the_end_is_a_vcf():
    reader, lines = read(HEADER[:-1])
    assert reader.header[-1] == CHROM
    assert lines == []


BAD = {
    "empty": (b"", "in.vcf is empty"),
    "empty in BGZF": (bgzf(b""), "in.vcf is a compressed file that holds nothing"),
    "empty in gzip": (gzip.compress(b""), "in.vcf is a compressed file that holds nothing"),
    "BAM": (bgzf(b"BAM\1" + bytes(100)), "is a BAM file, not a VCF"),
    "CRAM": (b"CRAM\3\0" + bytes(100), "is a CRAM file, not a VCF"),
    "BCF": (bgzf(b"BCF\2\2" + bytes(100)), "is a BCF file, not a VCF. Convert it with `bcftools view -Oz`"),
    "raw BCF": (b"BCF\2\2" + bytes(100), "is a BCF file"),
    "xz": (b"\xfd7zXZ\0" + bytes(100), "compressed with xz"),
    "gzip twice": (bgzf(gzip.compress(VCF)), "a gzip file inside a gzip file"),
    "BOM": (b"\xef\xbb\xbf" + VCF, "byte order mark"),
    "text": (b"hello\n", "its first line must begin with ##fileformat=VCF and is 'hello'"),
    "FASTA": (b">chr1\nACGT\n", "not a VCF"),
    "cut in the first line": (b"##file", "ends within its header, at line 1"),
    "no #CHROM": (
        HEADER[: -len(CHROM) - 1] + record(1),
        "line 3: neither a ## header line nor the #CHROM line",
    ),
    "cut header": (HEADER[:30], "ends within its header, at line 2"),
    "blanks": (HEADER.replace(b"\t", b" "), "line 3: the columns of the #CHROM line are separated by blanks"),
    "columns": (HEADER.replace(b"\tQUAL", b""), "line 3: the #CHROM line does not have the columns"),
    "ninth": (HEADER[:-1] + b"\tS1\n", "line 3: the ninth column must be FORMAT and is 'S1'"),
    "empty line": (
        HEADER + record(1) + b"\n\n" + record(2) + b"\n",
        "line 5: an empty line among the records",
    ),
    "joined by cat": (HEADER + record(1) + b"\n" + HEADER, "line 5: a header line among the records"),
    "NUL bytes": (HEADER + record(1) + b"\n" + record(2) + bytes(512), "line 5: a NUL byte"),
    "cut gzip": (gzip.compress(VCF)[:-9], "is truncated: the gzip member at byte 0 does not end by byte"),
    "gzip CRC": (gzip.compress(VCF)[:-8] + bytes(8), "is corrupt in the gzip member at byte 0"),
    "gzip tail": (gzip.compress(VCF) + b"tail", f"bytes after its end, at byte {len(gzip.compress(VCF))}"),
    "cut BGZF": (bgzf(VCF)[:-28], "no BGZF end-of-file block"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("size", [20, 32768])
def test_bad_input_is_named(case, size):
    data, message = BAD[case]
    with pytest.raises(InvalidInput) as caught:
        read(data, size)
    assert message in str(caught.value)
    assert str(caught.value).startswith("in.vcf ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_empty_lines_in_the_header_are_left_out_with_a_note(end):
    """As bcftools leaves them out; line numbers stay those of the file."""
    with_gaps = HEADER.replace(b"\n#CHROM", b"\n\n\n#CHROM") + record(1) + b"\n"
    reader, lines = read(with_gaps.replace(b"\n", end))
    assert b"\n".join(reader.header) + b"\n" == HEADER
    assert (lines, reader.first_line) == ([record(1)], 6)
    assert "in.vcf has empty lines in its header; they are left out" in reader.notes
    with pytest.raises(InvalidInput, match="line 5: the #CHROM line does not have the columns"):
        read(with_gaps.replace(b"\tQUAL", b""))


def test_an_empty_line_before_a_later_block_is_found_too():
    with pytest.raises(InvalidInput, match="line 5: an empty line among the records"):
        read(HEADER + record(1) + b"\n\n\n" + record(2) + b"\n", 1)


def test_gzip_members_and_zero_padding_are_read():
    data = gzip.compress(HEADER) + gzip.compress(record(1) + b"\n") + bytes(40_000)
    assert read(data)[1] == [record(1)]


GZIP = gzip.compress(VCF, mtime=0)


@given(st.integers(1, len(GZIP) - 1))
def test_gzip_cut_anywhere_is_refused(length):
    with pytest.raises(InvalidInput):
        read(GZIP[:length])


@given(st.integers(0, len(GZIP) * 8 - 1))
def test_a_flipped_bit_in_gzip_is_refused_or_without_effect(bit):
    data = bytearray(GZIP)
    data[bit // 8] ^= 1 << bit % 8
    try:
        reader, lines = read(bytes(data))
    except InvalidInput:
        return
    assert b"\n".join([*reader.header, *lines, b""]) == VCF


@given(st.integers(0, len(bgzf(VCF)) - 1), st.integers(0, 255))
def test_an_overwritten_byte_in_bgzf_is_refused_or_without_effect(offset, value):
    data = bytearray(bgzf(VCF))
    data[offset] = value
    try:
        reader, lines = read(bytes(data))
    except InvalidInput:
        return
    assert b"\n".join([*reader.header, *lines, b""]) == VCF


def test_an_error_of_the_disk_is_file_trouble():
    with (
        Path("/proc/self/mem").open("rb") as raw,
        pytest.raises(FileTrouble, match=r"in\.vcf"),
    ):
        VcfReader(raw, "in.vcf")  # address 0 is not mapped: a real EIO


BOUNDED = """
import resource, sys
from anyvar_step.errors import InvalidInput
from anyvar_step.vcf.reader import VcfReader
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
with open(sys.argv[1], "rb") as raw:
    try:
        sum(map(len, VcfReader(raw, "x").blocks()))
    except InvalidInput as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"##\n", "a header of more than 1,048,576 lines"),
        pytest.param(b"\n", "a header of more than 67,108,864 bytes", marks=pytest.mark.slow),
        (b"#" * 65536, "a line of more than 67,108,864 bytes"),
        (b"A" * 65536, "a line for which there is not enough memory"),
    ],
)
def test_a_small_file_that_holds_a_huge_header_is_refused_in_little_memory(tmp_path, text, said):
    path = tmp_path / "bomb.vcf.gz"
    with gzip.open(path, "wb", 1) as out:
        out.write(HEADER if text.startswith(b"A") else HEADER[:21])
        for _ in range(250 if text.startswith(b"A") else 84):
            out.write(text * ((1 << 20) // len(text)))
    done = subprocess.run([sys.executable, "-c", BOUNDED, path], cwd=ROOT, capture_output=True, text=True)
    assert path.stat().st_size < 2_000_000
    assert said in done.stdout, done.stderr


MEMORY = """
import resource, sys
from anyvar_step.vcf.reader import VcfReader
with open(sys.argv[1], "rb") as raw:
    print(sum(map(len, VcfReader(raw, "x").blocks())), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(records: int) -> int:
        path = tmp_path / f"{records}.vcf.gz"
        line = record(1) + b"\t" + b"x" * 400 + b"\n"
        path.write_bytes(gzip.compress(HEADER + line * records, 1))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, path], cwd=ROOT, capture_output=True, check=True, text=True
        )
        counted, kilobytes = map(int, done.stdout.split())
        assert counted == records
        return kilobytes

    assert peak(200_000) < peak(2_000) + 8_000  # the longer file has 86 MB of text
