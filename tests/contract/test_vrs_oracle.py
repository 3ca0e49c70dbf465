"""VRS fields against ga4gh.vrs's own VcfAnnotator, run in its own environment over made-up and real VCFs.

The deviations that we mean, and only those, are in ``vrs_oracle.expected``.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pytest
from engines import Annotator, built, running
from hypothesis import HealthCheck, given, settings
from made_up import HEADER, cases, write_case
from seqrepos import write_seqrepo
from support import SHARED_DATA as DATA
from vrs_oracle import Oracle, cut, expected, records, unescaped, vrs_fields
from vrs_oracle import running as running_oracle

from anyvar_step.reference import open_reference
from anyvar_step.vrs import EngineChoice
from anyvar_step.vrs.objects import objects

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"SKIPPED: the real VCFs in {DATA} are absent")


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with running_oracle() as process:
        yield process


def compare(
    fasta: Path | str,
    lines: list[bytes],
    theirs: list[bytes],
    for_ref: bool,
    attributes: bool,
    engines: Sequence[EngineChoice] | None = None,
) -> None:
    """With alleles kept and without, each engine gives the oracle's fields, and leaves all else as it was."""
    reference = open_reference("GRCh38", fasta)
    for choice, keep in product(engines or built(), (False, True)):
        with running(choice):
            annotator = Annotator(reference, for_ref=for_ref, attributes=attributes, keep_alleles=keep)
            for line, own, their in zip(lines, annotator.annotate(lines), theirs, strict=True):
                assert unescaped(vrs_fields(own)) == expected(their, line, for_ref), line
                before, after = line.split(b"\t"), own.split(b"\t")
                assert before[:7] + before[8:] == after[:7] + after[8:]
                if before[7] != b".":
                    assert after[7].startswith(before[7])
    reference.close()


def compare_objects(fasta: Path | str, lines: list[bytes], dump: Path) -> None:
    """Every identifier of ours has its object, and that is one of the oracle's, byte for byte.

    The oracle dumps more: the REF of a record that then fails, and what it takes a breakend for.
    """
    reference = open_reference("GRCh38", fasta)
    annotator = Annotator(reference, for_ref=True, attributes=True)
    annotated = annotator.annotate(lines)
    reference.close()
    made = objects(annotated, annotator.sequences)
    assert len(made) == sum(line.count(b"ga4gh:VA.") for line in annotated)
    assert set(made) <= set(dump.read_bytes().splitlines())


@pytest.mark.timeout(1200)  # on a busy machine; half a minute on an idle one
@settings(
    max_examples=150,
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=list(HealthCheck),
)
@given(case=cases)
def test_made_up_records_get_the_fields_of_the_reference_implementation(
    oracle: Oracle, tmp_path_factory: pytest.TempPathFactory, case: tuple[str, list[bytes]]
) -> None:
    """120 genomes with 25 records or more: thousands of cases, each with and without REF and attributes."""
    genome, lines = case
    folder = tmp_path_factory.mktemp("case")
    fasta, vcf = write_case(folder, genome, lines)
    dump = folder / "full.ndjson"
    full = oracle.annotate(
        fasta, vcf, folder / "full.vcf", "--for-ref", "--attributes", "--ndjson", str(dump)
    )
    compare(fasta, lines, full, for_ref=True, attributes=True)
    compare_objects(fasta, lines, dump)
    ids = oracle.annotate(fasta, vcf, folder / "ids.vcf")
    compare(fasta, lines, ids, for_ref=False, attributes=False)
    shutil.rmtree(folder)


