"""The documentation as a site: opened from a disk it searches, and its first page leads to all others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import find_browser
from support import ROOT


def test_the_first_page_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    linked = set(re.findall(r"\]\(([\w-]+\.md)[#)]", index))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    pytest.importorskip("material", reason="the docs extra is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.services
def test_search_finds_a_page_when_the_site_is_opened_from_a_disk(site: Path, tmp_path: Path) -> None:
    browser = [
        find_browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
    ]
    done = subprocess.run(
        [
            *browser,
            f"--user-data-dir={tmp_path}",
            "--dump-dom",
            f"{(site / 'index.html').as_uri()}?q=systemd",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(r'<a href="([^"]+)" class="md-search-result__link"', done.stdout)
    assert any(re.search(r"/deployment\.html", address) for address in found), done.stderr


@pytest.mark.services
def test_no_page_asks_the_network_for_anything(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(https?:[^"]+)"', page.read_text())
        assert loaded == [], page.name
