"""From VCF to annotated VCF on one core: ours, ga4gh.vrs's vrs-annotate, AnyVar's worker and `bcftools view`.

CPU seconds of whole processes, each kept to one core; one sample, REF and ALT, with attributes. Ours is by
the native engine where it is built, and by the Python engine. vrs-annotate (ANYVAR_STEP_ORACLE_PYTHON) and
the task of AnyVar's worker, without a store (ANYVAR_STEP_ANYVAR_PYTHON), get a part of the records: on
twenty times as many vrs-annotate's rate is the same within 4 %. The start-up of AnyVar's worker, measured
on no records, is not counted, since a worker starts once. Where there are two cores, wall-clock seconds by
one thread and by two follow.

    python benchmarks/annotators.py [--records N] [--part N] [--rounds N] [--small]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

from common import ROOT, Table, alternate, main, python
from data import bgzipped, first_records, genome_of, make_data
from processes import Cost, measure

from anyvar_step.settings import processors
from anyvar_step.vrs import engine_name

OURS = (
    "from pathlib import Path; from anyvar_step.pipeline import annotate_file; "
    "from anyvar_step.reference import open_reference; from anyvar_step.models import AnnotateOptions; "
    "a = sys.argv; annotate_file(Path(a[2]), Path(a[3]), open_reference('GRCh38', Path(a[1])), "
    "AnnotateOptions(add_vrs_attributes=True), output_format=a[4], level=int(a[5]), engine=a[6], "
    "threads=int(a[7]))"
)
NAMES = {
    "plain": "ours, text to text",
    "gz6": "ours, gz to gz, level 6",
    "gz1": "ours, gz to gz, level 1",
    "python": "ours, gz to gz, level 6, Python engine",
    "bcftools": "`bcftools view -Oz` of the annotated file",
    "vrs": "vrs-annotate, text to text",
    "anyvar": "AnyVar's worker, text to text",
}


def ours(
    fasta: Path, source: Path, target: Path, level: int = 6, engine: str = "auto", threads: int = 1
) -> Cost:
    """Our pipeline, as a worker with a core for each of its threads runs it."""
    kind = "z" if target.suffix == ".gz" else "v"
    command = python(OURS, fasta, source, target, kind, level, engine, threads)
    return measure(command, target.parent, cores=threads)


def bcftools(source: Path, target: Path, threads: int = 1) -> Cost:
    """What reading, parsing and writing cost htslib; its ``--threads`` counts those beside the first."""
    command = ["bcftools", "view", "--threads", str(threads - 1), "-Oz", "-o", str(target), str(source)]
    return measure(command, target.parent, cores=threads)


def make_seqrepo(oracle: Path, fasta: Path, where: Path) -> str:
    """A SeqRepo with the FASTA's sequences, which is what vrs-annotate reads; its URI."""
    seqrepo = [str(oracle.with_name("seqrepo")), "-r", str(where)]
    for words in (["init", "-i", "main"], ["load", "-i", "main", "-n", "GRCh38", str(fasta)]):
        subprocess.run([*seqrepo, *words], check=True, capture_output=True)
    return f"seqrepo+file://{where / 'main'}"


def vrs_annotate(oracle: Path, uri: str, source: Path, target: Path) -> Cost:
    """The reference implementation's own command."""
    command = [str(oracle.with_name("vrs-annotate")), "vcf", "--dataproxy-uri", uri, "--vrs-attributes"]
    return measure([*command, "--vcf-out", str(target), str(source)], target.parent, cores=1)


def anyvars_worker(anyvar: str, fasta: Path, source: Path, copy: Path) -> Cost:
    """The task of AnyVar's worker, which deletes its input."""
    shutil.copyfile(source, copy)
    command = [anyvar, str(ROOT / "tests" / "oracle" / "register.py"), str(fasta), str(copy), "--attributes"]
    environ = {**os.environ, "ANYVAR_STORAGE_URI": "", "PYTHONPATH": ""}
    return measure(command, copy.parent, environ, cores=1)


