"""What a release consists of: wheel and sdist that install into an empty environment and annotate there."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
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

BUILT = ("wheel", "sdist")


def built(kind: str, folder: Path) -> Path:
    """What was built there. The wheel is that of this platform where cargo is, else any platform's."""
    [file] = folder.glob(f"anyvar_step-{__version__}" + ("-*.whl" if kind == "wheel" else ".tar.gz"))
    return file


def run(*command: object, cwd: Path) -> str:
    """The command's output, in an environment that does not know this clone."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "ANYVAR_", "CELERY_")
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
        capture_output=True,
        text=True,
        timeout=600,  # building compiles the engine
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
    run(*installing(home), f"{built(kind, dist)}[local]", cwd=tmp_path)
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
    extras = f"{built('wheel', dist)}[duckdb,http,local,postgres,web]"
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
    with zipfile.ZipFile(built("wheel", dist)) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"anyvar_step", f"anyvar_step-{__version__}.dist-info"}
    for name in ("anyvar_step/py.typed", "anyvar_step/store/sql/postgres.sql"):
        assert name in names
    with tarfile.open(built("sdist", dist)) as sdist:
        kept = {name.split("/", 1)[1] for name in sdist.getnames()}
    for name in (
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "docs/tutorial.md",
        "tests/support.py",
        "native/Cargo.lock",
    ):
        assert name in kept


RELEASE = runpy.run_path(str(ROOT / "scripts" / "release.py"))


def test_the_version_is_the_packages_own_wherever_it_stands() -> None:
    found = RELEASE["versions"]()
    assert {Path(path).name for path in found} >= {
        "CITATION.cff",
        "meta.yaml",
        "nextflow.config",
        "formats.md",
    }
    assert {path: set(versions) for path, versions in found.items()} == {
        path: {__version__} for path in found
    }


def test_every_file_of_an_installation_by_conda_is_among_those_that_a_release_writes() -> None:
    workflow = ROOT / "workflow"
    files = (*workflow.glob("envs/*"), *workflow.rglob("environment.y*ml"))
    assert {str(path.relative_to(ROOT)) for path in files} <= set(RELEASE["versions"]())


def test_a_release_writes_its_version_everywhere_and_dates_the_changelog(tmp_path: Path) -> None:
    for name in (
        *RELEASE["versions"](),
        "CHANGELOG.md",
        "docs/generate.py",
        "pyproject.toml",
        "scripts/release.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    unreleased = (ROOT / "CHANGELOG.md").read_text().partition("## [Unreleased]\n")[2].partition("\n## [")[0]
    script = tmp_path / "scripts" / "release.py"
    done = subprocess.run([sys.executable, script, "98.7.6rc5"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = runpy.run_path(str(script))["versions"]()
    assert set(found) == set(RELEASE["versions"]())
    assert {version for versions in found.values() for version in versions} == {"98.7.6rc5"}
    changelog = (tmp_path / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]\n\n## \[98\.7\.6rc5\] - \d{4}-\d\d-\d\d\n", changelog, re.MULTILINE)
    assert unreleased in changelog.partition("## [98.7.6rc5]")[2].partition(f"## [{__version__}]")[0]
    assert '\nINSTALL_FROM = "anyvar-step"\n' in (tmp_path / "docs" / "generate.py").read_text()
    assert (tmp_path / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text(), (
        "it has no origin"
    )
    again = subprocess.run([sys.executable, script, "98.7.6rc5"], capture_output=True, text=True, timeout=60)
    assert (again.returncode, again.stdout) == (0, ""), "the second time there is nothing to write"


@pytest.mark.parametrize(
    "origin", ["https://git.example.org/us/anyvar-step.git", "git@git.example.org:us/anyvar-step"]
)
def test_a_release_names_the_repository_where_the_clone_has_one(origin: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "release.py", tmp_path / "scripts")
    for arguments in (["init", "--quiet"], ["remote", "add", "origin", origin]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, timeout=60)
    page = runpy.run_path(str(tmp_path / "scripts" / "release.py"))["repository"]()
    assert page == "https://git.example.org/us/anyvar-step"
    before = (ROOT / "pyproject.toml").read_text()
    once = RELEASE["with_urls"](before, page)
    assert RELEASE["with_urls"](once, page) == once
    urls = tomllib.loads(once)["project"]["urls"]
    assert urls.items() >= tomllib.loads(before)["project"]["urls"].items()
    assert urls["Source"] == page
    assert urls["Issues"] == f"{page}/issues"


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.3", "1.2.3-rc1"])
def test_a_release_takes_semantic_versions_alone(version: str) -> None:
    command = [sys.executable, ROOT / "scripts" / "release.py", *version.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "make release VERSION=1.2.3" in done.stderr


def test_the_changelog_is_in_the_form_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert versions[1].startswith(f"[{__version__}] "), "the version has no entry"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?\] - \d{4}-\d\d-\d\d", version), version
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_file_has_what_the_format_asks_for() -> None:
    yaml = pytest.importorskip("yaml", reason="the workflow extra is not installed")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"]
    assert set(citation["keywords"]) == set(project["keywords"])
