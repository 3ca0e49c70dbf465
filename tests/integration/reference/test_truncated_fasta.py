"""A FASTA that is truncated in place while a worker annotates over it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import Site, held, until, write_genome, write_vcf

from anyvar_step.vrs import EngineChoice, engine_name

ENGINES: list[EngineChoice] = ["native", "python"] if engine_name() == "native" else ["python"]


@pytest.mark.quick(1)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_truncated_fasta_ends_the_run_but_not_its_worker(
    site: Site, tmp_path: Path, engine: EngineChoice
) -> None:
    """A mapped file would end the process by SIGBUS; here the run ends with 78, and the next one is done."""
    fasta = write_genome(tmp_path / "cut.fa", 2_000_000, seed=5)
    whole = write_genome(tmp_path / "whole.fa", seed=6)
    big = write_vcf(tmp_path / "big.vcf", fasta, records=20_000)
    records = "".join(big.read_text().splitlines(keepends=True)[4:])
    with big.open("a") as file:  # so that all of the FASTA is read again and again
        for _ in range(60 if engine == "native" else 20):
            file.write(records)
    site.extra = {
        "ANYVAR_STEP_REFERENCE": f"GRCh38={fasta},GRCh37={whole}",
        "ANYVAR_STEP_ENGINE": engine,
    }
    with site.worker() as worker:
        step = site.start("annotate", str(big), "-o", str(tmp_path / "out.vcf"), "--assembly", "GRCh38")
        parts = site.work_dir.glob
        until(lambda: any(part.stat().st_size for part in parts("*/*/.*_outputvcf.*")), what="some output")
        with held(worker):
            assert not list(site.work_dir.glob("*/*/*_outputvcf")), "the run was done too soon"
            os.truncate(fasta, fasta.stat().st_size // 2)
        _, err = step.communicate(timeout=100)
        assert step.returncode == 78, err
        assert f"the FASTA {fasta} was changed while it was in use" in err
        assert "Traceback" not in err
        assert not (tmp_path / "out.vcf").exists()
        small = write_vcf(tmp_path / "small.vcf", whole)
        done = site.run("annotate", small, "-o", tmp_path / "small.out.vcf", "--assembly", "GRCh37")
        assert done.returncode == 0, done.stderr
        assert "VRS_Error=" not in (tmp_path / "small.out.vcf").read_text()
        assert worker.poll() is None
    assert site.left_over() == []
