"""BGZF as htslib's tools read and write it; any damage is named, never passed on."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
from pathlib import Path

import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvar_step.errors import InvalidInput
from anyvar_step.vcf.bgzf import EOF_BLOCK, PAYLOAD, BgzfWriter, ByteReader, block, block_size, read_blocks

LEVELS = range(1, 13)


def compress(data: bytes, level: int = 6, piece: int = 0) -> bytes:
    raw = io.BytesIO()
    with BgzfWriter(raw, level) as writer:
        for start in range(0, len(data), piece or max(1, len(data))):
            writer.write(data[start : start + (piece or len(data))])
    return raw.getvalue()


def decompress(data: bytes) -> bytes:
    return b"".join(read_blocks(ByteReader(io.BytesIO(data), "x.vcf.gz")))


texts = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=40), st.integers(1, 6000)),
)


@given(texts, st.sampled_from([1, 6, 12]), st.sampled_from([0, 7, 1000, PAYLOAD]))
def test_what_is_written_is_read_back(data, level, piece):
    stored = compress(data, level, max(piece, len(data) // 50) if piece else 0)
    assert decompress(stored) == data
    assert gzip.decompress(stored) == data
    assert stored.endswith(EOF_BLOCK)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [0, 1, PAYLOAD - 1, PAYLOAD])
def test_noise_fits_in_a_block_at_every_level(level, size):
    data = os.urandom(size)
    stored = block(data, level)
    assert block_size(stored) == len(stored) <= 65536
    assert decompress(stored + EOF_BLOCK) == data


@pytest.mark.parametrize("size", [10_000, PAYLOAD, PAYLOAD + 1, 200_000])
def test_writes_of_any_size_give_the_same_bytes(size):
    data = os.urandom(5000) * 300
    assert compress(data, piece=size) == compress(data)


def test_closing_writes_the_end_and_leaves_the_file_open():
    raw = io.BytesIO()
    writer = BgzfWriter(raw)
    writer.write(b"x")
    writer.close()
    assert raw.getvalue().endswith(EOF_BLOCK)
    assert not raw.closed


def test_an_exception_leaves_no_end_of_file_block():
    raw = io.BytesIO()

    def interrupted() -> None:
        with BgzfWriter(raw) as writer:
            writer.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not raw.getvalue().endswith(EOF_BLOCK)


@pytest.mark.skipif(not shutil.which("bgzip"), reason="bgzip is not installed")
def test_htslib_reads_ours_and_we_read_htslibs(tmp_path: Path):
    data = b"".join(b"chr1\t%d\t.\tA\tC\n" % n for n in range(20_000))
    ours = tmp_path / "ours.gz"
    ours.write_bytes(compress(data))
    subprocess.run(["bgzip", "-t", ours], check=True)
    with pysam.BGZFile(str(ours)) as reader:
        assert reader.read() == data
    theirs = subprocess.run(["bgzip", "-c"], input=data, capture_output=True, check=True).stdout
    assert decompress(theirs) == data


def test_files_put_end_to_end_are_one():
    assert decompress(compress(b"one\n") + compress(b"two\n")) == b"one\ntwo\n"


def test_other_extra_subfields_are_passed_over():
    stored = block(b"text", 6)
    extra = b"XY\x03\x00abc" + stored[12:16] + (len(stored) + 7 - 1).to_bytes(2, "little")
    longer = stored[:10] + (13).to_bytes(2, "little") + extra + stored[18:]
    assert decompress(longer + EOF_BLOCK) == b"text"


LONG = compress(b"".join(b"chr1\t%d\t.\tA\tC\n" % (n * n) for n in range(20_000)))
LONG_TEXT = gzip.decompress(LONG)
SECOND = block_size(LONG[:18])
assert SECOND is not None


def damaged(offset: int, value: int) -> bytes:
    data = bytearray(LONG)
    data[offset] = value if data[offset] != value else value ^ 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LONG[:-28], rf"truncated: no BGZF end-of-file block at byte {len(LONG) - 28}\."),
        (LONG[:-1], rf"truncated: its last block, at byte {len(LONG) - 28}, has 27 of 28 bytes"),
        (LONG[:-20], rf"truncated: its last block, at byte {len(LONG) - 28}, has no whole header"),
        (LONG[: SECOND + 100], rf"truncated: its last block, at byte {SECOND}, has 100 of \d+ bytes"),
        (LONG + b"tail", rf"corrupt at byte {len(LONG)}: bytes that are not a BGZF block"),
        (LONG + b"\0" * 28, rf"corrupt at byte {len(LONG)}: bytes that are not a BGZF block"),
        (
            LONG[:SECOND] + gzip.compress(b"x") + LONG[SECOND:],
            rf"corrupt at byte {SECOND}: a gzip member that is not a BGZF block",
        ),
        (damaged(SECOND - 8, 1), r"corrupt at byte 0: wrong checksum \(CRC32\)"),
        (damaged(SECOND - 4, 1), r"corrupt at byte 0: 65,280 bytes where the block says 65,281"),
        (damaged(SECOND + 18, 0xFF), rf"corrupt at byte {SECOND}: compressed data cannot be read"),
        (
            LONG[:SECOND] + LONG[SECOND : SECOND + 16] + b"\x11\0" + LONG[SECOND + 18 :],
            rf"corrupt at byte {SECOND}: a block of 18 bytes cannot hold its header",
        ),
    ],
)
def test_damage_is_named_with_its_place(data, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        decompress(data)
    assert "x.vcf.gz" in str(caught.value)
    assert "bgzip -t" in str(caught.value)


@given(st.integers(0, len(LONG) - 1))
def test_a_file_cut_anywhere_is_refused(length):
    with pytest.raises(InvalidInput):
        decompress(LONG[:length] or b"\x1f")


@given(st.integers(0, len(LONG) * 8 - 1))
def test_a_flipped_bit_is_refused_or_without_effect(bit):
    data = bytearray(LONG)
    data[bit // 8] ^= 1 << bit % 8
    try:
        found = decompress(bytes(data))
    except InvalidInput:
        return
    assert found == LONG_TEXT


@given(st.lists(st.tuples(st.integers(0, len(LONG) - 1), st.binary(min_size=1, max_size=40)), max_size=4))
def test_overwritten_stretches_are_refused_or_without_effect(patches):
    data = bytearray(LONG)
    for offset, patch in patches:
        data[offset : offset + len(patch)] = patch
    try:
        found = decompress(bytes(data))
    except InvalidInput:
        return
    assert found == LONG_TEXT
