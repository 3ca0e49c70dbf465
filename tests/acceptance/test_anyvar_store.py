"""Our rows beside those of AnyVar 1.0.0: the same tables, the same rows, and its server answers over ours.

AnyVar's Python is ANYVAR_STEP_ANYVAR_PYTHON or ``.venv-anyvar/bin/python`` (``make test-all`` makes that).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

import pytest
from pythons import python_of
from servers import Postgres
from support import ROOT, SHARED_DATA, Site, until, write_vcf

from anyvar_step.settings import load
from anyvar_step.store import open_store

pytestmark = pytest.mark.services
SCRIPT = ROOT / "tests" / "oracle" / "register.py"
TABLES = ("sequence_references", "locations", "alleles")


@pytest.fixture(scope="session")
def anyvar_python() -> Path:
    return python_of("anyvar", "anyvar 1.0.0", "NOT COMPARED WITH ANYVAR")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def their_database(postgres: Postgres) -> Iterator[str]:
    """A database with the extension that AnyVar expects to find."""
    with postgres.database() as name:
        postgres.sql("CREATE EXTENSION btree_gist", name)
        yield name


def theirs(python: Path, postgres: Postgres, database: str, *arguments: object, **variables: str) -> str:
    """What AnyVar's own code prints, with that database as its storage."""
    environ = {**os.environ, "ANYVAR_STORAGE_URI": postgres.uri(database), "PYTHONPATH": "", **variables}
    done = subprocess.run(
        [python, SCRIPT, *map(str, arguments)], env=environ, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def schema(postgres: Postgres, database: str, *tables: str) -> str:
    """pg_dump's word on these tables, without what differs from call to call."""
    options = [option for table in tables for option in ("--table", f"public.{table}")]
    text = postgres.run("pg_dump", "--schema-only", "--no-owner", *options, database)
    return re.sub(r"^(--.*|\\(un)?restrict .*)?\n", "", text, flags=re.MULTILINE)


def rows(postgres: Postgres, database: str, table: str) -> list[list[str]]:
    """All rows, all columns, in the order of the columns; jsonb has one form for equal values."""
    return postgres.sql(f'SELECT * FROM {table} ORDER BY id COLLATE "C"', database)


def test_our_tables_are_those_that_anyvar_makes(
    postgres: Postgres, anyvar_python: Path, database: str, their_database: str
) -> None:
    theirs(anyvar_python, postgres, their_database, "--create")
    store = open_store(load({"ANYVAR_STORAGE_URI": postgres.uri(database)}))
    store.prepare()
    store.close()
    assert schema(postgres, database, *TABLES) == schema(postgres, their_database, *TABLES)
    theirs(anyvar_python, postgres, database, "--create")  # AnyVar adds its other tables to ours
    assert schema(postgres, database) == schema(postgres, their_database)
    store = open_store(load({"ANYVAR_STORAGE_URI": postgres.uri(database)}))
    store.prepare()  # and we take AnyVar's as they are
    store.close()
    assert schema(postgres, database) == schema(postgres, their_database)


def sources() -> list[str]:
    return sorted(path.name.removesuffix(".in.vcf") for path in SHARED_DATA.glob("vcf/*.in.vcf")) or [
        "absent"
    ]


@pytest.mark.parametrize("name", ["made-up", *sources()])
def test_our_rows_are_those_that_anyvars_worker_writes(
    name: str,
    postgres: Postgres,
    anyvar_python: Path,
    database: str,
    their_database: str,
    redis_url: str,
    genome: Path,
    tmp_path: Path,
) -> None:
    if name == "absent":
        pytest.skip(f"SKIPPED: the real VCFs in {SHARED_DATA} are absent")
    if name == "made-up":
        fasta, vcf = genome, write_vcf(tmp_path / "in.vcf", genome, records=2000)
        declared = '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n#CHROM'
        vcf.write_text(vcf.read_text().replace("#CHROM", declared, 1))  # AnyVar drops the file without it
    else:
        fasta, vcf = tmp_path / "ref.fa", SHARED_DATA / "vcf" / f"{name}.in.vcf"
        fasta.write_bytes((SHARED_DATA / "vcf" / f"{name}.fa").read_bytes())
    site = Site(tmp_path / "site", redis_url, fasta, {"ANYVAR_STORAGE_URI": postgres.uri(database)})
    with site.worker():
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--attributes")
        assert done.returncode == 0, done.stderr
        own = {table: rows(postgres, database, table) for table in TABLES}
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--attributes")
        assert done.returncode == 0, done.stderr
    assert {table: rows(postgres, database, table) for table in TABLES} == own  # a repeat adds nothing
    copy = tmp_path / "theirs.vcf"
    copy.write_bytes(vcf.read_bytes())
    theirs(anyvar_python, postgres, their_database, fasta, copy)
    for table in TABLES:
        assert own[table] == rows(postgres, their_database, table), table
    assert len(own["alleles"]) > 0


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.connect(str(self._path))


def get(path: Path, request: str) -> tuple[int, Any]:
    connection = UnixConnection(path)
    connection.request("GET", request)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body)


def test_anyvars_server_finds_what_our_worker_registered(
    postgres: Postgres, anyvar_python: Path, database: str, redis_url: str, genome: Path, tmp_path: Path
) -> None:
    vcf = write_vcf(tmp_path / "in.vcf", genome, records=100)
    uri = postgres.uri(database)
    site = Site(tmp_path / "site", redis_url, genome, {"ANYVAR_STORAGE_URI": uri})
    with site.worker():
        done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", "--attributes")
        assert done.returncode == 0, done.stderr
    record = next(line for line in (tmp_path / "out.vcf").read_text().splitlines() if line[0] != "#")
    info = dict(item.split("=") for item in record.split("\t")[7].split(";"))
    named = info["VRS_Allele_IDs"].split(",")
    starts, ends = info["VRS_Starts"].split(","), info["VRS_Ends"].split(",")
    socket_path = postgres.folder / "anyvar.sock"
    server = subprocess.Popen(
        [anyvar_python, SCRIPT, genome, "--serve", socket_path],
        env={**os.environ, "ANYVAR_STORAGE_URI": uri, "PYTHONPATH": ""},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: socket_path.exists() or server.poll() is not None, 120, "AnyVar's server")
        assert server.poll() is None, server.stderr and server.stderr.read()
        for id_, start, end in zip(named, starts, ends, strict=True):
            status, body = get(socket_path, f"/object/{id_}")
            assert status == 200
            found = body["data"]
            assert found["id"] == id_
            assert (found["location"]["start"], found["location"]["end"]) == (int(start), int(end))
            accession = found["location"]["sequenceReference"]["refgetAccession"]
            query = f"/search?accession=ga4gh:{accession}&start={start}&end={end}"
            status, body = get(socket_path, query)
            assert status == 200
            assert id_ in {variation["id"] for variation in body["variations"]}
    finally:
        server.terminate()
        server.communicate(timeout=60)
