"""Any piece of AnyVar 1.0.0 can be replaced by ours: the four combinations of step, web API and worker.

    a. our step (Celery)      →                    →  AnyVar's worker
    b. our step (HTTP)        →  AnyVar's web API  →  AnyVar's worker
    c. AnyVar's client        →  AnyVar's web API  →  our worker
    d. AnyVar's client        →  our web API       →  our worker

All with a real Redis, Postgres and SeqRepo (made from the demo's FASTA), each with the same VRS fields and
with the same way to fail. AnyVar's client is what its documentation shows: PUT, then GET until it is no 202.
Needs rsync, Postgres and ANYVAR_STEP_ANYVAR_PYTHON or ``.venv-anyvar`` (``make test-all`` makes that).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pysam
import pysam.bcftools
import pytest
from anyvar import AnyVar, make_seqrepo
from pythons import find_python
from servers import Postgres
from support import Site, skip, until

from anyvar_step.runs.worker_registry import WorkerRegistry
from anyvar_step.settings import load

pytestmark = pytest.mark.services

FAILURE_CODE = "418"
COMBINATIONS = ["a", "b", "c", "d"]
#: AnyVar's worker cannot read the record, our checks of an input look at its header only.
UNREADABLE = "\t".join(["chr1", "1e5", ".", "A", "C", ".", ".", "."]) + "\n"


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, postgres: Postgres, demo_data: Path
) -> Iterator[AnyVar]:
    """AnyVar's settings for a site whose reference is the demo's genome."""
    python = find_python("anyvar")
    missing = [str(python)] if not python.exists() else [] if shutil.which("rsync") else ["rsync"]
    if missing:
        skip("NOT TESTED WITH ANYVAR", f"{missing[0]} is absent: see tests/acceptance/test_anyvar.py")
    folder = tmp_path_factory.mktemp("anyvar")
    genome = demo_data / "resources" / "genome.fa"
    seqrepo = make_seqrepo(python, genome, folder / "seqrepo")
    site = Site(folder / "site", redis_url, genome)
    site.extra["ANYVAR_VCF_ASYNC_FAILURE_STATUS_CODE"] = FAILURE_CODE
    with postgres.database() as name:
        postgres.sql("CREATE EXTENSION btree_gist", name)
        yield AnyVar(python, site, seqrepo, postgres.uri(name))


@contextlib.contextmanager
def combination(letter: str, anyvar: AnyVar) -> Iterator[str]:
    """The servers of that combination; the URL of its web API, if it has one."""
    site = anyvar.site
    with contextlib.ExitStack() as stack:
        stack.enter_context(anyvar.worker() if letter in "ab" else site.worker())
        if letter == "a":
            yield ""
        elif letter == "d":
            yield stack.enter_context(site.web()).url
        else:
            yield stack.enter_context(anyvar.web())


def run_step(anyvar: AnyVar, url: str, source: Path, out: Path, *options: object) -> tuple[int, str]:
    """Exit code and stderr of our step; over HTTP it sees neither Redis nor the work dir."""
    remote = {"ANYVAR_STEP_URL": url, "ANYVAR_VCF_ASYNC_WORK_DIR": "", "CELERY_BROKER_URL": ""}
    step = dataclasses.replace(anyvar.site, folder=out.parent / f"step-{os.urandom(4).hex()}")
    step.queue, step.work_dir = anyvar.site.queue, anyvar.site.work_dir
    step.extra = anyvar.site.extra | (remote if url else {})
    done = step.run("annotate", source, "-o", out, "--attributes", *options)
    return done.returncode, done.stderr


def run_client(url: str, source: Path) -> httpx.Response:
    """AnyVar's published pattern."""
    with httpx.Client(base_url=url, timeout=60) as client, source.open("rb") as file:
        accepted = client.put(
            "/vcf", params={"run_async": True, "add_vrs_attributes": True}, files={"vcf": file}
        )
        assert accepted.status_code == 202, accepted.text
        assert accepted.headers["location"] == f"/vcf/{accepted.json()['run_id']}"
        deadline = time.monotonic() + 60
        while (answer := client.get(accepted.headers["location"])).status_code == 202:
            assert time.monotonic() < deadline
            time.sleep(float(answer.headers["retry-after"]) / 10)
        return answer


