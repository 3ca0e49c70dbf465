"""Registration by real workers: into DuckDB in all test runs, into Postgres with `services`."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import Postgres, private_postgres
from support import ROOT, Site, until, write_vcf

TABLES = ("sequence_references", "locations", "alleles")
#: What makes a killed worker's run come back within half a minute.
QUICK = {
    "CELERY_BROKER_TRANSPORT_OPTIONS_VISIBILITY_TIMEOUT": "22",
    "CELERY_TASK_TIME_LIMIT": "21",
    "CELERY_SOFT_TIME_LIMIT": "20",
}


def annotated(site: Site, vcf: Path, out: Path) -> Path:
    """The VCF annotated with attributes, on a site whose workers have no store."""
    done = site.run("annotate", vcf, "-o", out, "--attributes")
    assert done.returncode == 0, done.stderr
    return out


def duckdb_rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        return connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()


def ids_in(vcf: Path) -> set[str]:
    """The allele ids that stand in an annotated VCF."""
    lines = [line for line in vcf.read_text().splitlines() if not line.startswith("#")]
    fields = [item for line in lines for item in line.split("\t")[7].split(";")]
    values = [item.partition("=")[2].split(",") for item in fields if item.startswith("VRS_Allele_IDs=")]
    return {id_ for value in values for id_ in value if id_ != "."}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "alleles.duckdb"


@pytest.fixture
def storing(site: Site, file: Path) -> Iterator[Site]:
    """A site whose one worker registers in a DuckDB file."""
    site.extra = {"ANYVAR_STORAGE_URI": f"duckdb:///{file}"}
    with site.worker():
        yield site


def test_every_id_of_the_output_is_in_the_store(storing: Site, vcf: Path, file: Path, tmp_path: Path) -> None:
    done = storing.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    before = {table: duckdb_rows(file, table) for table in TABLES}
    ids = ids_in(tmp_path / "out.vcf")
    assert {row[0] for row in before["alleles"]} == ids
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["registered"]["added"] == len(ids)
    assert "register" in told["seconds"]
    done = storing.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--report", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["registered"]["added"] == 0
    assert {table: duckdb_rows(file, table) for table in TABLES} == before


def test_the_report_of_a_vcf_in_pieces_says_what_all_of_them_registered(
    storing: Site, vcf: Path, file: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out.vcf", tmp_path / "run.json"
    done = storing.run("annotate", vcf, "-o", out, "--chunks", "3", "--report", report)
    assert done.returncode == 0, done.stderr
    registered = json.loads(report.read_text())["registered"]
    assert registered["added"] == len(duckdb_rows(file, "alleles")) == len(ids_in(out))
    assert registered["alleles"] >= registered["added"]


def test_only_what_was_asked_for_is_registered(storing: Site, vcf: Path, file: Path, tmp_path: Path) -> None:
    assert storing.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--no-for-ref").returncode == 0
    assert {row[0] for row in duckdb_rows(file, "alleles")} == ids_in(tmp_path / "out.vcf")


def test_ingesting_registers_what_annotating_would_have(
    served: Site, storing: Site, vcf: Path, file: Path, tmp_path: Path
) -> None:
    source = annotated(served, vcf, tmp_path / "annotated.vcf")
    done = storing.run("ingest", source, "--conflicts", tmp_path / "c.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "c.csv").read_text() == "vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id\n"
    ingested = {table: duckdb_rows(file, table) for table in TABLES}
    assert {row[0] for row in ingested["alleles"]} == ids_in(source)
    assert storing.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0
    assert storing.run("ingest", source, "--require-validation").returncode == 0
    assert {table: duckdb_rows(file, table) for table in TABLES} == ingested
    assert storing.left_over() == []


def tampered(source: Path, target: Path) -> tuple[str, str]:
    """The VCF with another identifier in its first record; the right one and the wrong one."""
    lines = source.read_text().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    right = lines[place].partition("VRS_Allele_IDs=")[2].partition(",")[0]
    wrong = right[:-4] + "AAAA"
    lines[place] = lines[place].replace(right, wrong)
    target.write_text("".join(lines))
    return right, wrong


@pytest.mark.quick(1)
@pytest.mark.parametrize("validation", [False, True])
def test_a_wrong_id_is_listed_and_never_stored(
    served: Site, storing: Site, vcf: Path, file: Path, tmp_path: Path, validation: bool
) -> None:
    source = tmp_path / "tampered.vcf"
    right, wrong = tampered(annotated(served, vcf, tmp_path / "annotated.vcf"), source)
    options = ["--require-validation"] if validation else []
    done = storing.run("ingest", source, "--conflicts", tmp_path / "c.csv", *options)
    assert done.returncode == 0, done.stderr
    assert "1 allele whose VRS fields are wrong" in done.stderr
    with (tmp_path / "c.csv").open(newline="") as log:
        [conflict] = csv.DictReader(log)
    assert (conflict["vrs_id"], conflict["new_vrs_id"]) == (wrong, right)
    assert (conflict["assembly"], conflict["chrom"]) == ("GRCh38", "chr1")
    assert json.loads(conflict["state"])["type"] == "ReferenceLengthExpression"
    stored = {row[0] for row in duckdb_rows(file, "alleles")}
    assert wrong not in stored
    assert (right in stored) == validation
    assert stored | {right} == ids_in(tmp_path / "annotated.vcf")


@pytest.mark.quick(1)
@pytest.mark.parametrize("options", [[], ["--require-validation"]])
def test_a_wrong_location_beside_the_right_id_is_listed(
    served: Site, storing: Site, vcf: Path, tmp_path: Path, options: list[str]
) -> None:
    source = annotated(served, vcf, tmp_path / "annotated.vcf")
    lines = source.read_text().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    lines[place] = re.sub(
        "(?<=VRS_Starts=)[0-9,]+|(?<=VRS_Ends=)[0-9,]+",
        lambda found: ",".join(str(int(number) + 1) for number in found[0].split(",")),
        lines[place],
    )
    source.write_text("".join(lines))
    done = storing.run("ingest", source, "--conflicts", tmp_path / "c.csv", *options)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "c.csv").open(newline="") as log:
        conflicts = list(csv.DictReader(log))
    named = lines[place].partition("VRS_Allele_IDs=")[2].partition(";")[0].split(",")
    assert [conflict["vrs_id"] for conflict in conflicts] == named


def test_a_vcf_without_vrs_fields_is_refused_with_their_names(
    storing: Site, vcf: Path, tmp_path: Path
) -> None:
    done = storing.run("ingest", vcf, "--conflicts", tmp_path / "c.csv")
    assert done.returncode == 65
    assert "VRS_Allele_IDs" in done.stderr
    assert "VRS_RepeatSubunitLengths" in done.stderr
    assert not (tmp_path / "c.csv").exists()


def test_ingesting_without_a_store_says_so(served: Site, vcf: Path, tmp_path: Path) -> None:
    source = annotated(served, vcf, tmp_path / "annotated.vcf")
    done = served.run("ingest", source)
    assert done.returncode == 78
    assert "ANYVAR_STORAGE_URI" in done.stderr
    done = served.run("ingest", source, "--require-validation", "--conflicts", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr  # what needs no store is done
    assert "not registered" in done.stderr


def test_a_worker_does_not_start_with_a_store_that_it_cannot_use(site: Site) -> None:
    site.extra = {"ANYVAR_STORAGE_URI": "duckdb:////no/such/folder/alleles.duckdb"}
    done = site.run("worker")
    assert done.returncode == 66
    assert "/no/such/folder" in done.stderr


def test_what_may_be_written_later_is_there_when_the_worker_has_ended(
    site: Site, genome: Path, file: Path, tmp_path: Path
) -> None:
    """``allow_async_write``, asked for by a message as AnyVar's web API sends it."""
    vcf = write_vcf(tmp_path / "big.vcf", genome, records=20_000)
    site.extra = {"ANYVAR_STORAGE_URI": f"duckdb:///{file}"}
    script = """
import sys
from pathlib import Path
from anyvar_step.models import AnnotateOptions, RunRequest
from anyvar_step.settings import load
from anyvar_step.client.celery import CeleryTransport
transport = CeleryTransport(load(), "detached")
with open(sys.argv[1], "rb") as source:
    options = AnnotateOptions(allow_async_write=True)
    ticket, _ = transport.submit(source, "big.vcf", RunRequest(options=options))
print(ticket.run_id)
"""
    with site.worker() as worker:
        run_id = subprocess.run(
            [sys.executable, "-c", script, vcf], env=site.environ, capture_output=True, text=True, check=True
        ).stdout.strip()
        until(lambda: "200 SUCCESS" in site.run("status", run_id).stdout)
        worker.send_signal(signal.SIGTERM)
        worker.wait(100)
    assert site.run("collect", run_id, "-o", tmp_path / "out.vcf", "--report", tmp_path / "r").returncode == 0
    assert {row[0] for row in duckdb_rows(file, "alleles")} == ids_in(tmp_path / "out.vcf")
    assert json.loads((tmp_path / "r").read_text())["registered"]["added"] is None


