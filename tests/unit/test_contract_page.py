"""docs/contract.md: what the code cites is there, and nothing cites a document outside the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT

CITING = sorted(
    path
    for folder in ("anyvar_step", "native/src", "tests", "benchmarks", "workflow", "config", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".rs", ".md", ".smk", ".nf", ".config", ".sql", ".yaml", ".yml", ".toml"}
)


def anchors() -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", (ROOT / "docs" / "contract.md").read_text())
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", CITING, ids=lambda path: str(path.relative_to(ROOT)))
def test_cited_sections_of_the_contract_exist(path: Path) -> None:
    cited = set(re.findall(r"contract\.md#([\w-]+)", path.read_text(encoding="utf-8")))
    assert cited - {"section"} <= anchors()
