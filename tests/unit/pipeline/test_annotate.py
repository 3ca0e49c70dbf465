"""One file through the pipeline: what the user gets, and what is left when it fails."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, SHARED_DATA

from anyvar_step import pipeline
from anyvar_step.errors import ConfigurationError, FileTrouble, InputNotFound, InvalidInput, RunCancelled
from anyvar_step.models import AnnotateOptions, Counts, IngestOptions, Progress
from anyvar_step.pipeline.assembly import AssemblyCheck
from anyvar_step.reference import Reference, open_reference
from anyvar_step.vcf import count_records

HEADER = (
    b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
)
SEQUENCE = "".join(random.Random(1).choices("ACGT", k=20_000))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "made.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n>chr2\n{SEQUENCE[::-1]}\n")
    opened = open_reference("GRCh38", path)
    yield opened
    opened.close()


def records(count: int, *, wrong: int = 0, contig: str = "chr1") -> list[bytes]:
    """SNVs along the contig; the first ``wrong`` of them have a REF that is not there."""
    lines = []
    for number in range(count):
        here = SEQUENCE[number]
        other = "ACGT"["ACGT".index(here) - 1]
        ref, alt = (other, here) if number < wrong else (here, other)
        lines.append(f"{contig}\t{number + 1}\t.\t{ref}\t{alt}\t.\tPASS\tDP={number}\tGT\t0/1".encode())
    return lines


def vcf(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(HEADER + b"".join(line + b"\n" for line in lines))
    return path


def annotate(source: Path, reference: Reference, **options) -> tuple[pipeline.Outcome, Path]:
    target = source.with_name("target")
    return pipeline.annotate_file(source, target, reference, AnnotateOptions(), **options), target


def records_in(path: Path) -> int:
    with path.open("rb") as raw:
        return count_records(raw, path.name)


def without_vrs(line: bytes) -> bytes:
    fields = line.split(b"\t")
    fields[7] = b";".join(item for item in fields[7].split(b";") if not item.startswith(b"VRS_")) or b"."
    return b"\t".join(fields)


@pytest.mark.parametrize("output_format", ["v", "z"])
@pytest.mark.parametrize("stored", ["text", "gzip"])
def test_every_record_comes_back_with_its_ids(tmp_path, reference, stored, output_format):
    lines = records(5000)
    source = vcf(tmp_path / "in.vcf", lines)
    if stored == "gzip":
        source.write_bytes(gzip.compress(source.read_bytes()))
    outcome, target = annotate(source, reference, output_format=output_format)
    data = target.read_bytes()
    assert (outcome.size, outcome.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (records_in(target), target.read_bytes()[:1] == b"\x1f") == (5000, output_format == "z")
    text = gzip.decompress(data) if output_format == "z" else data
    out = [line for line in text.splitlines() if not line.startswith(b"#")]
    assert [without_vrs(line) for line in out] == lines
    assert all(line.count(b"ga4gh:VA.") == 2 for line in out)
    assert (outcome.counts.records, outcome.counts.ids) == (5000, 10_000)
    assert set(outcome.seconds) == {"read", "annotate", "write"}
    assert len(outcome.notes) == (stored == "gzip")


def test_annotating_an_annotated_file_changes_nothing(tmp_path, reference):
    _, target = annotate(vcf(tmp_path / "in.vcf", records(100)), reference)
    once = target.read_bytes()
    _, target = annotate(target.rename(tmp_path / "again.vcf"), reference)
    assert target.read_bytes() == once


def test_a_file_without_records_is_annotated(tmp_path, reference):
    outcome, target = annotate(vcf(tmp_path / "in.vcf", []), reference)
    assert outcome.counts.records == 0
    assert b"##INFO=<ID=VRS_Allele_IDs" in target.read_bytes()


def test_progress_is_told_at_the_start_and_between_blocks(tmp_path, reference, monkeypatch):
    monkeypatch.setattr(pipeline.annotate, "PROGRESS_EVERY", 0.0)
    told: list[Progress] = []
    annotate(vcf(tmp_path / "in.vcf", records(5000)), reference, on_progress=told.append)
    assert told[0].records == 0
    assert told[-1].records == 5000
    assert told[-1].fraction == 1.0
    assert [item.records for item in told] == sorted({item.records for item in told})


def test_progress_is_not_told_more_often_than_is_useful(tmp_path, reference):
    told: list[Progress] = []
    outcome, _ = annotate(vcf(tmp_path / "in.vcf", records(20_000)), reference, on_progress=told.append)
    assert 1 <= len(told) <= 1 + sum(outcome.seconds.values()) / pipeline.annotate.PROGRESS_EVERY


class SoftTimeLimit(Exception):
    """Stands for what Celery raises in the middle; not one of our errors."""


@pytest.mark.parametrize("reason", [SoftTimeLimit(), RunCancelled("cancelled"), KeyboardInterrupt()])
@pytest.mark.parametrize("output_format", ["v", "z"])
def test_what_stops_a_run_passes_and_leaves_no_target(
    tmp_path, reference, monkeypatch, reason, output_format
):
    monkeypatch.setattr(pipeline.annotate, "PROGRESS_EVERY", 0.0)
    source = vcf(tmp_path / "in.vcf", records(5000))

    def stop(progress: Progress) -> None:
        if progress.records > 1000:
            raise reason

    with pytest.raises(type(reason)) as caught:
        annotate(source, reference, output_format=output_format, on_progress=stop)
    assert caught.value is reason
    assert [path.name for path in tmp_path.iterdir()] == ["in.vcf"]


def refused(source: Path, reference: Reference, message: str, **options) -> None:
    with pytest.raises(InvalidInput, match=message):
        annotate(source, reference, **options)
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_malformed_record_is_named_by_its_line(tmp_path, reference):
    lines = records(3000)
    lines[2500] = b"chr1\t77\t.\tA"
    refused(vcf(tmp_path / "in.vcf", lines), reference, r"MY\.vcf line 2504: ", name="MY.vcf")


def test_a_truncated_input_leaves_no_target(tmp_path, reference):
    source = vcf(tmp_path / "in.vcf", records(5000))
    source.write_bytes(gzip.compress(source.read_bytes())[:-2000])
    refused(source, reference, r"in\.vcf is truncated")


def test_a_file_of_another_assembly_is_stopped(tmp_path, reference):
    source = vcf(tmp_path / "in.vcf", records(3000, wrong=400))
    refused(source, reference, r"GRCh38: REF differs .* 400 of the first [\d,]+ compared.*hg38 is GRCh38")


def test_force_annotates_a_file_of_another_assembly(tmp_path, reference):
    outcome, target = annotate(vcf(tmp_path / "in.vcf", records(3000, wrong=400)), reference, check=forced())
    assert target.read_bytes().count(b"VRS_Error=") == 400
    (note,) = outcome.notes
    assert "400 of 3,000 records with a REF that differs" in note


@pytest.mark.parametrize(("count", "wrong"), [(1, 1), (3, 1), (300, 300), (900, 91)])
def test_a_small_file_of_another_assembly_is_refused_at_its_end(tmp_path, reference, count, wrong):
    source = vcf(tmp_path / "in.vcf", records(count, wrong=wrong))
    refused(
        source, reference, rf"does not fit the reference GRCh38: REF .* {wrong} of {count} compared .*--force"
    )


def test_a_file_whose_first_records_fit_by_chance_is_refused_at_its_end(tmp_path, reference):
    source = vcf(tmp_path / "in.vcf", records(3000) + records(1500, wrong=1500))
    refused(source, reference, r"REF differs from it in 1,500 of 4,500 compared")


def test_telomeres_are_no_sign_of_another_assembly(tmp_path, reference):
    """POS 0 is the telomere before the contig: there is no base to compare REF with."""
    telomeres = [b"chr1\t0\t.\tN\t<DUP>\t.\tPASS\tSVTYPE=DUP\tGT\t0/1"] * 2
    outcome, _ = annotate(vcf(tmp_path / "in.vcf", [*telomeres, *records(2)]), reference)
    assert outcome.counts.errors == {"position": 2}
    refused(
        vcf(tmp_path / "in.vcf", [*telomeres, *records(3, wrong=1)]), reference, "1 of 3 compared records"
    )


@pytest.mark.parametrize("count", [300, 3000])
def test_what_anyvars_own_web_api_asks_for_is_judged_from_a_thousand_records_on(tmp_path, reference, count):
    source = vcf(tmp_path / "in.vcf", records(count, wrong=count))
    check = AssemblyCheck("GRCh38", "in.vcf", least=1000)
    if count < 1000:
        _, target = annotate(source, reference, check=check)
        assert target.read_bytes().count(b"VRS_Error=") == count
    else:
        with pytest.raises(InvalidInput, match="of the first"):
            annotate(source, reference, check=check)


def test_a_piece_is_left_to_who_joins_it(tmp_path, reference):
    source = vcf(tmp_path / "in.vcf", records(300, wrong=300))
    reports = [
        annotate(source, reference, check=AssemblyCheck("GRCh38", "in.vcf", piece=n))[0] for n in (1, 2)
    ]
    whole, check = Counts(), AssemblyCheck("GRCh38", "in.vcf")
    for report in reports:
        whole.add(report.counts)
        check.judge(whole)
    with pytest.raises(InvalidInput, match="600 of 600 compared records"):
        check.end(whole)


@pytest.mark.parametrize(("count", "wrong"), [(900, 90), (3000, 50)])
def test_few_mismatches_are_noted_only(tmp_path, reference, count, wrong):
    outcome, _ = annotate(vcf(tmp_path / "in.vcf", records(count, wrong=wrong)), reference)
    assert len(outcome.notes) == 1


def test_a_file_without_any_known_contig_is_refused(tmp_path, reference):
    lines = [line for n in range(8) for line in records(2, contig=f"scaffold{n}")]
    message = r"the file has scaffold0, .*scaffold4 and 3 more; the reference has chr1, chr2"
    refused(vcf(tmp_path / "in.vcf", lines), reference, message)


def test_force_goes_on_without_any_known_contig(tmp_path, reference):
    outcome, _ = annotate(vcf(tmp_path / "in.vcf", records(2, contig="other")), reference, check=forced())
    assert (outcome.counts.records, outcome.counts.ids) == (2, 0)
    assert "2 of 2 records on contigs that the reference GRCh38 does not have" in outcome.notes[0]


def test_structural_variants_with_n_for_ref_are_no_sign_of_another_assembly(tmp_path, reference):
    """As many callers write them; where REF gets an identifier they carry VRS_Error, as vrs-annotate's do."""
    lines = [f"chr1\t{n + 1}\t.\tN\t<DEL>\t.\tPASS\tSVTYPE=DEL\tGT\t0/1".encode() for n in range(1500)]
    outcome, target = annotate(vcf(tmp_path / "in.vcf", lines), reference)
    assert outcome.counts.errors == {"ref_n": 1500}
    assert target.read_bytes().count(b"VRS_Error=") == 1500
    (note,) = outcome.notes
    assert "1,500 of 1,500 records with N for REF" in note
    bad = vcf(tmp_path / "bad.vcf", [*lines, *records(1000, wrong=200)])
    with pytest.raises(InvalidInput, match=r"REF differs from it in 200 of [^ ]* ?[^ ]* ?1,\d\d\d compared"):
        annotate(bad, reference)


