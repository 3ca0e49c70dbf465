"""The workflow under the real Snakemake, with private servers: what a newcomer types and what comes out."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
from smk import CONFIG, SNAKEFILE, outputs, snakemake
from support import ROOT

pytest.importorskip("snakemake", reason="the workflow extra is not installed")


SECTIONS = ("alleles", "errors", "general", "phases")


def made_by_a_run(prefix: str = "") -> list[str]:
    samples = ("alice", "bela", "carol")
    annotated = [
        f"{prefix}annotated/{sample}.vcf.gz{suffix}" for sample in samples for suffix in ("", ".tbi")
    ]
    return [
        *annotated,
        f"{prefix}multiqc/.snakemake_timestamp",  # Snakemake's own, as in each directory() of its making
        *(f"{prefix}multiqc/{section}_anyvar_step_mqc.json" for section in SECTIONS),
        f"{prefix}reference/demo.tsv",
        *(f"{prefix}reports/{sample}.json" for sample in samples),
        f"{prefix}summary.html",
    ]


def test_a_run_makes_what_the_snakefile_promises_and_a_second_one_does_nothing(project: Path) -> None:
    dry = snakemake("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not (project / "results").exists()
    done = snakemake("--cores", "2", local=True)
    assert done.returncode == 0, done.stderr + (project / "logs/annotate/alice.log").read_text()
    assert outputs(project / "results") == made_by_a_run()
    assert (
        len(list((project / "benchmarks").rglob("*.tsv")))
        == len(list((project / "logs").rglob("*.log")))
        == 5
    )
    again = snakemake("--cores", "1")  # no servers: nothing is left to do
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr


@pytest.mark.slow
def test_every_record_comes_back_with_its_ids_and_the_report_counts_them(project: Path) -> None:
    (project / "config/samples.tsv").write_text("sample\tvcf\ncarol\tvcf/carol.vcf\n")
    (project / "config/config.yaml").write_text(CONFIG + "local: true\n")
    done = snakemake("--cores", "1")  # the step brings its own servers
    assert done.returncode == 0, done.stderr + (project / "logs/annotate/carol.log").read_text()
    given = [
        line.split("\t") for line in (project / "vcf/carol.vcf").read_text().splitlines() if line[0] != "#"
    ]
    with gzip.open(project / "results/annotated/carol.vcf.gz", "rt") as stream:
        records = [line.rstrip("\n").split("\t") for line in stream if line[0] != "#"]
    assert [record[:7] + record[8:] for record in records] == [fields[:7] + fields[8:] for fields in given]
    wrong = [record for record in records if "VRS_Error=" in record[7]]
    assert len(wrong) == 1, "the demo has one record whose REF is wrong"
    assert all("VRS_Allele_IDs=ga4gh:VA." in record[7] for record in records if record not in wrong)
    counts = json.loads((project / "results/reports/carol.json").read_text())["counts"]
    assert counts["records"] == len(records)
    assert sum(counts["errors"].values()) == 1
    with pysam.VariantFile(str(project / "results/annotated/carol.vcf.gz")) as vcf:
        contig, position = records[-1][:2]
        assert [record.pos for record in vcf.fetch(contig, int(position) - 1, int(position))] == [
            int(position)
        ]


@pytest.mark.slow
def test_another_workflow_uses_it_as_a_module_on_the_vcfs_of_its_own_rules(project: Path) -> None:
    (project / "sheet.tsv").write_text("sample\tvcf\nalice\tcalls/alice.vcf\n")
    outer = project / "Snakefile"
    outer.write_text(
        f"""
module anyvar:
    snakefile: "{SNAKEFILE}"
    config: dict(samples="sheet.tsv", assembly="demo", reference="resources/genome.fa", local=True)
    prefix: "vrs"

use rule * from anyvar as anyvar_*

rule done:
    default_target: True
    input: "vrs/results/annotated/alice.vcf.gz"

rule call:
    input: "vcf/alice.vcf"
    output: "calls/alice.vcf"
    shell: "head -n 200 {{input}} > {{output}}"
"""
    )
    done = snakemake("--cores", "1", snakefile=outer)
    assert done.returncode == 0, done.stderr
    assert "results/annotated/alice.vcf.gz.tbi" in outputs(project / "vrs")


@pytest.mark.slow
def test_a_module_that_fails_leaves_its_page(project: Path) -> None:
    """The outer workflow includes failed.smk, as docs/snakemake.md says."""
    (project / "vcf/bela.vcf").write_text("this is no VCF\n")
    outer = project / "Snakefile"
    outer.write_text(
        f"""
