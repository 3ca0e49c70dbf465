"""Standard streams, names and messages of real commands: pipes that close, full disks, odd names, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import Site, until

from anyvar_step.models import RunReport
from anyvar_step.vcf import VcfReader


def in_shell(site: Site, command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A line of bash with ``anyvar-step``; standard error is kept."""
    step = f"{sys.executable} -m anyvar_step"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("anyvar-step", step)],
        env={**site.environ, **environ},
        cwd=site.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
    )


def write_declared(path: Path, vcf: Path, head: str) -> Path:
    """The VCF with more header lines before #CHROM."""
    path.write_text(vcf.read_text().replace("#CHROM", head, 1))
    return path


@pytest.mark.parametrize("command", ["--help", "config", "annotate {vcf} -o - --local"])
def test_a_reader_that_goes_away_gives_141(site: Site, vcf: Path, command: str) -> None:
    fifo = site.folder / "fifo"
    os.mkfifo(fifo)
    # The reader has gone before the first byte: exec opens the FIFO, and nobody reads it any more.
    command = command.format(vcf=vcf)
    done = in_shell(site, f"(exec 3<fifo 4>&3; :) & exec >fifo; wait; anyvar-step {command}")
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_full_standard_output_is_called_so(site: Site, vcf: Path) -> None:
    done = in_shell(site, f"anyvar-step annotate {vcf} -o - --local > /dev/full")
    assert done.returncode == 74
    said = "anyvar-step: cannot write to standard output: No space left on device. Make room"
    assert done.stderr == f"{said}, then run it again\n"


def test_no_in_is_standard_input_and_no_out_names_its_option(site: Site, vcf: Path) -> None:
    done = in_shell(site, f"anyvar-step annotate -o out.vcf --local < {vcf}")
    assert done.returncode == 0, done.stderr
    assert "VRS_Allele_IDs" in (site.folder / "out.vcf").read_text()
    for arguments in (f"{vcf}", f"{vcf} out.vcf -o x"):
        done = in_shell(site, f"anyvar-step annotate {arguments}")
        assert done.returncode == 2
        assert "-o" in done.stderr.rpartition("Error:")[2]


