"""What it costs to begin: ``anyvar-step --help``, and a step's own part of a run of one record.

Wall-clock and CPU (user and system) seconds of whole processes, medians.

    python benchmarks/start_up.py [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import Table, alternate, main, private_site
from data import first_records, make_data
from processes import measure


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Both, one after the other."""
    fasta, vcf = make_data(where, 100)
    one = first_records(vcf, 1, where / "one.vcf")
    command = [sys.executable, "-m", "anyvar_step"]
    step = [*command, "annotate", str(one), "-o", str(where / "out.vcf.gz")]
    with private_site(where, fasta) as site, site.worker():
        measure(step, where, site.environ)  # the worker opens its reference
        costs = alternate(
            options.rounds,
            help=lambda: measure([*command, "--help"], where, site.environ),
            step=lambda: measure(step, where, site.environ),
        )
    names = {"help": "`anyvar-step --help`", "step": "`anyvar-step annotate`, one record"}
    rows: list[list[object]] = [
        # What ends before its memory is looked at has none to show.
        [name, costs[key].wall, costs[key].cpu, round(costs[key].memory) or ""]
        for key, name in names.items()
    ]
    return [Table("start_up", ["start-up", "seconds", "CPU seconds", "private memory, MB"], rows)]


if __name__ == "__main__":
    main(__doc__, tables, rounds=(9, 1))
