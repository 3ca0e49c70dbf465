"""What Redis, Celery and the work dir cost: from submit to indexed output, beside the bare pipeline.

One run on one worker against ``annotate_file`` alone on the same bgzipped VCF, which makes no index, both
kept to one core, and with a second core for the worker; then the VCF in pieces on one worker and on two, each
kept to a core of its own.

    python benchmarks/end_to_end.py [--records N] [--chunks N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from annotators import ours
from common import Table, alternate, folder, main, private_site
from data import bgzipped, make_data
from processes import Cost, cpu_of, measure, tree
from support import Site


@dataclass(frozen=True)
class Input:
    """The VCF, its genome, and how many records it has."""

    fasta: Path
    vcf: Path
    records: int


def step(site: Site, vcf: Path, target: Path, *options: str) -> Cost:
    """A step of its own, from start to end."""
    command = [sys.executable, "-m", "anyvar_step", "annotate", str(vcf), "-o", str(target), "--attributes"]
    return measure([*command, *options], target.parent, site.environ)


def keep_to(root: int, cores: Collection[int]) -> None:
    """Let the process and all its children, with their threads, run on these cores only."""
    for pid, _ in tree(root):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def overhead(where: Path, given: Input, rounds: int) -> Table:
    """One run on one worker, and the same work without any of it."""
    target, cores = where / "out.vcf.gz", sorted(os.sched_getaffinity(0))
    with private_site(where, given.fasta) as site, site.worker() as worker:

        def through(allowed: Collection[int]) -> Cost:
            """The step's cost with its worker's."""
            keep_to(worker.pid, allowed)
            before = cpu_of(worker.pid)
            cost = step(site, given.vcf, target)
            return replace(cost, cpu=cost.cpu + cpu_of(worker.pid) - before)

        costs = alternate(
            rounds,
            bare=lambda: ours(given.fasta, given.vcf, target),
            step=lambda: through(cores[-1:]),
            two=lambda: through(cores[-2:]),
        )
    bare = costs["bare"]
    names = ("bare pipeline", "step, Redis, worker, work dir, index", "the same, two cores for the worker")
    rows: list[list[object]] = [
        [
            name,
            cost.wall,
            cost.cpu,
            round(given.records / cost.wall),
            f"{bare.wall / cost.wall:.0%}",
            f"{bare.cpu / cost.cpu:.0%}",
        ]
        for name, cost in zip(names, costs.values(), strict=True)
    ]
    head = ["one run", "seconds", "CPU seconds", "records/s", "throughput", "throughput by CPU"]
    return Table("end_to_end", [f"{given.records:,} records, {head[0]}", *head[1:]], rows)


def scaling(given: Input, rounds: int, chunks: int) -> Table:
    """One worker and two, each on a core of its own, for the same pieces.

    Where other programs are at work the seconds say little; the CPU of the step and of the busier worker,
    one after the other, are a lower bound of what two workers gain.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]

    def on(workers: int) -> Cost:
        with folder() as own, private_site(own, given.fasta) as site, ExitStack() as running:
            pids = [running.enter_context(site.worker()).pid for _ in range(workers)]
            for pid, core in zip(pids, cores, strict=False):
                keep_to(pid, {core})
            before = list(map(cpu_of, pids))
            cost = step(site, given.vcf, own / "out.vcf.gz", "--chunks", str(chunks))
            busiest = max(cpu_of(pid) - used for pid, used in zip(pids, before, strict=True))
            return replace(cost, cpu=cost.cpu + busiest)

    counts = range(1, len(cores) + 1)
    costs = alternate(rounds, **{str(count): lambda count=count: on(count) for count in counts})  # type: ignore[misc]
    one = costs["1"]
    rows: list[list[object]] = [
        [f"{count}, each on one core", cost.wall, one.wall / cost.wall, cost.cpu, one.cpu / cost.cpu]
        for count, cost in costs.items()
    ]
    head = ["seconds", "× one worker", "CPU seconds of step and busier worker", "× one worker by CPU"]
    return Table("scaling", [f"workers, {chunks} pieces", *head], rows)


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Both tables on one VCF."""
    fasta, plain = make_data(where, options.records)
    given = Input(fasta, bgzipped(plain), options.records)
    ours(fasta, given.vcf, where / "warm.vcf.gz")
    first = overhead(where, given, options.rounds)
    return [first, scaling(given, options.rounds, options.chunks)]


if __name__ == "__main__":
    main(
        __doc__,
        tables,
        needs=("bgzip",),
        records=(2_000_000, 10_000),
        chunks=(8, 2),
        rounds=(3, 1),
    )