module anyvar:
    snakefile: "{SNAKEFILE}"
    config: dict(samples="config/samples.tsv", assembly="demo", reference="resources/genome.fa", local=True)
    prefix: "vrs"

use rule * from anyvar as anyvar_*

include: "{SNAKEFILE.parent}/rules/failed.smk"
"""
    )
    done = snakemake("--cores", "1", "--keep-going", "vrs/results/summary.html", snakefile=outer)
    assert done.returncode == 1
    assert "vrs/results/summary.html names what failed: 1 of 3 samples" in done.stderr, done.stderr
    assert 'data-sample="bela"' in (project / "vrs/results/summary.html").read_text()
    assert (project / "vrs/results/multiqc/failed_anyvar_step_mqc.json").exists()


@pytest.mark.slow
def test_a_rule_reads_the_pipe_of_another_one(project: Path) -> None:
    """``pipe()``: Snakemake makes a FIFO and starts both rules at once; no VCF lies on disk between them."""
    (project / "Snakefile").write_text(
        """
rule call:
    input: "vcf/alice.vcf"
    output: pipe("calls/alice.vcf")
    shell: "cat {input} > {output}"

rule vrs:
    input: "calls/alice.vcf"
    output: vcf="vrs/alice.vcf.gz", index="vrs/alice.vcf.gz.tbi"
    log: "logs/vrs.log"
    shell: "anyvar-step annotate {input:q} -o {output.vcf:q} --local --assembly demo 2> {log:q}"
