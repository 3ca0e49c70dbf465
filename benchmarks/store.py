"""Annotate-and-register speed: our pipeline into AnyVar's tables, beside AnyVar's own worker's task.

A made-up VCF (88 % SNVs; REF and ALT alleles are registered) goes into an empty store, then again into the
full one. Postgres is a private server on this machine, durable, with AnyVar's own indexes and keys. AnyVar's
task ``annotate_vcf`` does a part of the same VCF into a database of its own in the same run, with sequences
from a SeqRepo directory as in a deployment, where its Python is given (ANYVAR_STEP_ANYVAR_PYTHON).
Wall-clock rates, without start-up; the CPU columns are microseconds per record.

    python benchmarks/store.py [--records N] [--part N] [--small]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, Table, main
from data import first_records, make_data
from servers import Postgres, find_postgres, private_postgres

from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.reference import Reference, open_reference
from anyvar_step.settings import load
from anyvar_step.store import open_store
from anyvar_step.store.registrar import Registrar

THEIRS = ROOT / "tests" / "oracle" / "register.py"


@dataclass(frozen=True)
class Pass:
    """One VCF annotated and registered; ``server`` is CPU of the database's processes; 0 = not known."""

    wall: float
    cpu: float
    server: float
    added: int


def server_cpu(server: Postgres) -> float:
    """CPU seconds of the server's processes so far, those that have ended included."""
    assert server.process is not None
    pid, ticks = server.process.pid, 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12]) if int(fields[1]) == pid else 0
        ticks += int(fields[13]) + int(fields[14]) if path.parent.name == str(pid) else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def ours(vcf: Path, reference: Reference, uri: str, server: Callable[[], float]) -> list[Pass]:
    """The VCF into an empty store, then into the full one."""
    settings = load({"ANYVAR_STORAGE_URI": uri})
    store = open_store(settings)
    store.prepare()
    store.close()
    registrar = Registrar(lambda: open_store(settings), patience=settings.store_patience)
    passes = []
    for _ in range(2):
        wall, cpu, servers = time.perf_counter(), time.process_time(), server()
        outcome = annotate_file(
            vcf, vcf.with_suffix(".out"), reference, AnnotateOptions(), registration=registrar.begin("run 1")
        )
        wall, cpu, servers = time.perf_counter() - wall, time.process_time() - cpu, server() - servers
        assert outcome.registered is not None
        passes.append(Pass(wall, cpu, servers, outcome.registered.added or 0))
    registrar.close()
    assert passes[1].added == 0
    return passes


def rows_of(name: str, records: int, passes: list[Pass]) -> list[list[object]]:
    """One row for each pass: what, store, records/s, CPU and the server's CPU in microseconds per record."""
    return [
        [
            name,
            what,
            round(records / done.wall),
            *(f"{seconds * 1e6 / records:.1f}" if seconds else "" for seconds in (done.cpu, done.server)),
        ]
        for what, done in zip(("empty", "full"), passes, strict=False)
    ]


def theirs(python: str, server: Postgres, fasta: Path, vcf: Path, records: int) -> Pass:
    """The first records through AnyVar's own task into an empty database."""
    part = first_records(vcf, records, vcf.with_name("part.vcf"))
    with server.database() as name:
        server.sql("CREATE EXTENSION btree_gist", name)
        environ = {**os.environ, "ANYVAR_STORAGE_URI": server.uri(name), "PYTHONPATH": ""}
        before, command = server_cpu(server), [python, str(THEIRS), str(fasta), str(part)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        [[added]] = server.sql("SELECT count(*) FROM alleles", name)
        return Pass(float(done.stdout.split()[-1]), 0.0, server_cpu(server) - before, int(added))


def tables(options: argparse.Namespace, where: Path) -> list[Table]:
    """Ours into Postgres and DuckDB, and AnyVar's worker into Postgres."""
    if find_postgres() is None:
        print("store: nothing is measured, Postgres is not installed")
        return []
    records, anyvar = options.records, os.environ.get("ANYVAR_STEP_ANYVAR_PYTHON")
    fasta, vcf = make_data(where, records)
    reference = open_reference("GRCh38", fasta)
    with private_postgres("fsync=on") as server:
        with server.database() as name:
            passes = ours(vcf, reference, server.uri(name), lambda: server_cpu(server))
        rows = rows_of("ours, Postgres", records, passes)
        rows += rows_of(
            "ours, DuckDB", records, ours(vcf, reference, f"duckdb:///{where}/a.duckdb", lambda: 0.0)
        )
        if anyvar:
            their = theirs(anyvar, server, fasta, vcf, options.part)
            rows += rows_of("AnyVar's worker, Postgres", options.part, [their])
            ratio = records / passes[0].wall / (options.part / their.wall)
            rows.append(["ours × AnyVar's worker", "empty", ratio, "", ""])
    head = ["annotate and register", "store", "records/s", "CPU, µs a record", "server's CPU, µs"]
    return [Table("store", head, rows)]


if __name__ == "__main__":
    main(__doc__, tables, records=(100_000, 2_000), part=(4_000, 100))
