"""A site whose workers read AnyVar's SeqRepo, by AnyVar's variable or ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from seqrepos import write_seqrepo
from support import Site


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "reference",
    [
        {"ANYVAR_STEP_REFERENCE": "", "SEQREPO_DATAPROXY_URI": "{uri}"},
        {"ANYVAR_STEP_REFERENCE": "GRCh38={uri}", "SEQREPO_DATAPROXY_URI": "seqrepo+https://localhost/rest"},
    ],
    ids=["anyvars-variable", "ours"],
)
def test_a_worker_with_a_seqrepo_gives_the_ids_of_one_with_the_fasta(
    tmp_path: Path, site: Site, genome: Path, vcf: Path, reference: dict[str, str]
) -> None:
    fasta = tmp_path / "fasta.vcf"
    done = site.run(
        "annotate", vcf, "-o", fasta, "--local", "--reference", f"GRCh38={genome}", "--attributes"
    )
    assert done.returncode == 0, done.stderr
    sequence = "".join(genome.read_text().split("\n")[1:])
    uri = write_seqrepo(tmp_path / "seqrepo", {sequence: ["GRCh38:chr1"]})
    site.extra = {name: value.format(uri=uri) for name, value in reference.items()}
    with site.worker():
        done = site.run("annotate", vcf, "-o", tmp_path / "seqrepo.vcf", "--attributes")
    assert done.returncode == 0, done.stderr
    assert fasta.read_bytes().count(b"ga4gh:VA.") == 400
    assert (tmp_path / "seqrepo.vcf").read_bytes() == fasta.read_bytes()


def test_a_worker_does_not_start_on_a_seqrepo_that_is_not_there(site: Site) -> None:
    site.extra = {"ANYVAR_STEP_REFERENCE": "", "SEQREPO_DATAPROXY_URI": "seqrepo+file:///nowhere"}
    done = site.run("worker")
    assert done.returncode == 78
    assert "/nowhere is not a SeqRepo" in done.stderr
