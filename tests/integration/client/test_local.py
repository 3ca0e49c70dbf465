"""``--local``: the step in its own process gives what a worker gives, and needs no server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import Site, until, write_vcf

WATCHED = """
import runpy, sys
try:
    runpy.run_module("anyvar_step", run_name="__main__")
finally:
    print(*sys.modules, sep="\\n", file=open({log!r}, "w"))
"""


@pytest.fixture
def arguments(genome: Path) -> tuple[str, ...]:
    return ("--local", "--reference", f"GRCh38={genome}")


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.vcf", ()),
        ("out.vcf", ("--no-for-ref", "--attributes", "--no-version")),
        ("out.vcf.gz", ("--compress-level", "9", "--regions", "chr1:1-100000")),
        ("out.vcf.gz", ("--csi", "--ndjson", "out.ndjson", "--tsv", "out.tsv.gz")),
        ("out.bcf", ("--drop-genotypes",)),
        ("out.vcf.gz", ("--existing", "keep")),
    ],
)
def test_files_and_report_are_those_of_a_run_on_a_worker(
    served: Site,
    genome: Path,
    arguments: tuple[str, ...],
    tmp_path: Path,
    name: str,
    options: tuple[str, ...],
) -> None:
    source = tmp_path / "in.vcf"
    text = write_vcf(source, genome, records=3000).read_text()
    header = '##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n##FILTER=<ID=x,Description="x">\n'
    source.write_text(text.replace("##FORMAT", header + "##FORMAT"))
    found = []
    for way in ((), arguments):
        folder = tmp_path / f"way{len(way)}"
        folder.mkdir()
        beside = [str(folder / each) if each.startswith("out.") else each for each in options]
        report = ("--report", folder / "report.json")
        done = served.run("annotate", source, "-o", folder / name, *beside, *report, *way)
        assert done.returncode == 0, done.stderr
        told = json.loads((folder / "report.json").read_text())
        for varying in (
            "output",
            "seconds",
            "records_per_second",
            "finished",
            "worker",
            "settings",
            "run_id",
        ):
            assert varying in told
            del told[varying]
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "report.json"}
        found.append((told, files, done.stderr))
    assert found[0] == found[1]
    assert served.left_over() == []


@pytest.mark.parametrize("options", [("--chunks", "4"), ("--workers", "2"), ("--threads", "2")])
def test_what_concerns_speed_alone_changes_nothing(
    site: Site, vcf: Path, arguments: tuple[str, ...], tmp_path: Path, options: tuple[str, ...]
) -> None:
    for name, more in (("one", ()), ("other", options)):
        done = site.run("annotate", vcf, "-o", tmp_path / f"{name}.vcf.gz", *arguments, *more)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.vcf.gz").read_bytes() == (tmp_path / "other.vcf.gz").read_bytes()
    assert (tmp_path / "other.vcf.gz.tbi").exists()


@pytest.mark.parametrize("option", ["--threads", "--workers"])
def test_threads_of_a_worker_are_the_workers(site: Site, vcf: Path, tmp_path: Path, option: str) -> None:
    done = site.run("annotate", vcf, "-o", tmp_path / "out.vcf", option, "2")
    assert done.returncode == 2
    assert f"{option} is the worker's" in done.stderr


def test_neither_celery_nor_redis_is_loaded(
    site: Site, vcf: Path, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "modules"
    code = WATCHED.format(log=str(log))
    command = [
        sys.executable,
        "-c",
        code,
        "annotate",
        str(vcf),
        "-o",
        str(tmp_path / "out.vcf.gz"),
        *arguments,
    ]
    subprocess.run(command, env=site.environ, cwd=tmp_path, check=True)
    loaded = {line.partition(".")[0] for line in log.read_text().splitlines()}
    assert loaded.isdisjoint({"celery", "kombu", "redis", "billiard", "httpx", "rich", "psycopg", "duckdb"})


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", ["named pipe", "process substitution", "standard input"])
@pytest.mark.parametrize("local", [True, False])
def test_a_pipe_is_read_as_standard_input_is(
    served: Site, vcf: Path, arguments: tuple[str, ...], tmp_path: Path, kind: str, local: bool
) -> None:
    out, pipe = tmp_path / "out.vcf", tmp_path / "pipe"
    way = arguments if local else ()
    assert served.run("annotate", vcf, "-o", tmp_path / "file.vcf", *way).returncode == 0
    if kind == "named pipe":
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(vcf.read_bytes()))
        writer.start()
        done = served.run("annotate", pipe, "-o", out, *way)
        writer.join()
    elif kind == "process substitution":
        script = f'"$0" -m anyvar_step annotate <(cat "$1") -o "$2" {" ".join(way)}'
        command = ["bash", "-c", script, sys.executable, str(vcf), str(out)]
        done = subprocess.run(command, env=served.environ, capture_output=True, text=True)
    else:
        done = served.run("annotate", "-", "-o", out, *way, input=vcf.read_text())
    assert done.returncode == 0, done.stderr
    assert out.read_text() == (tmp_path / "file.vcf").read_text()


def test_a_pipe_can_be_read_once_only(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = site.run("annotate", tmp_path / "pipe", "-o", tmp_path / "out.vcf", "--retries", "1")
    assert done.returncode == 2
    assert "pipe can be read only once" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_out_as_it_was(
    site: Site, genome: Path, arguments: tuple[str, ...], tmp_path: Path, number: signal.Signals
) -> None:
    """The input never ends, so that the signal comes in the middle whatever the machine is busy with."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "out.vcf.gz").write_bytes(b"older")
    text = write_vcf(tmp_path / "in.vcf", genome, records=20_000).read_text()
    before = signal.signal(number, signal.SIG_DFL)  # a step leaves SIGHUP ignored where nohup ran the tests
    step = site.start(
        *("annotate", "-", "-o", str(folder / "out.vcf.gz"), "--ndjson", str(folder / "out.ndjson")),
        *arguments,
        stdin=subprocess.PIPE,
    )
    signal.signal(number, before)
    assert step.stdin
    step.stdin.write(text)
    step.stdin.flush()
    until(lambda: any(path.stat().st_size > 1000 for path in folder.iterdir()))
    step.send_signal(number)
    assert step.wait(100) == 128 + number
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"out.vcf.gz": b"older"}
    assert f"interrupted by {number.name}" in step.communicate()[1]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("chr1\tx\t.\tA\tC\t.\t.\t.\n", 65, "in.vcf line 4: "),
        ("chr9\t7\t.\tA\tC\t.\t.\t.\n", 65, "no contig that the reference GRCh38 knows"),
    ],
)
def test_exit_codes_are_those_of_a_run_on_a_worker(
    served: Site, arguments: tuple[str, ...], tmp_path: Path, text: str, code: int, words: str
) -> None:
    source = tmp_path / "in.vcf"
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    source.write_text(f"##fileformat=VCFv4.2\n##contig=<ID=chr1>\n{columns}{text}")
    for way in ((), arguments):
        done = served.run("annotate", source, "-o", tmp_path / "out.vcf", *way)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert not (tmp_path / "out.vcf").exists()


def test_alleles_are_ingested_into_a_store(
    site: Site, vcf: Path, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    duckdb = pytest.importorskip("duckdb")
    annotated, file = tmp_path / "annotated.vcf", tmp_path / "alleles.duckdb"
    assert site.run("annotate", vcf, "-o", annotated, "--attributes", *arguments).returncode == 0
    done = site.run("ingest", annotated, *arguments)
    assert done.returncode == 78
    assert "no store to ingest into. Name one with --store" in done.stderr
    options = ("--conflicts", tmp_path / "conflicts.csv", "--report", tmp_path / "report.json")
    done = site.run("ingest", annotated, *arguments, "--store", file, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    with duckdb.connect(str(file), read_only=True) as store:
        [(number,)] = store.execute("SELECT count(*) FROM alleles").fetchall()
    assert number == report["registered"]["added"] > 0
    assert (tmp_path / "conflicts.csv").read_text().splitlines() == [
        "vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id"
    ]