def competitors(where: Path, fasta: Path) -> dict[str, Callable[[Path], Cost]]:
    """The annotators that are installed, as what they cost for a VCF."""
    found: dict[str, Callable[[Path], Cost]] = {}
    oracle = os.environ.get("ANYVAR_STEP_ORACLE_PYTHON")
    if oracle and shutil.which("rsync"):  # seqrepo's program wants it
        uri = make_seqrepo(Path(oracle), fasta, where / "seqrepo")
        found["vrs"] = lambda source: vrs_annotate(Path(oracle), uri, source, where / "e.vcf")
    anyvar = os.environ.get("ANYVAR_STEP_ANYVAR_PYTHON")
    if anyvar:
        found["anyvar"] = lambda source: anyvars_worker(anyvar, fasta, source, where / "f.vcf")
    return found


def costs_of(options: argparse.Namespace, where: Path) -> dict[str, tuple[float, Cost]]:
    """Records per CPU second and the cost of each, by its key in NAMES."""
    fasta, plain = make_data(where, options.records)
    annotated = where / "warm.vcf.gz"
    ours(fasta, plain, annotated)  # index and accessions are made once, and not measured
    packed = bgzipped(plain)
    what = {
        "plain": lambda: ours(fasta, plain, where / "a.vcf"),
        "gz6": lambda: ours(fasta, packed, where / "b.vcf.gz"),
        "gz1": lambda: ours(fasta, packed, where / "c.vcf.gz", 1),
        "bcftools": lambda: bcftools(annotated, where / "d.vcf.gz"),
    }
    if engine_name() == "native":
        what["python"] = lambda: ours(fasta, packed, where / "g.vcf.gz", engine="python")
    part = first_records(plain, options.part, where / "part.vcf")
    none = first_records(plain, 0, where / "none.vcf")
    others = competitors(where, genome_of(part, fasta, where / "part.fa"))
    what |= {name: lambda act=act: act(part) for name, act in others.items()}  # type: ignore[misc]
    if "anyvar" in others:
        what["start"] = lambda: others["anyvar"](none)
    costs = alternate(options.rounds, **what)
    if "start" in costs:
        start = costs.pop("start").cpu
        costs["anyvar"] = replace(costs["anyvar"], cpu=max(costs["anyvar"].cpu - start, 0.01))
    return {
        name: ((options.part if name in others else options.records) / cost.cpu, cost)
        for name, cost in costs.items()
    }


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Records/s of each, its ratios to the competitors, and its peak memory."""
    speeds = costs_of(options, where)
    others = [name for name in ("vrs", "anyvar", "bcftools") if name in speeds]
    rows: list[list[object]] = [
        [NAMES[name], round(speed), *(speed / speeds[other][0] for other in others), round(cost.memory)]
        for name, (speed, cost) in speeds.items()
    ]
    ratios = {"vrs": "× vrs-annotate", "anyvar": "× AnyVar's worker", "bcftools": "× bcftools"}
    head = ["one core", "records/s", *(ratios[other] for other in others), "private memory, MB"]
    return [Table("annotators", head, rows), *threads_tables(options, where)]


def threads_tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Records by the clock's second of one thread and of two, on as many cores; nothing on a single core."""
    if processors() < 2:
        return []
    fasta, packed, annotated = where / "genome.fa", where / "in.vcf.gz", where / "warm.vcf.gz"
    acts: dict[str, Callable[[int], Cost]] = {
        NAMES["gz6"]: lambda threads: ours(fasta, packed, where / "h.vcf.gz", threads=threads),
        NAMES["bcftools"]: lambda threads: bcftools(annotated, where / "i.vcf.gz", threads),
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for (name, act), threads in product(acts.items(), (1, 2)):
            seconds.setdefault((name, threads), []).append(act(threads).wall)
    rows: list[list[object]] = []
    for name in acts:
        one, two = (options.records / min(seconds[name, threads]) for threads in (1, 2))
        rows.append([name, round(one), round(two), two / one])
    return [Table("threads", ["records/s by the clock", "one thread", "two threads", "ratio"], rows)]


if __name__ == "__main__":
    main(
        __doc__,
        tables,
        needs=("bcftools", "bgzip"),
        records=(1_000_000, 5_000),
        part=(10_000, 200),
        rounds=(3, 1),
    )
