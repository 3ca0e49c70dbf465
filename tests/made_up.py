"""Genomes of repeats and of chance, and records that agree with them for the most part, for Hypothesis."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

bases = st.text("ACGT", min_size=1, max_size=12)
repeats = st.builds(lambda unit, count: unit * count, bases, st.integers(2, 8))
spice = st.sampled_from(["N" * 7, "acgtacca", "RYKMSW", "A" * 70, "GGC" * 30])
genomes = st.lists(st.one_of(repeats, repeats, bases, spice), min_size=3, max_size=20).map("".join)
odd_alts = st.sampled_from(
    [".", "*", "<DEL>", "<NON_REF>", "<*>", "C[chr2:321[", "]chr2:321]T", "T.", ".A", "AP", "X"]
)


@st.composite
def sequence_alt(draw: st.DrawFn, genome: str, start: int, ref: str) -> str:
    """An ALT made of what stands around it, so that it often lies in a repeat, or of chance."""
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return draw(st.sampled_from("ACGTN"))
    if kind == 1:
        return draw(st.text("ACGTacgtNRU", min_size=1, max_size=8))
    if kind == 2:
        return ref[: draw(st.integers(1, len(ref)))]
    if kind == 3:
        return ref + genome[start + len(ref) : start + len(ref) + draw(st.integers(1, 13))]
    if kind == 4:
        return ref + ref[-draw(st.integers(1, len(ref))) :] * draw(st.integers(1, 40))
    if kind == 5:
        return ref + draw(bases)
    return ref[::-1]


@st.composite
def record_lines(draw: st.DrawFn, genome: str) -> bytes:
    start = draw(st.one_of(st.integers(0, len(genome) - 1), st.sampled_from([0, len(genome) - 1])))
    ref = genome[start : start + draw(st.one_of(st.just(1), st.integers(1, 6), st.integers(1, 80)))]
    alt = st.one_of(*[sequence_alt(genome, start, ref)] * 4, odd_alts)
    alts = [a for a in draw(st.lists(alt, min_size=1, max_size=4)) if a]
    alts = [a for a in alts if a != "."] if len(alts) > 1 else alts
    chrom, shift = draw(st.sampled_from([("chr1", 0)] * 18 + [("chrUn", 0), ("chr1", 1), ("chr1", 900)]))
    if draw(st.integers(0, 9)) == 0:
        ref = ref.swapcase()
    info = draw(st.sampled_from([".", "DP=4", "DP=7;AC=1"]))
    position = start + 1 + shift if draw(st.integers(0, 60)) else 0
    return f"{chrom}\t{position}\t.\t{ref}\t{','.join(alts or ['A'])}\t.\tPASS\t{info}\tGT\t0/1".encode()


#: A genome and its records.
cases = genomes.flatmap(
    lambda genome: st.tuples(st.just(genome), st.lists(record_lines(genome), min_size=25, max_size=40))
)

HEADER = b"""##fileformat=VCFv4.3
##contig=<ID=chr1>
##contig=<ID=chr2>
##contig=<ID=chrUn>
##FILTER=<ID=PASS,Description="All filters passed">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##INFO=<ID=AC,Number=.,Type=Integer,Description="Count">
##INFO=<ID=END,Number=1,Type=Integer,Description="The oracle adds it to symbolic records">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1
"""


def write_case(folder: Path, genome: str, lines: list[bytes]) -> tuple[Path, Path]:
    """The genome as chr1 of a FASTA, and the records as a VCF."""
    fasta, vcf = folder / "ref.fa", folder / "in.vcf"
    fasta.write_text(">chr1\n" + "".join(f"{genome[i : i + 60]}\n" for i in range(0, len(genome), 60)))
    vcf.write_bytes(HEADER + b"".join(line + b"\n" for line in lines))
    return fasta, vcf
