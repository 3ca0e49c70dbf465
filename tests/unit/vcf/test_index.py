"""The .tbi made while a VCF is written is htslib's, or there is none."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest
from engines import Annotator
from indexes import check_as_htslibs
from memory_reference import MemoryReference
from support import write_genome, write_vcf

from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.reference import open_reference
from anyvar_step.vcf import VcfWriter, index, write_index
from anyvar_step.vcf.index import TbiBuilder, write_output_index

pytestmark = pytest.mark.usefixtures("engine")

LONGEST = 1 << 29
#: CHROM, start, REF, ALT and INFO.
Record = tuple[bytes, int, bytes, bytes, bytes]


def header(longest: int = LONGEST) -> list[bytes]:
    contigs = [b"##contig=<ID=chr%d,length=%d>" % (number, longest) for number in range(1, 9)]
    return [b"##fileformat=VCFv4.2", *contigs, b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]


def line_of(record: Record) -> bytes:
    chrom, start, ref, alt, info = record
    return b"%b\t%d\t.\t%b\t%b\t.\t.\t%b" % (chrom, start + 1, ref, alt, info)


def written(
    path: Path, records: list[Record], draw: random.Random, longest: int = LONGEST
) -> tuple[TbiBuilder, Path]:
    """The VCF annotated and written in blocks, and where the index is that was made meanwhile, if any."""
    index, made = TbiBuilder(header(longest)), path.with_name("made.tbi")
    annotator = Annotator(MemoryReference(other=b"ACGT"), for_ref=True, attributes=False)
    with VcfWriter(path, "z") as writer:
        writer.write(header(longest))
        done = 0
        while done < len(records):
            lines = list(map(line_of, records[done : done + draw.choice([1, 7, 300])]))
            annotator.annotate(lines)
            block = annotator.last
            places = block.starts, block.ends, block.offsets
            index.add(block.runs, *places, len(block.text), plain=block.plain)
            writer.write_text(block.text)
            done += len(lines)
    index.write(made, writer.blocks)
    return index, made


def drawn(draw: random.Random) -> list[Record]:
    """Sorted records, dense and sparse; some with a REF that goes over one or many windows."""
    records = []
    for number in range(1, draw.randint(2, 5)):
        start, gap = 0, draw.choice([0, 30, 700, 30_000, 2_000_000])
        for _ in range(draw.choice([1, 300, 4000])):
            start += draw.randint(0, 2 * gap)
            length = draw.choice([1, 1, 1, 1, 2, 9, 200]) if draw.random() < 0.99 else 40_000
            if start + 40_000 >= LONGEST:
                break
            noise = b"X=%x" % draw.getrandbits(200)
            records.append((b"chr%d" % number, start, b"A" * length, draw.choice([b"C", b"*", b"."]), noise))
    return records


@pytest.mark.parametrize("seed", range(30))
def test_it_is_htslibs(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    records, path = drawn(draw), tmp_path / "out.vcf.gz"
    index, made = written(path, records, draw)
    assert index.possible
    check_as_htslibs(made, path, len(records), draw, LONGEST - 1)


def test_a_vcf_without_records_has_an_index_without_contigs(tmp_path: Path) -> None:
    _, made = written(tmp_path / "out.vcf.gz", [], random.Random(0))
    assert index.read_tbi(made) == index.read_tbi(write_index(tmp_path / "out.vcf.gz")) == {}


def record(
    chrom: int = 1, start: int = 9, ref: bytes = b"A", alt: bytes = b"C", info: bytes = b"."
) -> Record:
    return b"chr%d" % chrom, start, ref, alt, info


@pytest.mark.parametrize(
    "records",
    [
        [record(alt=b"<DEL>", info=b"SVTYPE=DEL")],
        [record(alt=b"T,<NON_REF>")],
        [record(info=b"DP=1;END=70")],
        [record(info=b"SVLEN=-70")],
        [record(start=8), record(start=7)],
        [record(1), record(2), record(1)],
        [record(start=-1)],
        [record(start=LONGEST)],
        [record(start=LONGEST - 3, ref=b"ACGT")],
    ],
    ids=["symbolic", "gVCF", "END", "SVLEN", "position", "contig", "telomere", "far", "far end"],
)
def test_what_it_cannot_place_is_left_to_htslib(records: list[Record], tmp_path: Path) -> None:
    for seed in range(8):  # together and apart
        path = tmp_path / f"{seed}" / "out.vcf.gz"
        path.parent.mkdir()
        index, made = written(path, [record(3), *records, record(4)], random.Random(seed))
        assert not index.possible
        assert not made.exists()


def test_a_contig_may_have_no_name(tmp_path: Path) -> None:
    index, _ = written(tmp_path / "out.vcf.gz", [(b"", 5, b"A", b"C", b".")], random.Random(0))
    assert index.possible


def test_contigs_too_long_for_a_tbi_get_none(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf.gz"
    index, made = written(path, [record()], random.Random(0), longest=LONGEST + 1)
    assert not made.exists()
    write_output_index(path, index, ())
    assert not Path(f"{path}.tbi").exists()


@pytest.mark.parametrize("end", [b"END=70000", b"DP=1"])
def test_an_annotated_vcf_has_its_index_whoever_made_it(end: bytes, tmp_path: Path) -> None:
    fasta = write_genome(tmp_path / "genome.fa")
    source, target = write_vcf(tmp_path / "in.vcf", fasta, records=3000), tmp_path / "out.vcf.gz"
    source.write_bytes(
        source.read_bytes().replace(b"DP=9", end, 1) + b"decoy\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1\n"
    )
    reference = open_reference("GRCh38", fasta)
    annotate_file(source, target, reference, AnnotateOptions(), output_format="z", index=True)
    made = Path(f"{target}.tbi").rename(tmp_path / "made.tbi")
    write_index(target)
    with pysam.TabixFile(str(target), index=str(made)) as mine, pysam.TabixFile(str(target)) as theirs:
        assert mine.contigs == theirs.contigs == ["chr1", "decoy"]
        for begin in range(0, 200_000, 777):
            assert list(mine.fetch("chr1", begin, begin + 50)) == list(
                theirs.fetch("chr1", begin, begin + 50)
            )
    assert (made.read_bytes() == Path(f"{target}.tbi").read_bytes()) == (end != b"DP=1")


def test_a_vcf_that_is_not_sorted_is_annotated_without_an_index(tmp_path: Path) -> None:
    fasta = write_genome(tmp_path / "genome.fa")
    source, target = write_vcf(tmp_path / "in.vcf", fasta, records=30), tmp_path / "out.vcf.gz"
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:-2], lines[-1], lines[-2]]))
    reference = open_reference("GRCh38", fasta)
    annotate_file(source, target, reference, AnnotateOptions(), output_format="z", index=True)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.vcf.gz"]
