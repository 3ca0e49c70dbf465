"""What `make demo` says of its results; `.ci/run` runs the demo itself."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from support import ROOT


def test_the_demo_ends_with_the_address_of_its_report_page(tmp_path: Path) -> None:
    results = tmp_path / "a demo" / "results"
    for name in ("annotated", "reports"):
        (results / name).mkdir(parents=True)
    with gzip.open(results / "annotated" / "alice.vcf.gz", "wt") as vcf:
        vcf.write("##fileformat=VCFv4.2\nchr1\t5\t.\tA\tC\t.\t.\tDP=3;VRS_Starts=4,4\n")
    counts = {"records": 1, "ids": 2, "alleles": {"snv": 1}, "errors": {}}
    (results / "reports" / "alice.json").write_text(json.dumps({"counts": counts}))
    (results / "summary.html").write_text("<!doctype html>")
    command = [sys.executable, ROOT / "workflow" / "demo" / "show.py", results.parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "chr1:5 A -> C   substitution\n      VRS_Starts=4,4\n" in done.stdout
    assert "alice: 1 records, 2 ids, 0 with VRS_Error" in done.stdout
    address = done.stdout.splitlines()[-1].strip()
    assert Path(unquote(urlparse(address).path)).read_text() == "<!doctype html>"


def test_the_demo_writes_the_page_that_it_names() -> None:
    named = re.findall(r"results / '(\S+\.html)'", (ROOT / "workflow" / "demo" / "show.py").read_text())
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert [f"results/{name}" in rules for name in named] == [True]
