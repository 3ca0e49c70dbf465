"""Records per second of the VRS engines on one core, text to text, beside the reference annotator.

The same made-up VCF as in annotators.py, and its SNVs and its insertions and deletions apart; REF and ALT,
with attributes. ga4gh.vrs's VcfAnnotator does a part of it (ANYVAR_STEP_ORACLE_PYTHON). CPU seconds without
start-up, nor reading and writing of files for ours.

    python benchmarks/vrs_engine.py [--records N] [--part N] [--small]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from common import ROOT, Table, main
from data import genome_of, make_data
from processes import measure

from anyvar_step.reference import Reference, open_reference
from anyvar_step.vrs import EngineChoice, engine_name, make_engine

ORACLE = ROOT / "tests" / "oracle" / "annotate.py"
BLOCK = 32 * 1024


def is_snv(line: bytes) -> bool:
    """Whether one base becomes another."""
    _, _, _, ref, alt, _ = line.split(b"\t", 5)
    return len(ref) == len(alt) == 1


def blocks(lines: list[bytes]) -> list[list[bytes]]:
    """The lines in blocks of at most 32 KB."""
    found: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if size + len(line) > BLOCK:
            found.append([])
            size = 0
        found[-1].append(line)
        size += len(line) + 1
    return found


def ours(reference: Reference, lines: list[bytes], choice: EngineChoice) -> float:
    """CPU seconds of an engine from text to text, the best of three."""
    seconds = []
    for _ in range(3):
        pieces = [b"\n".join(block) + b"\n" for block in blocks(lines)]
        engine = make_engine(reference, for_ref=True, attributes=True, choice=choice)
        begin = time.process_time()
        for piece in pieces:
            engine.annotate(piece)
        seconds.append(time.process_time() - begin)
    return min(seconds)


def theirs(python: str, folder: Path, header: list[bytes], lines: list[bytes]) -> float:
    """CPU seconds of the reference annotator, less those of a run over an empty VCF."""
    full, empty = folder / "part.vcf", folder / "none.vcf"
    for vcf, part in ((full, lines), (empty, [])):
        vcf.write_bytes(b"".join(line + b"\n" for line in [*header, *part]))
    fasta = genome_of(full, folder / "genome.fa", folder / "part.fa")
    seconds = []
    for vcf in (full, empty):
        command = [python, str(ORACLE), str(fasta), str(vcf), str(folder / "out.vcf")]
        seconds.append(measure([*command, "--for-ref", "--attributes"], folder).cpu)
    return max(seconds[0] - seconds[1], 0.01)


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Records/s by kind of variant."""
    fasta, vcf = make_data(where, options.records)
    text = vcf.read_bytes().splitlines()
    header = [line for line in text if line.startswith(b"#")]
    lines = text[len(header) :]
    reference = open_reference("GRCh38", fasta)
    kinds = {
        "all": lines,
        "SNVs": [line for line in lines if is_snv(line)],
        "insertions and deletions": [line for line in lines if not is_snv(line)],
    }
    engines: list[EngineChoice] = ["python", "native"] if engine_name() == "native" else ["python"]
    oracle = os.environ.get("ANYVAR_STEP_ORACLE_PYTHON")
    titles = ["engine alone", *(f"{name}, records/s" for name in engines)]
    if oracle:
        titles += ["vrs-annotate's", *(f"{name}, times that" for name in engines)]
    rows: list[list[object]] = []
    for name, some in kinds.items():
        speeds = [len(some) / ours(reference, some, choice) for choice in engines]
        row: list[object] = [name, *map(round, speeds)]
        if oracle:
            part = some[: options.part]
            rate = len(part) / theirs(oracle, where, header, part)
            row += [round(rate), *(speed / rate for speed in speeds)]
        rows.append(row)
    return [Table("vrs_engine", titles, rows)]


if __name__ == "__main__":
    main(__doc__, tables, records=(200_000, 5_000), part=(4_000, 100))
