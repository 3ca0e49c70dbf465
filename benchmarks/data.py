"""Made-up data: a genome of one contig and a VCF that agrees with it."""

from __future__ import annotations

import random
import subprocess
from itertools import islice
from pathlib import Path

#: Bases from one variant to the next, about what they are in a human genome: all annotators look up REF.
SPACING = 650
#: Shares of the genomes of a cohort that carry a variant: most variants are rare.
FREQUENCIES = [0.0005] * 5 + [0.001] * 3 + [0.005, 0.02, 0.1, 0.3]
#: Bases of a genome at least and at most; with more than a million records these lie closer together.
SHORTEST, LONGEST = 1_000_000, 650_000_000
#: Bases of a contig at most.
CONTIG = 100_000_000

_LINE = 60
_BASES = bytes(b"ACGT"[i % 4] for i in range(256))
_HEADER = """##fileformat=VCFv4.2
%s##FILTER=<ID=q,Description="q">
##INFO=<ID=AC,Number=A,Type=Integer,Description="a">
##INFO=<ID=DP,Number=1,Type=Integer,Description="d">
##FORMAT=<ID=GT,Number=1,Type=String,Description="g">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="a">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">
##FORMAT=<ID=PL,Number=G,Type=Integer,Description="p">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="q">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t%s
"""


def make_data(
    where: Path, records: int, samples: int = 1, seed: int = 7, spacing: int = SPACING
) -> tuple[Path, Path]:
    """A FASTA and a VCF: 88 % SNVs, 6 % insertions, 6 % deletions, one each ``spacing`` bases.

    One sample has GT, DP and GQ. Many have what joint calling writes, and most do not carry a variant.
    """
    draw = random.Random(seed)
    length = min(max(spacing * records, SHORTEST), LONGEST)
    sizes = [min(CONTIG, length - begin) for begin in range(0, length, CONTIG)]
    contigs = [_bases(draw, size) for size in sizes]
    fasta, vcf = where / "genome.fa", where / "in.vcf"
    with fasta.open("w") as file:
        for number, contig in enumerate(contigs, 1):
            file.write(f">chr{number}\n")
            file.writelines(contig[i : i + _LINE] + "\n" for i in range(0, len(contig), _LINE))
    fields = "GT:DP:GQ" if samples == 1 else "GT:AD:DP:GQ:PL"
    pools = [_calls(draw, frequency) if samples > 1 else _single(draw) for frequency in FREQUENCIES]
    with vcf.open("w") as file:
        declared = "".join(f"##contig=<ID=chr{n},length={size}>\n" for n, size in enumerate(sizes, 1))
        file.write(_HEADER % (declared, "\t".join(f"S{n}" for n in range(samples))))
        for place in sorted(draw.choices(range(length), k=records)):
            number, offset = divmod(place, CONTIG)
            position = min(max(offset, 1000), sizes[number] - 1000)
            ref, alt = _change(draw, contigs[number], position)
            calls = "\t".join(draw.choices(draw.choice(pools), k=samples))
            quality = f"{draw.randint(30, 900)}.{draw.randint(0, 9)}"
            file.write(
                f"chr{number + 1}\t{position}\trs{position}\t{ref}\t{alt}\t{quality}"
                f"\tPASS\tAC=1;DP={draw.randint(10, 60)}\t{fields}\t{calls}\n"
            )
    return fasta, vcf


def _single(draw: random.Random) -> list[str]:
    return [f"0/1:{draw.randint(10, 60)}:{draw.randint(1, 99)}" for _ in range(500)]


def _calls(draw: random.Random, frequency: float) -> list[str]:
    """Calls of a variant of that frequency: GT:AD:DP:GQ:PL."""
    calls = []
    for _ in range(2000):
        alts = (draw.random() < frequency) + (draw.random() < frequency)
        depth, quality = max(3, int(draw.gauss(30, 6))), 99 if draw.random() < 0.7 else draw.randint(40, 98)
        seen = (0, depth // 2 + draw.randint(-1, 1), depth)[alts]
        likelihoods = [0 if n == alts else quality * (1 + 8 * abs(n - alts)) for n in range(3)]
        genotype, likely = ("0/0", "0/1", "1/1")[alts], ",".join(map(str, likelihoods))
        calls.append(f"{genotype}:{depth - seen},{seen}:{depth}:{quality}:{likely}")
    return calls


def _bases(draw: random.Random, length: int) -> str:
    """So many of them; made in pieces, for Python makes no number of more than 2**31 bits at once."""
    pieces = (draw.randbytes(min(length - done, 1 << 24)) for done in range(0, length, 1 << 24))
    return b"".join(pieces).translate(_BASES).decode("ascii")


def _change(draw: random.Random, sequence: str, position: int) -> tuple[str, str]:
    base = sequence[position - 1]
    kind = draw.random()
    if kind < 0.88:
        return base, draw.choice([other for other in "ACGT" if other != base])
    if kind < 0.94:
        return base, base + "".join(draw.choices("ACGT", k=draw.randint(1, 6)))
    return sequence[position - 1 : position + draw.randint(1, 6)], base


def first_records(source: Path, count: int, target: Path) -> Path:
    """The header and the first so many records of a VCF."""
    with source.open() as whole:
        header = [line for line in islice(whole, 100) if line.startswith("#")]
        whole.seek(0)
        target.write_text("".join(islice(whole, len(header) + count)))
    return target


def genome_of(part: Path, fasta: Path, target: Path) -> Path:
    """As much of the FASTA as the first records of its VCF, ``part``, need: for those who read all of it."""
    records = [line for line in part.read_text().splitlines() if not line.startswith("#")]
    bases = int(records[-1].split("\t", 2)[1]) + 1000
    with fasta.open() as whole:
        target.write_text("".join(islice(whole, 1 + bases // _LINE)))
    return target


def bgzipped(path: Path) -> Path:
    """The file compressed by bgzip, beside it."""
    subprocess.run(["bgzip", "-kf", str(path)], check=True)
    return Path(f"{path}.gz")
