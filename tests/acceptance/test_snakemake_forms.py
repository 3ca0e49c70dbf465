"""The workflow's other forms under the real Snakemake: in pieces, submitted first, wrapper, report."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pysam
import pytest
import yaml
from smk import CONFIG, only, outputs, snakemake, text
from support import ROOT, Site

from anyvar_step import __version__

pytestmark = pytest.mark.services  # several minutes, for `make test-all`

pytest.importorskip("snakemake", reason="the workflow extra is not installed")

WRAPPER = ROOT / "workflow/wrappers/anyvar_step/annotate"
#: Those of the demo that differ in kind: carol's VCF has a REF that is wrong.
SAMPLES = ("alice", "carol")


def bgzip_all(project: Path) -> None:
    """BGZF and index of each VCF, and a sheet that names them."""
    for sample in SAMPLES:
        pysam.tabix_index(str(project / f"vcf/{sample}.vcf"), preset="vcf", force=True)
    rows = "".join(f"{sample}\tvcf/{sample}.vcf.gz\n" for sample in SAMPLES)
    (project / "config/samples.tsv").write_text("sample\tvcf\n" + rows)


@pytest.fixture(scope="module")
def whole(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the plain workflow on the demo's data."""
    folder = tmp_path_factory.mktemp("whole")
    config = {
        "samples": "config/samples.tsv",
        "assembly": "demo",
        "reference": f"{demo_data}/resources/genome.fa",
    }
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(json.dumps(config))
    rows = "".join(f"{sample}\t{demo_data}/vcf/{sample}.vcf\n" for sample in SAMPLES)
    (folder / "config/samples.tsv").write_text("sample\tvcf\n" + rows)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "ANYVAR_STEP_REFERENCE": f"demo={demo_data}/resources/genome.fa",
    }
    done = snakemake("--cores", "2", "--directory", str(folder), local=True, environ=environ)
    assert done.returncode == 0, done.stderr
    return folder / "results"


@pytest.mark.parametrize(("pieces", "submit_first"), [(1, True), (3, False), (3, True)])
def test_every_form_gives_the_same_records_counts_and_index(
    project: Path, demo_site: Site, whole: Path, pieces: int, submit_first: bool
) -> None:
    bgzip_all(project)
    options = json.dumps({"pieces": pieces, "submit_first": submit_first})
    (project / "config/config.yaml").write_text(CONFIG + f"annotate: {options}\n")
    with demo_site.worker(concurrency=2):
        done = snakemake("--cores", "2", environ=demo_site.environ)
        assert done.returncode == 0, done.stderr
    assert outputs(project / "results") == outputs(whole)
    for sample in SAMPLES:
        assert text(project / f"results/annotated/{sample}.vcf.gz") == text(
            whole / f"annotated/{sample}.vcf.gz"
        )
        reports = [
            json.loads((folder / f"reports/{sample}.json").read_text())
            for folder in (project / "results", whole)
        ]
        assert reports[0]["counts"] == reports[1]["counts"]
        assert reports[0]["sequences"] == reports[1]["sequences"] != {}
        assert [note.replace(".vcf.gz ", ".vcf ") for note in reports[0]["notes"]] == reports[1]["notes"]
        assert {"wait", "annotate"} <= reports[0]["seconds"].keys()
        with pysam.VariantFile(str(project / f"results/annotated/{sample}.vcf.gz")) as vcf:
            assert (
                sum(1 for contig in vcf.header.contigs for _ in vcf.fetch(contig))
                == reports[0]["counts"]["records"]
            )
    assert demo_site.left_over() == []
    again = snakemake("--cores", "1", environ=demo_site.environ)
    assert "Nothing to be done" in again.stderr


@pytest.mark.parametrize("submit_first", [False, True])
def test_extra_options_reach_the_run(project: Path, demo_site: Site, submit_first: bool) -> None:
    options = json.dumps({"submit_first": submit_first, "extra": ["--regions", "chr2,chrM", "--no-version"]})
    (project / "config/config.yaml").write_text(CONFIG + f"annotate: {options}\n")
    target = "results/annotated/alice.vcf.gz"
    with demo_site.worker():
        done = snakemake("--cores", "1", target, environ=demo_site.environ)
    assert done.returncode == 0, done.stderr
    lines = text(project / target).splitlines()
    assert {line.split(b"\t")[0] for line in lines if line[:1] != b"#"} == {b"chr2", b"chrM"}
    assert not any(line.startswith(b"##anyvar_step") for line in lines)


