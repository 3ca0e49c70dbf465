"""Header edit, writer, index and file checks of the VCF room."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pysam
import pytest

from anyvar_step.errors import AccessRefused, FileTrouble, InputNotFound, InvalidInput
from anyvar_step.vcf import VcfReader, VcfWriter, check_input, count_records, write_index
from anyvar_step.vcf.bgzf import BlockThreads
from anyvar_step.vcf.header import contig_lengths, with_fields
from anyvar_step.vcf.select import write_bcf

CHROM = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADER = [b"##fileformat=VCFv4.3", b"##contig=<ID=chr1,length=100000>", CHROM]
NEW = [b'##INFO=<ID=VRS_Allele_IDs,Number=R,Type=String,Description="ids">']

NAMES = [b"VRS_Allele_IDs", b"VRS_Starts", b"VRS_Error"]


def record(number: int, contig: bytes = b"chr1") -> bytes:
    return b"%s\t%d\t.\tA\tC\t.\t.\t." % (contig, number)


def write(path: Path, lines: list[bytes], output_format: str = "z") -> VcfWriter:
    with VcfWriter(path, output_format) as writer:
        writer.write(lines)
    return writer


# --- header


def test_fields_go_before_the_column_line():
    assert with_fields(HEADER, NEW, NAMES) == [*HEADER[:2], *NEW, CHROM]


def test_lines_of_an_earlier_annotation_are_replaced():
    old = [b'##INFO=<ID=%s,Number=.,Type=String,Description="old">' % name for name in NAMES]
    old.append(b'##INFO=<Number=R,ID=VRS_Starts,Type=String,Description="ID first is usual, no rule">')
    other = b'##INFO=<ID=VRS_Other,Number=1,Type=String,Description="see ,ID=VRS_Starts,">'
    once = with_fields([*HEADER[:2], *old, other, CHROM], NEW, NAMES)
    assert once == [*HEADER[:2], other, *NEW, CHROM]
    assert with_fields(once, NEW, NAMES) == once


def test_contig_lengths_are_found_wherever_they_stand_in_their_lines():
    lines = [
        b"##contig=<ID=a,length=5,md5=x>",
        b'##contig=<assembly="length=7,ID=z",length=12,ID=HLA-A*01:01>',
        b"##contig=<ID=c>",
        b"##contig=<ID=d,length=unknown>",
        b"##contig=<ID=a,length=6>",
        b"##contig=chr1",
    ]
    assert contig_lengths(lines) == {"a": 5, "HLA-A*01:01": 12}


# --- writer


@pytest.mark.parametrize("output_format", ["v", "z"])
def test_size_and_digest_are_those_of_the_file(tmp_path, output_format):
    lines = [*HEADER, *(record(n) for n in range(1, 30_000))]
    path = tmp_path / "out"
    writer = write(path, lines, output_format)
    stored = path.read_bytes()
    assert (writer.stored.size, writer.stored.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    text = gzip.decompress(stored) if output_format == "z" else stored
    assert text == b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize("output_format", ["v", "z"])
def test_any_exception_removes_the_file_and_passes(tmp_path, output_format):
    path = tmp_path / "out"
    threads = threading.active_count()

    def interrupted() -> None:
        with VcfWriter(path, output_format) as writer:
            for _ in range(50):
                writer.write([record(1)] * 5000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_threads_change_no_byte_and_leave_no_trace(tmp_path):
    before, running, stored = sys.getswitchinterval(), threading.active_count(), []
    lines = [*HEADER, *(record(n) for n in range(1, 30_000))]
    for threads in (0, 1, 3):
        with BlockThreads(threads) if threads else nullcontext() as pool:
            with VcfWriter(tmp_path / "out.vcf.gz", "z", executor=pool) as writer:
                writer.write(lines)
            assert threading.active_count() == running + threads
        assert (sys.getswitchinterval(), threading.active_count()) == (before, running)
        stored.append((tmp_path / "out.vcf.gz").read_bytes())
    assert stored[0] == stored[1] == stored[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("output_format", ["v", "z"])
def test_a_full_disk_is_file_trouble_with_its_remedy(tmp_path, output_format):
    path = tmp_path / "out"
    path.symlink_to("/dev/full")
    with pytest.raises(FileTrouble, match=r"No space left on device\. Make room"):
        write(path, [record(n) for n in range(100_000)], output_format)
    assert not path.is_symlink()


def test_a_missing_directory_is_file_trouble(tmp_path):
    with pytest.raises(FileTrouble, match="No such file or directory"):
        VcfWriter(tmp_path / "no" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_access_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AccessRefused):
        VcfWriter(tmp_path / "out")


# --- index


def sorted_vcf(path: Path, *positions: int, header: list[bytes] = HEADER) -> Path:
    write(path, [*header, *(record(position) for position in positions)])
    return path


def test_the_index_finds_records_and_leaves_the_data_alone(tmp_path):
    path = sorted_vcf(tmp_path / "out.vcf.gz", *range(1, 50_000))
    before = path.read_bytes(), path.stat().st_mtime_ns
    index = write_index(path)
    assert index == tmp_path / "out.vcf.gz.tbi"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with pysam.TabixFile(str(path)) as tabix:
        assert [line.split("\t")[1] for line in tabix.fetch("chr1", 40_000, 40_002)] == ["40001", "40002"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.vcf.gz", "out.vcf.gz.tbi"]


def test_a_file_of_any_name_and_without_records_can_be_indexed(tmp_path):
    assert write_index(sorted_vcf(tmp_path / "out.tmp")).stat().st_size


def test_the_index_is_never_older_than_its_data(tmp_path):
    path = sorted_vcf(tmp_path / "out.vcf.gz", 1, 2)
    ahead = path.stat().st_mtime_ns + 3_600_000_000_000  # the file server's clock is ahead
    os.utime(path, ns=(ahead, ahead))
    assert write_index(path).stat().st_mtime_ns >= path.stat().st_mtime_ns


LONG_CONTIG = [HEADER[0], b"##contig=<ID=chr1,length=600000000>", CHROM]


@pytest.mark.parametrize("header", [LONG_CONTIG, HEADER], ids=["declared", "by position"])
def test_contigs_beyond_the_reach_of_tbi_get_a_csi(tmp_path, header):
    path = sorted_vcf(tmp_path / "out.vcf.gz", 1, 599_999_999, header=header)
    Path(f"{path}.tbi").write_bytes(b"stale")
    assert write_index(path) == tmp_path / "out.vcf.gz.csi"
    assert not Path(f"{path}.tbi").exists()
    with pysam.TabixFile(str(path), index=f"{path}.csi") as tabix:
        assert len(list(tabix.fetch("chr1", 599_999_900, 600_000_000))) == 1


def test_a_stale_csi_does_not_outlive_a_new_tbi(tmp_path):
    path = sorted_vcf(tmp_path / "out.vcf.gz", 1, 2)
    Path(f"{path}.csi").write_bytes(b"stale")
    write_index(path)
    assert not Path(f"{path}.csi").exists()


@pytest.mark.parametrize(
    "records",
    [[record(5), record(9), record(4)], [record(5), record(1, b"chr2"), record(6)]],
    ids=["position", "contig"],
)
def test_unsorted_records_are_named_by_number_and_place(tmp_path, records, capfd):
    path = tmp_path / "out.vcf.gz"
    write(path, [*HEADER, *records])
    message = r"OUT .* its record 3 \(chr1:[46]\) is not in order .* `bcftools sort`, or use --no-write-index"
    with pytest.raises(InvalidInput, match=message):
        write_index(path, "OUT")
    assert [item.name for item in tmp_path.iterdir()] == ["out.vcf.gz"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "line",
    [record(5_000_000_000), record(7).replace(b"\t.\t.\t.", b"\t.\t.\tEND=5000000000")],
    ids=["POS", "END"],
)
def test_a_position_that_no_index_can_hold_is_named(tmp_path, line, capfd):
    path = tmp_path / "out.vcf.gz"
    write(path, [HEADER[0], b"##contig=<ID=chr1,length=200000>", CHROM, record(5), line])
    with pytest.raises(InvalidInput, match=r"its record 2 \(chr1:\d+\) reaches beyond .* --no-write-index"):
        write_index(path, "OUT")
    assert [item.name for item in tmp_path.iterdir()] == ["out.vcf.gz"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([record(0), record(0)], r"record 2 \(chr1:0\) is the second at POS 0"),
        ([record(5), record(17_000)], r"record 2 \(chr1:17000\) reaches beyond the 16,384 bases"),
        ([record(7).replace(b"\t.\t.\t.", b"\t.\t.\tEND=20000")], r"record 1 \(chr1:7\) reaches beyond"),
    ],
)
def test_a_bcf_that_htslib_cannot_index_is_bad_input_that_names_the_record(tmp_path, lines, said, capfd):
    end = b'##INFO=<ID=END,Number=1,Type=Integer,Description="End">'
    write(tmp_path / "in.vcf", [HEADER[0], b"##contig=<ID=chr1,length=1000>", end, CHROM, *lines], "v")
    path = tmp_path / "out.bcf"
    with path.open("wb") as out:
        write_bcf(tmp_path / "in.vcf", out, 6, "OUT")
    with pytest.raises(
        InvalidInput, match=f"OUT cannot be indexed: its {said}.* -O z, or use --no-write-index"
    ):
        write_index(path, "OUT")
    assert capfd.readouterr().err == ""


def test_one_record_at_position_0_can_be_indexed_in_a_bcf(tmp_path):
    write(
        tmp_path / "in.vcf", [HEADER[0], b"##contig=<ID=chr1,length=1000>", CHROM, record(0), record(1)], "v"
    )
    with (tmp_path / "out.bcf").open("wb") as out:
        write_bcf(tmp_path / "in.vcf", out, 6, "OUT")
    assert write_index(tmp_path / "out.bcf").name == "out.bcf.csi"


def test_text_is_not_indexed(tmp_path):
    write(tmp_path / "out.vcf", HEADER, "v")
    with pytest.raises(InvalidInput, match="not BGZF"):
        write_index(tmp_path / "out.vcf")


@pytest.mark.skipif(not shutil.which("bcftools"), reason="bcftools is not installed")
def test_bcftools_reads_data_and_index(tmp_path):
    path = sorted_vcf(tmp_path / "out.vcf.gz", *range(1, 2000))
    write_index(path)
    done = subprocess.run(["bcftools", "index", "-n", path], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "1999"


# --- checks


def test_a_good_input_has_no_notes(tmp_path):
    assert check_input(sorted_vcf(tmp_path / "in.vcf.gz", 1)) == ()


def test_plain_gzip_is_accepted_with_a_note(tmp_path):
    path = tmp_path / "in.vcf.gz"
    path.write_bytes(gzip.compress(b"\n".join([*HEADER, b""])))
    (note,) = check_input(path, "IN")
    assert note.startswith("IN is plain gzip")


def test_only_the_header_and_the_end_are_read(tmp_path):
    path = sorted_vcf(tmp_path / "in.vcf.gz", *range(1, 100_000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert check_input(path) == ()


def test_a_missing_input_is_not_found(tmp_path):
    with pytest.raises(InputNotFound, match=r"in\.vcf does not exist"):
        check_input(tmp_path / "in.vcf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_input_is_not_found(tmp_path):
    path = sorted_vcf(tmp_path / "in.vcf.gz", 1)
    path.chmod(0)
    with pytest.raises(InputNotFound, match="cannot be read"):
        check_input(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    fifo, path = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        for item, what in [(tmp_path, "a directory"), (fifo, "a named pipe"), (path, "a socket")]:
            with pytest.raises(InvalidInput, match=what):
                check_input(item)
    with pytest.raises(InvalidInput, match="a device"):
        check_input(Path("/dev/null"))


def test_an_input_without_its_end_is_truncated(tmp_path):
    path = sorted_vcf(tmp_path / "in.vcf.gz", *range(1, 10_000))
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(
        InvalidInput, match=r"IN is truncated: .*\. Copy it again, or check it with `bgzip -t`"
    ):
        check_input(path, "IN")


def test_records_are_counted(tmp_path):
    with sorted_vcf(tmp_path / "in.vcf.gz", *range(1, 10_000)).open("rb") as raw:
        assert count_records(raw, "IN") == 9_999


def test_a_reader_can_be_made_of_what_a_writer_wrote(tmp_path):
    path = sorted_vcf(tmp_path / "out", 1, 2)
    with path.open("rb") as raw:
        reader = VcfReader(raw, "out")
        assert reader.header == HEADER
        assert list(reader.blocks()) == [[record(1), record(2)]]
