"""One VCF in pieces on all workers: the same records as in one run, and nothing begun again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pysam
import pytest
from support import Site, until, write_vcf

from anyvar_step.client.scatter import WORTHWHILE, automatic
from anyvar_step.files import file_sha256
from anyvar_step.runs.connection import connect
from anyvar_step.vcf import VcfReader


def records(path: Path) -> list[bytes]:
    with path.open("rb") as raw:
        return [line for lines in VcfReader(raw, str(path)).blocks() for line in lines]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, genome: Path) -> Path:
    """A bgzipped VCF of 20,000 records."""
    folder = tmp_path_factory.mktemp("big")
    text = write_vcf(folder / "big.vcf", genome, records=20_000)
    pysam.tabix_compress(str(text), str(folder / "big.vcf.gz"))
    return folder / "big.vcf.gz"


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("source", "out"), [("big.vcf.gz", "out.vcf.gz"), ("big.vcf", "out.vcf"), ("big.vcf.gz", "-")]
)
def test_pieces_give_what_one_run_gives(
    served: Site, big: Path, tmp_path: Path, source: str, out: str
) -> None:
    path = big.with_name(source)
    assert served.run("annotate", path, "-o", tmp_path / "whole.vcf").returncode == 0
    target = tmp_path / out if out != "-" else "-"
    report = tmp_path / "report.json"
    done = served.run("annotate", path, "-o", target, "--chunks", "4", "--report", report)
    assert done.returncode == 0, done.stderr
    if out == "-":
        (tmp_path / "-").write_bytes(done.stdout.encode("latin-1"))
    assert records(tmp_path / out) == records(tmp_path / "whole.vcf")
    told = json.loads(report.read_text())
    assert told["counts"]["records"] == 20_000
    assert (told["input_size"], told["input_sha256"]) == (path.stat().st_size, file_sha256(path))
    assert (told["output_size"], told["output_sha256"]) == (
        (tmp_path / out).stat().st_size,
        file_sha256(tmp_path / out),
    )
    if out.endswith(".gz"):
        with pysam.TabixFile(str(tmp_path / out)) as file:
            assert sum(1 for _ in file.fetch("chr1")) == 20_000
    assert served.left_over() == []


def with_wrong_ref(line: str) -> str:
    """The record with another first base of REF, of one base."""
    columns = line.split("\t")
    columns[3], columns[4] = {"A": "C", "C": "A", "G": "T", "T": "G"}[columns[3][0]], "N"
    return "\t".join(columns)


def test_a_piece_is_not_judged_by_itself(served: Site, big: Path, tmp_path: Path) -> None:
    """One piece without any known contig, and one full of wrong REFs: the whole has few of either."""
    lines = big.with_name("big.vcf").read_text().splitlines(keepends=True)
    lines[10_000:11_500] = map(with_wrong_ref, lines[10_000:11_500])
    decoys = [f"decoy\t{n}\t.\tA\tC\t50\tPASS\tDP=9\tGT\t0/1\n" for n in range(1, 9000)]
    source = tmp_path / "mixed.vcf"
    source.write_text("".join([*lines, *decoys]))
    told = []
    for chunks in ("1", "8"):
        arguments = ("--chunks", chunks, "--report", tmp_path / "report.json")
        done = served.run("annotate", source, "-o", tmp_path / f"{chunks}.vcf", *arguments)
        assert done.returncode == 0, done.stderr
        told.append(json.loads((tmp_path / "report.json").read_text())["counts"])
    assert records(tmp_path / "8.vcf") == records(tmp_path / "1.vcf")
    assert told[1]["errors"] == told[0]["errors"] == {"ref_mismatch": 1500}
    assert told[1]["unknown_contigs"] == {"decoy": 8999}


@pytest.mark.parametrize(
    ("kind", "records", "words"),
    [
        ("wrong", 4000, "wrong.vcf does not fit the reference GRCh38: REF differs from it in 1,"),
        ("decoy", 800, "decoy.vcf has no contig that the reference GRCh38 knows: the file has decoy"),
    ],
)
def test_pieces_that_are_all_of_another_assembly_are_refused_together(
    served: Site, genome: Path, tmp_path: Path, kind: str, records: int, words: str
) -> None:
    """Each piece is too small to tell, and what was found by then is not published."""
    source = write_vcf(tmp_path / f"{kind}.vcf", genome, records=records)
    lines = source.read_text().splitlines(keepends=True)
    mend = with_wrong_ref if kind == "wrong" else lambda line: line.replace("chr1\t", "decoy\t")
    source.write_text("".join(line if line.startswith("#") else mend(line) for line in lines))
    done = served.run("annotate", source, "-o", tmp_path / "out.vcf", "--chunks", "8")
    assert done.returncode == 65, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out.vcf").exists()
    until(lambda: served.left_over() == [])
    assert (
        served.run("annotate", source, "-o", tmp_path / "out.vcf", "--chunks", "8", "--force").returncode == 0
    )


def test_a_failing_piece_fails_the_step_and_leaves_nothing(served: Site, big: Path, tmp_path: Path) -> None:
    source = tmp_path / "bad.vcf"
    lines = big.with_name("big.vcf").read_text().splitlines(keepends=True)
    lines[15_000] = lines[15_000].replace("chr1\t", "chr1\tx")
    source.write_text("".join(lines))
    done = served.run("annotate", source, "-o", tmp_path / "out.vcf", "--chunks", "4")
    assert done.returncode == 65, done.stderr
    assert "bad.vcf line 15001: " in done.stderr
    assert "piece" not in done.stderr
    assert not (tmp_path / "out.vcf").exists()
    until(lambda: served.left_over() == [])


def test_a_restart_takes_finished_pieces_as_they_are(site: Site, big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf.gz"
    step = site.start("-v", "annotate", str(big), "-o", str(out), "--chunks", "4")
    until(lambda: sum(path.name == "manifest.json" for path in site.left_over()) == 4)
    with site.worker():
        until(lambda: any(path.name.endswith("_outputvcf") for path in site.left_over()))
        step.kill()
        step.communicate()
        # The worker is killed as soon as the files are there, perhaps before it could say so.
        until(lambda: [path.name for path in site.left_over()].count("input.vcf.gz_outputvcf") == 4)
        until(lambda: "input.vcf.gz" not in [path.name for path in site.left_over()])
    done = site.run("annotate", big, "-o", out, "--chunks", "4")  # no worker is there any more
    assert done.returncode == 0, done.stderr
    assert len(records(out)) == 20_000
    assert site.left_over() == []


def test_an_interrupted_step_cancels_all_its_pieces(site: Site, big: Path, tmp_path: Path) -> None:
    step = site.start("annotate", str(big), "-o", str(tmp_path / "out.vcf.gz"), "--chunks", "4")
    until(lambda: sum(path.name == "manifest.json" for path in site.left_over()) == 4)
    step.send_signal(signal.SIGTERM)
    assert step.wait(100) == 143
    step.communicate()
    assert site.left_over() == []
    assert os.listdir(tmp_path) == ["site"]  # noqa: PTH208  # names only


def leave_finished_pieces(site: Site, source: Path, out: Path, number: int, *options: str) -> None:
    """All pieces are annotated, by a worker that is gone, and so is their step, which did not see it."""
    step = site.start("annotate", str(source), "-o", str(out), "--chunks", str(number), *options)
    with connect(site.redis_url) as redis:
        until(lambda: redis.llen(site.queue) == number)
    step.kill()
    step.communicate()
    staged = "input.vcf.gz" if source.suffix == ".gz" else "input.vcf"
    with site.worker():
        until(lambda: [path.name for path in site.left_over()].count(f"{staged}_outputvcf") == number)
        until(lambda: staged not in [path.name for path in site.left_over()])


def test_a_piece_that_changed_on_its_way_is_not_joined_and_the_next_call_makes_it_anew(
    site: Site, big: Path, tmp_path: Path
) -> None:
    out, source = tmp_path / "out.vcf", big.with_name("big.vcf")
    leave_finished_pieces(site, source, out, 3)
    spoiled = sorted(site.work_dir.glob("*/*/*_outputvcf"))[1]
    spoiled.write_text(spoiled.read_text().replace("\tPASS\t", "\tFAIL\t", 1))
    failed = site.run("annotate", source, "-o", out, "--chunks", "3")
    assert failed.returncode == 74
    assert "is not what the worker wrote" in failed.stderr
    assert not out.exists()
    with site.worker():
        done = site.run("annotate", source, "-o", out, "--chunks", "3")
    assert done.returncode == 0, done.stderr
    assert len(records(out)) == out.read_text().count("\tPASS\t") == 20_000


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("csi", "without"), [((), 0), ((), 1), (("--csi",), 0)], ids=["tbi", "one lacks", "csi"]
)
def test_the_index_is_made_of_the_pieces_where_all_have_one(
    site: Site, big: Path, tmp_path: Path, csi: tuple[str, ...], without: int
) -> None:
    out = tmp_path / "out.vcf.gz"
    leave_finished_pieces(site, big, out, 4, *csi)
    indexes = [path for path in site.left_over() if path.suffix == ".tbi"]
    assert len(indexes) == (0 if csi else 4)
    for path in indexes[:without]:
        path.unlink()
    done = site.run("annotate", big, "-o", out, "--chunks", "4", *csi)
    assert done.returncode == 0, done.stderr
    index, other = tmp_path / f"out.vcf.gz.{'csi' if csi else 'tbi'}", tmp_path / "other"
    assert index.stat().st_mtime_ns >= out.stat().st_mtime_ns
    pysam.tabix_index(str(out), preset="vcf", keep_original=True, csi=bool(csi), index=str(other))
    assert (index.read_bytes() == other.read_bytes()) == bool(csi or without), "whose index it is"
    with (
        pysam.TabixFile(str(out), index=str(index)) as ours,
        pysam.TabixFile(str(out), index=str(other)) as theirs,
    ):
        for begin in range(0, 190_000, 9_999):
            rows = list(ours.fetch("chr1", begin, begin + 500))
            assert rows == list(theirs.fetch("chr1", begin, begin + 500)) != []
    assert sorted(os.listdir(tmp_path)) == sorted([index.name, "other", "out.vcf.gz", "site"])  # noqa: PTH208
    assert site.left_over() == []


def test_pieces_in_disorder_are_named_as_in_one_run(served: Site, big: Path, tmp_path: Path) -> None:
    """Each is sorted in itself, and all together are not."""
    lines = big.with_name("big.vcf").read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    half = (len(lines) - first) // 2 + first
    source = tmp_path / "in.vcf"
    source.write_text("".join([*lines[:first], *lines[half:], *lines[first:half]]))
    said = []
    for chunks in ("1", "2"):
        done = served.run("annotate", source, "-o", tmp_path / "out.vcf.gz", "--chunks", chunks)
        assert done.returncode == 65
        said.append(done.stderr)
    assert said[0] == said[1]
    assert "is not in order of contig and position" in said[0]


def test_auto_makes_pieces_for_all_processes(site: Site, big: Path, tmp_path: Path) -> None:
    source, report = tmp_path / "bigger.vcf", tmp_path / "report.json"
    text = big.with_name("big.vcf").read_text()
    copies = 3 * WORTHWHILE // len(text)
    source.write_text(text + copies * text.partition("S1\n")[2])
    with site.worker(concurrency=2):
        done = site.run(
            "annotate", source, "-o", tmp_path / "out.vcf", "--chunks", "auto", "--report", report
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(report.read_text())
    assert len(told["run_id"].split(", ")) == 2
    assert told["counts"]["records"] == len(records(tmp_path / "out.vcf")) == 20_000 * (1 + copies)


@pytest.mark.parametrize(
    ("size", "processes", "pieces"),
    [(1 << 20, 8, 1), (1 << 30, 0, 1), (1 << 30, 1, 1), (1 << 30, 2, 4), (1 << 30, 7, 8), (20 << 20, 64, 4)],
)
def test_automatic_pieces_are_worthwhile_and_stable(size: int, processes: int, pieces: int) -> None:
    assert automatic(size, processes) == pieces
