"""A VCF with very many contigs, as of plant and metagenome assemblies: three records on each of 60,000.

The whole command, with its index and without a worker (``--local``), beside `bcftools view -Oz` and
`bcftools index -t` of the annotated file; CPU and wall-clock seconds of whole processes on one core.

    python benchmarks/contigs.py [--contigs N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from annotators import bcftools
from common import ROOT, Table, alternate, main
from data import bgzipped
from processes import Cost, measure

#: Bases of a contig, and where on it the records are.
LENGTH, PLACES = 300, (60, 150, 240)


def make_contigs(where: Path, contigs: int) -> tuple[Path, Path]:
    """A FASTA with so many contigs and a VCF of SNVs that agrees with it."""
    draw = random.Random(9)
    names = [f"scaffold_{number}" for number in range(1, contigs + 1)]
    fasta, vcf = where / "contigs.fa", where / "contigs.vcf"
    with fasta.open("w") as genome, vcf.open("w") as records:
        records.write("##fileformat=VCFv4.2\n")
        records.writelines(f"##contig=<ID={name},length={LENGTH}>\n" for name in names)
        records.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for name in names:
            bases = "".join(draw.choices("ACGT", k=LENGTH))
            genome.write(f">{name}\n{bases}\n")
            for place in PLACES:
                ref = bases[place - 1]
                alt = draw.choice([base for base in "ACGT" if base != ref])
                records.write(f"{name}\t{place}\t.\t{ref}\t{alt}\t50\tPASS\t.\n")
    return fasta, vcf


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Both commands, and how many times the other's time ours takes."""
    fasta, plain = make_contigs(where, options.contigs)
    packed, out, copy = bgzipped(plain), where / "out.vcf.gz", where / "copy.vcf.gz"
    command = [sys.executable, "-m", "anyvar_step", "annotate", str(packed), "-o", str(out)]
    command += ["--local", "--reference", f"GRCh38={fasta}", "--attributes", "--write-index", "--quiet"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def ours() -> Cost:
        return measure(command, where, environ, cores=1)

    def theirs() -> Cost:
        view = bcftools(out, copy)
        index = measure(["bcftools", "index", "-f", "-t", str(copy)], where, cores=1)
        return Cost(view.cpu + index.cpu, view.wall + index.wall)

    ours()  # index and accessions are made once, and not measured
    costs = alternate(options.rounds, ours=ours, theirs=theirs)
    names = {
        "ours": "`anyvar-step annotate --local --write-index`",
        "theirs": "`bcftools view -Oz`, `index -t`",
    }
    rows: list[list[object]] = [
        [names[key], cost.cpu, cost.wall, cost.cpu / costs["theirs"].cpu] for key, cost in costs.items()
    ]
    what = f"{options.contigs:,} contigs, {len(PLACES) * options.contigs:,} records"
    return [Table("contigs", [what, "CPU seconds", "seconds", "× bcftools"], rows)]


if __name__ == "__main__":
    main(__doc__, tables, needs=("bcftools", "bgzip"), contigs=(60_000, 600), rounds=(3, 1))