def test_the_whole_is_judged_not_its_pieces(project: Path, demo_site: Site) -> None:
    """A VCF of another assembly is refused as without pieces, and leaves no output."""
    only(project, "alice")
    vcf = project / "vcf/alice.vcf"
    lines = []
    for line in vcf.read_text().splitlines(keepends=True):
        fields = line.split("\t")
        if line[0] != "#" and len(fields[3]) == 1:
            fields[3] = {"A": "C", "C": "G", "G": "T", "T": "A"}.get(fields[3], fields[3])
        lines.append("\t".join(fields))
    vcf.write_text("".join(lines))
    (project / "config/config.yaml").write_text(CONFIG + "annotate: {pieces: 4, retries: 0}\n")
    with demo_site.worker():
        done = snakemake("--cores", "1", environ=demo_site.environ)
    assert done.returncode == 1
    assert "non-zero exit status 65" in done.stderr
    assert not (project / "results/annotated/alice.vcf.gz").exists()
    assert demo_site.left_over() == []


@pytest.fixture
def store(project: Path, demo_site: Site) -> Path:
    """The DuckDB file in which the site's workers register."""
    pytest.importorskip("duckdb", reason="the duckdb extra is not installed")
    path = project.parent / "store.duckdb"
    demo_site.extra["ANYVAR_STORAGE_URI"] = f"duckdb:///{path}"
    return path


def count_alleles(store: Path) -> int:
    import duckdb

    with duckdb.connect(str(store), read_only=True) as base:
        return int(base.execute("SELECT count(*) FROM alleles").fetchall()[0][0])


def test_ingest_registers_what_was_annotated_and_finds_no_conflict(
    project: Path, demo_site: Site, store: Path
) -> None:
    only(project, "alice")
    (project / "config/config.yaml").write_text(CONFIG + "steps: [annotate, ingest]\n")
    with demo_site.worker():
        done = snakemake("--cores", "1", environ=demo_site.environ)
        assert done.returncode == 0, done.stderr + (project / "logs/ingest/alice.log").read_text()
    registered = json.loads((project / "results/registered/alice.json").read_text())["registered"]
    assert registered["alleles"] > 1000
    assert registered["added"] == 0, "the run that annotated has registered them already"
    page = (project / "results/summary.html").read_text()
    assert all(f"<summary>{run}</summary>" in page for run in ("alice", "ingested: alice"))
    assert count_alleles(store) > 1000
    (header,) = (project / "results/conflicts/alice.csv").read_text().splitlines()
    assert header.startswith("vrs_id,")
    assert demo_site.left_over() == []


def test_ingest_alone_registers_vcfs_that_carry_ids_and_lists_the_wrong_ones(
    project: Path, demo_site: Site, store: Path, whole: Path
) -> None:
    only(project, "alice")
    vcf = text(whole / "annotated/alice.vcf.gz").decode()
    right = re.findall(r"ga4gh:VA\.[\w-]+", vcf)[5]
    (project / "vcf/alice.vcf").write_text(vcf.replace(right, "ga4gh:VA." + "A" * 32))
    (project / "config/config.yaml").write_text(CONFIG + "steps: [ingest]\n")
    with demo_site.worker():
        done = snakemake("--cores", "1", environ=demo_site.environ)
        assert done.returncode == 0, done.stderr + (project / "logs/ingest/alice.log").read_text()
    made = [name for name in outputs(project / "results") if "multiqc" not in name]
    assert made == ["conflicts/alice.csv", "registered/alice.json", "summary.html"]
    assert "whose VRS fields are wrong" in (project / "results/summary.html").read_text()
    conflicts = (project / "results/conflicts/alice.csv").read_text().splitlines()
    assert len(conflicts) > 1
    assert all(line.endswith(right) for line in conflicts[1:])
    assert count_alleles(store) > 1000


