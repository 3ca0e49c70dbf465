"""--ndjson and --tsv: VRS objects and a table of ids beside OUT, whatever the way to the worker."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Site

from anyvar_step.vrs.validate import ids_of


def lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines()


def agree(out: Path, ndjson: Path, tsv: Path) -> None:
    """All ids of the VCF are in both files, in order, and nothing else."""
    listed = [line for line in lines(out) if not line.startswith(b"#")]
    ids = [one for line in listed for one in ids_of(line)]
    assert len(ids) == 400
    assert [json.loads(line)["id"].encode() for line in lines(ndjson)] == ids
    title, *table = [line.split(b"\t") for line in lines(tsv)]
    assert title == [b"chrom", b"pos", b"ref", b"alt", b"id"]
    assert [row[4] for row in table] == ids
    expected = []
    for line in listed:
        chrom, pos, _, ref, alt = line.split(b"\t", 5)[:5]
        expected += [[chrom, pos, ref, ref], [chrom, pos, ref, alt]]
    assert [row[:4] for row in table] == expected


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    return ("--ndjson", str(tmp_path / "out.ndjson"), "--tsv", str(tmp_path / "out.tsv"))


@pytest.mark.parametrize("options", [(), ("--chunks", "3"), ("--local",), ("-O", "z", "--chunks", "2")])
def test_objects_and_table_hold_the_ids_of_the_vcf(
    served: Site, genome: Path, vcf: Path, tmp_path: Path, files: tuple[str, ...], options: tuple[str, ...]
) -> None:
    if "--local" in options:
        options = (*options, "--reference", f"GRCh38={genome}")
    out = tmp_path / "out.vcf"
    done = served.run("annotate", vcf, "-o", out, *files, *options)
    assert done.returncode == 0, done.stderr
    agree(out, tmp_path / "out.ndjson", tmp_path / "out.tsv")
    assert served.left_over() == []
    assert not list(tmp_path.glob(".out*"))


def test_a_name_that_ends_with_gz_is_compressed_and_out_may_be_standard_output_or_bcf(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    files = ("--ndjson", tmp_path / "out.ndjson.gz", "--tsv", tmp_path / "out.tsv.gz")
    done = served.run("annotate", vcf, "-o", "-", *files)
    assert done.returncode == 0, done.stderr
    (tmp_path / "out.vcf").write_text(done.stdout)
    agree(tmp_path / "out.vcf", tmp_path / "out.ndjson.gz", tmp_path / "out.tsv.gz")
    assert (tmp_path / "out.tsv.gz").read_bytes()[:2] == b"\x1f\x8b"
    (tmp_path / "in.vcf").write_text(vcf.read_text().replace("DP=9", "."))  # BCF wants fields declared
    again = served.run(
        "annotate", tmp_path / "in.vcf", "-o", tmp_path / "out.bcf", "--ndjson", tmp_path / "bcf.ndjson"
    )
    assert again.returncode == 0, again.stderr
    assert lines(tmp_path / "bcf.ndjson") == lines(tmp_path / "out.ndjson.gz")


def test_a_run_that_was_submitted_gives_them_when_it_is_collected(
    served: Site, vcf: Path, tmp_path: Path, files: tuple[str, ...]
) -> None:
    ticket = tmp_path / "ticket"
    assert served.run("submit", vcf, "--attributes", "--ticket", ticket).returncode == 0
    assert served.run("wait", ticket).returncode == 0
    done = served.run("collect", ticket, "-o", tmp_path / "out.vcf", *files)
    assert done.returncode == 0, done.stderr
    agree(tmp_path / "out.vcf", tmp_path / "out.ndjson", tmp_path / "out.tsv")


def test_objects_of_a_run_without_attributes_are_refused_and_the_run_stays(
    served: Site, vcf: Path, tmp_path: Path
) -> None:
    ticket, out = tmp_path / "ticket", tmp_path / "out.vcf"
    assert served.run("submit", vcf, "--ticket", ticket).returncode == 0
    assert served.run("wait", ticket).returncode == 0
    done = served.run("collect", ticket, "-o", out, "--ndjson", tmp_path / "out.ndjson")
    assert done.returncode == 78
    assert "--attributes" in done.stderr
    assert not out.exists()
    done = served.run("collect", ticket, "-o", out, "--tsv", tmp_path / "out.tsv")
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "out.tsv")) == 401


@pytest.fixture
def url(served: Site) -> Iterator[str]:
    with served.web() as api:
        yield api.url


def test_over_http_they_are_the_same(
    served: Site, url: str, vcf: Path, tmp_path: Path, files: tuple[str, ...]
) -> None:
    remote = Site(tmp_path / "remote", served.redis_url, served.genome, {"ANYVAR_STEP_URL": url})
    done = remote.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--via", "http", *files)
    assert done.returncode == 0, done.stderr
    agree(tmp_path / "out.vcf", tmp_path / "out.ndjson", tmp_path / "out.tsv")


def test_a_failed_run_leaves_older_files_as_they_were(served: Site, vcf: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "in.vcf"
    spoilt.write_text(vcf.read_text() + "chr1\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    outputs = [tmp_path / name for name in ("out.vcf", "out.ndjson", "out.tsv")]
    for path in outputs:
        path.write_text("old")
    done = served.run("annotate", spoilt, "-o", outputs[0], "--ndjson", outputs[1], "--tsv", outputs[2])
    assert done.returncode == 65
    assert [path.read_text() for path in outputs] == ["old"] * 3
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tsv", "-"),
        ("--tsv", "out.vcf"),
        ("--ndjson", "x", "--tsv", "x"),
        ("--tsv", "IN"),
        ("--ndjson", "x", "--existing", "keep"),
    ],
    ids=["standard-output", "out-itself", "both-one", "in-itself", "kept-ids"],
)
def test_files_that_would_overwrite_each_other_or_mix_ids_are_wrong_usage(
    served: Site, vcf: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    named = [str(vcf) if argument == "IN" else argument for argument in arguments]
    done = served.run("annotate", vcf, "-o", "out.vcf", *named)
    assert done.returncode == 2, done.stderr
