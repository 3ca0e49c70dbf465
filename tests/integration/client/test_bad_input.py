"""A user's mistake is one clear line, a documented exit code, no OUT, and nothing left in the work dir."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pysam
import pytest
from support import HEADER, Site, heeding_modes

from anyvar_step.vcf.bgzf import EOF_BLOCK, block

HEAD = HEADER.format(length=200_000)
RECORD = "chr1\t100\t.\tA\tC\t.\t.\t.\tGT\t0/1\n"


def text(content: str | bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def bam(path: Path) -> None:
    with pysam.AlignmentFile(str(path), "wb", header={"HD": {"VN": "1.6"}}):
        pass


def cut_bcf(path: Path) -> None:
    with pysam.VariantFile(str(path), "wb", header=pysam.VariantHeader()):
        pass
    path.write_bytes(path.read_bytes()[:-28])


CASES = {
    "missing": (lambda _: None, 66, "does not exist"),
    "directory": (lambda path: path.mkdir(), 65, "directory"),
    "empty": (text(""), 65, "empty"),
    "not a VCF": (text("sample\tvalue\n1\t2\n"), 65, "not a VCF"),
    "BAM": (bam, 65, "BAM"),
    "a BCF that was cut": (cut_bcf, 65, "without the BGZF end-of-file block"),
    "no #CHROM": (text("##fileformat=VCFv4.2\n" + RECORD), 65, "#CHROM"),
    "too few columns": (text(HEAD + "chr1\t100\t.\tA\n"), 65, "line 5"),
    "POS no number": (text(HEAD + RECORD + RECORD.replace("100", "1e2")), 65, "line 6"),
    "no contig known": (text(HEAD + RECORD.replace("chr1", "scaffold7")), 65, "scaffold7"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_input_says_what_where_and_what_to_do(served: Site, tmp_path: Path, case: str) -> None:
    make, code, words = CASES[case]
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    make(source)
    done = served.run("annotate", source, "-o", out)
    check_refusal(done, code, words)
    assert "in.vcf" in done.stderr
    assert not out.exists()
    assert served.left_over() == []


BLOCKS = [block((HEAD * (n == 0) + RECORD * (900 + n)).encode(), 6) for n in range(20)]
#: Where the damaged block begins, where the end-of-file block does, and where the file ends.
PLACE, LAST = len(b"".join(BLOCKS[:15])), len(b"".join(BLOCKS))
WHOLE = b"".join(BLOCKS) + EOF_BLOCK
END = len(WHOLE)


def with_block(change: Callable[[bytes], bytes]) -> bytes:
    return b"".join([*BLOCKS[:15], change(BLOCKS[15]), *BLOCKS[16:], EOF_BLOCK])


#: Damaged BGZF, and the byte that the message must name.
DAMAGED = {
    "a truncated last block": (WHOLE[: LAST - 10], LAST - 10, "truncated"),
    "no end-of-file block": (WHOLE[:LAST], LAST, "truncated"),
    "a truncated end-of-file block": (WHOLE[:-1], END - 1, "truncated"),
    "a truncated block in the middle": (with_block(lambda b: b[:-10]), PLACE, "corrupt"),
    "a wrong CRC32": (with_block(lambda b: b[:-8] + bytes(4) + b[-4:]), PLACE, "CRC32"),
    "a wrong ISIZE": (with_block(lambda b: b[:-4] + b"\1\0\0\0"), PLACE, "where the block says 1"),
    "trailing garbage": (WHOLE + b"garbage", END, "not a BGZF block"),
    "zeros behind the end": (WHOLE + bytes(512), END, "not a BGZF block"),
    "a gzip member in the middle": (
        with_block(lambda _: gzip.compress(RECORD.encode())),
        PLACE,
        "a gzip member that is not a BGZF block",
    ),
    "a gzip member behind the end": (WHOLE + gzip.compress(RECORD.encode()), END, "not a BGZF block"),
}


@pytest.mark.quick(4)
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("chunks", ["1", "2"])
def test_damaged_bgzf_is_refused_with_its_offset_and_leaves_no_output(
    served: Site, tmp_path: Path, case: str, chunks: str
) -> None:
    data, offset, words = DAMAGED[case]
    source, out = tmp_path / "in.vcf.gz", tmp_path / "out.vcf.gz"
    source.write_bytes(data)
    done = served.run("annotate", source, "-o", out, "--force", "--chunks", chunks)
    check_refusal(done, 65, words)
    assert f"byte {offset}" in done.stderr
    assert "in.vcf.gz" in done.stderr
    assert sorted(tmp_path.iterdir()) == [source, *tmp_path.glob("site")]
    assert served.left_over() == []


def check_refusal(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("anyvar-step: ")]
    assert errors, done.stderr
    assert words in errors[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_bad_standard_input_is_refused_and_unstaged(served: Site) -> None:
    check_refusal(served.run("annotate", "-", "-o", "-", input="hello\n"), 65, "standard input")
    assert served.left_over() == []


def test_crlf_and_a_missing_last_newline_are_mended_with_a_note(served: Site, tmp_path: Path) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_bytes((HEAD + RECORD + RECORD.rstrip("\n")).replace("\n", "\r\n").encode())
    done = served.run("annotate", source, "-o", out, "--force")
    assert done.returncode == 0
    assert "CRLF" in done.stderr
    assert b"\r" not in out.read_bytes()
    assert out.read_bytes().endswith(b"\n")


def test_a_bad_record_carries_vrs_error_and_the_others_are_annotated(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.vcf", tmp_path / "out.vcf"
    source.write_text(vcf.read_text() + "chr1\t999999\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    assert served.run("annotate", source, "-o", out).returncode == 0
    lines = out.read_text().splitlines()
    assert "VRS_Error=" in lines[-1]
    assert sum("VRS_Allele_IDs=ga4gh" in line for line in lines) == 200


@pytest.fixture
def bound(served: Site) -> Iterator[Site]:
    """The served site, its steps bound by file modes although root runs the tests."""
    served.prefix = heeding_modes()
    yield served
    served.prefix = ()


def test_an_unwritable_output_work_dir_or_unreadable_input(bound: Site, vcf: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    check_refusal(bound.run("annotate", vcf, "-o", closed / "out.vcf"), 77, "not writable")
    done = bound.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--work-dir", closed)
    check_refusal(done, 77, "not writable")
    secret = tmp_path / "secret.vcf"
    secret.write_bytes(vcf.read_bytes())
    secret.chmod(0)
    check_refusal(bound.run("annotate", secret, "-o", tmp_path / "out.vcf"), 66, "cannot be read")
    assert bound.left_over() == []


def test_a_work_dir_that_does_not_exist(served: Site, vcf: Path, tmp_path: Path) -> None:
    done = served.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--work-dir", tmp_path / "nowhere")
    check_refusal(done, 74, str(tmp_path / "nowhere"))


def test_no_work_dir_named(served: Site, vcf: Path, tmp_path: Path) -> None:
    before, served.extra = served.extra, {"ANYVAR_VCF_ASYNC_WORK_DIR": ""}
    try:
        done = served.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    finally:
        served.extra = before
    check_refusal(done, 78, "ANYVAR_VCF_ASYNC_WORK_DIR")


def test_no_redis_there(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.redis_url = "redis://:secret@localhost:1/0"
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    check_refusal(done, 69, "localhost:1")
    assert "secret" not in done.stderr
    assert site.left_over() == []


def test_a_wrong_password(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.redis_url = site.redis_url.replace("redis+socket://", "redis+socket://user:wrong@")
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    check_refusal(done, 77, "CELERY_BROKER_URL")
    assert "wrong" not in done.stderr.lower().replace("wrongpass", "")


def test_no_worker_on_the_queue(site: Site, vcf: Path, tmp_path: Path) -> None:
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--queue-timeout", "1")
    check_refusal(done, 69, "no worker")
    assert site.left_over() == []


@pytest.mark.slow
def test_no_worker_is_waited_for_beyond_the_queue_timeout(site: Site, vcf: Path, tmp_path: Path) -> None:
    step = site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"), "--queue-timeout", "7s")
    _, err = step.communicate(timeout=100)
    assert step.returncode == 69, err
    assert "waiting up to 7 s" in err


def test_a_timeout_cancels_the_run(site: Site, vcf: Path, tmp_path: Path) -> None:
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--timeout", "1s")
    check_refusal(done, 124, "--timeout")
    assert site.left_over() == []


def test_an_assembly_that_the_worker_does_not_have(served: Site, vcf: Path, tmp_path: Path) -> None:
    done = served.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--assembly", "GRCh37")
    check_refusal(done, 78, "GRCh37")
    assert served.left_over() == []


def test_settings_that_contradict_each_other(site: Site, vcf: Path, tmp_path: Path) -> None:
    site.extra = {"CELERY_TASK_TIME_LIMIT": "9000"}
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    check_refusal(done, 78, "CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT")


def test_retries_start_again_only_after_what_may_pass(site: Site, vcf: Path, tmp_path: Path) -> None:
    away = ("--broker-url", "redis://localhost:1/0", "--retries", "1")
    done = site.run("annotate", vcf, "-o", tmp_path / "o.vcf", *away)
    assert done.returncode == 69
    assert done.stderr.count("trying again") == 1
    bad = tmp_path / "bad.vcf"
    bad.write_text("no VCF\n")
    done = site.run("annotate", bad, "-o", tmp_path / "o.vcf", "--retries", "3")
    check_refusal(done, 65, "not a VCF")
    assert "trying again" not in done.stderr


def test_a_worker_that_does_not_exist_is_waited_for_once(site: Site, vcf: Path, tmp_path: Path) -> None:
    """Whatever the retries: the patience is one for all attempts."""
    done = site.run("annotate", vcf, "-o", tmp_path / "o.vcf", "--queue-timeout", "1", "--retries", "5")
    check_refusal(done, 69, "no worker serves the queue")
    assert done.stderr.count("trying again") == 0
    assert site.left_over() == []


def test_standard_input_cannot_be_tried_again(site: Site) -> None:
    done = site.run("annotate", "-", "-o", "-", "--retries", "2", input="")
    assert done.returncode == 2
    assert "--retries needs a file" in done.stderr
