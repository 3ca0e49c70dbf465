"""Makes the demo's data: a small made-up genome, three VCFs that agree with it, config and sample sheet.

    python make_demo.py FOLDER

The same files come out at every call and with every Python. The genome has what real ones have: runs of N,
lower case, tandem repeats, a chrM. The VCFs have SNVs, MNVs, insertions and deletions in and outside
repeats, multi-allelic, symbolic and overlapping (*) alleles, and one record whose REF is wrong.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

SEED = 20_250_101
CONTIGS = {"chr1": 90_000, "chr2": 60_000, "chrX": 30_000, "chrM": 16_569}
SAMPLES = ("alice", "bela", "carol")
#: Mean distance of two records, bases.
SPACING = 100

HEADER = """\
##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Read depth">
##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">
##INFO=<ID=END,Number=1,Type=Integer,Description="End position of the variant">
##ALT=<ID=DEL,Description="Deletion">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Read depth of each allele">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Genotype quality">
"""
CONFIG = """\
samples: config/samples.tsv
assembly: demo
reference: resources/genome.fa
annotate:
  timeout_minutes: 5
"""


def bases(draw: random.Random, length: int) -> str:
    """Random sequence of that length, over A, C, G and T."""
    return "".join(draw.choice("ACGT") for _ in range(length))


def make_contig(draw: random.Random, length: int) -> str:
    """Random sequence with tandem repeats, lower case and runs of N; ``length`` bases."""
    parts: list[str] = []
    while sum(map(len, parts)) < length:
        parts.append(bases(draw, draw.randint(100, 900)))
        unit = bases(draw, draw.randint(1, 12))
        repeat = unit * draw.randint(3, 15)
        parts.append(repeat.lower() if draw.random() < 0.3 else repeat)
        if draw.random() < 0.3:
            parts.append(bases(draw, draw.randint(50, 400)).lower())
        if draw.random() < 0.04:
            parts.append("N" * draw.randint(50, 300))
    return "".join(parts)[:length]


def repeat_at(sequence: str, start: int) -> str:
    """The unit (1 to 12 bases) that is repeated from ``start`` (0-based) on, or an empty string."""
    for size in range(1, 13):
        unit = sequence[start : start + size]
        if len(unit) == size and sequence.startswith(unit * (4 if size == 1 else 2), start):
            return unit
    return ""


def alleles(draw: random.Random, sequence: str, start: int) -> tuple[str, str]:
    """REF and ALT of a variant at ``start`` (0-based), with the mix of a germline call set."""
    ref = sequence[start]
    unit = repeat_at(sequence, start + 1)
    kind = draw.random()
    if unit and kind < 0.7:  # slippage: one unit more or less
        return (ref + unit, ref) if draw.random() < 0.5 else (ref, ref + unit)
    if kind < 0.06:
        return ref, ref + bases(draw, draw.randint(1, 20))
    if kind < 0.12:
        return sequence[start : start + draw.randint(2, 20)], ref
    if kind < 0.14:
        ref = sequence[start : start + 2]
        return ref, "".join(draw.choice([base for base in "ACGT" if base != old]) for old in ref)
    others = [base for base in "ACGT" if base != ref]
    if kind < 0.18:
        return ref, ",".join(draw.sample(others, 2))
    return ref, draw.choice(others)


def make_record(draw: random.Random, name: str, sequence: str, start: int) -> str:
    """One line of the VCF for the 0-based position ``start``, whose base is one of A, C, G and T."""
    kind = draw.random()
    info = f"DP={draw.randint(8, 60)}"
    if kind < 0.004:
        ref, alt, info = sequence[start], "<DEL>", f"{info};SVTYPE=DEL;END={start + 60}"
    elif kind < 0.01:
        ref, alt = sequence[start], draw.choice([base for base in "ACGT" if base != sequence[start]]) + ",*"
    else:
        ref, alt = alleles(draw, sequence, start)
    count = 2 + alt.count(",")
    genotype = draw.choice(("0/1", "0/1", "0|1", "1/1")) if count == 2 else "1/2"
    depths = ",".join(str(draw.randint(2, 30)) for _ in range(count))
    sample = f"{genotype}:{depths}:{draw.randint(20, 99)}"
    quality = draw.randint(30, 900)
    return f"{name}\t{start + 1}\t.\t{ref}\t{alt}\t{quality}\tPASS\t{info}\tGT:AD:GQ\t{sample}\n"


def make_vcf(draw: random.Random, sample: str, genome: dict[str, str]) -> str:
    """A sorted one-sample VCF over the whole genome."""
    contigs = "".join(f"##contig=<ID={name},length={len(seq)}>\n" for name, seq in genome.items())
    columns = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", sample)
    lines = [HEADER, contigs, "\t".join(columns) + "\n"]
    for name, sequence in genome.items():
        upper = sequence.upper()
        start = 0
        while (start := start + draw.randint(25, 2 * SPACING - 25)) < len(upper) - 200:
            if "N" not in upper[start : start + 40]:
                lines.append(make_record(draw, name, upper, start))
    return "".join(lines)


def with_wrong_ref(vcf: str) -> str:
    """The same VCF with another REF base in its last SNV, as after a liftover gone wrong."""
    lines = vcf.splitlines(keepends=True)
    for number in reversed(range(len(lines))):
        fields = lines[number].split("\t")
        if len(fields[3]) == len(fields[4]) == 1:
            break
    fields[3] = next(base for base in "ACGT" if base not in fields[3:5])
    lines[number] = "\t".join(fields)
    return "".join(lines)


def write_demo(folder: Path) -> None:
    """Write all files below ``folder``; what is there already is replaced."""
    draw = random.Random(SEED)
    genome = {name: make_contig(draw, length) for name, length in CONTIGS.items()}
    for part in ("config", "resources", "vcf"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / "resources" / "genome.fa").open("w", encoding="ascii") as fasta:
        for name, sequence in genome.items():
            lines = [sequence[start : start + 60] for start in range(0, len(sequence), 60)]
            fasta.write(f">{name}\n" + "\n".join(lines) + "\n")
    for sample in SAMPLES:
        vcf = make_vcf(draw, sample, genome)
        text = with_wrong_ref(vcf) if sample == SAMPLES[-1] else vcf
        (folder / "vcf" / f"{sample}.vcf").write_text(text, encoding="ascii")
    rows = "".join(f"{sample}\tvcf/{sample}.vcf\n" for sample in SAMPLES)
    (folder / "config" / "samples.tsv").write_text("sample\tvcf\n" + rows, encoding="ascii")
    (folder / "config" / "config.yaml").write_text(CONFIG, encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python make_demo.py FOLDER")
    write_demo(Path(sys.argv[1]))
