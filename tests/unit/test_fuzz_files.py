"""Files changed at random: each is read rightly or refused in a line; none crashes or hangs the reader."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pysam
import pytest
from fuzzing import CASES, fuzz, mutated, mutated_json
from support import ROOT, write_genome, write_vcf

from anyvar_step.cli.factories import read_ticket
from anyvar_step.models import AnnotateOptions, Counts, Manifest, RunReport
from anyvar_step.pipeline import annotate_file, ingest_file
from anyvar_step.pipeline.assembly import AssemblyCheck
from anyvar_step.reference import Reference, open_reference
from anyvar_step.report.html import render
from anyvar_step.report.multiqc import sections
from anyvar_step.report.samples import read_samples
from anyvar_step.runs.work_dir import WorkDir
from anyvar_step.settings import load
from anyvar_step.vcf.bgzf import EOF_BLOCK, block
from anyvar_step.vcf.select import write_bcf

WORDS = (
    b"<DEL>",
    b"VRS_Allele_IDs=",
    b"chr1",
    b"##INFO=<ID=",
    b"##contig=<ID=chr1,length=",
    b"ga4gh:VA.",
    b"*",
)
MANIFEST = {
    "run_id": "run-1",
    "digest": "0" * 64,
    "input_name": "in.vcf",
    "input_size": 9,
    "input_sha256": "0" * 64,
    "options": AnnotateOptions().model_dump(),
    "folder": "20261123/run-1",
    "staged_input": "input.vcf",
    "submitted": "2026-11-23T00:00:00+00:00",
    "output_format": "v",
    "command": "anyvar-step annotate in.vcf",
}
REPORT = RunReport(
    run_id="run-1",
    input_name="in.vcf",
    input_size=10,
    input_sha256="0" * 64,
    output_size=20,
    output_sha256="1" * 64,
    options=AnnotateOptions(),
    counts=Counts(records=5, ids=9, alleles={"snv": 4}, contigs={"chr1": 5}, errors={"position": 1}),
    seconds={"read": 0.5, "annotate": 70.0, "write": 0.1, "wait": 80.0},
    records_per_second=8.5,
    notes=("a note",),
    versions={"anyvar-step": "1"},
).model_dump(mode="json")


def forced(draw: random.Random) -> AssemblyCheck:
    """Now and then one that refuses nothing."""
    return AssemblyCheck("GRCh38", "in.vcf", force=draw.random() < 0.3)


def bgzf(data: bytes) -> bytes:
    """Blocks of 900 bytes, so that there are several."""
    return b"".join(block(data[i : i + 900], 1) for i in range(0, len(data), 900)) + EOF_BLOCK


def members(data: bytes) -> bytes:
    """Plain gzip of two members."""
    return gzip.compress(data[:900]) + gzip.compress(data[900:])


PACKED = {"bgzf": bgzf, "gzip": members}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    write_vcf(place / "in.vcf", write_genome(place / "ref.fa", 3000), records=60)
    return place


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return open_reference("GRCh38", folder / "ref.fa")


@pytest.fixture(scope="module")
def samples(folder: Path, reference: Reference) -> dict[str, bytes]:
    """VCFs as text, as BGZF, as gzip of two members and as BCF; annotated ones, too."""
    text = (folder / "in.vcf").read_bytes()
    annotate_file(folder / "in.vcf", folder / "done.vcf", reference, AnnotateOptions(add_vrs_attributes=True))
    declared = b'##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n##FORMAT'
    (folder / "declared.vcf").write_bytes(text.replace(b"##FORMAT", declared, 1))
    with (folder / "in.bcf").open("wb") as bcf:
        write_bcf(folder / "declared.vcf", bcf, 6, "in.vcf")
    return {
        "text": text,
        "annotated": (folder / "done.vcf").read_bytes(),
        "bgzf": bgzf(text),
        "gzip": members(text),
        "bcf": (folder / "in.bcf").read_bytes(),
    }


def records(data: bytes) -> list[bytes]:
    """The record lines of a VCF, whatever its compression, by another reader than ours; without INFO."""
    text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    lines = (line.removesuffix(b"\r") for line in text.split(b"\n"))
    return [
        b"\t".join(line.split(b"\t")[:7]) for line in lines if line.strip(b"\r") and not line.startswith(b"#")
    ]


@pytest.mark.parametrize("kind", ["text", "annotated", "bgzf", "gzip"])
def test_a_changed_vcf_is_annotated_record_by_record_or_refused(
    kind: str, samples: dict[str, bytes], reference: Reference, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.vcf", tmp_path / "out.vcf"

    def case(draw: random.Random) -> None:
        if kind in PACKED and draw.random() < 0.5:  # what is inside is changed, and the envelope is right
            data = PACKED[kind](mutated(draw, samples["text"], WORDS))
        else:
            data = mutated(draw, samples[kind], WORDS)
        source.write_bytes(data)
        options = AnnotateOptions(for_ref=draw.random() < 0.5, add_vrs_attributes=draw.random() < 0.5)
        existing = draw.choice(("replace", "keep", "error"))
        try:
            done = annotate_file(
                source,
                target,
                reference,
                options,
                check=forced(draw),
                existing=existing,
                command="x",
            )
        finally:
            assert target.exists() == ("done" in locals())
        assert records(target.read_bytes()) == records(data)
        assert done.counts.records == len(records(data))
        target.unlink()

    well = fuzz(f"vcf-{kind}", case)
    assert well > 0, "no change was harmless: the fuzzing reaches no record"


def test_a_changed_annotated_vcf_is_ingested_or_refused(
    samples: dict[str, bytes], reference: Reference, tmp_path: Path
) -> None:
    from anyvar_step.models import IngestOptions

    source, target = tmp_path / "in.vcf", tmp_path / "out.csv"

    def case(draw: random.Random) -> None:
        source.write_bytes(mutated(draw, samples["annotated"], WORDS))
        options = IngestOptions(require_validation=draw.random() < 0.7)
        ingest_file(
            source,
            target,
            reference,
            options,
            check=forced(draw),
        )

    assert fuzz("ingest", case) > 0


def test_a_changed_bcf_is_annotated_or_refused(
    samples: dict[str, bytes], reference: Reference, tmp_path: Path
) -> None:
    """A tenth of the cases: each starts a process."""
    source, target = tmp_path / "in.bcf", tmp_path / "out.vcf"

    def case(draw: random.Random) -> None:
        data = samples["bcf"]
        if draw.random() < 0.5:  # beyond the checksums
            inside = mutated(draw, gzip.decompress(data), WORDS)
            source.write_bytes(bgzf(inside))
        else:
            source.write_bytes(mutated(draw, data))
        done = annotate_file(source, target, reference, AnnotateOptions())
        assert done.counts.records == len(records(target.read_bytes()))

    fuzz("bcf", case, cases=max(5, CASES // 30))


LIMITED = """
import random, resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:4]
from fuzzing import fuzz, mutated
from anyvar_step.vcf.header import contig_lengths, contig_names, declared_fields
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vcf.select import Selection, open_vcf
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
sample, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[1] + ".changed")
words = [b"##" * 5000, b"\\n##\\n" * 5000, b"A" * 100_000, b"##contig=<ID=x,length=1>\\n" * 3000]