def test_records_on_a_seqrepo_get_the_fields_of_the_reference_implementation_on_it(
    oracle: Oracle, tmp_path: Path
) -> None:
    """Sequences, names and accessions come from the same instance."""
    chance = random.Random(5)
    genome = "".join(
        unit * chance.randint(1, 6) for unit in chance.choices(["A", "CA", "GATTACA", "N"], k=900)
    )
    uri = write_seqrepo(tmp_path / "seqrepo", {genome: ["GRCh38:1", "GRCh38:chr1"], "ACGT": ["GRCh38:chr2"]})
    lines = []
    for start in sorted(chance.sample(range(len(genome) - 20), 300)):
        ref = genome[start : start + chance.choice([1, 1, 2, 9])]
        alt = chance.choice([ref[0], ref + ref, "C", "<DEL>", ref + genome[start + len(ref)]])
        lines.append(f"chr1\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t.".encode())
    vcf = tmp_path / "in.vcf"
    head = HEADER.replace(b"\tFORMAT\tS1", b"")
    vcf.write_bytes(head + b"".join(line + b"\n" for line in lines))
    theirs = oracle.annotate(uri, vcf, tmp_path / "out.vcf", "--for-ref", "--attributes")
    compare(uri, lines, theirs, for_ref=True, attributes=True, engines=["python"])


REAL = sorted(path.name.removesuffix(".in.vcf") for path in (DATA / "vcf").glob("*.in.vcf"))


@needs_data
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(("answers", "for_ref"), [("attrs", True), ("ids", False)])
def test_real_vcfs_get_the_kept_answers(tmp_path: Path, name: str, answers: str, for_ref: bool) -> None:
    fasta = tmp_path / "ref.fa"
    shutil.copyfile(DATA / "vcf" / f"{name}.fa", fasta)
    lines = records(DATA / "vcf" / f"{name}.in.vcf")
    theirs = records(DATA / "vcf" / f"{name}.{answers}.vcf")
    compare(fasta, lines, theirs, for_ref=for_ref, attributes=for_ref)


@needs_data
@pytest.mark.parametrize(("answers", "for_ref"), [("edge_attrs", True), ("edge_noref", False)])
def test_edge_cases_get_the_kept_answers(tmp_path: Path, answers: str, for_ref: bool) -> None:
    fasta = tmp_path / "ref.fa"
    shutil.copyfile(DATA / "edge" / "ref.fa", fasta)
    lines = records(DATA / "edge" / "edge_in.vcf")
    theirs = records(DATA / "edge" / f"{answers}.vcf")
    compare(fasta, lines, theirs, for_ref=for_ref, attributes=for_ref)


def test_the_deviations_from_the_reference_implementation_are_those_we_mean(
    oracle: Oracle, tmp_path: Path
) -> None:
    fasta, vcf = tmp_path / "ref.fa", tmp_path / "in.vcf"
    fasta.write_text(">chr1\n" + "ACGT" * 20 + "\n")
    rows = ["C[chr2:321[", "T.", "AP", "."]
    lines = [f"chr1\t2\t.\tC\t{alt}\t.\t.\t.".encode() for alt in rows]
    lines.append(b"chr1\t2\t.\t" + b"G" * 60 + b"\tT\t.\t.\t.")
    head = HEADER.replace(b"\tFORMAT\tS1", b"")
    vcf.write_bytes(head + b"".join(line + b"\n" for line in lines))
    theirs = oracle.annotate(fasta, vcf, tmp_path / "out.vcf")
    compare(fasta, lines, theirs, for_ref=False, attributes=False)
    annotator = Annotator(open_reference("GRCh38", fasta), for_ref=False, attributes=False)
    ours = annotator.annotate(lines)
    for own, their in zip(ours[:3], theirs[:3], strict=True):
        assert vrs_fields(their)[b"VRS_Allele_IDs"].startswith(b"ga4gh:VA.")
        assert vrs_fields(own) == {b"VRS_Allele_IDs": b"."}
    assert vrs_fields(theirs[3]) == {b"VRS_Allele_IDs": b""}
    assert vrs_fields(ours[3]) == {}
    message = vrs_fields(theirs[4])[b"VRS_Error"]
    escaped = vrs_fields(ours[4])[b"VRS_Error"]
    assert b" " in message
    assert not set(escaped) & set(b" ;=,\t")
    assert unquote(escaped.decode()).encode() == cut(message) != message
