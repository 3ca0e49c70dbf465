"""The house rules that a test can guard: layers, room sizes, quick help, exit codes."""

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

ROOMS: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
LAYERS = (*ROOMS["LAYERS"], ("__main__",))
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


def layer(room: str) -> int:
    [level] = [level for level, rooms in enumerate(LAYERS) if room in rooms]
    return level


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_downward_only(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        assert ROOMS["imports_of"](path) == set()
        return
    own = parts[0]
    for room in ROOMS["imports_of"](path) - {own}:
        assert layer(room) < layer(own) or (own, room) in NEIGHBOURS, f"{own} imports {room}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 80, f"{node.name} is longer than 80 lines"


def test_the_picture_of_the_rooms_is_that_of_the_code() -> None:
    drawn = (ROOT / "docs" / "rooms.svg").read_text()
    assert drawn == ROOMS["picture"](), "docs/rooms.svg is out of date: run python docs/rooms.py"


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
