"""VCFs of many samples: MB of input per CPU second, ours against `bcftools view -Oz`, in one run.

python benchmarks/samples.py [--megabytes N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from annotators import bcftools, ours
from common import Table, alternate, main
from data import bgzipped, make_data


def row(options: argparse.Namespace, where: Path, samples: int) -> list[object]:
    """Samples, MB/s of both, ratio."""
    where.mkdir()
    records = options.megabytes * 1_000_000 // (60 + 24 * samples)
    fasta, plain = make_data(where, records, samples=samples)
    packed = bgzipped(plain)
    ours(fasta, packed, where / "warm.vcf.gz")
    costs = alternate(
        options.rounds,
        ours=lambda: ours(fasta, packed, where / "a.vcf.gz"),
        bcftools=lambda: bcftools(packed, where / "b.vcf.gz"),
    )
    size = plain.stat().st_size / 1e6
    speed = {name: size / cost.cpu for name, cost in costs.items()}
    return [samples, speed["ours"], speed["bcftools"], speed["ours"] / speed["bcftools"]]


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """A cohort and a biobank."""
    rows = [row(options, where / str(samples), samples) for samples in (500, 2500)]
    return [Table("samples", ["samples", "ours, MB/s", "`bcftools view -Oz`, MB/s", "ratio"], rows)]


if __name__ == "__main__":
    main(__doc__, tables, needs=("bcftools", "bgzip"), megabytes=(400, 10), rounds=(3, 1))
