"""What it costs to begin: ``anyvar-step --help``, a step's own part of a run of one record, many small VCFs.

Wall-clock and CPU (user and system) seconds of whole processes, medians; of the small VCFs, which are
annotated by one worker process, the means of a VCF: steps one after the other, and four at a time.

    python benchmarks/start_up.py [--rounds N] [--vcfs N] [--small]
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import Table, alternate, main, private_site
from data import first_records, make_data
from processes import cpu_of, measure
from support import Site

#: Records of a small VCF.
RECORDS = 100


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Both, one after the other."""
    fasta, vcf = make_data(where, RECORDS)
    one = first_records(vcf, 1, where / "one.vcf")
    command = [sys.executable, "-m", "anyvar_step"]
    step = [*command, "annotate", str(one), "-o", str(where / "out.vcf.gz")]
    with private_site(where, fasta) as site, site.worker() as worker:
        measure(step, where, site.environ)  # the worker opens its reference
        costs = alternate(
            options.rounds,
            help=lambda: measure([*command, "--help"], where, site.environ),
            step=lambda: measure(step, where, site.environ),
        )
        small = [small_vcfs(site, worker.pid, vcf, options.vcfs, at_once) for at_once in (1, 4)]
    names = {"help": "`anyvar-step --help`", "step": "`anyvar-step annotate`, one record"}
    rows: list[list[object]] = [
        # What ends before its memory is looked at has none to show.
        [name, costs[key].wall, costs[key].cpu, round(costs[key].memory) or ""]
        for key, name in names.items()
    ]
    what = f"{options.vcfs} VCFs of {RECORDS} records, one worker"
    head = [what, "seconds a VCF", "CPU seconds, step", "CPU seconds, worker"]
    return [
        Table("start_up", ["start-up", "seconds", "CPU seconds", "private memory, MB"], rows),
        Table("small_vcfs", head, small),
    ]


def small_vcfs(site: Site, worker: int, vcf: Path, number: int, at_once: int) -> list[object]:
    """Annotate so many copies of a VCF, so many steps at a time."""
    sources = [vcf.with_name(f"small-{at_once}-{copy}.vcf") for copy in range(number)]
    for copy, source in enumerate(sources):  # each is another VCF, and another run
        source.write_text(vcf.read_text().replace("##FILTER", f"##copy={at_once}-{copy}\n##FILTER", 1))

    def annotate(source: Path) -> float:
        command = [sys.executable, "-m", "anyvar_step", "annotate", str(source)]
        return measure([*command, "-o", f"{source}.out.vcf.gz"], source.parent, site.environ).cpu

    begin, before = time.perf_counter(), cpu_of(worker)
    with ThreadPoolExecutor(at_once) as pool:
        steps = sum(pool.map(annotate, sources))
    seconds, used = time.perf_counter() - begin, cpu_of(worker) - before
    name = "steps one after the other" if at_once == 1 else f"{at_once} steps at a time"
    return [name, seconds / number, steps / number, used / number]


if __name__ == "__main__":
    main(__doc__, tables, rounds=(9, 1), vcfs=(40, 4))
