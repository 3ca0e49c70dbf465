"""What each part of annotating takes: nanoseconds of CPU a record, on one core, from BGZF to BGZF.

REF and ALT, with attributes, one sample; the best of several rounds, in which the parts take turns. The
engine's parts are differences: over a reference that lacks the contig it splits and writes the lines alone;
over a genome of a million bases, which one read holds, it does not wait for the FASTA; without REF it digests
one allele less. The rest of the whole is what Python does for each block, and writing to the disk.

    python benchmarks/parts.py [--records N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from common import Table, main
from data import SHORTEST, bgzipped, make_data

from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.reference import Reference, open_reference
from anyvar_step.vcf.bgzf import compressed
from anyvar_step.vcf.index import TbiBuilder
from anyvar_step.vcf.reader import VcfReader
from anyvar_step.vrs import Engine, engine_name, make_engine


def read(vcf: Path) -> list[bytes]:
    """The record lines in blocks."""
    with vcf.open("rb") as raw:
        return list(VcfReader(raw, vcf.name).text_blocks())


def engine_of(reference: Reference, *, for_ref: bool = True) -> Engine:
    """The engine that annotates over a plain FASTA here."""
    return make_engine(reference, for_ref=for_ref, attributes=True)


def each(engine: Engine, blocks: list[bytes]) -> Callable[[], object]:
    """What annotates all blocks and keeps none."""

    def act() -> None:
        for block in blocks:
            engine.annotate(block)

    return act


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """One row a part."""
    dense, sparse, other = where / "dense", where / "sparse", where / "other.fa"
    dense.mkdir()
    sparse.mkdir()
    fasta, plain = make_data(sparse, options.records)
    near_fasta, near = make_data(dense, options.records, spacing=SHORTEST // options.records)
    other.write_text(">another\nACGT\n")
    vcf = bgzipped(plain)
    reference, near_reference = open_reference("GRCh38", fasta), open_reference("GRCh38", near_fasta)
    blocks, near_blocks = read(vcf), read(near)
    annotated = [engine_of(reference).annotate(block) for block in blocks]
    with vcf.open("rb") as raw:
        header = VcfReader(raw, vcf.name).header

    def index() -> None:
        builder = TbiBuilder(header)
        for block in annotated:
            places = block.starts, block.ends, block.offsets
            builder.add(block.runs, *places, len(block.text), plain=block.plain)

    target = where / "out.vcf.gz"
    acts: dict[str, Callable[[], object]] = {
        "inflate": lambda: read(vcf),
        "lines": each(engine_of(open_reference("GRCh38", other)), near_blocks),
        "near": each(engine_of(near_reference), near_blocks),
        "alt": each(engine_of(near_reference, for_ref=False), near_blocks),
        "engine": each(engine_of(reference), blocks),
        "index": index,
        "deflate": lambda: [compressed(block.text) for block in annotated],
        "level 1": lambda: [compressed(block.text, 1) for block in annotated],
        "sha256": lambda: [hashlib.sha256(block.text) for block in annotated],
        "all": lambda: annotate_file(
            vcf, target, reference, AnnotateOptions(add_vrs_attributes=True), output_format="z", index=True
        ),
    }
    best: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, act in acts.items():
            begin = time.process_time()
            act()
            spent = (time.process_time() - begin) * 1e9 / options.records
            best[name] = min(best.get(name, spent), spent)
    parts = {
        "read, inflate, count lines": best["inflate"],
        "engine: split and write the lines": best["lines"],
        "engine: normalize, SHA-512 of location, REF and ALT, fields": best["near"] - best["lines"],
        "engine: read the FASTA": best["engine"] - best["near"],
        "index": best["index"],
        "deflate, level 6": best["deflate"],
    }
    whole = best["all"]
    rows: list[list[object]] = [[name, *shares(spent, whole)] for name, spent in parts.items()]
    rows.append(
        ["the rest: Python for each block, SHA-256, the disk", *shares(whole - sum(parts.values()), whole)]
    )
    rows.append(["all", *shares(whole, whole)])
    rows.append(["*for comparison:* REF's identifier and fields", round(best["near"] - best["alt"]), ""])
    rows.append(["*for comparison:* deflate, level 1", round(best["level 1"]), ""])
    return [Table("parts", [f"{engine_name()} engine, gz to gz", "ns a record", "share"], rows)]


def shares(spent: float, whole: float) -> tuple[int, str]:
    """Nanoseconds, and their share of the whole."""
    return round(spent), f"{spent / whole:.0%}"


if __name__ == "__main__":
    main(__doc__, tables, needs=("bgzip",), records=(300_000, 5_000), rounds=(5, 1))