@pytest.fixture
def with_mitochondrion(tmp_path):
    path = tmp_path / "with_mt.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n>MT\n{SEQUENCE[:16569]}\n")
    opened = open_reference("GRCh37", path)
    yield opened
    opened.close()


def test_another_mitochondrion_alone_is_left_without_identifiers(tmp_path, with_mitochondrion):
    """UCSC's hg19 is GRCh37 but for chrM, whose positions are others; its chrMT is the revised one."""
    lengths = b"".join(
        b"##contig=<ID=%b,length=%d>\n" % pair
        for pair in ((b"chr1", 20_000), (b"chrM", 16571), (b"chrMT", 16569))
    )
    lines = [*records(3), *records(4, contig="chrM"), *records(5, contig="chrMT")]
    source = declaring(vcf(tmp_path / "in.vcf", lines), lengths)
    outcome, _ = annotate(source, with_mitochondrion)
    assert outcome.counts.ids == 2 * (3 + 5)
    assert outcome.counts.unknown_contigs == {"chrM": 4}
    assert "chrM has 16571 bases, the reference GRCh37 has 16569" in outcome.notes[0]
    alone = declaring(
        vcf(tmp_path / "mt.vcf", records(4, contig="chrM")), b"##contig=<ID=chrM,length=16571>\n"
    )
    with pytest.raises(InvalidInput, match="chrM has 16571 bases, the reference has 16569"):
        annotate(alone, with_mitochondrion)