def test_local_registers_in_the_file_that_is_named(vcf: Path, genome: Path, site: Site, file: Path) -> None:
    out = file.with_name("out.vcf")
    arguments = ["--local", "--reference", f"GRCh38={genome}", "--store", file]
    done = site.run("annotate", vcf, "-o", out, *arguments)
    assert done.returncode == 0, done.stderr
    assert {row[0] for row in duckdb_rows(file, "alleles")} == ids_in(out)
    done = site.run("annotate", vcf, "-o", out, "--store", file)
    assert done.returncode == 2
    assert "--local" in done.stderr


def test_a_file_that_no_uri_can_name_is_refused(vcf: Path, genome: Path, site: Site, tmp_path: Path) -> None:
    arguments = ["--local", "--reference", f"GRCh38={genome}", "--store", tmp_path / "q?m.duckdb"]
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", *arguments)
    assert done.returncode == 2
    assert "q?m.duckdb" in done.stderr
    assert not (tmp_path / "q").exists()


# -- Postgres ------------------------------------------------------------------------------------------------


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


def rows(postgres: Postgres, database: str) -> list[list[list[str]]]:
    order = 'ORDER BY id COLLATE "C"'
    return [postgres.sql(f"SELECT * FROM {table} {order}", database) for table in TABLES]


