"""docs/snakemake.md: each block does what it says, typed as it stands there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pysam
import pytest
from smk import outputs, text
from support import ROOT, Site

pytestmark = pytest.mark.services  # several minutes, for `make test-all`

pytest.importorskip("snakemake", reason="the workflow extra is not installed")

DOCS = (ROOT / "docs" / "snakemake.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


def section(title: str, language: str) -> str:
    """The first block of that language under the title."""
    start = re.search(rf"^#+ {re.escape(title)}$", DOCS, re.MULTILINE)
    assert start, title
    found = re.search(rf"^```{language}\n(.*?)^```$", DOCS[start.end() :], re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


@pytest.fixture
def reader(project: Path, demo_site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as the page supposes it, with the demo's assembly under the default name."""
    (project / "anyvar-step").symlink_to(ROOT)
    (project / "calls").mkdir()
    for sample, source in (("NA12878", "alice"), ("NA12891", "bela")):
        pysam.tabix_compress(str(project / f"vcf/{source}.vcf"), str(project / f"calls/{sample}.vcf.gz"))
        pysam.tabix_index(str(project / f"calls/{sample}.vcf.gz"), preset="vcf")
    (project / "config/config.yaml").write_text(section("The workflow", "yaml"))
    (project / "config/samples.tsv").write_text(section("The workflow", "tsv"))
    (project / "config/bgzipped.tsv").write_text("sample\tvcf\nalice\tcalls/NA12878.vcf.gz\n")
    demo_site.extra["ANYVAR_STEP_REFERENCE"] = f"GRCh38={project}/resources/genome.fa"
    for name, value in demo_site.environ.items():
        monkeypatch.setenv(name, value)
    return project


def typed(commands: str) -> None:
    done = subprocess.run(["bash", "-exc", commands], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rule_to_paste_works_with_servers_and_without(
    reader: Path, demo_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reader / "Snakefile").write_text(section("One rule", "python"))
    with_servers, without = [block for block in blocks("bash") if " vrs/NA" in block]
    with demo_site.worker():
        typed(with_servers)
    for name in ("ANYVAR_STEP_REFERENCE", "ANYVAR_VCF_ASYNC_WORK_DIR", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name)
    typed(without)
    assert outputs(reader / "vrs") == [
        f"{name}.vcf.gz{i}" for name in ("NA12878", "NA12891") for i in ("", ".tbi")
    ]
    assert demo_site.left_over() == []


def test_the_rule_in_the_readme_is_the_same() -> None:
    assert section("One rule", "python") in (ROOT / "README.md").read_text()


def test_the_workflows_commands_work_one_after_the_other(reader: Path, demo_site: Site) -> None:
    commands = [block for block in blocks("bash") if "anyvar-step/workflow" in block and "slurm" not in block]
    assert len(commands) == 4
    with demo_site.worker():
        for block in commands:
            typed(block)
    assert (reader / "report.html").stat().st_size > 100_000
    assert sorted(path.name for path in (reader / "logs").iterdir()) == [
        "annotate",
        "submit",
        "summary.log",
        "wait",
    ]
    assert demo_site.left_over() == []


def test_the_module_and_the_wrapper_work_in_one_workflow(reader: Path, demo_site: Site) -> None:
    (reader / "config/outer.yaml").write_text(
        "anyvar: {samples: config/bgzipped.tsv, annotate: {pieces: 2}}\n"
    )
    (reader / "Snakefile").write_text(section("As a module", "python") + section("As a wrapper", "python"))
    with demo_site.worker():
        typed("snakemake --cores 2 vrs/results/annotated/alice.vcf.gz wrapped/NA12878.vcf.gz")
    ways = (reader / "vrs/results/annotated/alice.vcf.gz", reader / "wrapped/NA12878.vcf.gz")
    assert text(ways[0]) == text(ways[1])
