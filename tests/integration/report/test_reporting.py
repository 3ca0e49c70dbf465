"""The report of a real run: what it says of input, output, records, worker and settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Site, write_vcf

jsonschema = pytest.importorskip("jsonschema", reason="comes with the workflow extra")

SCHEMA = json.loads((ROOT / "docs" / "run-report-1.schema.json").read_text())


@pytest.fixture(scope="module")
def flawed(served: Site) -> Path:
    """A VCF of 203 records: a wrong REF, one beyond the end of chr1, one on an unknown contig."""
    vcf = write_vcf(served.folder / "flawed.vcf", served.genome)
    first = served.genome.read_text().split("\n")[1][0]
    wrong = "C" if first != "C" else "G"
    rest = "\t50\tPASS\tDP=9\tGT\t0/1\n"
    lines = vcf.read_text().splitlines(keepends=True)
    begin = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    lines.insert(begin, f"chr1\t1\t.\t{wrong}\t{wrong}T{rest}")
    vcf.write_text("".join([*lines, f"chr1\t999999\t.\tA\tC{rest}", f"chrEBV\t5\t.\tA\tC{rest}"]))
    return vcf


def reported(site: Site, vcf: Path, name: str, *arguments: str) -> dict[str, Any]:
    path = site.folder / f"{name}.json"
    out = site.folder / f"{name}.vcf.gz"
    done = site.run("annotate", vcf, "-o", out, "--report", path, *arguments)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(report, SCHEMA)
    assert report["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    return report


def test_a_run_reports_what_it_met_and_how_long_it_took(served: Site, flawed: Path) -> None:
    report = reported(served, flawed, "whole")
    counts = report["counts"]
    assert counts["records"] == 203
    assert counts["contigs"] == {"chr1": 202, "chrEBV": 1}
    assert counts["unknown_contigs"] == {"chrEBV": 1}
    assert counts["errors"] == {"ref_mismatch": 1, "position": 1}
    assert counts["examples"]["position"] == ["chr1:999999 REF A, reference (none)"]
    [example] = counts["examples"]["ref_mismatch"]
    assert example.startswith("chr1:1 REF ")
    assert report["input_sha256"] == hashlib.sha256(flawed.read_bytes()).hexdigest()
    assert report["seconds"].keys() == {"read", "annotate", "write", "stage", "wait", "collect"}
    work = sum(report["seconds"][phase] for phase in ("read", "annotate", "write"))
    assert report["records_per_second"] == pytest.approx(203 / work, rel=0.01)
    assert {"anyvar-step", "vrs", "python", "celery", "pysam", "engine"} == report["versions"].keys()


def test_a_report_names_the_workers_settings_but_no_secret(served: Site, flawed: Path) -> None:
    report = reported(served, flawed, "settings")
    assert report["settings"]["ANYVAR_STEP_REFERENCE"] == f"GRCh38={served.genome}"
    assert report["settings"]["CELERY_TASK_DEFAULT_QUEUE"] == served.queue
    assert "CELERY_BROKER_URL" not in report["settings"]
    assert served.redis_url not in json.dumps(report)


def test_a_vcf_in_pieces_has_the_counts_of_the_whole(served: Site, flawed: Path) -> None:
    whole = reported(served, flawed, "once")
    pieces = reported(served, flawed, "pieces", "--chunks", "3")
    assert pieces["counts"] == whole["counts"]
    assert pieces["records_per_second"] > 0
    assert pieces["settings"] == whole["settings"]


def test_what_the_user_should_know_is_said_of_a_vcf_in_pieces_too(served: Site, flawed: Path) -> None:
    out, report = served.folder / "said.vcf", served.folder / "said.json"
    done = served.run("annotate", flawed, "-o", out, "--chunks", "3", "--report", report)
    notes = json.loads(report.read_text())["notes"]
    assert notes == reported(served, flawed, "said-at-once")["notes"] != []
    assert all(note in done.stderr for note in notes)
