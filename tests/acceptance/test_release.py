"""What a release consists of: wheel and sdist that install into an empty environment and annotate there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from pages import Block, blocks
from support import ROOT, write_genome, write_vcf

from anyvar_step import __version__

BUILT = {"wheel": f"anyvar_step-{__version__}-py3-none-any.whl", "sdist": f"anyvar_step-{__version__}.tar.gz"}


def run(*command: object, cwd: Path) -> str:
    """The command's output, in an environment that does not know this clone."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "ANYVAR_", "CELERY_")
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def installing(home: Path) -> list[object]:
    """The command that installs into an environment; ours may have no pip."""
    pytest.importorskip("uv", reason="the test-services extra is not installed")
    return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", home / "bin" / "python"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both were built, as a release builds them: the wheel from the sdist."""
    pytest.importorskip("build", reason="the test-services extra is not installed")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.mark.services  # takes a network
@pytest.mark.parametrize("kind", BUILT)
def test_it_installs_into_an_empty_environment_and_annotates_there(
    kind: str, dist: Path, tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    run(*installing(home), f"{dist / BUILT[kind]}[local]", cwd=tmp_path)
    program = home / "bin" / "anyvar-step"
    assert run(program, "--version", cwd=tmp_path).startswith(f"anyvar-step {__version__} ")
    genome = write_genome(tmp_path / "genome.fa")
    write_vcf(tmp_path / "in.vcf", genome)
    arguments = ["in.vcf", "-o", "out.vcf.gz", "--local", "--reference", "GRCh38=genome.fa"]
    run(program, "annotate", *arguments, "--report", "run.json", cwd=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["counts"]["ids"] == 400
    assert (tmp_path / "out.vcf.gz.tbi").exists()


INSTALLATIONS = [
    block
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in blocks(page)
    if (found := block.elsewhere) and found["path"].endswith("test_release.py")
]


@pytest.mark.services  # takes a network
@pytest.mark.parametrize("block", INSTALLATIONS, ids=str)
def test_the_pages_install_what_they_say(block: Block, dist: Path, tmp_path: Path) -> None:
    """As typed, with what was built here on the shelf of pip."""
    pytest.importorskip("ensurepip", reason="this Python's venv brings no pip")
    venv.create(tmp_path / "before", with_pip=True)
    (tmp_path / "anyvar-step").symlink_to(ROOT)
    typed = block.text.replace("/opt/anyvar-step", str(tmp_path / "venv"))
    script = f". before/bin/activate\nexport PIP_FIND_LINKS={dist}\n{typed}"
    run("bash", "-ec", script, cwd=tmp_path)
    [program] = tmp_path.glob("*/bin/anyvar-step")
    assert run(program, "--version", cwd=tmp_path).startswith(f"anyvar-step {__version__} ")


@pytest.mark.services  # takes a network
def test_the_oldest_versions_that_it_asks_for_are_new_enough(dist: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    extras = f"{dist / BUILT['wheel']}[duckdb,http,local,postgres,web]"
    run(*installing(home), "--resolution", "lowest-direct", extras, cwd=tmp_path)
    genome = write_genome(tmp_path / "genome.fa")
    write_vcf(tmp_path / "in.vcf", genome)
    arguments = ["in.vcf", "-o", "out.vcf.gz", "--local", "--store", "alleles.duckdb", "--report", "run.json"]
    program = home / "bin" / "anyvar-step"
    run(program, "annotate", *arguments, "--reference", "GRCh38=genome.fa", cwd=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["registered"]["added"] == 400
    run(program, "report", "run.json", "-o", "report.html", cwd=tmp_path)
    run(home / "bin" / "python", "-c", "import anyvar_step.web.app, anyvar_step.client.http", cwd=tmp_path)


@pytest.mark.services
def test_the_wheel_holds_the_package_alone_and_the_sdist_all_that_is_needed_to_work_on_it(dist: Path) -> None:
    with zipfile.ZipFile(dist / BUILT["wheel"]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"anyvar_step", f"anyvar_step-{__version__}.dist-info"}
    for name in ("anyvar_step/py.typed", "anyvar_step/store/sql/postgres.sql"):
        assert name in names
    with tarfile.open(dist / BUILT["sdist"]) as sdist:
        kept = {name.split("/", 1)[1] for name in sdist.getnames()}
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs/tutorial.md", "tests/support.py"):
        assert name in kept


#: Where the version stands beside the package, and how; a release changes them all (CONTRIBUTING.md).
VERSIONED = {
    "CITATION.cff": "^version: (.*)$",
    "docs/formats.md": r"##anyvar_stepVersion=(.*)\+vrs-",
    "recipes/anyvar-step/meta.yaml": 'set version = "(.*)"',
    "workflow/nextflow/nextflow.config": "^ +version += '(.*)'$",
}


def pins() -> dict[str, str]:
    """What the workflows' conda environments ask for, by file."""
    found = {}
    workflow = ROOT / "workflow"
    for path in (*workflow.glob("envs/*"), *workflow.rglob("environment.y*ml")):
        [pin] = re.findall(r"^ +- anyvar-step\[local\](.*)$", path.read_text(), re.MULTILINE)
        found[str(path.relative_to(ROOT))] = pin
    return found


def test_the_version_is_the_same_wherever_it_stands() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", __version__), (
        "a semantic version, as PEP 440 writes it"
    )
    for path, pattern in VERSIONED.items():
        assert re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE) == [__version__], path
    assert set(pins().values()) == {f"=={__version__}"}, pins()


def test_the_steps_of_a_release_name_each_file_that_has_the_version() -> None:
    steps = (ROOT / "CONTRIBUTING.md").read_text().partition("## A release")[2]
    named = re.findall("`([^`]+)`", steps)
    for path in ("anyvar_step/__init__.py", *VERSIONED, *pins()):
        assert any(Path(path).match(name) for name in named), path


def test_the_changelog_is_in_the_form_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert versions[1].startswith(f"[{__version__}] "), "the version has no entry"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version), version
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_file_has_what_the_format_asks_for() -> None:
    yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"]
    assert set(citation["keywords"]) == set(project["keywords"])