def case(draw: random.Random) -> None:
    place.write_bytes(mutated(draw, sample, words))
    with open_vcf(place, "in.vcf") as raw:
        reader = VcfReader(raw, "in.vcf")
        contig_lengths(reader.header), contig_names(reader.header), declared_fields(reader.header)
        sum(map(len, reader.blocks()))

fuzz("limited", case, cases=int(sys.argv[2]))
print("all read or refused")
"""


@pytest.mark.parametrize("stored", ["text", "annotated", "bgzf", "gzip", "bcf"])
def test_a_changed_file_needs_no_more_than_400_mb(
    samples: dict[str, bytes], tmp_path: Path, stored: str
) -> None:
    """A MemoryError, here or in htslib, would be none of the program's failures."""
    path = tmp_path / "in.vcf"
    path.write_bytes(samples[stored])
    cases = CASES // 10 if stored == "bcf" else CASES
    command = [sys.executable, "-c", LIMITED, str(path), str(cases), str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "all read or refused\n", done.stderr


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "bgzip"])
def test_a_reference_with_a_changed_file_gives_the_right_bases_or_is_refused(
    folder: Path, tmp_path: Path, compressed: bool
) -> None:
    """Of FASTA, .fai, .gzi and .refget.json one is changed; what is younger than the FASTA is trusted."""
    whole = folder / ("ref.fa.gz" if compressed else "ref.fa")
    if compressed:
        pysam.tabix_compress(str(folder / "ref.fa"), str(whole), force=True)
    open_reference("GRCh38", whole).close()
    parts = [whole.with_name(whole.name + end) for end in ("", ".fai", ".gzi", ".refget.json")]
    parts = [part for part in parts if part.exists()]
    bases = "".join((folder / "ref.fa").read_text().split("\n")[1:]).encode()
    place = tmp_path / whole.name

    def case(draw: random.Random) -> None:
        for part in parts:
            shutil.copy2(part, tmp_path / part.name)
        victim = draw.choice(parts)
        json_file = victim.name.endswith(".json") and draw.random() < 0.7
        data = victim.read_bytes()
        changed = mutated_json(draw, json.loads(data)) if json_file else mutated(draw, data)
        (tmp_path / victim.name).write_bytes(changed)
        if victim == whole:
            for part in parts[1:]:
                (tmp_path / part.name).unlink()
        opened = open_reference("GRCh38", place)
        try:
            for contig in opened.contigs():
                contig.fetch(0, 100), contig.fetch(contig.length - 10, contig.length)
            contig = opened.contig("chr1")
            if victim != whole and contig is not None:
                assert contig.fetch(0, contig.length) == bases[: contig.length]
        finally:
            opened.close()

    assert fuzz(f"reference-{compressed}", case) > 0