def test_unknown_contigs_among_known_ones_are_noted(tmp_path, reference):
    lines = records(10) + records(3, contig="chrUn_1")
    outcome, target = annotate(vcf(tmp_path / "in.vcf", lines), reference)
    (note,) = outcome.notes
    assert "3 of 13 records on contigs that the reference GRCh38 does not have" in note
    assert "chrUn_1" in note
    assert records_in(target) == 13


def test_a_missing_input_is_not_found(tmp_path, reference):
    with pytest.raises(InputNotFound, match=r"in\.vcf does not exist"):
        annotate(tmp_path / "in.vcf", reference)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_file_trouble(tmp_path, reference):
    (tmp_path / "target").symlink_to("/dev/full")
    with pytest.raises(FileTrouble, match="No space left on device"):
        annotate(vcf(tmp_path / "in.vcf", records(20_000)), reference)
    assert [path.name for path in tmp_path.iterdir()] == ["in.vcf"]


INPUTS = sorted(SHARED_DATA.glob("vcf/*.in.vcf"))


@pytest.mark.skipif(not INPUTS, reason=f"the real VCFs are not in {SHARED_DATA}")
@pytest.mark.parametrize("source", INPUTS, ids=lambda path: path.name)
def test_real_files_keep_every_other_byte(tmp_path, source):
    fasta = tmp_path / "ref.fa"
    fasta.write_bytes(source.with_name(source.name.replace(".in.vcf", ".fa")).read_bytes())
    opened = open_reference("GRCh38", fasta)
    options = AnnotateOptions(add_vrs_attributes=True)
    pipeline.annotate_file(source, tmp_path / "out", opened, options)
    opened.close()
    before = source.read_bytes().splitlines()
    after = (tmp_path / "out").read_bytes().splitlines()
    after = [line for line in after if not line.startswith(b"##INFO=<ID=VRS_")]
    assert [line if line.startswith(b"#") else without_vrs(line) for line in after] == before