@pytest.mark.services
def test_eight_workers_with_overlapping_vcfs(
    site: Site, genome: Path, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    site.extra = {"ANYVAR_STORAGE_URI": postgres.uri(database)}
    whole = write_vcf(tmp_path / "whole.vcf", genome, records=12_000).read_text().splitlines(keepends=True)
    header, records = whole[:4], whole[4:]
    parts = []
    for n in range(8):
        parts.append(tmp_path / f"part{n}.vcf")
        parts[-1].write_text("".join(header + records[n * 1000 : n * 1000 + 5000]))
    with site.worker(concurrency=8), ThreadPoolExecutor(8) as pool:
        outs = [part.with_suffix(".out.vcf") for part in parts]
        done = list(pool.map(lambda part, out: site.run("annotate", part, "-o", out), parts, outs))
    assert [result.returncode for result in done] == [0] * 8, [result.stderr for result in done]
    assert {row[0] for row in rows(postgres, database)[2]} == set().union(*map(ids_in, outs))


@pytest.mark.services
def test_a_worker_killed_in_the_middle_of_writing_leaves_nothing_that_a_repeat_does_not_complete(
    site: Site, genome: Path, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    vcf = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    with postgres.database() as calm:
        site.extra = {"ANYVAR_STORAGE_URI": postgres.uri(calm)}
        with site.worker():
            assert site.run("annotate", vcf, "-o", tmp_path / "out.vcf").returncode == 0
        undisturbed = rows(postgres, calm)
    site.extra = {"ANYVAR_STORAGE_URI": postgres.uri(database), **QUICK}
    site.queue += "-again"
    writing = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'anyvar-step' "
        f"AND datname = '{database}' AND (query LIKE 'COPY%' OR query LIKE 'INSERT%') AND state = 'active'"
    )
    with site.worker() as worker:
        step = site.start("annotate", str(vcf), "-o", str(tmp_path / "again.vcf"))
        until(lambda: postgres.sql(writing) != [["0"]], what="a batch under way")
        os.killpg(worker.pid, signal.SIGKILL)
    with site.worker():
        _, err = step.communicate(timeout=200)
        if step.returncode != 0:  # the run was given up as lost: the caller's repeat
            assert step.returncode == 75, err
            assert site.run("annotate", vcf, "-o", tmp_path / "again.vcf").returncode == 0
    assert rows(postgres, database) == undisturbed
    assert (tmp_path / "again.vcf").read_bytes() == (tmp_path / "out.vcf").read_bytes()


@pytest.mark.services
def test_a_server_that_restarts_in_the_middle_of_a_run_is_waited_for(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    vcf = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    with private_postgres("fsync=on") as server:  # what is committed outlives the server's crash
        site.extra = {"ANYVAR_STORAGE_URI": server.uri()}
        with site.worker():
            step = site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"))
            until(lambda: server.sql("SELECT count(*) FROM alleles") != [["0"]], what="a batch")
            server.stop(signal.SIGQUIT)
            assert step.poll() is None
            server.start()
            _, err = step.communicate(timeout=120)
        assert step.returncode == 0, err
        [[count]] = server.sql("SELECT count(*) FROM alleles")
        assert int(count) == len(ids_in(tmp_path / "out.vcf"))


@pytest.mark.services
def test_a_server_that_is_gone_for_good_fails_the_run_as_worth_another_try(
    site: Site, genome: Path, tmp_path: Path
) -> None:
    vcf = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    with private_postgres() as server:
        uri = server.uri().replace("postgres@", "postgres:secret@")
        site.extra = {"ANYVAR_STORAGE_URI": uri, "ANYVAR_STEP_STORE_PATIENCE": "2"}
        with site.worker():
            server.stop()
            done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 69, done.stderr
    assert "Postgres" in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "out.vcf").exists()
    assert site.left_over() == []


@pytest.mark.services
def test_a_run_that_waits_for_a_lock_can_be_cancelled(
    site: Site, genome: Path, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    import psycopg

    vcf = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    site.extra = {"ANYVAR_STORAGE_URI": postgres.uri(database)}
    waiting = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    )
    with site.worker(), psycopg.connect(postgres.uri(database)) as other:
        other.execute("LOCK TABLE alleles IN ACCESS EXCLUSIVE MODE")
        step = site.start("annotate", str(vcf), "-o", str(tmp_path / "out.vcf"), "--run-id", "locked")
        until(lambda: postgres.sql(waiting) != [["0"]], what="a batch that waits")
        assert site.run("cancel", "locked").returncode == 0
        _, err = step.communicate(timeout=60)
        assert step.returncode == 130, err
        [log] = site.folder.glob("worker-*.log")
        until(lambda: "locked was cancelled" in log.read_text(), what="the worker to give up")
        assert postgres.sql(waiting) != [["0"]]  # the lock is there still


@pytest.mark.services
def test_a_lock_that_outlasts_the_patience_fails_the_run_as_worth_another_try(
    site: Site, genome: Path, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    import psycopg

    vcf = write_vcf(tmp_path / "in.vcf", genome, records=60_000)
    site.extra = {"ANYVAR_STORAGE_URI": postgres.uri(database), "ANYVAR_STEP_STORE_PATIENCE": "2"}
    with site.worker(), psycopg.connect(postgres.uri(database)) as other:
        other.execute("LOCK TABLE alleles IN ACCESS EXCLUSIVE MODE")
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf")
    assert done.returncode == 69, done.stderr
    assert "holds a lock" in done.stderr


@pytest.mark.services
def test_memory_does_not_grow_with_the_file(postgres: Postgres, genome: Path, tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from anyvar_step.models import AnnotateOptions
from anyvar_step.pipeline import annotate_file
from anyvar_step.reference import open_reference
from anyvar_step.settings import load
from anyvar_step.store import open_store
from anyvar_step.store.registrar import Registrar
source, target, fasta, uri = sys.argv[1:]
settings = load({"ANYVAR_STORAGE_URI": uri})
store = open_store(settings); store.prepare(); store.close()
registrar = Registrar(lambda: open_store(settings), patience=60)
reference = open_reference("GRCh38", Path(fasta))
annotate_file(Path(source), Path(target), reference, AnnotateOptions(), registration=registrar.begin("run 1"))
registrar.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(records: int) -> int:
        source = write_vcf(tmp_path / "in.vcf", genome, records=records)
        with postgres.database() as name:
            command = [sys.executable, "-c", script, source, tmp_path / "out", genome, postgres.uri(name)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        return int(done.stdout)

    assert peak(160_000) < peak(60_000) + 15_000  # kilobytes