def test_no_in_on_a_terminal_is_wrong_usage(site: Site) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "anyvar_step", "annotate", "-o", "out.vcf", "--local"]
    done = subprocess.run(argv, env=site.environ, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert "IN is missing: name a VCF" in done.stderr


@pytest.mark.parametrize(
    ("output_type", "magic", "deflated"),
    [("v", b"##fi", None), ("z", b"\x1f\x8b", True), ("z9", b"\x1f\x8b", True), ("z0", b"\x1f\x8b", False)],
)
def test_output_types_and_levels_are_those_of_bcftools(
    site: Site, vcf: Path, output_type: str, magic: bytes, deflated: bool | None
) -> None:
    done = site.run("annotate", vcf, "-o", "out", f"-O{output_type}", "--local", "--no-write-index")
    assert done.returncode == 0, done.stderr
    raw = (site.folder / "out").read_bytes()
    assert raw.startswith(magic)
    if deflated is not None:
        assert (b"##fileformat=VCF" in raw) != deflated


def test_uncompressed_bcf_is_for_pipes(site: Site, vcf: Path) -> None:
    declared = '##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n#CHROM'
    vcf = write_declared(site.folder / "declared.vcf", vcf, declared)
    for output_type, stored in (("u", True), ("b", False), ("b0", True), ("b9", False)):
        done = in_shell(site, f"anyvar-step annotate {vcf} -O {output_type} -o - --local > out.bcf")
        assert done.returncode == 0, done.stderr
        assert (b"##fileformat=VCF" in (site.folder / "out.bcf").read_bytes()) == stored
    for wrong in ("u1", "v1", "z13", "x", "z-1"):
        assert site.run("annotate", vcf, "-o", "out", "-O", wrong, "--local").returncode == 2
    done = site.run("annotate", vcf, "-o", "out", "-Oz9", "--compress-level", "1", "--local")
    assert "contradict each other" in done.stderr


def test_a_fasta_alone_serves_any_assembly_that_is_said(site: Site, vcf: Path) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": ""}
    for assembly, options in (("GRCh38", ()), ("GRCh37", ("--assembly", "GRCh37"))):
        arguments = ("-f", site.genome, "--local", "--report", "run.json", "--progress", "plain", *options)
        done = site.run("annotate", vcf, "-o", "out.vcf", *arguments)
        assert done.returncode == 0, done.stderr
        report = RunReport.model_validate_json((site.folder / "run.json").read_bytes())
        assert report.options.assembly == assembly
        assert f"sample.vcf: {assembly}, 200 records, {report.counts.ids} identifiers" in done.stderr
        assert done.stderr.rstrip().endswith("-> out.vcf")
    named = f"GRCh37={site.genome}"
    assert (
        site.run("annotate", vcf, "-o", "out.vcf", "--local", "-f", named, "--report", "run.json").returncode
        == 0
    )
    assert RunReport.model_validate_json((site.folder / "run.json").read_bytes()).options.assembly == "GRCh37"


def test_a_worker_with_one_fasta_serves_any_assembly(site: Site, vcf: Path) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": str(site.genome)}
    with site.worker():
        for assembly in ("GRCh38", "GRCh37"):
            assert site.run("annotate", vcf, "-o", "out.vcf", "--assembly", assembly).returncode == 0
        done = site.run("check", "--assembly", "GRCh37", "--json")
    assert done.returncode == 0
    assert "any assembly: 1 contigs" in done.stdout


def test_an_alias_table_is_an_option(site: Site, vcf: Path) -> None:
    renamed = site.folder / "renamed.vcf"
    renamed.write_text(vcf.read_text().replace("chr1\t", "one\t").replace("ID=chr1", "ID=one"))
    (site.folder / "aliases.tsv").write_text("chr1\tone\n")
    assert site.run("annotate", renamed, "-o", "out.vcf", "--local").returncode == 65
    done = site.run("annotate", renamed, "-o", "out.vcf", "--local", "--aliases", "aliases.tsv")
    assert done.returncode == 0, done.stderr
    for option in ("--aliases", "--reference", "--threads", "--store"):
        done = site.run("annotate", vcf, "-o", "out.vcf", option, "1")
        assert done.returncode == 2
        assert f"{option} is the worker's" in done.stderr


def test_names_that_are_not_utf8_work_and_are_shown_escaped(site: Site, vcf: Path) -> None:
    raw = os.fsencode(site.folder)
    Path(os.fsdecode(raw + b"/lat\xe9n.vcf")).write_bytes(vcf.read_bytes())
    Path(os.fsdecode(raw + b"/r\xe9g.bed")).write_text("chr1\t0\t1000000\n")
    command = (
        r"anyvar-step annotate $'lat\xe9n.vcf' -R $'r\xe9g.bed' -o $'o\xe9.vcf' --report run.json --local"
    )
    done = in_shell(site, f"{command} --tsv $'t\\xe9.tsv' --progress plain")
    assert done.returncode == 0, done.stderr
    assert json.loads((site.folder / "run.json").read_text())["input_name"] == r"lat\xe9n.vcf"
    assert done.stderr.rstrip().endswith(r"-> o\xe9.vcf")
    with Path(os.fsdecode(raw + b"/o\xe9.vcf")).open("rb") as file:
        assert sum(len(lines) for lines in VcfReader(file, "o").blocks())
    done = in_shell(site, r"anyvar-step annotate $'lat\xe9.vcf' -o o.vcf --local")
    assert (done.returncode, done.stderr) == (
        66,
        "anyvar-step: lat\\xe9.vcf does not exist. Check the path\n",
    )
    report = in_shell(site, r"cp run.json $'r\xe9.json'; anyvar-step report $'r\xe9.json' -o page.html")
    assert report.returncode == 0, report.stderr
    assert r"r\xe9" in (site.folder / "page.html").read_text()


def test_control_characters_of_names_are_shown_escaped(site: Site, vcf: Path) -> None:
    evil = site.folder / "evil.vcf"
    name = "chr\x1b]0;owned\x07\u202e2"
    evil.write_text(vcf.read_text() + f"{name}\t1\t.\tA\tC\t.\t.\t.\tGT\t0/1\n")
    done = site.run("annotate", evil, "-o", "o.vcf", "--local", "--tsv", "t.tsv", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    assert site.run("report", "r.json", "-o", "page.html").returncode == 0
    shown = [done.stderr, (site.folder / "t.tsv").read_text(), (site.folder / "page.html").read_text()]
    for text in shown:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert r"chr\x1b]0;owned\x07\u202e2" in shown[1]
    assert name in (site.folder / "o.vcf").read_text()


def test_ctrl_c_ends_a_worker_with_a_plain_sentence(site: Site) -> None:
    with site.worker() as worker:
        [log] = site.folder.glob("worker-*.log")
        until(lambda: " ready." in log.read_text(), what="the worker")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(100) == 0
    said = log.read_text()
    assert "anyvar-step: Ctrl-C: taking no new run" in said
    assert "anyvar-step: anyvar-step:" not in said
    assert "start it again" not in said


def test_a_failing_worker_says_its_name_once(site: Site, tmp_path: Path) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": f"GRCh38={tmp_path / 'gone.fa'}"}
    done = site.run("worker")
    assert done.returncode == 78
    assert done.stderr.count("anyvar-step: the FASTA") == 1
    assert "anyvar-step: anyvar-step:" not in done.stderr


def test_local_takes_a_reference_and_says_the_cause_first(site: Site) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": ""}
    done = site.run("local", "--", "true")
    assert done.returncode == 78
    assert "--reference" in done.stderr
    done = site.run("local", "--reference", site.genome, "--", "true")
    assert done.returncode == 0, done.stderr
    site.extra |= {
        "ANYVAR_STORAGE_URI": "postgresql://nobody@127.0.0.1:1/x",
        "ANYVAR_STEP_STORE_PATIENCE": "1",
    }
    until_redis_ends = 'p=${CELERY_BROKER_URL#*//}; while [ -e "${p%%\\?*}" ]; do sleep 0.1; done'
    done = site.run("local", "--reference", site.genome, "--", "sh", "-c", until_redis_ends)
    assert done.stderr.startswith("anyvar-step: no Postgres answers")
    assert done.returncode == 69