MEMORY = """
import resource, sys
from pathlib import Path
from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.reference import open_reference
source, target, fasta = map(Path, sys.argv[1:])
with_reference = open_reference("GRCh38", fasta)
annotate_file(source, target, with_reference, AnnotateOptions(), output_format="z", level=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    fasta = tmp_path / "made.fa"
    fasta.write_text(f">chr1\n{SEQUENCE}\n")

    def peak(times: int) -> int:
        source = vcf(tmp_path / "in.vcf", records(10_000) * times)
        command = [sys.executable, "-c", MEMORY, source, tmp_path / "target", fasta]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)

    assert peak(20) < peak(1) + 10_000  # kilobytes; the longer file has 10 MB of text, annotated 30 MB


def declaring(source: Path, lines: bytes) -> Path:
    source.write_bytes(source.read_bytes().replace(b"##contig=<ID=chr1>\n", lines))
    return source


def test_contig_lengths_of_another_assembly_are_refused_before_any_work(tmp_path, reference):
    """No record is looked at: the file is as wrong as its header, whatever its first records are."""
    source = declaring(
        vcf(tmp_path / "in.vcf", [*records(3), b"no record"]),
        b"##contig=<ID=chr1,length=20100>\n##contig=<ID=2,length=19000>\n##contig=<ID=3,length=5>\n",
    )
    with pytest.raises(InvalidInput) as refusal:
        annotate(source, reference)
    for words in ("chr1 has 20100 bases", "the reference has 20000", "GRCh38", "1 more", "--force"):
        assert words in str(refusal.value)
    assert not source.with_name("target").exists()
    source.write_bytes(source.read_bytes().replace(b"no record\n", b""))
    outcome, _ = annotate(source, reference, check=forced())
    assert (outcome.counts.records, outcome.counts.ids) == (3, 0)
    assert any("chr1 has 20100 bases" in note and "without VRS ids" in note for note in outcome.notes)


def forced() -> AssemblyCheck:
    return AssemblyCheck("GRCh38", "in.vcf", force=True)


class Grch38:
    """As far as chromosome 1's length."""

    assembly, name = "GRCh38", "chr1"
    length = 248_956_422

    def contig(self, name: str):
        return self if name in ("1", "chr1") else None


