"""What one broker and one step can carry, from which follows where many workers come to an end.

Redis: commands and CPU of a run from submit to forget (the worker's idle polling taken off), commands and
connections of a step that waits. The step: MB per CPU second in which it stages an input, joins the outputs
of pieces with their indexes or without, and indexes the whole.

    python benchmarks/limits.py [--runs N] [--records N] [--small]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis
from annotators import ours
from common import Table, main, private_site
from data import bgzipped, first_records, make_data
from processes import measure
from support import Site

from anyvar_step.files import copy_and_hash
from anyvar_step.runs.connection import redis_url
from anyvar_step.vcf import write_index
from anyvar_step.vcf.index import JoinedIndex
from anyvar_step.vcf.split import Joiner, cut

#: Seconds for which an idle worker and a waiting step are watched.
WATCHED = 10.0


class Load:
    """What a Redis has done since it was last asked."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(redis_url(url))
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        found = self.client.info("all")
        cpu = found["used_cpu_sys"] + found["used_cpu_user"]
        return {"commands": found["total_commands_processed"], "cpu": cpu, "at": time.monotonic()}

    def since(self) -> tuple[float, float, float]:
        """Commands, CPU seconds and seconds since the last call."""
        before, self._before = self._before, self._now()
        commands, cpu, seconds = (self._before[key] - before[key] for key in ("commands", "cpu", "at"))
        return commands, cpu, seconds


def of_runs(site: Site, vcf: Path, runs: int) -> list[list[object]]:
    """Commands and CPU of Redis for one run on a worker."""
    load = Load(site.redis_url)
    command = [
        sys.executable,
        "-m",
        "anyvar_step",
        "annotate",
        str(vcf),
        "-o",
        str(vcf.with_name("out.vcf.gz")),
    ]
    with site.worker():
        measure(command, vcf.parent, site.environ)
        load.since()
        time.sleep(WATCHED)
        commands, _, seconds = load.since()
        idle = commands / seconds
        for _ in range(runs):
            measure(command, vcf.parent, site.environ)
        commands, cpu, seconds = load.since()
    return [
        ["Redis: commands of an idle worker, 1/s", idle],
        ["Redis: commands of a run", (commands - idle * seconds) / runs],
        ["Redis: CPU of a command, µs", cpu / commands * 1e6],
    ]


def of_waiting(site: Site, vcf: Path) -> list[list[object]]:
    """Commands and connections of one step that waits for a worker."""
    load = Load(site.redis_url)
    connections = len(load.client.client_list())
    step = site.start("annotate", str(vcf), "-o", str(vcf.with_name("never.vcf")))
    try:
        time.sleep(3.0)  # it has submitted, and pauses as long as it ever does
        load.since()
        time.sleep(WATCHED)
        commands, _, seconds = load.since()
        connections = len(load.client.client_list()) - connections
    finally:
        step.terminate()
        step.communicate()
    return [
        ["Redis: commands of a waiting step, 1/s", commands / seconds],
        ["Redis: connections of a waiting step", connections],
    ]


def speed(path: Path, act: Callable[[], object]) -> float:
    """MB of the file per CPU second, the best of three."""
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        act()
        seconds.append(time.process_time() - begin)
    return path.stat().st_size / 1e6 / max(min(seconds), 0.01)


def of_the_step(fasta: Path, vcf: Path) -> list[list[object]]:
    """How fast a step goes through its input and its output."""
    whole, pieces = vcf.with_name("whole.vcf.gz"), []
    ours(fasta, vcf, whole)
    for piece in cut(whole, whole.name, 8):
        pieces.append(whole.with_name(f"piece-{len(pieces)}"))
        with piece.open() as stream:
            pieces[-1].write_bytes(stream.read())
        write_index(pieces[-1])

    def stage() -> None:
        with whole.open("rb") as source, vcf.with_name("copy").open("wb") as out:
            copy_and_hash(source, out)

    def join(*, indexed: bool = True) -> None:
        index = JoinedIndex()
        with vcf.with_name("joined").open("wb") as out:
            joiner = Joiner(out, "z")
            for path in pieces:
                joiner.add(path)
                if indexed:
                    index.add(path, Path(f"{path}.tbi"), joiner.offsets)
            joiner.close()
        index.write(vcf.with_name("joined.tbi"))

    return [
        ["step: copy and digest, MB/s of CPU", speed(whole, stage)],
        ["step: join and digest, MB/s of CPU", speed(whole, lambda: join(indexed=False))],
        ["step: join and digest with indexes, MB/s of CPU", speed(whole, join)],
        ["step: index, MB/s of CPU", speed(whole, lambda: write_index(whole))],
    ]


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """All of it, one number a row."""
    fasta, vcf = make_data(where, options.records)
    small = first_records(vcf, 100, where / "small.vcf")
    with private_site(where, fasta) as site:
        rows = of_waiting(site, small) + of_runs(site, small, options.runs)
    rows += of_the_step(fasta, bgzipped(vcf))
    return [Table("limits", ["what", "measured"], [[what, float(str(value))] for what, value in rows])]


if __name__ == "__main__":
    main(__doc__, tables, needs=("bgzip",), runs=(20, 2), records=(500_000, 5_000))
