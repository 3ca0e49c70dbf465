"""A VCF of another assembly is refused, however small it is and whatever way it takes."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest
from support import Site, until, write_vcf

from anyvar_step.models import AnnotateOptions
from anyvar_step.runs.keys import ANNOTATE_VCF
from anyvar_step.runs.queue import Queue
from anyvar_step.runs.state import RunState
from anyvar_step.settings import load

WRONG = {"A": "C", "C": "A", "G": "T", "T": "G"}


def with_wrong_refs(path: Path, genome: Path, records: int, seed: int = 3) -> Path:
    """A VCF of SNVs none of whose REFs is the genome's."""
    sequence = "".join(genome.read_text().split("\n")[1:])
    header = write_vcf(path, genome, records=1).read_text().splitlines(keepends=True)[:4]
    draw = random.Random(seed)
    lines = []
    for position in sorted(draw.sample(range(1, len(sequence)), k=records)):
        ref = WRONG[sequence[position - 1]]
        lines.append(f"chr1\t{position}\t.\t{ref}\t{'T' if ref != 'T' else 'A'}\t50\tPASS\tDP=9\tGT\t0/1\n")
    path.write_text("".join([*header, *lines]))
    return path


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, genome: Path) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    text = with_wrong_refs(folder / "wrong.vcf", genome, 300)
    pysam.tabix_compress(str(text), str(folder / "wrong.vcf.gz"))
    pysam.tabix_index(str(folder / "wrong.vcf.gz"), preset="vcf")
    return folder / "wrong.vcf.gz"


def refused(site: Site, out: Path, *arguments: object, number: str = "300 of 300") -> None:
    done = site.run(*arguments)
    assert done.returncode == 65, done.stderr
    assert f"REF differs from it in {number} compared records" in done.stderr
    assert "--force" in done.stderr
    assert not out.exists()
    until(lambda: site.left_over() == [])


@pytest.mark.parametrize("options", [(), ("--chunks", "2"), ("--regions", "chr1:1-180000")])
def test_a_small_vcf_of_another_assembly_is_refused(
    served: Site, wrong: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out.vcf.gz"
    number = (
        str(len(list(pysam.TabixFile(str(wrong)).fetch("chr1", 0, 180_000))))
        if "--regions" in options
        else "300"
    )
    refused(served, out, "annotate", wrong, "-o", out, *options, number=f"{number} of {number}")
    assert served.run("annotate", wrong, "-o", out, *options, "--force").returncode == 0
    assert out.exists()


def test_it_is_refused_over_http(served: Site, wrong: Path, tmp_path: Path) -> None:
    with served.web() as api:
        served.extra["ANYVAR_STEP_URL"] = api.url
        out = tmp_path / "out.vcf.gz"
        refused(served, out, "annotate", wrong, "-o", out, "--via", "http")
        assert served.run("annotate", wrong, "-o", out, "--via", "http", "--force").returncode == 0
    del served.extra["ANYVAR_STEP_URL"]


def test_an_ingestion_with_validation_is_refused(served: Site, genome: Path, tmp_path: Path) -> None:
    annotated, out = tmp_path / "annotated.vcf", tmp_path / "conflicts.csv"
    source = write_vcf(tmp_path / "in.vcf", genome, records=300)
    done = served.run("annotate", source, "-o", annotated, "--attributes")
    assert done.returncode == 0, done.stderr
    lines = annotated.read_text().splitlines(keepends=True)
    annotated.write_text("".join(line if line.startswith("#") else changed(line) for line in lines))
    arguments = ("ingest", annotated, "--require-validation", "--conflicts", out)
    refused(served, out, *arguments)
    done = served.run(*arguments, "--force")
    assert done.returncode == 0, done.stderr


def changed(line: str) -> str:
    """The record with another first base of REF."""
    columns = line.split("\t")
    columns[3] = WRONG[columns[3][0]] + columns[3][1:]
    return "\t".join(columns)


def test_a_run_of_anyvars_own_web_api_keeps_its_answer(served: Site, genome: Path, tmp_path: Path) -> None:
    """It stages no manifest, and returns the file with VRS_Error in its records."""
    folder = served.work_dir / "20260101"
    folder.mkdir()
    source = with_wrong_refs(folder / "in.vcf", genome, 300)
    settings = load(served.environ)
    arguments = {"input_file_path": str(source), **AnnotateOptions().model_dump()}
    with RunState(settings) as state:
        Queue(settings).publish(ANNOTATE_VCF, arguments, "anyvars-own")
        until(lambda: (state.meta("anyvars-own") or {}).get("status") in ("SUCCESS", "FAILURE"))
        meta = state.meta("anyvars-own")
    assert meta
    assert meta["status"] == "SUCCESS"
    assert Path(meta["result"]).read_bytes().count(b"VRS_Error=") == 300
    Path(meta["result"]).unlink()
    folder.rmdir()
