"""Private memory of step, worker and web API while a large VCF goes through, over a large genome.

A made-up genome of 24 contigs and a VCF of its records, 200 bytes each, made on the fly: piped into
``annotate -``, once through Celery and once through the web API. What is counted are pages that no other
process has (USS), summed over each one's processes, at their peak. 3 Gb and 10 million records, which are
2 GB of text, take five minutes and 10 GB of disk.

    python benchmarks/memory.py [--tiles N] [--records N] [--small]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from common import Table, main, private_site
from processes import memory_watched
from support import Site

CONTIGS = 24
LINE = 60
#: Bases after which a contig repeats itself; 100,000 lines.
TILE = 6_000_000
INFO = "DP=30;AF=0.5;" + "X" * 120


def make_genome(path: Path, tiles: int) -> str:
    """A FASTA whose contigs are the returned sequence, so many times each."""
    tile = "".join(random.Random(3).choices("ACGT", k=TILE))
    lines = "".join(tile[i : i + LINE] + "\n" for i in range(0, TILE, LINE))
    with path.open("w") as file:
        for number in range(CONTIGS):
            file.write(f">chr{number}\n")
            for _ in range(tiles):
                file.write(lines)
    return tile


def vcf(tile: str, tiles: int, records: int) -> Iterator[bytes]:
    """The VCF in pieces: SNVs, evenly over all contigs."""
    names = "".join(f"##contig=<ID=chr{n},length={TILE * tiles}>\n" for n in range(CONTIGS))
    yield f"##fileformat=VCFv4.2\n{names}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".encode()
    other = dict(zip("ACGT", "CGTA", strict=True))
    gap = TILE * tiles * CONTIGS // records
    for number in range(CONTIGS):
        lines = (
            f"chr{number}\t{at + 1}\t.\t{(ref := tile[at % TILE])}\t{other[ref]}\t.\tPASS\tN={at:09};{INFO}\n"
            for at in range(0, TILE * tiles - gap, gap)
        )
        while piece := "".join(islice(lines, 5000)):
            yield piece.encode()


def through(
    site: Site, target: Path, pieces: Iterator[bytes], roots: dict[str, int], via: str
) -> dict[str, float]:
    """Pipe the VCF through a step: peaks of step, worker and web API in MB."""
    argv = [sys.executable, "-m", "anyvar_step", "annotate", "-", "-o", str(target), "--via", via]
    process = subprocess.Popen(argv, env=site.environ, stdin=subprocess.PIPE, cwd=target.parent)
    with memory_watched({"step": process.pid, **roots}) as peaks:
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.writelines(pieces)
        if process.wait():
            raise SystemExit(f"annotate --via {via} failed with {process.returncode}")
    return peaks


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """The most memory of each process, both ways."""
    tiles, records = options.tiles, options.records
    tile = make_genome(where / "genome.fa", tiles)
    rows: list[list[object]] = []
    with private_site(where, where / "genome.fa") as site, site.worker() as worker, site.web() as api:
        site.extra["ANYVAR_STEP_URL"] = api.url
        for via, roots in (
            ("celery", {"worker": worker.pid}),
            ("http", {"worker": worker.pid, "web API": api.process.pid}),
        ):
            target = where / f"{via}.vcf.gz"
            peaks = through(site, target, vcf(tile, tiles, records), roots, via)
            rows.append(
                [
                    f"--via {via}",
                    *(round(peaks[name]) if name in peaks else "" for name in ("step", "worker", "web API")),
                ]
            )
    size = TILE * tiles * CONTIGS / 1e9
    head = [f"private memory, MB; {size:.2f} Gb, {records:,} records", "step", "worker", "web API"]
    return [Table("memory", head, rows)]


if __name__ == "__main__":
    main(__doc__, tables, tiles=(21, 1), records=(10_000_000, 20_000))