@pytest.mark.parametrize(("length", "assembly"), [(249_250_621, "GRCh37"), (248_387_328, "T2T-CHM13")])
def test_the_refusal_names_the_assembly_that_the_file_seems_to_be_of(length, assembly):
    header = [b"##contig=<ID=chr1,length=%d>" % length]
    with pytest.raises(
        InvalidInput, match=f"has {length} bases, .* has 248956422.*use --assembly {assembly}"
    ):
        AssemblyCheck("GRCh38", "in.vcf").compare_lengths(header, Grch38())
    check = AssemblyCheck("GRCh38", "in.vcf")
    check.compare_lengths([b"##contig=<ID=1,length=248956422>"], Grch38())
    assert not check.notes


def test_the_refusal_does_not_advise_the_assembly_in_use(reference):
    header = [b"##contig=<ID=chr1,length=20000>", b"##contig=<ID=chr2,length=20100>"]
    with pytest.raises(InvalidInput, match=r"chr2 has 20100 bases.* Name its --assembly, or use --force"):
        AssemblyCheck("GRCh38", "in.vcf").compare_lengths(header, reference)


def test_a_reference_of_cut_outs_passes_as_far_as_refs_agree(tmp_path, reference):
    """No two assemblies differ by a factor of two; test data often have a piece of a chromosome."""
    declared = b"##contig=<ID=chr1,length=249250621>\n"
    outcome, _ = annotate(declaring(vcf(tmp_path / "in.vcf", records(3)), declared), reference)
    assert outcome.counts.ids == 6
    assert any("has 249250621 bases, the reference GRCh38 has 20000" in note for note in outcome.notes)
    with pytest.raises(InvalidInput, match="1 of the first 3 compared records"):
        annotate(declaring(vcf(tmp_path / "bad.vcf", records(3, wrong=1)), declared), reference)


def test_an_ingestion_notes_contig_lengths_that_are_not_the_references(tmp_path, reference):
    declared = b"##contig=<ID=chr1,length=249250621>\n"
    source, annotated = declaring(vcf(tmp_path / "in.vcf", records(3)), declared), tmp_path / "annotated.vcf"
    pipeline.annotate_file(source, annotated, reference, AnnotateOptions(add_vrs_attributes=True))
    for validating in (False, True):
        options = IngestOptions(require_validation=validating)
        outcome = pipeline.ingest_file(annotated, tmp_path / "conflicts.csv", reference, options)
        assert any("has 249250621 bases, the reference GRCh38 has 20000" in note for note in outcome.notes)


def test_a_vcf_is_ingested_whatever_the_order_in_its_header_lines(tmp_path, reference):
    """Programs that rewrite headers need not keep it."""
    source, annotated = vcf(tmp_path / "in.vcf", records(3)), tmp_path / "annotated.vcf"
    options = AnnotateOptions(for_ref=False, add_vrs_attributes=True)
    pipeline.annotate_file(source, annotated, reference, options)
    other = re.sub(
        rb"##INFO=<(ID=VRS_\w+),(Number=A),(Type=\w+)", rb"##INFO=<\3,\2,\1", annotated.read_bytes()
    )
    assert other.count(b",Number=A,ID=VRS_") == 6
    annotated.write_bytes(other)
    for validating in (False, True):
        options = IngestOptions(require_validation=validating)
        pipeline.ingest_file(annotated, tmp_path / "conflicts.csv", reference, options)
        assert len((tmp_path / "conflicts.csv").read_text().splitlines()) == 1