"""
    )
    done = snakemake("--cores", "2", "vrs/alice.vcf.gz", snakefile=project / "Snakefile")
    assert done.returncode == 0, done.stderr + (project / "logs/vrs.log").read_text()
    given = (project / "vcf/alice.vcf").read_text().splitlines()
    lines = gzip.decompress((project / "vrs/alice.vcf.gz").read_bytes()).decode().splitlines()
    records = [line.split("\t")[:5] for line in lines if line[0] != "#"]
    assert records == [line.split("\t")[:5] for line in given if line[0] != "#"]
    assert "VRS_Allele_IDs=ga4gh:VA." in lines[-1]


@pytest.mark.slow
def test_the_demos_data_are_small_and_the_same_each_time(demo_data: Path, project: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "workflow/demo/make_demo.py"), str(project)], check=True)
    assert outputs(project) == outputs(demo_data)
    contents = [[(folder / name).read_bytes() for name in outputs(folder)] for folder in (project, demo_data)]
    assert contents[0] == contents[1]
    assert sum(map(len, contents[0])) < 600_000


@pytest.mark.slow
def test_lint_finds_nothing(project: Path) -> None:
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def readme_rule(folder: Path) -> Path:
    """A Snakefile with the rule of the README."""
    [rule] = re.findall(r"^```python\n(rule vrs:.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    snakefile = folder / "Snakefile"
    snakefile.write_text(rule)
    return snakefile


@pytest.mark.slow
def test_lint_finds_nothing_in_the_readmes_rule(project: Path) -> None:
    done = snakemake("--lint", snakefile=readme_rule(project))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'say "x"', "$HOME & (b); #1", "ä*?"])
def test_the_readmes_rule_takes_any_file_name(project: Path, name: str) -> None:
    (project / "calls").mkdir()
    pysam.tabix_compress(str(project / "vcf/alice.vcf"), str(project / f"calls/{name}.vcf.gz"))
    snakefile = readme_rule(project)
    rule = snakefile.read_text().replace("--retries 3", "--retries 0 --local --assembly demo")
    snakefile.write_text(rule)
    done = snakemake("--cores", "1", f"vrs/{name}.vcf.gz", snakefile=snakefile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs(project / "vrs") == [f"{name}.vcf.gz", f"{name}.vcf.gz.tbi"]
    assert outputs(project / "logs") == [f"vrs/{name}.log"]
    assert (
        gzip.decompress((project / f"vrs/{name}.vcf.gz").read_bytes()).count(b"VRS_Allele_IDs=ga4gh:VA.") > 99
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("samples: [a.tsv]\n", "samples: ['a.tsv'] is not of type 'string'"),
        ("assembly: demo\n", "samples: is missing"),
        (
            CONFIG + "annotate: {timeout_minutes: soon}\n",
            "annotate.timeout_minutes: 'soon' is not of type 'integer'",
        ),
        (
            CONFIG + "annotate: {attribute: true}\n",
            "annotate.attribute: is no key of it, did you mean attributes?",
        ),
        (CONFIG + "refrence: genome.fa\n", "refrence: is no key of it, did you mean reference?"),
        (
            "samples: config/samples.tsv\nlocal: true\n",
            "reference: is missing: a step with local: true needs it",
        ),
        (CONFIG + "annotate: {pieces: 0}\n", "annotate.pieces: 0 is less than the minimum of 1"),
        (
            CONFIG + "annotate: {pieces: 2000}\n",
            "annotate.pieces: 2000 is greater than the maximum of 1024",
        ),
        (CONFIG + "annotate: {submit_first: 1}\n", "annotate.submit_first: 1 is not of type 'boolean'"),
        (
            CONFIG + "local: true\nannotate: {submit_first: true}\n",
            "annotate.submit_first: cannot be done with local: true, such a run ends with its step",
        ),
        (
            CONFIG + "local: true\nsteps: [annotate, ingest]\n",
            "steps: ingest cannot be done with local: true, such a step has no store to register in",
        ),
        (CONFIG + "steps: []\n", "steps: [] should be non-empty"),
        (CONFIG + "steps: [register]\n", "steps.0: 'register' is not one of ['annotate', 'ingest']"),
        (
            CONFIG + "steps: [annotate, ingest]\nannotate: {attributes: false}\n",
            "annotate.attributes: must be true, since the step ingest reads them",
        ),
        (CONFIG + "annotate: {extra: --force}\n", "annotate.extra: '--force' is not of type 'array'"),
        (
            CONFIG + "ingest: {require_validation: maybe}\n",
            "ingest.require_validation: 'maybe' is not of type 'boolean'",
        ),
    ],
)
def test_a_wrong_config_is_refused_by_its_key_in_one_line(project: Path, config: str, line: str) -> None:
    (project / "config/config.yaml").write_text(config)
    done = snakemake("--dry-run")
    assert done.returncode == 1
    said = (done.stdout + done.stderr).splitlines()
    assert f"config: {line}" in said
    assert len(said) < 5, "that line, and where it was found out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("sample\tvcf\na\tx.vcf\nb\ty.vcf\na\tz.vcf\n", "config/samples.tsv, line 4: duplicate sample a"),
        ("sample\tfile\na\tx.vcf\n", "config/samples.tsv: missing column vcf"),
        ("sample\tvcf\na\n", "config/samples.tsv, line 2: vcf: is missing"),
        ("sample\tvcf\na/b\tx.vcf\n", "config/samples.tsv, line 2: sample: 'a/b' does not match"),
        ("sample\tvcf\n", "config/samples.tsv: no samples"),
        ("sample\tvcf\na\tgone/x.vcf\n", "gone/x.vcf"),
        (None, "samples: config/samples.tsv: No such file or directory"),
    ],
)
def test_a_wrong_sample_sheet_is_refused_by_its_line(project: Path, sheet: str | None, message: str) -> None:
    path = project / "config/samples.tsv"
    path.write_text(sheet) if sheet else path.unlink()
    done = snakemake("--dry-run")
    assert done.returncode == 1
    assert message in done.stdout + done.stderr


@pytest.mark.slow
def test_a_sample_sheet_that_excel_wrote_is_read(project: Path) -> None:
    (project / "config/samples.tsv").write_bytes("\ufeffsample\tvcf\r\nalice\tvcf/alice.vcf\r\n".encode())
    done = snakemake("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/annotated/alice.vcf.gz" in done.stdout


@pytest.mark.slow
def test_a_permanent_failure_is_not_repeated_and_its_reason_is_in_the_log(project: Path) -> None:
    (project / "vcf/alice.vcf").write_text("this is no VCF\n")
    (project / "config/config.yaml").write_text(CONFIG + "local: true\n")
    done = snakemake("--cores", "1", "results/annotated/alice.vcf.gz")
    assert done.returncode == 1
    log = (project / "logs/annotate/alice.log").read_text()
    assert "alice.vcf" in log
    assert "trying again" not in log
    assert not (project / "results/annotated/alice.vcf.gz").exists()