def vrs_fields(text: str) -> list[tuple[str, ...]]:
    """Place, alleles and VRS fields of each record, in any order of the fields."""
    records = []
    for line in text.splitlines():
        if not line.startswith("#"):
            chrom, pos, _, ref, alt, _, _, info, *_ = line.split("\t")
            fields = sorted(item for item in info.split(";") if item.startswith("VRS_"))
            records.append((chrom, pos, ref, alt, *fields))
    return records


@pytest.fixture(scope="module")
def expected(
    deployment: AnyVar, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, ...]]:
    """The fields as our own step and worker write them."""
    out = tmp_path_factory.mktemp("expected") / "out.vcf"
    with deployment.site.worker():
        assert run_step(deployment, "", source, out)[0] == 0
    return vrs_fields(out.read_text())


@pytest.fixture(scope="module")
def source(demo_data: Path) -> Path:
    return demo_data / "vcf" / "bela.vcf"


@pytest.mark.parametrize("letter", COMBINATIONS)
def test_the_vrs_fields_are_the_same_in_every_combination(
    letter: str, deployment: AnyVar, source: Path, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf"
    with combination(letter, deployment) as url:
        if letter in "ab":
            code, err = run_step(deployment, url, source, out)
            assert code == 0, err
            text = out.read_text()
        else:
            answer = run_client(url, source)
            assert answer.status_code == 200, answer.text
            text = answer.text
    assert sum("VRS_Allele_IDs=ga4gh:VA." in field for record in expected for field in record) > 50
    assert vrs_fields(text) == expected


@pytest.mark.parametrize("letter", "ab")
def test_of_anyvars_worker_a_table_can_be_had_and_objects_are_refused(
    letter: str, deployment: AnyVar, source: Path, tmp_path: Path
) -> None:
    """It does not say which sequences its contigs are."""
    out, tsv, ndjson = (tmp_path / name for name in ("out.vcf", "out.tsv", "out.ndjson"))
    with combination(letter, deployment) as url:
        code, err = run_step(deployment, url, source, out, "--tsv", tsv)
        assert code == 0, err
        ids = [line.split("\t")[4] for line in tsv.read_text().splitlines()[1:]]
        assert ids.count(".") < len(ids) / 10
        assert out.read_text().count("ga4gh:VA.") == sum(one != "." for one in ids) > 50
        out.unlink()
        code, err = run_step(deployment, url, source, out, "--ndjson", ndjson)
    assert code == 78
    assert "AnyVar's own" in err
    assert not any(path.exists() for path in (out, ndjson))


@pytest.mark.parametrize(("letter", "options"), [("a", []), ("a", ["--chunks", "3"]), ("b", [])])
def test_the_step_counts_what_anyvars_worker_does_not_report(
    letter: str, options: list[str], deployment: AnyVar, source: Path, tmp_path: Path
) -> None:
    """And says on standard error what our worker would have had it say."""
    flawed = tmp_path / "flawed.vcf"
    lines = source.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    samples = lines[first].split("\t")[9:]
    wrong = lines[first].split("\t")
    wrong[3], wrong[4] = ("C", "T") if wrong[3][0] != "C" else ("G", "T")
    lines[first] = "\t".join(wrong)
    lines.insert(first - 1, "##contig=<ID=chrEBV>")
    beyond = ["chr1", "999999999", *lines[-1].split("\t")[2:]]
    unknown = ["chrEBV", "5", ".", "A", "C", ".", ".", ".", "GT", *["0/1" for _ in samples]]
    flawed.write_text("\n".join([*lines, "\t".join(beyond), "\t".join(unknown)]) + "\n")
    told = []
    for name, worker in (("anyvars", letter), ("ours", "")):
        report = tmp_path / f"{name}.json"
        with combination(worker, deployment) if worker else deployment.site.worker() as url:
            arguments = [*(options if worker else []), "--report", report]
            code, err = run_step(deployment, url if worker else "", flawed, tmp_path / "out.vcf", *arguments)
        assert code == 0, err
        assert "1 of " in err
        assert "records on contigs that the reference GRCh38 does not have" in err
        told.append(json.loads(report.read_text()))
    anyvars, ours = told
    for field in ("records", "ids", "alleles", "contigs", "errors", "unknown_contigs"):
        assert anyvars["counts"][field] == ours["counts"][field]
    assert anyvars["notes"]


@pytest.mark.parametrize("letter", COMBINATIONS)
def test_a_failed_run_is_told_in_every_combination(
    letter: str, deployment: AnyVar, source: Path, tmp_path: Path
) -> None:
    no_vcf, unreadable = tmp_path / "no.vcf", tmp_path / "unreadable.vcf"
    no_vcf.write_text("sample\tvalue\n")
    unreadable.write_text(source.read_text() + UNREADABLE)
    before = deployment.site.left_over()
    with combination(letter, deployment) as url:
        if letter in "ab":
            code, err = run_step(deployment, url, no_vcf, tmp_path / "out.vcf")
            assert (code, "not a VCF" in err) == (65, True)
            code, err = run_step(deployment, url, unreadable, tmp_path / "out.vcf")
            assert (code, "failed on the worker" in err) == (70, True)
            assert not (tmp_path / "out.vcf").exists()
        else:
            for path in (no_vcf, unreadable):
                answer = run_client(url, path)
                assert answer.status_code == int(FAILURE_CODE)
                assert answer.json()["error_code"] == "RUN_FAILURE"
    # AnyVar's own web API and worker leave the input of a failed run behind (docs/contract.md#web-api).
    if letter != "b":
        assert deployment.site.left_over() == before


def test_our_step_leaves_a_run_of_anyvars_to_be_found_again(
    deployment: AnyVar, source: Path, tmp_path: Path
) -> None:
    """Killed while it waits for AnyVar's web API; started again, it joins the run that has its id."""
    out = tmp_path / "out.vcf"
    with deployment.web() as url:
        remote = Site(tmp_path / "remote", "redis://localhost:1/0", deployment.site.genome)
        remote.extra = {"ANYVAR_STEP_URL": url, "ANYVAR_VCF_ASYNC_WORK_DIR": "", "CELERY_BROKER_URL": ""}
        before = len(deployment.site.left_over())
        first = remote.start("-v", "annotate", str(source), "-o", str(out))
        until(lambda: len(deployment.site.left_over()) > before)
        assert first.stderr is not None
        assert "submitted" in first.stderr.readline()
        first.kill()
        first.communicate()
        second = remote.start("-v", "annotate", str(source), "-o", str(out))
        with deployment.worker():
            _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "found at work" in err


def test_what_anyvars_worker_cannot_do_is_refused_before_anything_is_submitted(
    deployment: AnyVar, source: Path, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    out, before = tmp_path / "out.vcf", deployment.site.left_over()
    refused = "only AnyVar's own workers serve the queue, and they cannot "
    registry = WorkerRegistry(load(deployment.site.environ))
    with combination("a", deployment):
        until(registry.only_anyvars, what="the expiry of the records of our workers that were killed")
        for options, words in (
            (["--existing", "keep"], "do --existing keep: they replace"),
            (["--ndjson", tmp_path / "o"], "tell the sequences that --ndjson needs"),
        ):
            code, err = run_step(deployment, "", source, out, "-v", *options)
            assert (code, refused + words in err, "submitted" in err) == (78, True, False), err
        done = deployment.site.run("-v", "ingest", source)
        assert done.returncode == 78
        assert f"{refused}ingest literal alleles" in done.stderr
        assert "submitted" not in done.stderr
    assert deployment.site.left_over() == before


def test_anyvars_worker_takes_part_in_bcf_and_selections(
    deployment: AnyVar, source: Path, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    """The step makes VCF of a BCF and BCF of a VCF, selects, and writes the provenance lines."""
    bcf, out = tmp_path / "in.bcf", tmp_path / "out.bcf"
    pysam.bcftools.view("-Ob", "-o", str(bcf), str(source), catch_stdout=False)
    with combination("a", deployment):
        assert run_step(deployment, "", bcf, out, "--targets", "chr1", "-G") == (0, "")
        code, said = run_step(deployment, "", source, tmp_path / "kept.vcf", "--existing", "keep")
    text = str(pysam.bcftools.view("--no-version", str(out)))
    wanted = [record for record in expected if record[0] == "chr1"]
    assert 0 < len(wanted) < len(expected)
    assert vrs_fields(text) == wanted
    assert "##anyvar_stepCommand=annotate --assembly GRCh38 --attributes --targets chr1" in text
    assert code == 78
    assert "cannot do --existing keep" in said
