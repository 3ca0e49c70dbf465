"""Cuts one piece of the genome out of an indexed VCF: the header, and the records of that piece as they are.

The pieces are contiguous, in the file's order, disjoint, and together the whole file. They hold about as many
records each, as far as the index's counts by contig and an even spread within each contig tell.
"""

import sys
from pathlib import Path

import pysam
import pysam.bcftools


def sizes(vcf):
    """Name, length (0 where the header has none) and records of each contig, in the file's order."""
    counts = pysam.bcftools.index("--stats", vcf, split_lines=True)
    rows = [line.split("\t") for line in counts]
    return [(name, int(length) if length.isdigit() else 0, int(number)) for name, length, number in rows]


def boundary(contigs, number, total):
    """Where the first ``number`` of ``total`` pieces end: the index of a contig and a position on it."""
    rank = sum(records for _, _, records in contigs) * number // total
    for index, (_, length, records) in enumerate(contigs):
        if rank < records:
            return index, length * rank // records
        rank -= records
    return len(contigs), 0


def windows(contigs, number, total):
    """Contig and positions of piece ``number``, from 1: after one, up to the other (None: to the end)."""
    first, start = boundary(contigs, number - 1, total)
    last, end = boundary(contigs, number, total)
    for index in range(first, min(last + 1, len(contigs))):
        after = start if index == first and start else -1
        until = end if index == last else None
        if until != 0:
            yield contigs[index][0], after, until


def lines(vcf, number, total):
    """The header and the records of one piece."""
    contigs = sizes(vcf)
    with pysam.TabixFile(vcf, encoding="latin-1") as table:
        yield from table.header
        for contig, after, until in windows(contigs, number, total):
            for line in table.fetch(contig, max(after, 0), until):
                # A record that begins in the piece before reaches into this one, but is not of it.
                position = int(line.split("\t", 2)[1])
                if position > after and (until is None or position <= until):
                    yield line


def main(vcf, piece, target):
    """Write the piece, named as 3-of-8, as BGZF."""
    number, total = map(int, piece.split("-of-"))
    with pysam.BGZFile(target, "wb") as out:
        for line in lines(vcf, number, total):
            out.write(f"{line}\n".encode("latin-1"))


sys.stderr = Path(snakemake.log[0]).open("w")
main(snakemake.input.vcf, snakemake.wildcards.piece, snakemake.output.vcf)