def test_a_changed_table_of_aliases_is_read_or_refused(folder: Path, tmp_path: Path) -> None:
    sample = b"# ucsc\trefseq\tgenbank\nchr1\tNC_000001.11\tCM000663.2\nchr2\tNC_000002.12\tna\n"

    def case(draw: random.Random) -> None:
        (tmp_path / "aliases").write_bytes(mutated(draw, sample))
        open_reference("GRCh38", folder / "ref.fa", aliases=tmp_path / "aliases").close()

    assert fuzz("aliases", case) > 0


def test_a_changed_manifest_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "20261123" / "run-1").mkdir(parents=True)
    workdir = WorkDir(tmp_path, latency_wait=0.0)
    path = tmp_path / "20261123" / "run-1"

    def case(draw: random.Random) -> None:
        (path / "manifest.json").write_bytes(mutated_json(draw, MANIFEST))
        assert workdir.manifest(path) is not None

    assert fuzz("manifest", case) > 0


def test_a_changed_report_of_the_worker_is_read_or_refused(tmp_path: Path) -> None:
    workdir, manifest = WorkDir(tmp_path, latency_wait=0.0), Manifest.model_validate(MANIFEST)

    def case(draw: random.Random) -> None:
        (tmp_path / "input.vcf_report.json").write_bytes(mutated_json(draw, REPORT))
        assert workdir.report(tmp_path, manifest) is not None

    assert fuzz("worker-report", case) > 0


def test_a_changed_ticket_is_read_or_refused_and_leads_nowhere_else(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path / "work", latency_wait=0.0)
    ticket = tmp_path / "ticket.json"

    def case(draw: random.Random) -> None:
        ticket.write_bytes(mutated_json(draw, MANIFEST))
        try:
            found = read_ticket(str(ticket))
        except click.UsageError:
            return
        assert isinstance(found, Manifest)
        assert workdir.folder(found).is_relative_to(workdir.root)

    assert fuzz("ticket", case) > 0


def test_what_is_neither_ticket_nor_run_id_is_wrong_usage() -> None:
    def case(draw: random.Random) -> None:
        read_ticket(os.fsdecode(mutated(draw, b"0123456789abcdef-1").replace(b"\0", b"")))

    assert fuzz("run-id", case, ends=click.UsageError) > 0


def test_a_changed_run_report_makes_a_page_or_is_refused(tmp_path: Path) -> None:
    (tmp_path / "right.json").write_text(json.dumps(REPORT))

    def case(draw: random.Random) -> None:
        (tmp_path / "changed.json").write_bytes(mutated_json(draw, REPORT))
        found = read_samples([tmp_path / "right.json", tmp_path / "changed.json"])
        assert render(found, "title")
        assert json.dumps(sections(found))

    assert fuzz("report", case) > 0


def test_a_changed_env_file_is_read_or_refused(tmp_path: Path) -> None:
    sample = (
        b"CELERY_BROKER_URL=redis://h:1/0\nexport CELERY_TIMEZONE='UTC'\nANYVAR_STEP_LATENCY_WAIT=5 # s\n"
    )

    def case(draw: random.Random) -> None:
        (tmp_path / ".env").write_bytes(mutated(draw, sample, (b"${X:-", b"}", b"'", b"_FILE")))
        load({})

    assert fuzz("env", case) > 0