def test_longer_patience_does_not_make_results_out_of_date(project: Path) -> None:
    only(project, "alice")
    assert snakemake("--cores", "1", local=True).returncode == 0
    patience = "annotate: {timeout_minutes: 600, retries: 9, outage_seconds: 5}\n"
    (project / "config/config.yaml").write_text(CONFIG + patience)
    assert "Nothing to be done" in snakemake("--dry-run").stdout
    (project / "config/config.yaml").write_text(CONFIG + "annotate: {for_ref: false}\n")
    assert "rule annotate" in snakemake("--dry-run").stdout, "another result is wanted"


def test_the_wrapper_annotates_as_its_own_test_says_whatever_the_files_are_called(project: Path) -> None:
    for file in (WRAPPER / "test").iterdir():
        content = file.read_text().replace("master/bio/anyvar_step/annotate", f"file://{WRAPPER}")
        (project / file.name).write_text(content.replace("{sample}.json", "it's $5 {sample}.json"))
    done = snakemake("--cores", "1", "vrs/a.vcf.gz", snakefile=project / "Snakefile")
    assert done.returncode == 0, done.stderr + (project / "logs/a.log").read_text()
    assert outputs(project / "vrs") == ["a.vcf.gz", "a.vcf.gz.tbi", "it's $5 a.json"]
    assert text(project / "vrs/a.vcf.gz").count(b"VRS_Allele_IDs=ga4gh:VA.") == 3
    meta = yaml.safe_load((WRAPPER / "meta.yaml").read_text())
    assert {"name", "description", "url", "authors", "input", "output", "params"} <= meta.keys()
    environment = yaml.safe_load((WRAPPER / "environment.yaml").read_text())
    *conda, pip = environment["dependencies"]
    assert all(re.fullmatch(r"[a-z]+ =[0-9.]+", package) for package in conda), "each with its version"
    assert pip == {"pip": [f"anyvar-step[local]=={__version__}"]}


def test_a_report_shows_each_samples_counts_with_a_caption(project: Path) -> None:
    assert snakemake("--cores", "2", local=True).returncode == 0
    done = snakemake("--report", "report.html")
    assert done.returncode == 0, done.stderr
    html = (project / "report.html").read_text()
    assert "VRS annotation" in html
    for sample in SAMPLES:
        assert f"annotated {sample}" in html
        assert f"{sample}.json" in html
    assert "summary.html" in html
    assert "all samples" in html


def test_the_local_profile_does_what_it_can_and_shows_why_the_rest_failed(project: Path) -> None:
    only(project, "alice", "bela")
    (project / "vcf/bela.vcf").write_text("this is no VCF\n")
    done = snakemake("--profile", str(ROOT / "workflow/profiles/local"), local=True)
    assert done.returncode == 1
    assert (project / "results/annotated/alice.vcf.gz").exists()
    assert (project / "logs/annotate/bela.log").read_text().strip() in done.stdout + done.stderr


def test_the_catalogue_finds_what_it_asks_for() -> None:
    shown = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert shown["report"] is True
    assert shown["software-stack-deployment"]["conda"] is True
    for path in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "README.md", "LICENSE"):
        assert (ROOT / path).is_file()


def test_the_catalogues_test_data_run_without_any_server(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the template's CI: --directory .test, which brings its own config and data."""
    folder = tmp_path / ".test"
    shutil.copytree(ROOT / ".test", folder)
    monkeypatch.delenv("ANYVAR_STEP_REFERENCE")
    done = snakemake("--cores", "1", "--directory", str(folder), "--show-failed-logs")
    assert done.returncode == 0, done.stderr
    assert text(folder / "results/annotated/example.vcf.gz").count(b"VRS_Allele_IDs=ga4gh:VA.") == 3


def test_each_key_of_the_config_is_explained() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    keys = set()
    for name, value in schema["properties"].items():
        keys |= {f"{name}.{key}" for key in value["properties"]} if "properties" in value else {name}
    table = set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "config/README.md").read_text(), re.MULTILINE))
    assert table - {"sample", "vcf"} == keys


@pytest.mark.parametrize(
    "config",
    [
        "annotate: {submit_first: true, pieces: 3}\n",
        "annotate: {pieces: 3}\nsteps: [annotate, ingest]\n",
        "ingest: {require_validation: false}\nsteps: [ingest]\n",
    ],
)
def test_lint_finds_nothing_in_any_form(project: Path, config: str) -> None:
    bgzip_all(project)
    (project / "config/config.yaml").write_text(CONFIG + config)
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr
