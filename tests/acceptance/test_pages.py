"""README and docs: every command is typed here, or names the test that types it; tables are current."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import sys
from pathlib import Path

import pysam
import pytest
from nextflow import PROGRAM
from pages import Reader, blocks
from support import ROOT, Site

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DEPTH = '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
SHELLS = {"bash", "sh", "shell", "console", "zsh"}


@pytest.fixture
def reader(site: Site, genome: Path, demo_data: Path, vcf: Path, tmp_path: Path) -> Reader:
    """A folder as the pages suppose it: the clone, some VCFs, a FASTA; and the site's settings."""
    folder = tmp_path / "here"
    for name in ("calls", "results/reports"):
        (folder / name).mkdir(parents=True)
    (folder / "anyvar-step").symlink_to(ROOT)
    (folder / "GRCh38.fa").symlink_to(genome)
    for name in ("in", "calls/a", "calls/b"):
        (folder / f"{name}.vcf").write_text(vcf.read_text().replace("##FORMAT", DEPTH + "##FORMAT", 1))
        pysam.tabix_compress(str(folder / f"{name}.vcf"), str(folder / f"{name}.vcf.gz"))
        pysam.tabix_index(str(folder / f"{name}.vcf.gz"), preset="vcf")
    site.extra["ANYVAR_STEP_REFERENCE"] = f"GRCh38={genome},demo={demo_data}/resources/genome.fa"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "anyvar-step").write_text(PROGRAM)
    (programs / "anyvar-step").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**site.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return Reader(
        folder,
        environ,
        environ,
        {
            "/shared/anyvar": str(site.work_dir),
            "redis://localhost:6379/0": site.redis_url,
            "redis://redis.example.org:6379/0": site.redis_url,
            "/refs/GRCh38.fa": str(genome),
        },
    )


def typed(page: Path) -> bool:
    """Whether the page has commands that are to be typed here."""
    return any(block.language == "bash" and not block.elsewhere for block in blocks(page))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


#: The README's commands are typed by `make test`, those of the other pages by `make test-all`.
TYPED = [
    pytest.param(page, marks=[pytest.mark.slow] if page.parent.name == "docs" else [])
    for page in PAGES
    if typed(page)
]


@pytest.mark.parametrize("page", TYPED, ids=name_of)
def test_a_page_as_typed(page: Path, reader: Reader, site: Site) -> None:
    makes_its_own = "ANYVAR_VCF_ASYNC_WORK_DIR=$PWD" in page.read_text()
    with contextlib.nullcontext() if makes_its_own else site.worker():
        reader.read(page)
    assert site.left_over() == [], "a command of the page leaves files in the work dir"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_that_is_not_typed_here_says_why_and_where_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language not in SHELLS - {"bash"}, f"{block}: write bash, so that it is typed"
        if match := block.elsewhere:
            assert len(match["reason"]) > 10, f"{block}: say why"
            test = ROOT / match["path"]
            assert test.is_file(), f"{block}: there is no {match['path']}"


def test_generated_parts_say_what_the_program_says() -> None:
    renewed = runpy.run_path(str(ROOT / "docs" / "generate.py"))["renewed"]
    for page in PAGES:
        text = page.read_text()
        assert renewed(text) == text, f"{page.name} is out of date: run python docs/generate.py"


def test_every_setting_has_its_row() -> None:
    from anyvar_step.settings import Settings

    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(str(field.alias) for field in Settings.model_fields.values())


def test_every_setting_that_a_page_names_exists() -> None:
    from anyvar_step.settings import Settings

    known = {str(field.alias) for field in Settings.model_fields.values()}
    for page in PAGES:
        if page.name == "contract.md":
            continue  # it names AnyVar's own, too
        named = set(re.findall(r"\b(?:ANYVAR|CELERY)_[A-Z_]+[A-Z]\b", page.read_text()))
        # Names of Nextflow processes, of the shell's completion, of the build, and of the tests.
        others = ("COMPLETE", "BUILD_NATIVE", "ANYVAR_PYTHON", "MATRIX")
        named -= {f"ANYVAR_STEP_{name}" for name in others} | {
            name for name in named if name.endswith(("_ANNOTATE", "_COLLECT"))
        }
        assert {name.removesuffix("_FILE") for name in named} <= known, page.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_the_project_that_a_page_names_is_there(page: Path) -> None:
    roots = (ROOT, ROOT / "anyvar_step")
    named = re.findall(
        r"`((?:\w+/)+[\w.*-]*\.(?:py|md|yaml|service|sbatch|example|config))`", page.read_text()
    )
    for name in named:
        assert any(list(root.glob(name)) for root in roots), f"{page.name} names {name}"


def test_every_page_has_its_place_in_the_site() -> None:
    order = re.findall(r"^ +- (?:\w+: )?([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(order) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
