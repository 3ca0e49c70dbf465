"""Threads change nothing but time: the same bytes, counts, index and refusals, by either engine."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from support import write_genome

from anyvar_step.errors import InvalidInput
from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import Outcome, annotate_file
from anyvar_step.reference import Reference, open_reference
from anyvar_step.vcf import write_index
from anyvar_step.vrs import EngineChoice

HEADER = (
    b"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n"
)
#: Some 10 blocks of text.
RECORDS = 12_000


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return open_reference("GRCh38", write_genome(tmp_path_factory.mktemp("reference") / "genome.fa"))


@pytest.fixture(scope="module")
def lines(reference: Reference) -> list[bytes]:
    """SNVs, insertions and deletions in order; one in 40 has a REF that is not the reference's."""
    draw, [contig] = random.Random(11), reference.contigs()[:1]
    made = []
    for start in sorted(draw.choices(range(contig.length - 10), k=RECORDS)):
        ref = contig.fetch(start, start + draw.choice([1, 1, 1, 3])).decode()
        alt = draw.choice(["A", "C", "G", "T", ref[0], ref + "CA"])
        ref = ref if draw.random() > 0.025 else "N"
        made.append(f"chr1\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\tDP={draw.randint(0, 99)}\tGT\t0/1".encode())
    return made


def annotated(
    folder: Path, reference: Reference, lines: list[bytes], threads: int, engine: EngineChoice
) -> tuple[Outcome, bytes, bytes]:
    source, target = folder / "in.vcf", folder / "out.vcf.gz"
    source.write_bytes(HEADER + b"".join(line + b"\n" for line in lines))
    outcome = annotate_file(
        source,
        target,
        reference,
        AnnotateOptions(add_vrs_attributes=True),
        output_format="z",
        index=True,
        threads=threads,
        engine=engine,
    )
    return outcome, target.read_bytes(), Path(f"{target}.tbi").read_bytes()


def test_threads_change_nothing(
    tmp_path: Path, reference: Reference, lines: list[bytes], engine: EngineChoice
) -> None:
    running = threading.active_count()
    one, data, index = annotated(tmp_path, reference, lines, 1, engine)
    three, also, index_too = annotated(tmp_path, reference, lines, 3, engine)
    assert (one.engine, three.engine) == (engine, engine)
    assert also == data
    assert index_too == index
    assert three.counts == one.counts
    assert one.counts.records == RECORDS
    assert len(one.counts.examples["ref_n"]) == 5
    write_index(tmp_path / "out.vcf.gz")
    assert threading.active_count() == running


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [b"chr1\tx\t.\tA\tC\t.\t.\t.", b"chr1\t1\t.", b""])
def test_the_first_bad_record_is_named_by_its_line(
    tmp_path: Path, reference: Reference, lines: list[bytes], engine: EngineChoice, bad: bytes, threads: int
) -> None:
    """Of two, and before what the reader finds wrong behind them."""
    running, place = threading.active_count(), 7_000
    damaged = [*lines[:place], bad, *lines[place:9_000], b"worse", *lines[9_000:], b"chr1\t5\0"]
    with pytest.raises(InvalidInput, match=rf"in\.vcf line {place + 4}: "):
        annotated(tmp_path, reference, damaged, threads, engine)
    assert not (tmp_path / "out.vcf.gz").exists()
    assert threading.active_count() == running


@pytest.mark.parametrize("threads", [1, 3])
def test_what_the_reader_finds_wrong_is_named_by_its_line(
    tmp_path: Path, reference: Reference, lines: list[bytes], engine: EngineChoice, threads: int
) -> None:
    for bad, reason in ((b"#CHROM\tPOS", "a header line among the records"), (b"chr1\t5\0", "a NUL byte")):
        with pytest.raises(InvalidInput, match=rf"in\.vcf line {RECORDS + 4}: {reason}"):
            annotated(tmp_path, reference, [*lines, bad], threads, engine)
