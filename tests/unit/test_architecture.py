"""The house rules that a test can guard: layers, package sizes, quick help, exit codes."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

PACKAGE = ROOT / "anyvar_step"

PACKAGES: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "packages.py"))
LAYERS = (*PACKAGES["LAYERS"], ("__main__",))
HEAVY = {
    "celery",
    "kombu",
    "redis",
    "pysam",
    "pydantic",
    "jinja2",
    "rich",
    "isal",
    "fastapi",
    "psycopg",
    "duckdb",
    "httpx",
}

#: Rooms of one layer that hold on to each other: who may import whom.
NEIGHBOURS = {
    ("settings", "errors"),
    ("settings", "text"),
    ("settings", "files"),
    ("models", "errors"),
    ("files", "errors"),
    ("embedded", "supervisor"),
}


def layer(package: str) -> int:
    [level] = [level for level, packages in enumerate(LAYERS) if package in packages]
    return level


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_downward_only(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        assert PACKAGES["imports_of"](path) == set()
        return
    own = parts[0]
    for package in PACKAGES["imports_of"](path) - {own}:
        assert layer(package) < layer(own) or (own, package) in NEIGHBOURS, f"{own} imports {package}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 80, f"{node.name} is longer than 80 lines"


def test_the_figure_of_the_packages_is_that_of_the_code() -> None:
    drawn = (ROOT / "docs" / "packages.svg").read_text()
    assert drawn == PACKAGES["picture"](), "docs/packages.svg is out of date: run python docs/packages.py"


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys; from anyvar_step.cli import cli\n"
        "try: cli.main(['--help'], prog_name='anyvar-step')\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "[]"
    assert "Exit codes" in done.stdout
