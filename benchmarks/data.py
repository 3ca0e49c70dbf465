"""Made-up data: a genome of one contig and a VCF that agrees with it."""

from __future__ import annotations

import random
import subprocess
from itertools import islice
from pathlib import Path

LENGTH = 5_000_000
HEADER = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=5000000>
##FILTER=<ID=q,Description="q">
##INFO=<ID=AC,Number=A,Type=Integer,Description="a">
##INFO=<ID=DP,Number=1,Type=Integer,Description="d">
##FORMAT=<ID=GT,Number=1,Type=String,Description="g">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="d">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="q">
"""


def make_data(where: Path, records: int, samples: int = 1, seed: int = 7) -> tuple[Path, Path]:
    """A FASTA and a VCF: 88 % SNVs, 6 % insertions, 6 % deletions; GT, DP and GQ for each sample."""
    draw = random.Random(seed)
    sequence = "".join(draw.choices("ACGT", k=LENGTH))
    fasta, vcf = where / "genome.fa", where / "in.vcf"
    lines = (sequence[i : i + 60] for i in range(0, LENGTH, 60))
    fasta.write_text(">chr1\n" + "\n".join(lines) + "\n")
    names = "\t".join(f"S{n}" for n in range(samples))
    pool = [f"0/1:{draw.randint(10, 60)}:{draw.randint(1, 99)}" for _ in range(500)]
    with vcf.open("w") as file:
        file.write(f"{HEADER}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n")
        for position in sorted(draw.choices(range(1000, LENGTH - 1000), k=records)):
            ref, alt = _change(draw, sequence, position)
            calls = "\t".join(draw.choices(pool, k=samples))
            file.write(
                f"chr1\t{position}\trs{position}\t{ref}\t{alt}\t{draw.randint(30, 900)}.{draw.randint(0, 9)}"
                f"\tPASS\tAC=1;DP={draw.randint(10, 60)}\tGT:DP:GQ\t{calls}\n"
            )
    return fasta, vcf


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


def bgzipped(path: Path) -> Path:
    """The file compressed by bgzip, beside it."""
    subprocess.run(["bgzip", "-kf", str(path)], check=True)
    return Path(f"{path}.gz")