def test_notes_of_an_ingestion_speak_of_registering_and_not_of_fields_that_it_does_not_write(
    tmp_path, reference
):
    source, annotated = vcf(tmp_path / "in.vcf", records(3)), tmp_path / "annotated.vcf"
    pipeline.annotate_file(source, annotated, reference, AnnotateOptions(add_vrs_attributes=True))
    first, *others = [line for line in annotated.read_bytes().splitlines() if not line.startswith(b"#")]
    with annotated.open("ab") as out:
        out.write(b"chrUn" + first[4:] + b"\n")
        out.write(re.sub(rb"VRS_Starts=\d+", b"VRS_Starts=9", others[0]) + b"\n")
    notes = pipeline.ingest_file(annotated, tmp_path / "c.csv", reference, IngestOptions()).notes
    assert any("1 of 5 records on contigs" in note and "not registered: chrUn" in note for note in notes)
    assert any("1 allele whose VRS fields are wrong; not registered" in note for note in notes)
    assert not any("left without" in note or "carry" in note for note in notes)


def test_contig_lengths_say_nothing_of_contigs_that_the_reference_lacks(tmp_path, reference):
    lengths = b"##contig=<ID=1,length=20000>\n##contig=<ID=HLA-A*01:01:01:01,length=3503>\n"
    outcome, _ = annotate(declaring(vcf(tmp_path / "in.vcf", records(3)), lengths), reference)
    assert (outcome.counts.ids, outcome.notes) == (6, ())


def test_genotype_columns_that_do_not_match_the_header_are_noted_once(tmp_path, reference):
    lines = records(5000)
    lines[7], lines[4000] = lines[7] + b"\t0/1", lines[4000].rpartition(b"\t")[0]
    outcome, _ = annotate(vcf(tmp_path / "in.vcf", lines), reference)
    (note,) = outcome.notes
    assert "has 2 of 5,000 records whose genotype columns do not match the header" in note
    whole = Counts()
    for _ in range(2):
        whole.add(outcome.counts)
    assert whole.uneven == 4


@pytest.mark.parametrize(("ref", "alt"), [("{0} ", "{1}"), ("{0}", "{1}, {0}"), ("{0}", "{1}!"), ("", "{1}")])
def test_alleles_that_are_none_get_no_id_and_one_note(tmp_path, reference, ref, alt):
    here = SEQUENCE[0]
    other = "ACGT"["ACGT".index(here) - 1]
    line = f"chr1\t1\t.\t{ref}\t{alt}\t.\tPASS\tX\tGT\t0/1".format(here, other).encode()
    outcome, target = annotate(vcf(tmp_path / "in.vcf", [line]), reference)
    (note,) = outcome.notes
    assert "has 1 ALT alleles that are no alleles of a VCF, or whose REF is none" in note
    assert re.search(rb"VRS_Allele_IDs=(?:[^\t]*,)?\.[,;\t]", target.read_bytes())


def test_contigs_that_the_header_lacks_are_reported_with_their_lengths(tmp_path, reference):
    lines = [*records(3), *records(3, contig="chr9")]
    source = vcf(tmp_path / "in.vcf", lines)
    assert annotate(source, reference)[0].counts.undeclared == {"chr9": 0}
    source.write_bytes(source.read_bytes().replace(b"##contig=<ID=chr1>\n", b""))
    assert annotate(source, reference)[0].counts.undeclared == {"chr1": 20_000, "chr9": 0}


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_fasta_that_is_cut_short_during_a_run_fails_it_with_its_name(tmp_path, engine):
    """A map of it would end the worker by SIGBUS; here the next run of the same process goes well."""
    fasta = tmp_path / "genome.fa"
    whole = f">chr1\n{SEQUENCE}\n>chr2\n{SEQUENCE[::-1] * 5}\n"
    fasta.write_text(whole)
    source = vcf(tmp_path / "in.vcf", [*records(20_000), *records(1)])

    def run(on_progress):
        opened = open_reference("GRCh38", fasta)
        try:
            return annotate(source, opened, engine=engine, on_progress=on_progress)[0]
        finally:
            opened.close()

    try:
        assert run(None).counts.records == 20_001
    except ConfigurationError as error:
        pytest.skip(str(error))  # the engine is not built
    with pytest.raises(ConfigurationError, match=r"genome\.fa"):
        run(lambda _: os.truncate(fasta, 500))
    assert not (tmp_path / "target").exists()
    fasta.write_text(whole)
    assert run(None).counts.errors == {}
