"""docs/http.md, typed on a host that sees neither Redis nor the work dir: each block does what it says."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pysam
import pytest
from nextflow import PROGRAM
from pages import Reader
from support import ROOT, Site


@pytest.mark.slow
def test_the_walk_through(served: Site, vcf: Path, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("SKIPPED: curl is not installed")
    folder, programs = tmp_path / "here", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "anyvar-step").write_text(PROGRAM)
    (programs / "anyvar-step").chmod(0o755)
    shutil.copy(vcf, folder / "in.vcf")
    pysam.tabix_compress(str(vcf), str(folder / "in.vcf.gz"))
    (folder / "no.vcf").write_text("sample\tvalue\n")
    here = {**served.environ, "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    remote = {**here, "ANYVAR_VCF_ASYNC_WORK_DIR": "", "CELERY_BROKER_URL": ""}
    reader = Reader(folder, remote, here)
    reader.read(ROOT / "docs" / "http.md")
    assert '"status":"PENDING"' in reader.printed
    assert '"records":200' in reader.printed
    assert '"workers":"ok"' in reader.printed
    assert (folder / "out.vcf").read_text().count("VRS_Allele_IDs=ga4gh:VA.") == 200
    for name in ("out.vcf.gz", "step.vcf.gz", "collected.vcf.gz"):
        with pysam.VariantFile(str(folder / name)) as file:
            assert sum("VRS_Allele_IDs" in record.info for record in file) == 200
    assert (folder / "step.json").exists()
